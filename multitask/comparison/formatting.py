"""Formatting of the cells of a report's tables."""

from collections.abc import Mapping, Sequence

from multitask.comparison.statistics import mean_and_deviation
from multitask.reporting.tables import ratio


def bold(text: str, chosen: bool) -> str:
    """Returns the text, in bold if it is the chosen one."""
    return f"**{text}**" if chosen and text else text


def weights_row(title: str, weights: Mapping[str, float], tasks: Sequence[str]) -> list[str]:
    """Returns a row with the tasks' weights (- for a task without one), their sum, and their ratio to the last one."""
    values = [weights[task] for task in tasks if task in weights]
    cells = [f"{weights[task]:.3g}" if task in weights else "-" for task in tasks]
    return [title, *cells, f"{sum(values):.3g}", ratio(values)]


def spread(values: Sequence[float], scale: float) -> str:
    """Formats mean and standard deviation: per cent (scale 100) with one decimal, px with three."""
    if not values:
        return "-"
    mean, deviation = mean_and_deviation(values)
    digits = 1 if scale == 100 else 3
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")
