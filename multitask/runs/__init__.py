"""Training runs: what the folder of one holds, and the run itself."""
