"""The shared encoder (section 4, appendix A): a dilated ResNet and atrous spatial pyramid pooling."""

from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
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


class DilatedResNet(nn.Module):
    """torchvision's ResNet at output stride 8: the strides of the last two stages become dilations 2 and 4.

    Every block of these stages is dilated, not the first alone. The names of the parameters are torchvision's.

    Args:
        name: ``resnet18``, ``resnet50``, ``resnet101``, or ``resnet10`` with one block in each stage.
        pretrained: None (random), or as in `multitask.models.pretrained.load_resnet`.
        freeze_batch_norm: whether batch norms keep their running statistics, scales and shifts, in training too.
    """

    def __init__(self, name: str, pretrained: str | None = None, freeze_batch_norm: bool = False) -> None:
        super().__init__()
        if name not in _RESNETS:
            raise UserError(f"model.encoder: needed one of {sorted(_RESNETS)}, found {name!r}")
        resnet = _RESNETS[name]()
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = _dilate(resnet.layer3, 2), _dilate(resnet.layer4, 4)
        self.channels: int = resnet.fc.in_features
        if pretrained is not None:
            load_resnet(self, name, pretrained)
        self._frozen = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)] if freeze_batch_norm else []
        for norm in self._frozen:
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "DilatedResNet":
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, channels, ceil(H / 8), ceil(W / 8)]."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(features))))


def _dilate(stage: nn.Module, dilation: int) -> nn.Module:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
    return stage


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1 and three dilated 3x3 convolutions, and the mean over the picture.

    The branches are concatenated and not projected: their channels are what the decoders share (appendix A).

    Args:
        in_channels: of the features.
        channels: of each branch.
        rates: the dilations.
    """

    def __init__(self, in_channels: int, channels: int, rates: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_relu(in_channels, channels, 1)] + [conv_bn_relu(in_channels, channels, 3, rate) for rate in rates]
        )
        self.pool = conv_bn_relu(in_channels, channels, 1)
        self.channels = channels * (len(rates) + 2)

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, channels * (number of rates + 2), H, W]."""
        pooled = self.pool(functional.adaptive_avg_pool2d(features, 1))
        # Upsampling one pixel is repeating it.
        pooled = pooled.expand(-1, -1, *features.shape[-2:])
        return torch.cat([branch(features) for branch in self.branches] + [pooled], dim=1)


class Encoder(nn.Sequential):
    """The shared features: `DilatedResNet`, then `ASPP`."""

    def __init__(self, resnet: DilatedResNet, aspp: ASPP) -> None:
        super().__init__()
        self.resnet = resnet
        self.aspp = aspp
        self.channels = aspp.channels


def conv_bn_relu(in_channels: int, channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
