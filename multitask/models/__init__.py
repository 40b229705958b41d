"""The network: a shared encoder and one decoder for each task."""
