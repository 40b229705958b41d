"""Panel of one picture: input, classes, instances and disparity side by side, at screen size."""

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from multitask.data.classes import ClassTable
from multitask.data.layout import Camera
from multitask.data.transforms import resize_nearest
from multitask.prediction.enlarge import Band
from multitask.prediction.inputs import printable
from multitask.prediction.scene import SceneInstance
from multitask.prediction.tags import Box, overlap, place_tag
from multitask.reporting.panels import sheet, swatches
from multitask.tasks.depth import Depth

_LARGEST = 760, 430
"""(width, height) px of the box to which every picture is scaled."""

_LEAST_WIDTH = 320
_COLUMN, _ROW = 152, 20
"""Width and height of one legend entry, px."""

Color = tuple[int, int, int]


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size (width, height) px at which a panel shows a picture of ``size`` = (H, W) px."""
    scale = min(_LARGEST[0] / size[1], _LARGEST[1] / size[0])
    return max(1, round(size[1] * scale)), max(1, round(size[0] * scale))


class Shown:
    """Predictions for one picture at panel size, collected band by band with the nearest pixels.

    Args:
        size: (H, W) px of the picture.
        picture: the input, RGB, at `shown_size`.
        classes: the class table.

    Attributes:
        class_ids: (h, w) uint8, coded as in label files; None without classes.
        instance_ids: (h, w) int32; None without instances.
        disparity: (h, w) float32 px of the picture; None without disparity.
        counts: (256,) int64, number of pixels of the original picture by class id in label files.
    """

    def __init__(self, size: tuple[int, int], picture: Image.Image, classes: ClassTable) -> None:
        self.classes = classes
        self.size = size
        self.picture = picture
        self.class_ids: np.ndarray | None = None
        self.instance_ids: np.ndarray | None = None
        self.disparity: np.ndarray | None = None
        self.counts = np.zeros(256, dtype=np.int64)
        self._rows, self._columns = (
            resize_nearest(np.arange(own)[:, None], (shown, 1))[:, 0]
            for own, shown in zip(size, picture.size[::-1], strict=True)
        )

    def add(self, band: Band) -> None:
        """Adds a band of rows; bands must be added from top to bottom."""
        self.class_ids = self._added(self.class_ids, band.class_ids, band.top)
        self.instance_ids = self._added(self.instance_ids, band.instance_ids, band.top)
        self.disparity = self._added(self.disparity, band.disparity, band.top)
        if band.class_ids is not None:
            self.counts += np.bincount(band.class_ids.ravel(), minlength=len(self.counts))

    def _added(self, above: np.ndarray | None, rows: np.ndarray | None, top: int) -> np.ndarray | None:
        if rows is None:
            return None
        start, stop = np.searchsorted(self._rows, (top, top + len(rows)))
        picked = rows[self._rows[start:stop] - top][:, self._columns]
        return picked if above is None else np.concatenate([above, picked])


def draw_panel(
    title: str, shown: Shown, instances: Sequence[SceneInstance], camera: Camera | None = None
) -> np.ndarray:
    """Draws the predictions for a picture, in rows of two.

    Args:
        title: title of the input.
        shown: the input and its predictions.
        instances: the predicted instances.
        camera: camera of the picture at its original size, for a scale in metres.
    Returns:
        (height, width, 3) uint8 RGB.
    """
    picture, size = shown.picture, shown.size
    width = max(picture.width, _LEAST_WIDTH)
    num_columns = width // _COLUMN
    cells: list[tuple[str, Image.Image, Image.Image | None]] = [(_shortened(title, width, size), picture, None)]
    if shown.class_ids is not None:
        legend = _legend(_shares(shown.counts, shown.classes), num_columns)
        cells.append(("classes, share of the picture", _classes(picture, shown.class_ids, shown.classes), legend))
    if shown.instance_ids is not None:
        entries = [(_label(instance), _tint(instance.id)) for instance in instances]
        legend = _legend(_first(entries, 5 * num_columns), num_columns)
        image = _instances(picture, shown.instance_ids, instances)
        cells.append((f"instances ({len(entries)}): number, class, confidence", image, legend))
    if shown.disparity is not None:
        values = shown.disparity * np.float32(picture.width / size[1])
        bar = _color_bar(width, size[1] / 16, camera, shown.classes)
        cells.append(("disparity", Image.fromarray(_disparity_colors(values, shown.classes)), bar))
    strip = max(legend.height for _, _, legend in cells if legend)
    whole = width, picture.height + strip
    made = [(title, _cell(image, legend, whole)) for title, image, legend in cells]
    return sheet([made[0::2], made[1::2]], whole)


def _cell(picture: Image.Image, legend: Image.Image | None, size: tuple[int, int]) -> Image.Image:
    cell = Image.new("RGB", size, "white")
    cell.paste(picture, (0, 0))
    if legend:
        cell.paste(legend, (0, picture.height))
    return cell


def _shortened(title: str, width: int, size: tuple[int, int]) -> str:
    """Returns the title and the picture's size; the beginning of too long a title is cut off."""
    font = ImageFont.load_default(13)
    title = printable(title)
    text = f"{title}, {size[1]} x {size[0]} px"
    while font.getlength(text) > width - 4 and len(title) > 1:
        title = title[1:]
        text = f"...{title}, {size[1]} x {size[0]} px"
    return text


