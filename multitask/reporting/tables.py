"""Tables and one-line summaries of metrics, in Markdown."""

from collections.abc import Mapping, Sequence

from multitask.console import markdown
from multitask.engine.history import POSITION_PRIOR, STEP, VARIANCE, WEIGHT, early_entry
from multitask.tasks.base import FigureOfMerit, Task

_WIDTH = 140  # characters, largest width of a table
_TINY = 5e-4  # smaller values are shown as zero, and are no denominators


def table(
    group: str,
    figures: Sequence[FigureOfMerit],
    rows: Mapping[str, Mapping[str, float]],
    ratio: tuple[str, str] | None = None,
) -> str:
    """Returns a table of a group's metrics, with a line for each of ``rows``; metrics that no row has are left out.

    Args:
        group: prefix of the metrics' keys before ``/``, also the heading.
        figures: the metrics to show, in this order.
        rows: title -> metrics ``<group>/<metric>``.
        ratio: titles of two rows whose ratio is the last line.
    Returns:
        Markdown, split into several tables if it is too wide; empty without any metric.
    """
    figures = [figure for figure in figures if any(f"{group}/{figure.key}" in row for row in rows.values())]
    if not figures:
        return ""
    cells = [[group, *(figure.title for figure in figures)]]
    for title, row in rows.items():
        cells.append([title, *(_cell(row.get(f"{group}/{figure.key}"), figure.percent) for figure in figures)])
    if ratio:
        over, under = (rows[title] for title in ratio)
        pairs = [(over.get(f"{group}/{figure.key}"), under.get(f"{group}/{figure.key}")) for figure in figures]
        cells.append(
            [" / ".join(ratio), *(f"{a / b:.2f}" if a is not None and b and b > _TINY else "-" for a, b in pairs)]
        )
    return "\n\n".join(markdown(part) for part in _narrow(cells))


def _narrow(cells: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Splits a table into tables of at most `_WIDTH` characters, each with the first column."""
    first, *widths = (max(len(row[i]) for row in cells) + len(" | ") for i in range(len(cells[0])))
    parts: list[list[int]] = []
    room = 0
    for column, width in enumerate(widths, start=1):
        if width > room:
            parts.append([0])
            room = _WIDTH - first - 1
        parts[-1].append(column)
        room -= width
    return [[[row[column] for column in part] for row in cells] for part in parts]


def results_text(
    figures: Mapping[str, float], groups: Mapping[str, Sequence[FigureOfMerit]], classes: bool = False
) -> str:
    """Returns the final metrics beside the position prior's: a table per group, and one of single classes if wanted."""
    mark = POSITION_PRIOR
    prior = {key.removeprefix(mark): value for key, value in figures.items() if key.startswith(mark)}
    own = {key: value for key, value in figures.items() if not key.startswith(mark)}
    rows = {"network": own} | ({"position prior": prior} if prior else {})
    ratio = ("network", "position prior") if prior else None
    tables = [table(group, listed, rows, ratio) for group, listed in groups.items()]
    if classes:
        tables.append(class_table(own))
    return "\n\n".join(text for text in tables if text)


def weights_text(history: Sequence[Mapping[str, float]], tasks: Mapping[str, Task]) -> str:
    """Returns the learned uncertainties of a run, early in training and at the end; empty if it learned none.

    As in the caption of figure 7: sigma^2, the ratio of the inverses, and the ratio of the effective weights.
    """
    history = [entry for entry in history if any(key.startswith(VARIANCE) for key in entry)]
    if not history:
        return ""
    return "\n".join(weights_line(entry, list(tasks)) for entry in (early_entry(history), history[-1]))


def brief(figures: Mapping[str, float], groups: Mapping[str, Sequence[FigureOfMerit]]) -> str:
    """Returns the first metric of each group in one line."""
    return ", ".join(
        f"{group} {first.title} {_cell(figures[f'{group}/{first.key}'], first.percent)}"
        for group, (first, *_) in groups.items()
        if f"{group}/{first.key}" in figures
    )


def class_table(figures: Mapping[str, float]) -> str:
    """Returns a table of the metrics of single classes, ``<group>/<metric>/<class>``, in per cent, a line per class."""
    keys = [key.rsplit("/", 1) for key in figures if key.count("/") == 2]
    columns = list(dict.fromkeys(column for column, _ in keys))
    if not columns:
        return ""
    cells = [
        [name, *(_cell(figures.get(f"{column}/{name}"), percent=True) for column in columns)]
        for name in dict.fromkeys(name for _, name in keys)
    ]
    return markdown([["%", *columns], *cells])


def _cell(value: float | None, percent: bool) -> str:
    if value is None:
        return "-"
    return f"{value * 100:.1f}" if percent else f"{value:.3f}"


def weights_line(values: Mapping[str, float], tasks: Sequence[str]) -> str:
    """Describes the learned noise as `noise_line` does, and the effective weights, which include a regression's 1/2.

    Args:
        values: one entry of a run's history.
        tasks: names of the tasks, in the order of the ratios.
    """
    noise = noise_line({name: values[VARIANCE + name] for name in tasks})
    return f"step {values[STEP]:.0f}: {noise}; weights {ratio([values[WEIGHT + name] for name in tasks])}"


def noise_line(variances: Mapping[str, float]) -> str:
    """Describes sigma^2 of each task, and the ratio of the inverses."""
    numbers = ", ".join(f"{value:.3g}" for value in variances.values())
    inverse = ratio([1 / value for value in variances.values()])
    return f"sigma^2 of {', '.join(variances)} = ({numbers}), inverse {inverse}"


def ratio(values: Sequence[float]) -> str:
    """Formats numbers as a ratio whose last term is 1."""
    return " : ".join(f"{value / values[-1]:.3g}" for value in values)
