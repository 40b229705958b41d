"""From the tasks' losses to the one number that is minimised: the paper's way and the ways that compete with it.

Every weighting sees the losses as a dict by task and knows of the tasks nothing but their likelihoods.
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
