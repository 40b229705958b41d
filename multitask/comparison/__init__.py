"""Comparisons: experiments that train several rows (ways to train) over several seeds, and their reports.

The flow is `experiments` (rows, claims) -> `plan` (runs) -> `runner` (processes) -> `results` (files) -> `report`, with
the verdicts of `claims`, which rest on the tests of `statistics`.
"""
