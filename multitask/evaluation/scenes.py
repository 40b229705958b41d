"""From predictions to scenes (classes, instances made of votes, disparity) and to their figures."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from multitask.data.classes import ClassTable
from multitask.data.loader import Batch
from multitask.errors import UserError
from multitask.evaluation.result_files import ResultWriter
from multitask.instances import Grouping, Instances, group
from multitask.metrics import PANOPTIC, PredictedInstance, PredictedScene, SceneMetrics
from multitask.tasks.base import Figure, Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic

_PANOPTIC_FIGURES = tuple(
    Figure(key + suffix, f"{key.upper()}{title}, %", higher_is_better=True, percent=True)
    for suffix, title in (("", ""), ("_things", " things"), ("_stuff", " stuff"))
    for key in ("pq", "sq", "rq")
)


def figure_groups(tasks: Mapping[str, Task]) -> dict[str, tuple[Figure, ...]]:
    """The figures that tables show: each task's, and those of classes and instances together."""
    groups = {name: task.figures for name, task in tasks.items()}
    return groups | ({PANOPTIC: _PANOPTIC_FIGURES} if {Semantic.name, Instance.name} <= tasks.keys() else {})


def make_scenes(
    names: list[str], predictions: Mapping[str, Tensor], classes: ClassTable, grouping: Grouping | None = None
) -> list[PredictedScene]:
    """The scenes of B frames.

    Args:
        names: of the frames, for errors.
        predictions: of each task, [B, channels, H, W] on any device. Instances need classes and vectors.
        classes: the class table.
        grouping: how votes become instances.
    Raises:
        UserError: naming the frame, if vectors or classes are not finite.
    """
    layers = _layers(predictions)
    return [
        _scene(name, {key: layer[frame] for key, layer in layers.items()}, classes, grouping)
        for frame, name in enumerate(names)
    ]


def _layers(predictions: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """What scenes are made of, in this process's memory: little of 19 channels."""
    layers: dict[str, Tensor] = {}
    if (logits := predictions.get(Semantic.name)) is not None:
        best, train_ids = logits.float().max(1)
        probability = (best - logits.float().logsumexp(1)).exp()  # softmax, of the best class alone
        layers |= {"probability": probability, "train_ids": train_ids.to(torch.uint8)}
    if (offsets := predictions.get(Instance.name)) is not None:
        layers["offsets"] = offsets.float()
    if (disparity := predictions.get(Depth.name)) is not None:
        layers["disparity"] = disparity[:, 0].float()
    return {key: layer.cpu().numpy() for key, layer in layers.items()}


def _scene(
    name: str, layers: Mapping[str, np.ndarray], classes: ClassTable, grouping: Grouping | None
) -> PredictedScene:
    train_ids, disparity = layers.get("train_ids"), layers.get("disparity")
    if train_ids is not None and (wrong := int((~np.isfinite(layers["probability"])).sum())):
        raise UserError(f"{name}: class scores: needed finite numbers, found {wrong} px where they are not")
    if train_ids is None or "offsets" not in layers:
        return PredictedScene(train_ids, disparity=disparity)
    try:
        found = group(train_ids, layers["offsets"], classes, layers["probability"], grouping)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return PredictedScene(train_ids, found.ids, predicted_instances(found, classes), disparity)


def predicted_instances(found: Instances, classes: ClassTable) -> list[PredictedInstance]:
    """The instances as metrics and result files take them."""
    pairs = zip(found.train_ids.tolist(), found.confidence.tolist(), strict=True)
    return [
        PredictedInstance(number, int(classes.evaluated_ids[train_id]), confidence)
        for number, (train_id, confidence) in enumerate(pairs, start=1)
    ]


class SceneScorer:
    """Takes each batch's predictions: makes scenes, adds up their figures, writes their result files.

    Args:
        tasks: whose figures are wanted.
        classes: the class table.
        grouping: how votes become instances.
        writer: gets every scene.
    """

    def __init__(
        self, tasks: Mapping[str, Task], classes: ClassTable, grouping: Grouping, writer: ResultWriter | None = None
    ) -> None:
        self._classes = classes
        self._wanted = figure_groups(tasks)
        # Instances need classes; result files need both.
        self._predicted = {Semantic.name, Instance.name} if writer or Instance.name in tasks else set()
        self._predicted |= tasks.keys()
        self._grouping = grouping
        self._writer = writer
        self._metrics = SceneMetrics(classes, Semantic.name, Instance.name, Depth.name)

    def update(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Adds a batch, which has its samples."""
        predictions = {name: value for name, value in predictions.items() if name in self._predicted}
        scenes = make_scenes(batch.names, predictions, self._classes, self._grouping)
        for sample, scene in zip(batch.samples, scenes, strict=True):
            self._metrics.update(sample, scene)
            if self._writer:
                self._writer.write(sample.name, scene)

    def compute(self) -> dict[str, float]:
        """``<task>/<figure>`` and ``panoptic/<figure>``; what cannot be computed is left out."""
        figures = self._metrics.compute()
        return {key: value for key, value in figures.items() if key.split("/")[0] in self._wanted}
