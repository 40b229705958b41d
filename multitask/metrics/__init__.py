"""Figures of merit: they stream over a data set, keep sums and small tables only, and merge across processes."""

from multitask.metrics.pixels import ConfusionMatrix, Metric, VectorError

__all__ = ["ConfusionMatrix", "Metric", "VectorError"]
