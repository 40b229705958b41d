"""From the files of data sets to batches."""
