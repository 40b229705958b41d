"""The files of a prediction.

<output_dir>/<name>_panel.png          what people look at
<output_dir>/<name>_class_ids.png      8-bit Cityscapes class ids
<output_dir>/<name>_instance_ids.png   16-bit Cityscapes coding: class id * 1000 + k in an instance, else the class id
<output_dir>/<name>_disparity.png      16-bit Cityscapes coding: px * 256 + 1; 0 where it is too large for 16 bits
<output_dir>/predictions.jsonl         a line for each picture, in their order
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from multitask.data.layout import Camera, encode_disparity, write_png
from multitask.errors import UserError
from multitask.prediction.drawing import draw_panel
from multitask.prediction.scene import Scene, SceneInstance

LINES = "predictions.jsonl"


def check_output_dir(folder: Path) -> None:
    """Checks that a folder is new or empty.

    Raises:
        UserError: if it is a file, or holds anything, an earlier prediction for example.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir={folder}: needed a folder, found a file")
    if folder.is_dir() and (found := sorted(item.name for item in folder.iterdir())):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(f"output_dir={folder}: needed a new or empty folder, found {', '.join(found[:3])}{more}")


class SceneWriter:
    """Writes the files of one picture after the other; `write_scenes` makes one."""

    def __init__(self, folder: Path, lines: TextIO, camera: Camera | None) -> None:
        self._folder = folder
        self._lines = lines
        self.camera = camera

    def write(self, source: Path, frame: int | None, name: str, shown: Image.Image, scene: Scene) -> None:
        """Writes what is predicted of a picture; each file appears whole or not at all.

        Args:
            source: the file that the picture is from.
            frame: which frame of it, if it is a video.
            name: of its files, with ``/`` for folders.
            shown: the picture, RGB, as its panel shows it.
            scene: what is predicted of it.
        """
        codes = scene.coded_instance_ids()
        disparity = None if scene.disparity is None else encode_disparity(scene.disparity)
        title = str(source) if frame is None else f"{source} frame {frame}"
        panel = draw_panel(title, shown, scene, self.camera)
        for kind, array in (
            ("class_ids", scene.class_ids),
            ("instance_ids", codes),
            ("disparity", disparity),
            ("panel", panel),
        ):
            if array is not None:
                write_png(self._folder / f"{name}_{kind}.png", array)
        origin = {"file": str(source)} | ({} if frame is None else {"frame": frame})
        self._lines.write(json.dumps(origin | self._line(name, scene)) + "\n")

    def _line(self, name: str, scene: Scene) -> dict[str, Any]:
        line: dict[str, Any] = {"name": name, "width": scene.size[1], "height": scene.size[0]}
        if scene.instance_ids is None:
            return line
        pairs = zip(scene.instances, scene.instance_codes(), strict=True)
        return line | {"instances": [self._instance(instance, code) for instance, code in pairs]}

    def _instance(self, instance: SceneInstance, code: int) -> dict[str, Any]:
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


@contextmanager
def write_scenes(folder: Path, camera: Camera | None) -> Iterator[SceneWriter]:
    """Within ``with``, pictures' files are written into ``folder``; at its end the lines of all of them appear there.

    So they do where an error ends it early. Where nothing was written the folder is left empty, to be tried again.

    Args:
        folder: new or empty.
        camera: of all pictures, for distances.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{LINES}.tmp"
    try:
        with temporary.open("w", encoding="utf-8", buffering=1) as lines:
            yield SceneWriter(folder, lines, camera)
    finally:
        if temporary.stat().st_size:
            os.replace(temporary, folder / LINES)
        else:
            temporary.unlink()
