"""What people look at: panels of pictures, tables of figures, plots of learned weights."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from multitask.data.loader import Batch
from multitask.errors import UserError
from multitask.files import whole
from multitask.tasks.base import Figure, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_TITLE = 18  # px of the line above each picture
_GAP = 4
_WIDTH = 140  # characters that a line of figures has room for
_TINY = 5e-4  # what tables show as zero, and no quotient has below the line


def panel(
    batch: Batch, frame: int, predictions: Mapping[str, Tensor], tasks: Mapping[str, Task], tall: bool = False
) -> np.ndarray:
    """The input, and for each task its truth beside its prediction.

    Pixels without truth are black in the truth; a prediction of a task that is defined on a part of the picture (as
    vectors are, on instances) is shown on that part.

    Args:
        batch: with targets, on any device.
        frame: which frame of the batch.
        predictions: [B, channels, H, W] of each task.
        tasks: those to show.
        tall: whether tasks stand below each other, which fits TensorBoard's cards, and not side by side.
    Returns:
        (height, width, 3) uint8.
    """
    image = batch.images[frame].permute(1, 2, 0).cpu().numpy()
    # Each task's under its name, since two tasks may share a colour.
    legends = [[(name, None), *task.legend(image.shape[1])] for name, task in tasks.items()]
    # Small pictures by whole factors, so that their pixels stay squares; large ones to a size that a screen shows.
    zoom = max(1, round(512 / image.shape[1])) if image.shape[1] <= 1024 else 512 / image.shape[1]
    size = round(image.shape[1] * zoom), round(image.shape[0] * zoom)
    columns = [[(batch.names[frame], Image.fromarray(image)), ("colours", swatches(legends, size))]]
    for name, task in tasks.items():
        value, valid = batch.targets[name]
        truth = task.render(task.ideal(value[frame : frame + 1])[0], valid[frame])
        prediction = task.render(predictions[name][frame], valid[frame] if task.sparse else None)
        columns.append(
            [
                (f"{name}: {what}", Image.fromarray(picture))
                for what, picture in (("truth", truth), ("prediction", prediction))
            ]
        )
    return sheet(list(zip(*columns, strict=True)) if tall else columns, size)


def sheet(columns: Sequence[Sequence[tuple[str, Image.Image]]], size: tuple[int, int]) -> np.ndarray:
    """Titled pictures in a grid, each resized to ``size`` = (width, height) px."""
    cell = size[0] + _GAP, size[1] + _TITLE + _GAP
    sheet = Image.new("RGB", (cell[0] * len(columns) - _GAP, cell[1] * len(columns[0]) - _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, column in enumerate(columns):
        for j, (title, picture) in enumerate(column):
            corner = i * cell[0], j * cell[1]
            draw.text((corner[0] + 2, corner[1] + 2), title, fill="black", font=ImageFont.load_default(13))
            sheet.paste(picture.resize(size, Image.Resampling.NEAREST), (corner[0], corner[1] + _TITLE))
    return np.asarray(sheet)


Color = tuple[int, int, int]


def swatches(
    blocks: Sequence[Sequence[tuple[str, Color | None]]], size: tuple[int, int], num_columns: int = 3
) -> Image.Image:
    """What colours mean: texts and RGB in columns; what has no colour is a heading.

    Args:
        blocks: what belongs together, in the same column where it fits.
        size: (width, height) px of the picture.
        num_columns: side by side.
    """
    num_rows = next(rows for rows in itertools.count(1) if len(_columns(blocks, rows)) <= num_columns)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    height = min(max(size[1] // num_rows, 5), 26)
    font = ImageFont.load_default(max(height * 0.6, 5))
    for i, column in enumerate(_columns(blocks, num_rows)):
        for j, (text, color) in enumerate(column):
            x, y = size[0] * i // num_columns, height * j
            if color:
                draw.rectangle((x + 2, y + 2, x + 2 * height, y + height - 2), fill=color)
            draw.text((x + (2 * height + 6 if color else 2), y + height * 0.1), text, fill="black", font=font)
    return picture


def _columns(
    blocks: Sequence[Sequence[tuple[str, Color | None]]], num_rows: int
) -> list[list[tuple[str, Color | None]]]:
    """Blocks one below the other in columns; a block that does not fit below another begins a new column."""
    columns: list[list[tuple[str, Color | None]]] = [[]]
    for block in blocks:
        if columns[-1] and len(columns[-1]) + len(block) > num_rows:
            columns.append([])
        for entry in block:
            if len(columns[-1]) == num_rows:
                columns.append([])
            columns[-1].append(entry)
    return columns


def table(
    group: str, figures: Sequence[Figure], rows: Mapping[str, Mapping[str, float]], ratio: tuple[str, str] | None = None
) -> str:
    """A group's figures as text, a line for each of ``rows``; a figure that no row has is left out.

    Args:
        group: what the figures' keys begin with, before ``/``, and the heading.
        figures: to show, in this order.
        rows: title -> figures ``<group>/<figure>``.
        ratio: titles of two rows whose quotient makes the last line.
    Returns:
        Markdown, a further table below for figures that have no room beside the others; empty without any figure.
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
    """A table as ones below each other that have room in `_WIDTH`, each with the first column."""
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


def results_text(figures: Mapping[str, float], groups: Mapping[str, Sequence[Figure]], classes: bool = False) -> str:
    """The final figures beside the position prior's: a table for each group, and one of single classes if wanted."""
    mark = "position_prior/"
    prior = {key.removeprefix(mark): value for key, value in figures.items() if key.startswith(mark)}
    own = {key: value for key, value in figures.items() if not key.startswith(mark)}
    rows = {"network": own} | ({"position prior": prior} if prior else {})
    ratio = ("network", "position prior") if prior else None
    tables = [table(group, listed, rows, ratio) for group, listed in groups.items()]
    if classes:
        tables.append(class_table(own))
    return "\n\n".join(text for text in tables if text)


