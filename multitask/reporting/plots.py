"""Plots of a run's history; they need matplotlib (the extra ``plots``)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask.engine.history import LOG_VARIANCE, LOSS, STEP, VARIANCE, WEIGHT
from multitask.errors import UserError
from multitask.files import atomic_writer

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def canvas(width: float, height: float) -> tuple["Canvas", Callable[[Path], None]]:
    """Returns an empty plot, of a size in inches, and a function that writes it as a PNG atomically.

    Raises:
        UserError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise UserError("plots need matplotlib: pip install -e '.[plots]'") from None
    plot = Canvas(figsize=(width, height), layout="constrained")

    def save(path: Path) -> None:
        with atomic_writer(path) as file:
            plot.savefig(file, dpi=120, format="png")

    return plot, save


def plot_weights(runs: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Plots log-variances and effective weights over the steps: a column for each task, a line for each run.

    Args:
        runs: title -> history of a run.
        path: path of the PNG.
    Raises:
        UserError: if matplotlib is not installed, or no run has learned weights.
    """
    names = _learned(entry for history in runs.values() for entry in history)
    if not names:
        raise UserError(f"runs: needed one with learned weights, found none in {list(runs)}")
    plot, save = canvas(4 * len(names), 5)
    axes = plot.subplots(2, len(names), sharex=True, squeeze=False)
    for column, name in enumerate(names):
        for title, history in runs.items():
            _line(axes[0][column], [_with_log_variance(entry, name) for entry in history], LOG_VARIANCE + name, title)
            _line(axes[1][column], history, WEIGHT + name, title)
        axes[0][column].set_title(name)
        axes[1][column].set_yscale("log")
        axes[1][column].set_xlabel("step")
    axes[0][0].set_ylabel("log sigma^2")
    axes[1][0].set_ylabel("effective weight")
    plot.legend(handles=axes[0][0].get_lines(), loc="outside right upper")  # the axes of many runs leave no room inside
    save(path)


def plot_training(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plots losses, sigma^2 and effective weights of one run over its steps, a line for each task (figure 7).

    Args:
        history: history of the run.
        path: path of the PNG.
    Raises:
        UserError: if matplotlib is not installed, or the run has no learned weights.
    """
    names = _learned(history)
    if not names:
        raise UserError("history: needed a run with learned weights, found none")
    plot, save = canvas(12, 4)
    for axes, kind, title in zip(
        plot.subplots(1, 3), (LOSS, VARIANCE, WEIGHT), ("loss", "sigma^2", "effective weight"), strict=True
    ):
        for name in names:
            _line(axes, history, kind + name, name)
        axes.set_title(title)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.legend()
    save(path)


def _learned(entries: Iterable[Mapping[str, float]]) -> list[str]:
    """Returns the names of the tasks that have a log-variance."""
    keys = dict.fromkeys(key for entry in entries for key in entry if key.startswith(LOG_VARIANCE))
    return [key.removeprefix(LOG_VARIANCE) for key in keys]


def _with_log_variance(entry: Mapping[str, float], name: str) -> Mapping[str, float]:
    """Recomputes an entry's log-variance from its sigma^2: for Laplace likelihoods older versions logged log b."""
    variance = entry.get(VARIANCE + name)
    return {**entry, LOG_VARIANCE + name: math.log(variance)} if variance else entry


def _line(axes: Any, history: Sequence[Mapping[str, float]], key: str, label: str) -> None:
    entries = [entry for entry in history if key in entry]
    axes.plot([entry[STEP] for entry in entries], [entry[key] for entry in entries], label=label)
