"""Comparisons of rows over seeds: which runs there are, who runs them, and what they say.

The way: `experiments` (rows, claims) -> `plan` (which runs) -> `runner` (processes) -> `results` (files) -> `report`,
with the verdicts of `claims`, which are those of `statistics`.
"""
