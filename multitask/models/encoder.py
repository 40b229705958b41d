"""The shared encoder (section 4, appendix A): a network at output stride 8 and atrous spatial pyramid pooling."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.models.stride import Backbone


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1 and three dilated 3x3 convolutions, and the mean over the picture.

    The branches are concatenated and not projected: the decoders share their channels (appendix A).

    Args:
        in_channels: number of channels of the features.
        channels: number of channels of each branch.
        rates: dilations of the 3x3 convolutions.
    """

    def __init__(self, in_channels: int, channels: int, rates: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_relu(in_channels, channels, 1)] + [conv_bn_relu(in_channels, channels, 3, rate) for rate in rates]
        )
        self.pool = conv_bn_relu(in_channels, channels, 1)
        self.channels = channels * (len(rates) + 2)

    def forward(self, features: Tensor) -> Tensor:
        """Maps [B, in_channels, H, W] to [B, channels * (number of rates + 2), H, W]."""
        pooled = self.pool(functional.adaptive_avg_pool2d(features, 1))
        # Upsampling a single pixel repeats it.
        pooled = pooled.expand(-1, -1, *features.shape[-2:])
        return torch.cat([branch(features) for branch in self.branches] + [pooled], dim=1)


class Encoder(nn.Sequential):
    """The shared encoder: a `Backbone`, then `ASPP`."""

    def __init__(self, backbone: Backbone, aspp: ASPP) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = aspp
        self.channels = aspp.channels


def conv_bn_relu(in_channels: int, channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Returns a convolution that keeps the size, followed by batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
