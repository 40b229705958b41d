"""The shared encoder (section 4, appendix A): a network at output stride 8 and atrous spatial pyramid pooling."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.models.stride import Backbone


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
    """The shared features: a `Backbone`, then `ASPP`."""

    def __init__(self, backbone: Backbone, aspp: ASPP) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = aspp
        self.channels = aspp.channels


def conv_bn_relu(in_channels: int, channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
