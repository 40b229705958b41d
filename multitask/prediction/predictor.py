"""Prediction of scenes from pictures by a trained network."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from multitask.config import factories as build
from multitask.config.trained import Trained, load_trained
from multitask.data.sample import Sample
from multitask.data.split import check_size
from multitask.data.transforms import resize
from multitask.engine.compute import Compute, make_compute
from multitask.engine.inference import network_predictor
from multitask.errors import UserError
from multitask.evaluation.scenes import make_scenes
from multitask.metrics import PredictedScene
from multitask.models.stride import STRIDE
from multitask.prediction.decoding import Picture, array_to_picture, pillow_limits, read_picture, to_picture
from multitask.prediction.scene import Scene, make_scene
from multitask.tasks.depth import Depth
from multitask.tasks.semantic import Semantic

Given = str | Path | Image.Image | np.ndarray
"""Types of pictures that users may give."""

_MOST_TIMES_HIGHER = 16
"""Limit of a picture's height over its width: at the network's width, a narrower one might have any height."""


class NetworkInput(NamedTuple):
    """A picture at the network's size.

    Attributes:
        name: name for errors.
        image: [3, h, w] uint8.
        size: (H, W) px of the original picture.
    """

    name: str
    image: Tensor
    size: tuple[int, int]


class Predictor:
    """Predicts scenes from pictures of any size; created by `load`.

    Args:
        trained: the trained network.
        compute: device and precision of the network.
        size: (H, W) px to which every picture is resized for the network; None: the network's training width, and the
            height that keeps the aspect ratio.
        batch_size: maximum number of pictures in a batch; fewer if they are larger than those of training.

    Attributes:
        classes: class table of the predictions.

    Raises:
        UserError: naming the invalid argument.
    """

    def __init__(self, trained: Trained, compute: Compute, size: tuple[int, int] | None, batch_size: int) -> None:
        if not {Semantic.name, Depth.name} & trained.tasks.keys():
            raise UserError(f"checkpoint: needed a network of classes or disparity, found {list(trained.tasks)}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size: needed a whole number above zero, found {batch_size!r}")
        if size and min(size) < STRIDE:
            raise UserError(f"size: needed at least {STRIDE} x {STRIDE} px, the network's stride, found {list(size)}")
        self.classes = trained.classes
        self._grouping = build.make_grouping(trained.config)
        self._width = check_size("data.image_size", trained.config.get("data", {}).get("image_size"))[1]
        self._size = size
        self._batch_size = batch_size
        self._pixels = build.pixels_at_once(trained.config)
        self._device = compute.device
        network = trained.network.eval().to(memory_format=compute.memory_format)
        self._network = network_predictor(network.to(compute.device), compute)

    @overload
    def predict(self, image: list[Any]) -> list[Scene]: ...

    @overload
    def predict(self, image: Given) -> Scene: ...

    def predict(self, image: Given | list[Any]) -> Scene | list[Scene]:
        """Predicts classes, instances and disparity of one picture, or of each of several.

        Args:
            image: the path of a picture file, a Pillow image, an array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA of
                uint8 or uint16, or a list of these.
        Returns:
            A scene at the picture's original size; for a list, a list of scenes.
        Raises:
            UserError: naming the file or argument, if a picture cannot be read or is smaller than 8 x 8 px.
        """
        with pillow_limits():
            inputs = [self.prepare(*self._read(one)) for one in (image if isinstance(image, list) else [image])]
        scenes = []
        for item, found in zip(inputs, self.predict_each(inputs), strict=True):
            if isinstance(found, UserError):
                raise found
            scenes.append(make_scene(found, item.size, self.classes))
        return scenes if isinstance(image, list) else scenes[0]

    @property
    def min_size(self) -> tuple[int, int]:
        """(h, w) px that the network needs of a picture; a large picture may be shrunk to no less while it is read."""
        return self._size or (1, self._width)

    def prepare(self, name: str, picture: Picture) -> NetworkInput:
        """Resizes a picture to the network's size.

        Raises:
            UserError: naming the picture, if it is too small or too narrow.
        """
        height, width = picture.size
        if min(height, width) < STRIDE:
            raise UserError(
                f"{name}: needed at least {STRIDE} x {STRIDE} px, the network's stride, found {height} x {width}"
            )
        if height > _MOST_TIMES_HIGHER * width:
            raise UserError(
                f"{name}: needed at most {_MOST_TIMES_HIGHER} times as high as wide, found {height} x {width}"
            )
        size = self._size or (round(height * self._width / width), self._width)
        if size[0] < STRIDE:
            raise UserError(
                f"{name}: needed at least {STRIDE} px of height at the network's width of {self._width}, found "
                f"{size[0]} of a picture of {height} x {width}"
            )
        check_size(f"{name}: size for the network", size)
        resized = resize(Sample(name, picture.pixels), size).image
        return NetworkInput(name, torch.from_numpy(resized.transpose(2, 0, 1).copy()), (height, width))

    def predict_each(self, inputs: Sequence[NetworkInput]) -> Iterator[PredictedScene | UserError]:
        """Yields the prediction for each picture in order, at the network's size, or its error.

        Pictures of equal network size form batches.
        """
        found: dict[int, PredictedScene | UserError] = {}
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(inputs):
            by_size.setdefault(tuple(item.image.shape), []).append(index)
        for (_, height, width), indices in by_size.items():
            at_once = max(1, min(self._batch_size, self._pixels // (height * width)))
            for start in range(0, len(indices), at_once):
                chosen = indices[start : start + at_once]
                results = self._predict_batch([inputs[index] for index in chosen])
                found.update(zip(chosen, results, strict=True))
        yield from (found.pop(index) for index in range(len(inputs)))

    def _read(self, image: Given) -> tuple[str, Picture]:
        if isinstance(image, str | Path):
            return str(image), read_picture(Path(image), self.min_size)
        if isinstance(image, Image.Image):
            return "image", to_picture(image, self.min_size)
        if isinstance(image, np.ndarray):
            return "image", array_to_picture(image, self.min_size)
        raise UserError(f"image: needed a path, a Pillow image or an array, found {type(image).__name__}")

    def _predict_batch(self, items: Sequence[NetworkInput]) -> list[PredictedScene | UserError]:
        """Predicts a batch of pictures of equal size."""
        try:
            predictions = self._network(torch.stack([item.image for item in items]).to(self._device))
            return [
                self._scene(item.name, {name: value[row : row + 1] for name, value in predictions.items()})
                for row, item in enumerate(items)
            ]
        except torch.OutOfMemoryError:
            height, width = items[0].image.shape[1:]
            needed = "a smaller batch_size, or" if len(items) > 1 else "a smaller"
            return [
                UserError(
                    f"{item.name}: {len(items)} pictures of {height} x {width} px at once are too many for the memory "
                    f"of {self._device}; needed {needed} size=[H,W]"
                )
                for item in items
            ]

    def _scene(self, name: str, predictions: Mapping[str, Tensor]) -> PredictedScene | UserError:
        """Returns the scene of one picture, or an error, such as for a disparity that is not finite."""
        try:
            (predicted,) = make_scenes([name], predictions, self.classes, self._grouping)
            if predicted.disparity is not None and (wrong := int((~np.isfinite(predicted.disparity)).sum())):
                raise UserError(f"{name}: disparity: needed finite numbers, found {wrong} px where they are not")
        except UserError as error:
            return error
        return predicted


def load(
    checkpoint: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    size: Sequence[int] | None = None,
    batch_size: int = 8,
) -> Predictor:
    """Loads a trained network for prediction: ``multitask.load(checkpoint).predict(image)`` is a scene.

    Args:
        checkpoint: path, such as ``runs/quickstart/seed0/checkpoints/last.pt``; no code in it is run.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        size: (H, W) px to which pictures are resized for the network; None: the network's training width, since it has
            learned the sizes of objects in px, and the height that keeps the aspect ratio.
        batch_size: maximum number of pictures in a batch.
    Returns:
        A `Predictor`, whose ``predict`` returns a `Scene` at the picture's size.
    Raises:
        UserError: naming the file or the argument, what was needed and what was found.
    """
    trained = load_trained(checkpoint)
    channels_last = bool(trained.config.get("trainer", {}).get("channels_last", True))
    compute = make_compute(device, precision, channels_last, group="")
    return Predictor(trained, compute, None if size is None else check_size("size", size), batch_size)
