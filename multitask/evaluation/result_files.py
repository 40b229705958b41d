"""Result files in the official format of Cityscapes, ready for the benchmark's server.

<results_dir>/pixel-level/<name>_labelIds.png              8-bit class ids
<results_dir>/instance-level/<name>.txt                    a line for each instance: mask, class id, confidence
<results_dir>/instance-level/masks/<name>/<number>.png     8-bit, 255 inside

The official scripts find a frame's files by the prefix of their names, anywhere below the given folder. They can be
given ``results_dir`` itself, since no mask's name begins with a frame's.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from multitask.data.class_tables import built_in
from multitask.data.classes import ClassTable
from multitask.data.layout import write_png
from multitask.data.transforms import resize_nearest
from multitask.errors import UserError
from multitask.files import make_folder, write_text
from multitask.metrics.predicted import PredictedScene


class ResultWriter:
    """Writes the result files frame by frame; made by `write_results`."""

    def __init__(self, folder: Path, classes: ClassTable, size_of: Callable[[str], tuple[int, int]] | None) -> None:
        self._folder = folder
        self._classes = classes
        self._size_of = size_of

    def write(self, name: str, scene: PredictedScene) -> None:
        """Writes the predictions for a frame; one without instances gets an empty list.

        Raises:
            UserError: naming the frame, if its name contains a space.
            ValueError: naming the frame, if its predictions are not valid.
        """
        if " " in name:
            raise UserError(f"{name}: needed a frame's name without spaces, since the lists of masks are split at them")
        layers = [layer for layer in (scene.train_ids, scene.instance_map) if layer is not None]
        if layers:
            scene.check(name, layers[0].shape, self._classes)
        if self._size_of:
            scene = _resized(scene, self._size_of(name))
        if scene.train_ids is not None:
            ids = self._classes.evaluated_label_ids[scene.train_ids]
            write_png(self._folder / "pixel-level" / f"{name}_labelIds.png", ids)
        if scene.instance_map is not None:
            self._write_instances(name, scene.instance_map, scene)

    def _write_instances(self, name: str, instance_map: np.ndarray, scene: PredictedScene) -> None:
        numbers = np.unique(instance_map)
        scene.check_numbers(name, numbers)
        folder = self._folder / "instance-level"
        lines = []
        for index, instance in enumerate(x for x in scene.instances if x.number in numbers):
            mask = f"masks/{name}/{index:04d}.png"
            write_png(folder / mask, (instance_map == instance.number).astype(np.uint8) * 255)
            lines.append(f"{mask} {self._classes.label_ids[instance.class_id]} {float(instance.confidence)!r}\n")
        write_text(folder / f"{name}.txt", "".join(lines))


def check_results_dir(results_dir: str | Path) -> None:
    """Checks that results can be written to a folder.

    Raises:
        UserError: if the path exists and is not an empty folder.
    """
    final = Path(results_dir).resolve()
    if final.exists() and not final.is_dir():
        raise UserError(f"results_dir={results_dir}: needed a folder, found a file")
    if final.is_dir() and (found := sum(1 for _ in final.iterdir())):
        raise UserError(f"results_dir={results_dir}: needed an empty or a new folder, found {found} entries in it")


def _resized(scene: PredictedScene, size: tuple[int, int]) -> PredictedScene:
    maps = {
        name: None if layer is None else resize_nearest(layer, size)
        for name, layer in (("train_ids", scene.train_ids), ("instance_map", scene.instance_map))
    }
    return PredictedScene(maps["train_ids"], maps["instance_map"], scene.instances)


@contextmanager
def write_results(
    results_dir: str | Path, classes: ClassTable, size_of: Callable[[str], tuple[int, int]] | None = None
) -> Iterator[ResultWriter]:
    """Yields a writer of result files, which all appear in ``results_dir`` at once at the end of ``with``.

    Until then they lie in a temporary folder beside it. After an error nothing is left behind.

    Args:
        results_dir: an empty folder or a path that does not exist.
        classes: the class table of the predictions, which must be Cityscapes'.
        size_of: returns the size (H, W) in px to which a frame's maps are resized (nearest pixel), by the frame's name;
            None keeps their size.
    Raises:
        UserError: if ``results_dir`` is not as above, or the classes differ.
    """
    check_results_dir(results_dir)
    if other := _difference(built_in("cityscapes"), classes):
        raise UserError(f"results_dir={results_dir}: needed Cityscapes' classes, which its server knows, but {other}")
    final = Path(results_dir).resolve()
    make_folder(final.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        folder = temporary / final.name
        folder.mkdir()
        yield ResultWriter(folder, classes, size_of)
        # Also atomic if the target is an empty folder; it fails if that has got entries meanwhile.
        folder.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _difference(official: ClassTable, classes: ClassTable) -> str | None:
    """Describes the first class with another meaning or another id in files; None if there is none."""
    if other := official.difference(classes):
        return other
    for one, another in zip(official.evaluated, classes.evaluated, strict=True):
        if one.id != another.id:
            return f"class {one.name!r} has the id {one.id} in {official.name}, {another.id} in {classes.name}"
    return None