def weights_text(history: Sequence[Mapping[str, float]], tasks: Mapping[str, Task]) -> str:
    """What a run learned of its tasks' noise, after a tenth of the training and at its end; empty if nothing.

    The sentence of figure 7: sigma^2, its inverses and the effective weights as ratios.
    """
    history = [entry for entry in history if any(key.startswith("sigma2/") for key in entry)]
    if not history:
        return ""
    early = min(history, key=lambda entry: abs(entry["step"] - history[-1]["step"] / 10))
    return "\n".join(weights_line(entry, list(tasks)) for entry in (early, history[-1]))


def brief(figures: Mapping[str, float], groups: Mapping[str, Sequence[Figure]]) -> str:
    """The first figure of each group in one line."""
    return ", ".join(
        f"{group} {first.title} {_cell(figures[f'{group}/{first.key}'], first.percent)}"
        for group, (first, *_) in groups.items()
        if f"{group}/{first.key}" in figures
    )


def class_table(figures: Mapping[str, float]) -> str:
    """The figures of single classes, ``<group>/<figure>/<class>``, in per cent: a line for each class."""
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


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = (
        "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
    )
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def weights_line(values: Mapping[str, float], tasks: Sequence[str]) -> str:
    """The learned noise as in `noise_line`, and the effective weights, which hold the 1/2 of the regressions besides.

    Args:
        values: one entry of a run's history.
        tasks: in the order of the ratios.
    """
    noise = noise_line({name: values[f"sigma2/{name}"] for name in tasks})
    return f"step {values['step']:.0f}: {noise}; weights {ratio([values[f'weight/{name}'] for name in tasks])}"


def noise_line(variances: Mapping[str, float]) -> str:
    """sigma^2 of each task, and the inverses as a ratio."""
    numbers = ", ".join(f"{value:.3g}" for value in variances.values())
    inverse = ratio([1 / value for value in variances.values()])
    return f"sigma^2 of {', '.join(variances)} = ({numbers}), inverse {inverse}"


def ratio(values: Sequence[float]) -> str:
    """Numbers as a ratio, the last one of which is 1."""
    return " : ".join(f"{value / values[-1]:.3g}" for value in values)


def canvas(width: float, height: float) -> tuple["Canvas", Callable[[Path], None]]:
    """An empty plot of a size in inches, and what writes it as a PNG, whole or not at all.

    Raises:
        UserError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise UserError("plots need matplotlib: pip install -e '.[plots]'") from None
    figure = Canvas(figsize=(width, height), layout="constrained")

    def save(path: Path) -> None:
        with whole(path) as file:
            figure.savefig(file, dpi=120, format="png")

    return figure, save


def plot_weights(runs: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Plots log-variances and effective weights over the steps: a column for each task, a line for each run.

    Args:
        runs: title -> history of a run.
        path: of the PNG.
    Raises:
        UserError: if matplotlib is not installed, or no run has learned weights.
    """
    names = _learned(entry for history in runs.values() for entry in history)
    if not names:
        raise UserError(f"runs: needed one with learned weights, found none in {list(runs)}")
    figure, save = canvas(4 * len(names), 5)
    axes = figure.subplots(2, len(names), sharex=True, squeeze=False)
    for column, name in enumerate(names):
        for title, history in runs.items():
            _line(axes[0][column], [_with_log_variance(entry, name) for entry in history], _LOG_VARIANCE + name, title)
            _line(axes[1][column], history, f"weight/{name}", title)
        axes[0][column].set_title(name)
        axes[1][column].set_yscale("log")
        axes[1][column].set_xlabel("step")
    axes[0][0].set_ylabel("log sigma^2")
    axes[1][0].set_ylabel("effective weight")
    figure.legend(handles=axes[0][0].get_lines(), loc="outside right upper")  # lines of many runs leave no room within
    save(path)


def plot_training(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plots losses, sigma^2 and effective weights of one run over its steps, a line for each task (figure 7).

    Args:
        history: of the run.
        path: of the PNG.
    Raises:
        UserError: if matplotlib is not installed, or the run has no learned weights.
    """
    names = _learned(history)
    if not names:
        raise UserError("history: needed a run with learned weights, found none")
    figure, save = canvas(12, 4)
    for axes, kind, title in zip(
        figure.subplots(1, 3), ("loss", "sigma2", "weight"), ("loss", "sigma^2", "effective weight"), strict=True
    ):
        for name in names:
            _line(axes, history, f"{kind}/{name}", name)
        axes.set_title(title)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.legend()
    save(path)


_LOG_VARIANCE = "log_variance/"


def _learned(entries: Iterable[Mapping[str, float]]) -> list[str]:
    """Names of the tasks that have a log-variance."""
    keys = dict.fromkeys(key for entry in entries for key in entry if key.startswith(_LOG_VARIANCE))
    return [key.removeprefix(_LOG_VARIANCE) for key in keys]


def _with_log_variance(entry: Mapping[str, float], name: str) -> Mapping[str, float]:
    """An entry whose log-variance is that of its sigma^2: of Laplace likelihoods older versions logged log b."""
    variance = entry.get(f"sigma2/{name}")
    return {**entry, _LOG_VARIANCE + name: math.log(variance)} if variance else entry


def _line(axes: Any, history: Sequence[Mapping[str, float]], key: str, label: str) -> None:
    entries = [entry for entry in history if key in entry]
    axes.plot([entry["step"] for entry in entries], [entry[key] for entry in entries], label=label)
