"""Training: the loop, and all that a step, a checkpoint and a signal need."""