def _legend(entries: list[tuple[str, Color]], num_columns: int) -> Image.Image:
    num_rows = max(1, -(-len(entries) // num_columns))
    size = num_columns * _COLUMN, num_rows * _ROW
    strip = Image.new("RGB", (size[0], size[1] + 8), "white")
    strip.paste(swatches([entries], size, num_columns), (0, 4))
    return strip


def _first(entries: list[tuple[str, Color]], most: int) -> list[tuple[str, Color]]:
    """Returns as many entries as fit, and a last one with the number of the others."""
    if len(entries) <= most:
        return entries
    return [*entries[: most - 1], (f"and {len(entries) - most + 1} more", (255, 255, 255))]


def _shares(counts: np.ndarray, classes: ClassTable) -> list[tuple[str, Color]]:
    shares = counts / counts.sum()
    present = sorted((label for label in classes.evaluated if shares[label.id]), key=lambda label: -shares[label.id])
    return [(f"{label.name} {_percent(shares[label.id])} %", label.color) for label in present]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.0095 else f"{100 * share:.1f}" if share >= 0.0005 else "< 0.1"


def _classes(picture: Image.Image, class_ids: np.ndarray, classes: ClassTable) -> Image.Image:
    colors = classes.colors[classes.train_ids[classes.class_ids[class_ids]]]
    return Image.blend(picture, Image.fromarray(colors), 0.55)


def _tint(number: int) -> Color:
    """Returns a bright colour for a number, far from those of neighbouring numbers."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.5 + 0.2 * (number % 2), 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _label(instance: SceneInstance) -> str:
    return f"{instance.id} {instance.class_name} {instance.confidence:.2f}"


def _instances(picture: Image.Image, ids: np.ndarray, instances: Sequence[SceneInstance]) -> Image.Image:
    """Draws tinted and outlined instances, each with its number, and with class and confidence where there is room."""
    tints = np.array([(0, 0, 0), *(_tint(instance.id) for instance in instances)])[ids]
    image = np.asarray(picture) * 0.8
    image = np.where((ids > 0)[..., None], image * 0.7 + tints * 0.3, image)
    outlined = Image.fromarray(np.where(_outlines(ids)[..., None], tints, image).astype(np.uint8))
    draw = ImageDraw.Draw(outlined)
    font = ImageFont.load_default(13)
    taken: list[Box] = []
    for instance in instances:
        if not (ids == instance.id).any():  # in a large picture it may be too small to be shown
            continue
        for text, force in ((_label(instance), False), (str(instance.id), True)):
            spot = place_tag(ids, instance.id, (font.getlength(text) + 6, 16), taken, force)
            if spot:
                taken.append(spot)
                draw.rectangle(spot, fill=_tint(instance.id))
                draw.text((spot[0] + 3, spot[1]), text, fill="black", font=font)
                break
    return outlined


def _outlines(ids: np.ndarray) -> np.ndarray:
    """Returns (H, W) bool, True for pixels of an instance at most 2 px from pixels outside of it."""
    height, width = ids.shape
    padded = np.pad(ids, 2, mode="edge")
    edge = np.zeros(ids.shape, dtype=bool)
    for y, x in ((0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)):
        edge |= padded[y : y + height, x : x + width] != ids
    return edge & (ids > 0)


def _disparity_colors(values: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Returns the colours of disparities (H, W) in px of a picture of that width."""
    return Depth(classes).render(torch.from_numpy(np.ascontiguousarray(values)).unsqueeze(0))


def _color_bar(width: int, largest: float, camera: Camera | None, classes: ClassTable) -> Image.Image:
    """Draws the colour scale for 0 to ``largest`` px, with ticks in px and, with a camera, in metres."""
    strip = Image.new("RGB", (width, 64 if camera else 46), "white")
    left, length = 12, width - 60
    levels = np.linspace(0, 1, length, dtype=np.float32) ** 2
    values = np.zeros((1, width), dtype=np.float32)
    values[0, :length] = levels * width / 16
    colors = Image.fromarray(_disparity_colors(values, classes)[:, :length])
    strip.paste(colors.resize((length, 14)), (left, 6))
    draw = ImageDraw.Draw(strip)
    _ticks(draw, 22, left, length, "px", [(0.0, "0"), *((x / largest, f"{x:g}") for x in _round_numbers(largest))])
    if camera:
        product = camera.baseline * camera.fx
        near = [(product / x / largest, f"{x:g}") for x in reversed(_round_numbers(500))]
        _ticks(draw, 40, left, length, "m", [(0.0, "inf"), *(tick for tick in near if tick[0] <= 1)])
    return strip


def _round_numbers(largest: float) -> list[float]:
    """Returns 1, 2 and 5 times powers of ten from 0.1 to ``largest``, in descending order."""
    numbers = [digit * 10.0**power for power in range(-1, 4) for digit in (1, 2, 5)]
    return [number for number in reversed(numbers) if number <= largest]


def _ticks(
    draw: ImageDraw.ImageDraw, y: int, left: int, length: int, unit: str, ticks: Iterable[tuple[float, str]]
) -> None:
    """Draws the ticks (fraction of the largest value, text) for which there is room; earlier ones have priority."""
    font = ImageFont.load_default(12)
    taken: list[Box] = []
    for fraction, text in ticks:
        x = left + fraction**0.5 * (length - 1)
        half = font.getlength(text) / 2
        spot = x - half - 4, 0.0, x + half + 4, 1.0
        if not any(overlap(spot, other) for other in taken):
            taken.append(spot)
            draw.line((x, y - 2, x, y + 2), fill="black")
            draw.text((x - half, y + 3), text, fill="black", font=font)
    draw.text((left + length + 14, y + 3), unit, fill="black", font=font)
