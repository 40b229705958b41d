"""A network of two convolutions, for tests whose subject is what is done with a network.

It is named ``tiny`` in `tests.compose.small`. A training of six steps takes a quarter of the time that it takes with
ResNet-10, most of which its checkpoints are. A command in a process of its own does not know it, and says so.
"""

from functools import partial

import pytest
from torch import Tensor, nn
from torch.nn.functional import relu

from multitask.models import network
from multitask.models.stride import Backbone

NAME = "tiny"


class Tiny(Backbone):
    """[B, 3, H, W] -> [B, 16, ceil(H / 8), ceil(W / 8)]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, stride=4, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.channels = 16

    def forward(self, images: Tensor) -> Tensor:
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(images))))))


def make_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `multitask.models.network.make_network` know the name."""
    monkeypatch.setattr(network, "make_backbone", partial(_make, network.make_backbone))


def _make(others, name: str, pretrained: str | None = None, freeze_batch_norm: bool = False, *rest: str) -> Backbone:
    if name != NAME:
        return others(name, pretrained, freeze_batch_norm, *rest)
    assert pretrained is None
    backbone = Tiny()
    if freeze_batch_norm:
        assert backbone.freeze_batch_norm()
    return backbone
