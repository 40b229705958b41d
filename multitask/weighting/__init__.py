"""Weightings, which combine the tasks' losses into the total loss: the paper's and competing methods.

A weighting gets the losses as a dict by task, and knows nothing of the tasks but their likelihoods.
"""

from multitask.weighting.adaptive import DynamicAverage, GeometricMean, RandomWeights, SoftOptimal
from multitask.weighting.base import Weighting
from multitask.weighting.famo import Famo
from multitask.weighting.fixed import Equal, Fixed
from multitask.weighting.jacobian import Jacobian
from multitask.weighting.learned import ImpartialLoss, LiebelKoerner, Uncertainty

__all__ = [
    "DynamicAverage",
    "Equal",
    "Famo",
    "Fixed",
    "GeometricMean",
    "ImpartialLoss",
    "Jacobian",
    "LiebelKoerner",
    "RandomWeights",
    "SoftOptimal",
    "Uncertainty",
    "Weighting",
]
