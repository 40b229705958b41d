"""Tiny Cityscapes (section 5): Cityscapes at a small size, written once instead of resized at every reading."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from multitask.data import manifest
from multitask.data.cityscapes import Cityscapes
from multitask.data.layout import encode_disparity, file_path, write_camera, write_png
from multitask.data.parallel import for_each
from multitask.data.split import LABEL_KINDS
from multitask.errors import UserError

MANIFEST = "tiny_cityscapes.json"
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Job:
    split: Cityscapes
    index: int


def shrink(
    source: Path, root: Path, size: tuple[int, int], workers: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Writes every split of the data set at ``source`` to ``root`` at another size.

    Images are area-filtered; labels and disparity take the nearest pixel; disparity (px) and the camera's intrinsics
    are scaled. Frames that are there already are kept, so a call that was stopped is finished by the next one; all
    files are checked at the end.

    Args:
        source: folder in the Cityscapes layout.
        root: folder to write to: new, empty, or begun by an earlier call with the same arguments.
        size: (H, W) px.
        workers: processes.
        progress: called with the number of frames done and of all.
    Returns:
        Number of frames of each split.
    Raises:
        UserError: naming the file or folder, for a damaged source or a ``root`` that holds something else.
    """
    if root.resolve() == source.resolve():
        raise UserError(f"data.root={root}: needed another folder than data.source")
    splits = [Cityscapes(source, split, size) for split in _SPLITS if (source / "leftImg8bit" / split).is_dir()]
    if not splits:
        raise UserError(f"data.source={source}: needed leftImg8bit/<split>/<city>/*.png, found no split")
    content = {"source": str(source.resolve()), "size": list(size)}
    if manifest.claim(root, MANIFEST, content) is None:
        manifest.write(root, MANIFEST, content)
    jobs = [_Job(split, index) for split in splits for index in range(len(split))]
    done = 0
    for finished in for_each(partial(_shrink_frame, root), jobs, workers):
        done += len(finished)
        if progress:
            progress(done, len(jobs))
    for split in splits:
        Cityscapes(root, split.split, size).check_headers()
    return {split.split: len(split) for split in splits}


def _shrink_frame(root: Path, job: _Job) -> None:
    split, name = job.split, job.split.names[job.index]
    paths = {kind: file_path(root, kind, split.split, name) for kind in ("image", *split.kinds)}
    if all(path.exists() for path in paths.values()):
        return
    sample = split[job.index]
    if sample.camera is not None:
        write_camera(paths["camera"], sample.camera)
    for kind in LABEL_KINDS:
        layer = getattr(sample, kind)
        if layer is not None:
            write_png(paths[kind], encode_disparity(layer) if kind == "disparity" else _unsigned(kind, layer))
    write_png(paths["image"], sample.image)


def _unsigned(kind: str, layer: np.ndarray) -> np.ndarray:
    return layer.astype(np.uint16 if kind == "instance_ids" else np.uint8)
