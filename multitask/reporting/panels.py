"""Panels: pictures side by side, with titles and a legend of their colours."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from multitask.data.loader import Batch
from multitask.tasks.base import Task

_TITLE = 18  # px of the line above each picture
_GAP = 4


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
