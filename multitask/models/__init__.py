"""The network: shared encoder, one decoder for each task."""
