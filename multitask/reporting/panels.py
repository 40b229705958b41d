"""Panels: titled pictures side by side, with a legend of their colours."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from multitask.data.loader import Batch
from multitask.tasks.base import Task

_TITLE = 18  # px, height of the title above each picture
_GAP = 4


def panel(
    batch: Batch, frame: int, predictions: Mapping[str, Tensor], tasks: Mapping[str, Task], tall: bool = False
) -> np.ndarray:
    """Draws the input image, and for each task its ground truth beside its prediction.

    Pixels without ground truth are black there. The prediction of a sparse task, such as vectors, which are defined on
    instances only, is shown at the pixels with ground truth.

    Args:
        batch: a batch with targets, on any device.
        frame: index of the frame in the batch.
        predictions: {task: [B, channels, H, W]}.
        tasks: the tasks to show.
        tall: whether to stack the tasks vertically, which fits TensorBoard's cards, instead of side by side.
    Returns:
        (height, width, 3) uint8.
    """
    image = batch.images[frame].permute(1, 2, 0).cpu().numpy()
    # One legend per task, headed by its name, since two tasks may share a colour.
    legends = [[(name, None), *task.legend(image.shape[1])] for name, task in tasks.items()]
    # Small pictures are zoomed by whole factors, so that pixels stay square; large ones are fitted to a screen.
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
    """Arranges titled pictures in a grid, each resized to ``size`` = (width, height) px."""
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
    """Draws a legend of colours in columns.

    Args:
        blocks: groups of entries (text, RGB), kept in one column if they fit; an entry without a colour is a heading.
        size: (width, height) px of the picture.
        num_columns: number of columns.
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
    """Distributes blocks over columns; a block that does not fit below another starts a new column."""
    columns: list[list[tuple[str, Color | None]]] = [[]]
    for block in blocks:
        if columns[-1] and len(columns[-1]) + len(block) > num_rows:
            columns.append([])
        for entry in block:
            if len(columns[-1]) == num_rows:
                columns.append([])
            columns[-1].append(entry)
    return columns
