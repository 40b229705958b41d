"""Reading data sets: from files on disk to batches."""
