"""From predictions to scenes: classes, instances made of votes, disparity."""

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
