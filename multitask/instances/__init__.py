"""Instances from votes: the clustering of section 4.2."""

from multitask.instances.optics import optics

__all__ = ["optics"]
