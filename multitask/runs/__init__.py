"""Training runs: their folders, their preparation, resumption and records."""
