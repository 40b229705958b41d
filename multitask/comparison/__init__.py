"""Comparisons of rows over seeds: which runs there are, who runs them, and what they say.

The way: `experiments` (rows, claims) -> `plan` (which runs) -> `runner` (processes) -> `results` (files) -> `report`,
with the verdicts of `claims`, which are those of `statistics`.
"""

from multitask.comparison.experiments import EXPERIMENTS
from multitask.comparison.places import find_places, loader_overrides
from multitask.comparison.plan import Plan
from multitask.comparison.report import Report
from multitask.comparison.runner import Runner

__all__ = ["EXPERIMENTS", "Plan", "Report", "Runner", "find_places", "loader_overrides"]
