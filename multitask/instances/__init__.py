"""Instances from votes: predicted classes and vectors are clustered by OPTICS, and each cluster becomes an instance.

Steps for a frame: votes -> cells (`grouping`) -> reachability plot (`optics`) -> clusters (`valleys`) -> `Instances`.
"""

from multitask.instances.grouping import Grouping, Instances, group
from multitask.instances.optics import optics

__all__ = ["Grouping", "Instances", "group", "optics"]
