"""The plot of a sweep: figures over one task's fixed weight, and beside them the rows that learn their weights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multitask.comparison.columns import TABLE1
from multitask.comparison.rows import Row
from multitask.comparison.statistics import mean_and_deviation
from multitask.report import canvas

Values = Callable[[Row, str], Sequence[float]]


def swept(rows: Sequence[Row], task: str) -> dict[float, Row]:
    """Rows by the weight of the task, in its order: of fixed weights, and of the task alone or without it."""
    weights = {}
    for row in rows:
        given = [part.partition("=")[2] for part in row.overrides if part.startswith(f"weighting.weights.{task}=")]
        if given or len(row.tasks) == 1:
            weights[float(given[0]) if given else float(row.tasks == (task,))] = row
    return dict(sorted(weights.items()))


def plot_sweep(rows: Mapping[float, Row], learned: Sequence[Row], task: str, values: Values, path: Path) -> None:
    """Means and standard deviations over seeds.

    Args:
        rows: by the weight that is the axis.
        learned: rows that learn their weights.
        task: whose weight it is.
        values: of a row and a figure, as shown, one for each seed.
        path: of the PNG.
    """
    shown = {key: column.title for key, column in TABLE1.items() if any(values(row, key) for row in rows.values())}
    figure, save = canvas(5 * len(shown), 4.3)
    handles: dict[str, Any] = {}
    for axes, (key, title) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        points = {weight: found for weight, row in rows.items() if (found := values(row, key))}
        means = [mean_and_deviation(found) for found in points.values()]
        axes.errorbar(list(points), [m for m, _ in means], [d or 0 for _, d in means], marker="o", label="fixed")
        for color, row in enumerate(learned, start=1):
            if found := values(row, key):
                mean, deviation = mean_and_deviation(found)
                axes.axhline(mean, color=f"C{color}", label=row.title)
                axes.axhspan(mean - (deviation or 0), mean + (deviation or 0), color=f"C{color}", alpha=0.2)
        axes.set_xlabel(f"weight of {task}")
        axes.set_ylabel(title)
        handles |= {handle.get_label(): handle for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside upper center", ncols=3)  # it would hide bars within
    save(path)
