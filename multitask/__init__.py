"""Semantic segmentation, instance segmentation and depth from one image, tasks weighed by learned uncertainty."""

__version__ = "0.1.0"
