"""What is behind the shared features: networks that were made to name the class of a picture, at output stride 8."""

from functools import partial

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from multitask.errors import UserError
from multitask.models.pretrained import load_resnet

STRIDE = 8
"""Input px for one px of the features, along each axis."""

_RESNETS = {
    "resnet10": partial(torchvision.models.ResNet, BasicBlock, [1, 1, 1, 1]),
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
}


class Backbone(nn.Module):
    """Pictures to features: [B, 3, H, W] -> [B, channels, ceil(H / 8), ceil(W / 8)].

    The names of the parameters are those of the library that the network is from.

    Attributes:
        channels: of the features.
    """

    channels: int

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze_batch_norm(self) -> None:
        """Makes batch norms keep their running statistics, scales and shifts, in training too."""
        self._frozen = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._frozen:
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self


class DilatedResNet(Backbone):
    """torchvision's ResNet: the strides of the last two stages become dilations 2 and 4.

    Every block of these stages is dilated, not the first alone.

    Args:
        name: ``resnet18``, ``resnet50``, ``resnet101``, or ``resnet10`` with one block in each stage.
        pretrained: None (random), or as in `multitask.models.pretrained.load_resnet`.
    """

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        resnet = _RESNETS[name]()
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = _dilate(resnet.layer3, 2), _dilate(resnet.layer4, 4)
        self.channels = resnet.fc.in_features
        if pretrained is not None:
            load_resnet(self, name, pretrained)

    def forward(self, images: Tensor) -> Tensor:
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(features))))


def make_backbone(name: str, pretrained: str | None = None, freeze_batch_norm: bool = False) -> Backbone:
    """The network of ``model.encoder``.

    Args:
        name: of the network.
        pretrained: see there.
        freeze_batch_norm: whether batch norms keep their running statistics, scales and shifts, in training too.
    Raises:
        UserError: naming the key.
    """
    if name not in _RESNETS:
        raise UserError(f"model.encoder: needed one of {sorted(_RESNETS)}, found {name!r}")
    backbone = DilatedResNet(name, pretrained)
    if freeze_batch_norm:
        backbone.freeze_batch_norm()
    return backbone


def _dilate(stage: nn.Module, dilation: int) -> nn.Module:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
    return stage
