"""Writing of the data set in the Cityscapes layout, which can be killed and resumed at any time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from multitask.data import manifest
from multitask.data.layout import SUFFIX, are_intact, encode_disparity, file_path, write_camera, write_png
from multitask.data.parallel import for_each
from multitask.errors import UserError
from multitask.synthetic.frame import check_request, frame_name, render

MANIFEST = manifest.SYNTHETIC
"""Name of the manifest, a file at the data set's root that describes its contents."""

VERSION = 1
"""Version of the generator, raised whenever equal arguments would give other files."""

Frame = tuple[str, int]
Progress = Callable[[int, int], None]


def _write_frame(root: Path, seed: int, size: tuple[int, int], frame: Frame) -> None:
    """Renders one frame and writes its five files."""
    split, index = frame
    scene = render(seed, split, index, size)

    def path(kind: str) -> Path:
        return file_path(root, kind, split, scene.name)

    write_png(path("image"), scene.image)
    write_png(path("class_ids"), scene.class_ids)
    write_png(path("instance_ids"), scene.instance_ids)
    write_png(path("disparity"), encode_disparity(scene.disparity))
    write_camera(path("camera"), scene.camera)


def _is_complete(root: Path, size: tuple[int, int], frame: Frame) -> bool:
    """Whether all files of a frame exist and are intact."""
    split, index = frame
    return are_intact({kind: file_path(root, kind, split, frame_name(split, index)) for kind in SUFFIX}, size)


def _check(counts: dict[str, int], size: tuple[int, int], seed: int, workers: int) -> None:
    if not counts:
        raise UserError("counts: needed at least one split, found none")
    for split, count in counts.items():
        check_request(seed, split, size)
        if not 0 <= count <= 999_999:
            raise UserError(f"data.num_{split}: needed 0 to 999999 frames, found {count}")
    if workers < 1:
        raise UserError(f"workers: needed 1 or more, found {workers}")


def _check_counts(found: dict[str, Any], counts: dict[str, int]) -> None:
    """Refuses to write fewer frames than exist: the folder would contain more than its manifest says."""
    for split, count in found.get("counts", {}).items():
        if counts.get(split, 0) < count:
            raise UserError(
                f"data.num_{split}: needed no more than the {counts.get(split, 0)} frames asked for, found "
                f"{count} in {MANIFEST}; ask for at least as many, or choose another data.root"
            )


def write_dataset(
    root: Path,
    counts: dict[str, int],
    *,
    size: tuple[int, int],
    seed: int,
    workers: int,
    progress: Progress | None = None,
) -> None:
    """Writes a data set, or those of its frames that are missing or damaged.

    Args:
        root: a new or empty folder, or one that an earlier call with the same seed and size has filled or begun.
        counts: number of frames by split (``train``, ``val``, ``test``); may grow from call to call, never shrink.
        size: (H, W) of the frames, px.
        seed: seed, which with split, index and size determines every byte; the number of workers has no effect.
        workers: number of processes; 1 runs in this process.
        progress: called with the number of frames done and the number of all frames.
    Raises:
        UserError: for an argument out of range, a folder with other content, or another process writing to it.
    """
    _check(counts, size, seed, workers)
    identity = {"generator": VERSION, "seed": seed, "size": list(size)}
    with manifest.claimed(root, MANIFEST, identity) as found:
        if found is not None:
            _check_counts(found, counts)
        if found != (content := {**identity, "counts": dict(counts)}):
            manifest.write(root, MANIFEST, content)
        frames = [(split, index) for split, count in counts.items() for index in range(count)]
        missing = [frame for frame in frames if not _is_complete(root, size, frame)]
        done = len(frames) - len(missing)
        for written in for_each(partial(_write_frame, root, seed, size), missing, workers):
            done += len(written)
            if progress:
                progress(done, len(frames))
