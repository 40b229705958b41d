"""Instances from votes: each pixel's class and vector -> OPTICS over the votes -> one id for each instance.

The way of a frame: votes -> cells (`grouping`) -> reachability plot (`optics`) -> clusters (`valleys`) -> `Instances`.
"""

from multitask.instances.grouping import Grouping, Instances, group
from multitask.instances.optics import optics

__all__ = ["Grouping", "Instances", "group", "optics"]
