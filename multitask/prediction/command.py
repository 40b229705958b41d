"""Prediction for files, with results written to files, as ``scripts/predict.py`` runs it."""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from multitask.config.factories import Config
from multitask.console import Progress
from multitask.data.classes import ClassTable
from multitask.data.layout import read_camera
from multitask.errors import UserError
from multitask.metrics import PredictedScene
from multitask.prediction.decoding import Picture, pillow_limits, read_picture
from multitask.prediction.drawing import shown_size
from multitask.prediction.enlarge import Enlargement
from multitask.prediction.inputs import Source, find_sources, passed_over, printable
from multitask.prediction.journal import Call, Origin, check_output_dir, state
from multitask.prediction.output import SceneWriter, Unwritable, write_scenes
from multitask.prediction.predictor import NetworkInput, Predictor, load
from multitask.prediction.video import num_frames, read_frames

_BATCHES_AHEAD = 4
"""Number of batches that are read together: pictures of different sizes among them are grouped into batches."""

_LONGEST_NAME = 255 - len("_instance_ids.png")
"""Limit of a name in bytes, which leaves room for the suffixes of result files."""


@dataclass(frozen=True)
class Predicted:
    """Summary of a prediction.

    Attributes:
        count: number of pictures and frames predicted.
        failures: one line for each input that could not be predicted, with its name.
        folder: folder of the results.
        kept: number of those in ``count`` that an earlier, unfinished call had predicted.
        passed: names of skipped files, which are neither pictures nor videos.
    """

    count: int
    failures: list[str]
    folder: Path
    kept: int = 0
    passed: Sequence[str] = ()

    def __str__(self) -> str:
        kept = f", {self.kept} of them before" if self.kept else ""
        failed = f", {len(self.failures)} not:" if self.failures else ""
        lines = [f"{self.count} picture{'s' * (self.count != 1)} predicted{kept}{failed}"]
        lines += [f"  {printable(line)}" for line in self.failures]
        lines += [printable(passed_over(self.passed))] if self.passed else []
        lines += [f"written to {printable(str(self.folder))}"] if self.count else []
        return "\n".join(lines)


class _Read(NamedTuple):
    """A picture that was read: the network's input, and the picture for its panel."""

    origin: Origin
    name: str
    image: NetworkInput
    shown: Image.Image


class _Failed(NamedTuple):
    """Message about a picture that failed; the error itself would keep large objects alive by its traceback."""

    fault: str


class _Done(NamedTuple):
    """A picture that an earlier call has predicted."""

    name: str


_Item = _Read | _Done | _Failed


def predict(config: Config) -> Predicted:
    """Predicts every picture of ``config["input"]`` and writes the results.

    Faults that can be detected in advance are raised before anything is written. A picture that cannot be read or
    predicted is reported in the result, and the others are predicted.

    Args:
        config: resolved configuration of ``configs/predict.yaml``.
    Raises:
        UserError: naming the key or file.
    """
    _check(config)
    folder, call = Path(config["output_dir"]), _call(config)
    check_output_dir(folder, call)
    inputs = find_sources(config["input"], folder)
    camera = read_camera(Path(config["camera"])) if config["camera"] else None
    batch_size = config["batch_size"]
    predictor = load(
        config["checkpoint"],
        device=config["device"],
        precision=config["precision"],
        size=config["size"],
        batch_size=batch_size,
    )
    with pillow_limits(config["largest"]), write_scenes(folder, camera, call) as writer:
        count, kept, failures = _predict_all(predictor, inputs.sources, writer, _BATCHES_AHEAD * batch_size)
    return Predicted(count, [*inputs.failures, *failures], folder, kept, inputs.passed)


def _check(config: Config) -> None:
    for key, example in (
        ("checkpoint", "the path of a checkpoint, e.g. runs/quickstart/seed0/checkpoints/last.pt"),
        ("input", "a picture, a folder, a pattern of files or a video"),
        ("output_dir", "a new folder for the results, e.g. runs/predictions"),
    ):
        if config[key] in (None, ""):
            raise UserError(f"{key}: needed {example}")
    largest = config["largest"]
    if isinstance(largest, bool) or not isinstance(largest, int) or largest < 1:
        raise UserError(f"largest: needed a whole number of px above zero, found {largest!r}")


def _call(config: Config) -> Call:
    """Returns the settings that determine the predictions; a call with equal ones resumes an unfinished prediction."""
    files = {key: state(config[key]) if config[key] else None for key in ("checkpoint", "camera")}
    return {**files, "input": os.path.abspath(config["input"]), **{key: config[key] for key in ("size", "precision")}}


