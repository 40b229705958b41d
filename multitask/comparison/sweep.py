"""Plots of metrics over a number that rows vary, such as one task's fixed weight."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multitask.comparison.columns import TABLE1
from multitask.comparison.rows import Row
from multitask.comparison.statistics import mean_and_deviation
from multitask.reporting.plots import canvas

Values = Callable[[Row, str], Sequence[float]]


def swept(rows: Sequence[Row], task: str) -> dict[float, Row]:
    """Returns rows by the task's weight, in ascending order: fixed weights, and single tasks of weight 1 or 0."""
    weights = {}
    for row in rows:
        given = [part.partition("=")[2] for part in row.overrides if part.startswith(f"weighting.weights.{task}=")]
        if given or len(row.tasks) == 1:
            weights[float(given[0]) if given else float(row.tasks == (task,))] = row
    return dict(sorted(weights.items()))


def plot_sweep(rows: Mapping[float, Row], learned: Sequence[Row], task: str, values: Values, path: Path) -> None:
    """Plots means and standard deviations over seeds against a task's weight, with lines for learned weights.

    Args:
        rows: rows by the weight on the axis.
        learned: rows that learn their weights.
        task: the task whose weight is on the axis.
        values: returns the values of a row's metric, one per seed, in the unit of its column.
        path: path of the PNG.
    """
    plot, save, every = _axes_of_figures(list(rows.values()), values)
    for key, axes in every.items():
        _plot_means(axes, rows, key, values, "fixed")
        for color, row in enumerate(learned, start=1):
            if found := values(row, key):
                mean, deviation = mean_and_deviation(found)
                axes.axhline(mean, color=f"C{color}", label=row.title)
                axes.axhspan(mean - (deviation or 0), mean + (deviation or 0), color=f"C{color}", alpha=0.2)
        axes.set_xlabel(f"weight of {task}")
    _finish(plot, every.values(), save, path)


def plot_curves(curves: Mapping[str, Mapping[float, Row]], axis: str, values: Values, path: Path) -> None:
    """Plots means and standard deviations over seeds, one curve for each kind of row.

    Args:
        curves: rows by kind and by the positive number that they vary; the axis is logarithmic.
        axis: label of the axis.
        values: see `plot_sweep`.
        path: path of the PNG.
    """
    plot, save, every = _axes_of_figures([row for rows in curves.values() for row in rows.values()], values)
    numbers = sorted({number for rows in curves.values() for number in rows})
    for key, axes in every.items():
        for title, rows in curves.items():
            _plot_means(axes, rows, key, values, title)
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
        axes.set_xlabel(axis)
    _finish(plot, every.values(), save, path)


def _axes_of_figures(rows: Sequence[Row], values: Values) -> tuple[Any, Callable[[Path], None], dict[str, Any]]:
    """Returns a plot, the function that saves it, and its axes for each metric of table 1 that any row has."""
    shown = {key: column.title for key, column in TABLE1.items() if any(values(row, key) for row in rows)}
    plot, save = canvas(5 * len(shown), 4.3)
    every = dict(zip(shown, plot.subplots(1, len(shown), squeeze=False)[0], strict=True))
    for key, axes in every.items():
        axes.set_ylabel(shown[key])
    return plot, save, every


def _plot_means(axes: Any, rows: Mapping[float, Row], key: str, values: Values, title: str) -> None:
    points = {number: mean_and_deviation(found) for number, row in rows.items() if (found := values(row, key))}
    means, deviations = [mean for mean, _ in points.values()], [deviation or 0 for _, deviation in points.values()]
    axes.errorbar(list(points), means, deviations, marker="o", label=title)


def _finish(plot: Any, every: Iterable[Any], save: Callable[[Path], None], path: Path) -> None:
    handles: dict[str, Any] = {}
    for axes in every:
        handles |= {handle.get_label(): handle for handle in axes.get_legend_handles_labels()[0]}
    plot.legend(handles=list(handles.values()), loc="outside upper center", ncols=3)  # inside, it would hide error bars
    save(path)
