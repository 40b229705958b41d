"""From files to the files of their predictions: what ``scripts/predict.py`` calls."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from multitask.build import Config
from multitask.data.layout import read_camera
from multitask.errors import UserError
from multitask.prediction.drawing import shown_size
from multitask.prediction.inputs import Source, find_sources, printable
from multitask.prediction.output import SceneWriter, check_output_dir, write_scenes
from multitask.prediction.pictures import quietly, read_picture
from multitask.prediction.predictor import NetworkInput, Predictor, load
from multitask.prediction.scene import Scene
from multitask.prediction.video import is_video, num_frames, read_frames
from multitask.progress import Progress

T = TypeVar("T")

_BATCHES_AHEAD = 4
"""So many batches of pictures are read together: pictures of different sizes among them share batches."""

_LONGEST_NAME = 255 - len("_instance_ids.png")
"""Bytes of a name that leave room for what results' names end with."""


@dataclass(frozen=True)
class Predicted:
    """What became of a prediction's inputs.

    Attributes:
        count: pictures and frames predicted.
        failures: a line for each input that was not, with its name.
        folder: where the files are.
    """

    count: int
    failures: list[str]
    folder: Path

    def __str__(self) -> str:
        failed = f", {len(self.failures)} not:" if self.failures else ""
        head = f"{self.count} picture{'s' * (self.count != 1)} predicted{failed}"
        where = [f"written to {self.folder}"] if self.count else []
        return "\n".join([head, *(f"  {printable(line)}" for line in self.failures), *where])


class _Read(NamedTuple):
    """A picture that was read: what the network gets, and what its panel shows."""

    source: Path
    frame: int | None
    name: str
    image: NetworkInput
    shown: Image.Image


def predict(config: Config) -> Predicted:
    """Predicts every picture of ``config["input"]`` and writes the results.

    What can be known to be wrong before is refused, and nothing written; a picture that cannot be read, or of which
    the network makes nothing, is named in what is returned, and the others are predicted.

    Args:
        config: resolved configuration of ``configs/predict.yaml``.
    Raises:
        UserError: naming the key or file.
    """
    for key, example in (
        ("checkpoint", "the path of a checkpoint, e.g. runs/quickstart/seed0/checkpoints/last.pt"),
        ("input", "a picture, a folder, a pattern of files or a video"),
        ("output_dir", "a new folder for the results, e.g. runs/predictions"),
    ):
        if config[key] in (None, ""):
            raise UserError(f"{key}: needed {example}")
    folder = Path(str(config["output_dir"]))
    check_output_dir(folder)
    sources = find_sources(str(config["input"]))
    camera = read_camera(Path(str(config["camera"]))) if config["camera"] else None
    batch_size = config["batch_size"]
    predictor = load(
        str(config["checkpoint"]),
        device=config["device"],
        precision=config["precision"],
        size=config["size"],
        batch_size=batch_size,
    )
    with quietly(), write_scenes(folder, camera) as writer:
        count, failures = _predict_all(predictor, sources, writer, _BATCHES_AHEAD * batch_size)
    return Predicted(count, failures, folder)


def _predict_all(
    predictor: Predictor, sources: Sequence[Source], writer: SceneWriter, at_once: int
) -> tuple[int, list[str]]:
    expected = sum(num_frames(source.path) if is_video(source.path) else 1 for source in sources)
    progress = Progress("pictures")
    failures: list[str] = []
    done = 0
    read = _read_all(predictor, sources, one_size=writer.camera is not None)
    for items in _ahead(_chunks(read, at_once)):
        scenes = predictor.scenes([item.image for item in items if isinstance(item, _Read)])
        for item in items:
            found = item if isinstance(item, UserError) else next(scenes)
            if isinstance(item, _Read) and isinstance(found, Scene):
                writer.write(item.source, item.frame, item.name, item.shown, found)
            else:
                failures.append(str(found))
            done += 1
            progress(done, max(done, expected))
    if 0 < done < expected:  # a video had fewer frames than it said
        progress(done, done)
    return done - len(failures), failures


def _read_all(predictor: Predictor, sources: Iterable[Source], one_size: bool) -> Iterator[_Read | UserError]:
    """Every picture and frame in order, or what was wrong with it: another size than the first's, for one camera."""
    size: tuple[int, int] | None = None
    for source in sources:
        try:
            frames = read_frames(source.path) if is_video(source.path) else [read_picture(source.path)]
            for index, image in enumerate(frames):
                read = _prepare(predictor, source, index if is_video(source.path) else None, image)
                size = size or read.image.size
                if one_size and read.image.size != size:
                    raise UserError(
                        f"{source.path}: needed {size[0]} x {size[1]} px, as the first picture for which camera= is, "
                        f"found {read.image.size[0]} x {read.image.size[1]}"
                    )
                yield read
        except UserError as error:
            yield error


def _prepare(predictor: Predictor, source: Source, frame: int | None, image: np.ndarray) -> _Read:
    path, name = source if frame is None else (source.path, f"{source.name}_{frame:06d}")
    if (length := len(os.fsencode(Path(name).name))) > _LONGEST_NAME:
        raise UserError(f"{path}: needed a name of at most {_LONGEST_NAME} bytes for its results, found {length}")
    shown = Image.fromarray(image).resize(shown_size(image.shape[:2]), Image.Resampling.BICUBIC)
    return _Read(path, frame, name, predictor.prepare(str(path), image), shown)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made in a thread while the one before it is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
