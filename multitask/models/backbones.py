"""Backbones for the shared features: image classification networks at output stride 8."""

from typing import Any

from torch import Tensor, nn

from multitask.errors import UserError
from multitask.models.convolutions import in_right_form
from multitask.models.from_timm import TimmEncoder
from multitask.models.pretrained import load_torchvision
from multitask.models.stride import STRIDE, Backbone

_RESNETS = ("resnet10", "resnet18", "resnet50", "resnet101")


class DilatedResNet(Backbone):
    """torchvision's ResNet: the strides of the last two stages become dilations 2 and 4.

    All blocks of these stages are dilated, not only the first.

    Args:
        name: ``resnet18``, ``resnet50``, ``resnet101``, or ``resnet10`` with one block in each stage.
        pretrained: None (random), or as in `multitask.models.pretrained.load_torchvision`.
    """

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        resnet = _torchvisions(name)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = _dilate(resnet.layer3, 2), _dilate(resnet.layer4, 4)
        self.channels = resnet.fc.in_features
        if pretrained is not None:
            load_torchvision(self, name, pretrained, resnet.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(features))))


class DilatedMobileNetV2(Backbone):
    """torchvision's MobileNetV2: the strides of the last two stages become dilations 2 and 4.

    A convolution that loses its stride keeps the dilation before it, so that every fourth feature along each axis
    equals the original's. The last 1x1 convolution to 1280 channels, which serves classification, is left out, as its
    authors do for segmentation (Sandler et al., 2018, section 6.3): 320 channels remain.

    Args:
        name: ``mobilenet_v2``.
        pretrained: None (random), or as in `multitask.models.pretrained.load_torchvision`.
    """

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        original = _torchvisions(name)
        self.features = original.features[:-1]
        self.channels = original.features[-1][0].in_channels
        if pretrained is not None:
            load_torchvision(self, name, pretrained, original.state_dict())
        _strides_to_dilations(self.features)
        in_right_form(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


def make_backbone(
    name: str, pretrained: str | None = None, freeze_batch_norm: bool = False, library: str = "torchvision"
) -> Backbone:
    """Builds the network of ``model.encoder``.

    Args:
        name: name of the network.
        pretrained: see `DilatedResNet` and `TimmEncoder`.
        freeze_batch_norm: whether batch norms keep their running statistics, scales and shifts during training.
        library: library of the network, ``torchvision`` or ``timm``.
    Raises:
        UserError: naming the key.
    """
    kinds = {"torchvision": _of_torchvision, "timm": TimmEncoder}
    if library not in kinds:
        raise UserError(f"model.library: needed one of {list(kinds)}, found {library!r}")
    backbone = kinds[library](name, pretrained)
    if freeze_batch_norm and not backbone.freeze_batch_norm():
        raise UserError(f"model.freeze_batch_norm=true: needed false for {name}, which has no batch norm")
    return backbone


def _of_torchvision(name: str, pretrained: str | None) -> Backbone:
    if name == "mobilenet_v2":
        return DilatedMobileNetV2(name, pretrained)
    if name in _RESNETS:
        return DilatedResNet(name, pretrained)
    raise UserError(
        f"model.encoder: needed one of {sorted([*_RESNETS, 'mobilenet_v2'])}, or one of timm's with model=timm, "
        f"found {name!r}"
    )


def _torchvisions(name: str) -> Any:
    """Torchvision's network of a name, and ``resnet10``, which it lacks."""
    import torchvision  # takes as long to import as torch, and many commands make no network

    if name == "resnet10":
        return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    return getattr(torchvision.models, name)()


def _dilate(stage: nn.Module, dilation: int) -> nn.Module:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
    return stage


def _strides_to_dilations(stages: nn.Module) -> None:
    """Removes the strides beyond 8, and doubles the dilation of all later 3x3 convolutions for each."""
    stride, dilation = 1, 1
    for module in stages.modules():
        if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
            continue
        module.dilation = module.padding = (dilation, dilation)
        if module.stride == (2, 2) and stride == STRIDE:
            module.stride = (1, 1)
            dilation *= 2
        else:
            stride *= module.stride[0]
