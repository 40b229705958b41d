"""From files in the Cityscapes layout to batches."""
