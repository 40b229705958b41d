"""Conversion of predictions to scenes: classes, instances grouped from votes, and disparity."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from multitask.data.classes import ClassTable
from multitask.errors import UserError
from multitask.instances import Grouping, Instances, group
from multitask.metrics import PredictedInstance, PredictedScene
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic


def make_scenes(
    names: list[str], predictions: Mapping[str, Tensor], classes: ClassTable, grouping: Grouping | None = None
) -> list[PredictedScene]:
    """Makes the scenes of B frames.

    Args:
        names: names of the frames, for errors.
        predictions: {task: [B, channels, H, W]} on any device. Instances need both classes and vectors.
        classes: the class table.
        grouping: settings of the grouping of votes into instances.
    Raises:
        UserError: naming the frame, if vectors or classes are not finite.
    """
    layers = _layers(predictions)
    return [
        _scene(name, {key: layer[frame] for key, layer in layers.items()}, classes, grouping)
        for frame, name in enumerate(names)
    ]


def _layers(predictions: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Reduces predictions to the layers that scenes need, in host memory: of all class scores only the best one."""
    layers: dict[str, Tensor] = {}
    if (logits := predictions.get(Semantic.name)) is not None:
        best, train_ids = logits.float().max(1)
        probability = (best - logits.float().logsumexp(1)).exp()  # softmax of the best class only
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
    """Converts instances to the form that metrics and result files take."""
    pairs = zip(found.train_ids.tolist(), found.confidence.tolist(), strict=True)
    return [
        PredictedInstance(number, int(classes.evaluated_ids[train_id]), confidence)
        for number, (train_id, confidence) in enumerate(pairs, start=1)
    ]
