"""Writing the result files of a prediction.

<output_dir>/<name>_panel.png          the panel for viewing
<output_dir>/<name>_class_ids.png      8-bit class ids, coded as in label files
<output_dir>/<name>_instance_ids.png   16-bit: class id * 1000 + k in instances, else the class id (see `coded`)
<output_dir>/<name>_disparity.png      16-bit Cityscapes coding: px * 256 + 1; 0 where it is too large for 16 bits
<output_dir>/predictions.jsonl         a line for each picture, in their order
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from multitask.data.classes import ClassTable
from multitask.data.layout import Camera, encode_disparity
from multitask.data.png_chunks import Damaged, check_chunks
from multitask.data.reading import opened
from multitask.errors import UserError
from multitask.files import atomic_writer
from multitask.prediction.decoding import one_at_a_time
from multitask.prediction.drawing import Shown, draw_panel
from multitask.prediction.enlarge import Band, Enlargement, Medians, coded, instance_codes
from multitask.prediction.inputs import normalized
from multitask.prediction.journal import Call, Journal, Origin, journal
from multitask.prediction.png_writer import png_rows
from multitask.prediction.scene import SceneInstance, scene_instances

_NAME_ERRORS = (
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EILSEQ, errno.EINVAL),  # raised by file systems that do not allow all names
)
"""Error numbers that concern one picture's file name, so that other pictures can still be written."""


_PANEL = "panel"
_KINDS = ("class_ids", "instance_ids", "disparity", _PANEL)


class Unwritable(UserError):
    """Error for one picture whose files cannot be written, while others can."""


class SceneWriter:
    """Writer of the files of one picture after another; created by `write_scenes`."""

    def __init__(self, folder: Path, notes: Journal, camera: Camera | None) -> None:
        self.camera = camera
        self._folder = folder
        self._notes = notes
        self._taken: set[str] = set()

    def size_of_done(self, origin: Origin, name: str) -> tuple[int, int] | None:
        """Returns the size (H, W) px of a picture if an earlier call has done it completely, from this origin, or None.

        Args:
            origin: source of the picture.
            name: name of its files.
        """
        found = self._notes.earlier.get(name)
        if found is None or (found.frame, found.state) != (origin.frame, origin.state):
            return None
        return found.size if all(_is_intact(_path(self._folder / name, kind)) for kind in found.kinds) else None

    def keep(self, name: str) -> None:
        """Keeps the files of a picture that an earlier call has done."""
        self._taken.add(normalized(name))
        self._notes.keep(name)

    def drop_unmade(self, paths: Iterable[Path]) -> None:
        """Removes an earlier call's results for these files that this call, now at its end, has not produced again.

        That happens if a file has changed and can no longer be read, or if its results have another name now.
        """
        for name in self._notes.unmade(paths):
            self._notes.drop(name)
            if self._is_inside(name) and normalized(name) not in self._taken:
                _remove(self._folder / name)

    def write(self, origin: Origin, name: str, shown: Image.Image, scene: Enlargement) -> None:
        """Writes the predictions for a picture, each file atomically.

        Args:
            origin: source of the picture.
            name: name of its files, with ``/`` for folders.
            shown: the picture, RGB, at panel size.
            scene: its predictions.
        Raises:
            Unwritable: if this picture cannot be written, while others can.
            UserError: naming the file, if nothing can be written any more, for example because the disk is full.
        """
        source, frame, place = origin.path, origin.frame, self._place(origin.path, name)
        self._notes.drop(name)
        self._notes.begun = True
        try:
            with one_at_a_time(scene.size[0] * scene.size[1]):
                kinds, instances = self._write_files(place, str(origin), Shown(scene.size, shown, scene.classes), scene)
        except BaseException as error:
            _remove(place)  # some may exist already, and without a line they belong to no picture
            if isinstance(error, UserError) and getattr(error.__cause__, "errno", None) in _NAME_ERRORS:
                raise Unwritable(f"{source}: {error}") from error
            raise
        line: dict[str, Any] = {"file": str(source)} | ({} if frame is None else {"frame": frame})
        line |= {"name": name, "width": scene.size[1], "height": scene.size[0]}
        if instances is not None:
            pairs = zip(instances, _codes(scene), strict=True)
            line |= {"instances": [self._listed(instance, code) for instance, code in pairs]}
        self._notes.add(origin, kinds, line)

    def _place(self, source: Path, name: str) -> Path:
        """Returns the path of a picture's files without suffix; refuses a path outside of the folder or in use."""
        place = self._folder / name
        if not self._is_inside(name):
            raise Unwritable(f"{source}: needed a place in {self._folder} for its results, found {place}")
        if normalized(name) in self._taken:
            raise Unwritable(f"{source}: needed a name of its own for its results, found that {name} is taken")
        self._taken.add(normalized(name))
        return place

    def _is_inside(self, name: str) -> bool:
        place = self._folder / name
        inside = Path(os.path.realpath(place.parent)).is_relative_to(os.path.realpath(self._folder))
        return inside and not any(part in ("", ".", "..") for part in name.split("/"))

    def _write_files(
        self, place: Path, title: str, shown: Shown, scene: Enlargement
    ) -> tuple[list[str], list[SceneInstance] | None]:
        """Writes a picture's files, which appear together at the end; returns their kinds, and predicted instances."""
        medians, codes = Medians(scene.outlines), _codes(scene)
        add: dict[str, Callable[[np.ndarray], None]] = {}
        with ExitStack() as files:
            for band in scene.bands():
                for kind, rows in _layers(band, codes, scene.classes):
                    if kind not in add:
                        rows_of = png_rows(_path(place, kind), scene.size, 8 * rows.itemsize)
                        add[kind] = files.enter_context(rows_of)
                    add[kind](rows)
                medians.add(band)
                shown.add(band)
            instances = scene_instances(scene.outlines, medians.of_each(), scene.classes)
            panel = Image.fromarray(draw_panel(title, shown, instances, self.camera))
            file = files.enter_context(atomic_writer(_path(place, _PANEL), durable=False))
            panel.save(file, format="PNG", compress_level=1)
        return [*add, _PANEL], instances if shown.instance_ids is not None else None

    def _listed(self, instance: SceneInstance, code: int) -> dict[str, Any]:
        line: dict[str, Any] = {
            "id": instance.id,
            "png_value": code,
            "class": instance.class_name,
            "class_id": instance.class_id,
            "confidence": round(instance.confidence, 6),
            "box": instance.box,
            "area_px": instance.area,
        }
        if instance.disparity is not None:
            line["disparity_px"] = round(instance.disparity, 4)
            if self.camera:
                distance = instance.depth(self.camera)
                line["depth_m"] = None if distance is None else round(distance, 3)
        return line