def _predict_all(
    predictor: Predictor, sources: Sequence[Source], writer: SceneWriter, at_once: int
) -> tuple[int, int, list[str]]:
    """Returns the number of pictures predicted, the number of these kept from before, and a line for each failure."""
    expected = sum(num_frames(source.path) if source.video else 1 for source in sources)
    progress = Progress("pictures")
    failures: list[str] = []
    done = kept = 0
    with _ahead(predictor, sources, writer, at_once) as chunks:
        for items in chunks:
            predictions = predictor.predict_each([item.image for item in items if isinstance(item, _Read)])
            for item in items:
                failures += _deal_with(item, predictions, writer, predictor.classes)
                kept += isinstance(item, _Done)
                done += 1
                progress(done, max(done, expected))
    writer.drop_unmade(source.path for source in sources)
    if 0 < done < expected:  # a video had fewer frames than its header says
        progress(done, done)
    return done - len(failures), kept, failures


def _deal_with(
    item: _Item, predictions: Iterator[PredictedScene | UserError], writer: SceneWriter, classes: ClassTable
) -> list[str]:
    """Writes the prediction for a picture; returns messages about its failure, if it failed."""
    if isinstance(item, _Failed):
        return [item.fault]
    if isinstance(item, _Done):
        writer.keep(item.name)
        return []
    predicted = next(predictions)
    if isinstance(predicted, UserError):
        return [str(predicted)]
    try:
        writer.write(item.origin, item.name, item.shown, Enlargement(predicted, item.image.size, classes))
    except Unwritable as error:
        return [str(error)]
    return []


@contextmanager
def _ahead(
    predictor: Predictor, sources: Iterable[Source], writer: SceneWriter, at_once: int
) -> Iterator[Iterator[list[_Item]]]:
    """Yields an iterator over chunks of pictures, each read in a thread during work on the last; ends with ``with``."""
    stopped = threading.Event()
    items = _read_all(predictor, sources, writer)
    unstopped = itertools.takewhile(lambda _: not stopped.is_set(), items)
    with ThreadPoolExecutor(1) as pool:

        def read() -> list[_Item]:
            return list(itertools.islice(unstopped, at_once))

        def chunks() -> Iterator[list[_Item]]:
            coming = pool.submit(read)
            while chunk := coming.result():
                coming = pool.submit(read)
                yield chunk

        try:
            yield chunks()
        finally:
            stopped.set()


def _read_all(predictor: Predictor, sources: Iterable[Source], writer: SceneWriter) -> Iterator[_Item]:
    """Yields every picture and frame in order, or its failure; with a camera, all sizes must equal the first."""
    first: tuple[int, int] | None = None
    for source in sources:
        try:
            for origin, name, found in _pictures(source, predictor.min_size, writer):
                size = found.size if isinstance(found, Picture) else found
                item = _prepared(predictor, origin, name, found) if isinstance(found, Picture) else _Done(name)
                first = first or size
                if writer.camera and size != first:
                    raise UserError(
                        f"{source.path}: needed {first[0]} x {first[1]} px, as the first picture for which camera= is, "
                        f"found {size[0]} x {size[1]}"
                    )
                yield item
        except UserError as error:
            yield _Failed(str(error))


def _pictures(
    source: Source, min_size: tuple[int, int], writer: SceneWriter
) -> Iterator[tuple[Origin, str, Picture | tuple[int, int]]]:
    """Yields origin, name and content of a picture or of each frame of a video; of a done one its size (H, W) px."""
    origin = Origin(source.path, None, state(source.path))
    if not source.video:
        yield origin, source.name, writer.size_of_done(origin, source.name) or read_picture(source.path, min_size)
        return
    for frame, picture in enumerate(read_frames(source.path, min_size)):
        part, name = origin._replace(frame=frame), f"{source.name}_{frame:06d}"
        yield part, name, writer.size_of_done(part, name) or picture


def _prepared(predictor: Predictor, origin: Origin, name: str, picture: Picture) -> _Read:
    if (length := len(os.fsencode(Path(name).name))) > _LONGEST_NAME:
        raise UserError(
            f"{origin.path}: needed a name of at most {_LONGEST_NAME} bytes for its results, found {length}"
        )
    shown = Image.fromarray(picture.pixels).resize(shown_size(picture.size), Image.Resampling.BICUBIC)
    return _Read(origin, name, predictor.prepare(str(origin.path), picture), shown)
