"""The prediction function of a network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from multitask.engine.compute import Compute

Predict = Callable[[Tensor], dict[str, Tensor]]
"""[B, 3, H, W] uint8 images on the device -> {task: [B, channels, H, W] float32}."""


def network_predictor(network: nn.Module, compute: Compute) -> Predict:
    """Returns a function that predicts with ``network`` in evaluation mode and without gradients.

    The network's mode is restored after each call.
    """

    def predict(images: Tensor) -> dict[str, Tensor]:
        was_training = network.training
        network.eval()
        with torch.inference_mode(), compute.autocast():
            # Not network(...): the module that training compiled would be recompiled for every size of evaluation.
            predictions = network.forward(compute.network_input(images))
        network.train(was_training)
        return predictions

    return predict