def _path(place: Path, kind: str) -> Path:
    return place.with_name(f"{place.name}_{kind}.png")


def _remove(place: Path) -> None:
    """Removes those of a picture's files that exist."""
    for kind in _KINDS:
        with suppress(OSError):
            _path(place, kind).unlink()


def _is_intact(path: Path) -> bool:
    """Whether a PNG exists and is undamaged: after a power cut it may be empty or truncated."""
    try:
        with opened(path) as file:
            check_chunks(file)
    except (Damaged, UserError):
        return False
    return True


def _codes(scene: Enlargement) -> list[int]:
    return instance_codes([outline.class_id for outline in scene.outlines], scene.classes)


def _layers(band: Band, codes: Sequence[int], classes: ClassTable) -> Iterator[tuple[str, np.ndarray]]:
    """Yields kind and rows, uint8 or uint16, for each layer's file."""
    if band.class_ids is not None:
        yield "class_ids", band.class_ids
        if band.instance_ids is not None:
            yield "instance_ids", coded(band.instance_ids, band.class_ids, codes, classes)
    if band.disparity is not None:
        yield "disparity", encode_disparity(band.disparity)


@contextmanager
def write_scenes(folder: Path, camera: Camera | None, call: Call) -> Iterator[SceneWriter]:
    """Yields a writer of pictures' files into ``folder`` within ``with``, and writes the lines of all at its end.

    If an error or a signal ends it early, the lines of the pictures done are written, and the same call can resume. If
    nothing was done, the folder is left empty, so that it can be used again.

    Args:
        folder: new, empty, or with an unfinished prediction of the same call.
        camera: camera of all pictures, for distances.
        call: settings that determine the predictions.
    Raises:
        UserError: if the folder has other content, if another process predicts into it, or if the disk is full.
    """
    with journal(folder, call) as notes:
        yield SceneWriter(folder, notes, camera)
