"""The network of figure 1: a shared encoder and one decoder for each task."""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.errors import UserError, shown
from multitask.models.backbones import make_backbone
from multitask.models.encoder import ASPP, Encoder, conv_bn_relu
from multitask.models.stride import STRIDE

_MOST_CHANNELS, _MOST_RATES = 8192, 64
"""Limits of channels and of dilations, several times any ResNet's and the paper's; beyond, weights alone fill a GPU."""

_WIDEST = 1023
"""Limit of kernel size and dilation, px of the features: those of a picture of 8,000 px are no wider."""

_NAME = re.compile(r"[\w-]+")


class Decoder(nn.Module):
    """Layers of one task (appendix A): convolution to ``channels``, batch norm, ReLU, 1x1 convolution, upsampling.

    Args:
        in_channels: number of channels of the shared features.
        channels: number of channels between the two convolutions.
        out_channels: number of channels of the task's prediction.
        kernel: kernel size of the first convolution.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.hidden = conv_bn_relu(in_channels, channels, kernel)
        self.output = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps [B, in_channels, h, w] to [B, out_channels, 8 h, 8 w] float32, whatever the dtype of the features."""
        hidden = self.hidden(features)
        # The last layer is cheap and its output is measured in px: bfloat16 would round 100 px to half a px.
        with torch.autocast(hidden.device.type, enabled=False):
            output = self.output(hidden.float())
            return functional.interpolate(output, scale_factor=float(STRIDE), mode="bilinear", align_corners=False)


class MultiTaskNetwork(nn.Module):
    """Network that predicts all tasks from one image.

    Args:
        encoder: maps images to shared features.
        decoders: one decoder for each task, by the task's name.
    """

    def __init__(self, encoder: Encoder, decoders: dict[str, Decoder]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps normalised images [B, 3, H, W] to {task: [B, channels, H, W] float32}."""
        height, width = images.shape[-2:]
        return {name: prediction[..., :height, :width] for name, prediction in self.uncropped(images).items()}

    def uncropped(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the predictions without cropping them to the images: H and W are rounded up to multiples of 8 px.

        Features lie 8 px apart whatever the size. Resizing predictions to any other size would shift them.
        """
        features = self.encoder(images)
        return {name: decoder(features) for name, decoder in self.decoders.items()}


def make_network(
    channels: dict[str, int],
    *,
    encoder: str,
    pretrained: str | None,
    aspp_channels: int,
    aspp_rates: list[int],
    decoder_channels: int,
    decoder_kernel: int,
    freeze_batch_norm: bool = False,
    library: str = "torchvision",
) -> MultiTaskNetwork:
    """Builds the network of the configuration group ``model``.

    Args:
        channels: number of channels of each task's prediction, by the task's name.
        encoder: name of the backbone.
        pretrained: see `make_backbone`.
        aspp_channels: number of channels of each branch of the pyramid.
        aspp_rates: dilations of the pyramid.
        decoder_channels: number of channels of each decoder's hidden layer.
        decoder_kernel: size of each decoder's first convolution, odd.
        freeze_batch_norm: see `make_backbone`; batch norms of the pyramid and the decoders are never frozen.
        library: see `make_backbone`.
    Raises:
        UserError: naming the key, for an invalid value.
    """
    for key, value in (("aspp_channels", aspp_channels), ("decoder_channels", decoder_channels)):
        if not 1 <= value <= _MOST_CHANNELS:
            raise UserError(f"model.{key}: needed a number from 1 to {_MOST_CHANNELS}, found {value}")
    if not 1 <= decoder_kernel <= _WIDEST or decoder_kernel % 2 == 0:
        raise UserError(f"model.decoder_kernel: needed a positive odd number up to {_WIDEST}, found {decoder_kernel}")
    if len(aspp_rates) > _MOST_RATES or not all(1 <= rate <= _WIDEST for rate in aspp_rates):
        raise UserError(
            f"model.aspp_rates: needed at most {_MOST_RATES} positive dilations up to {_WIDEST}, found "
            f"{shown(aspp_rates)}"
        )
    for name in channels:
        if not _NAME.fullmatch(name):
            raise UserError(f"tasks: needed names of letters, digits, - and _, found {shown(name)}")
        if hasattr(nn.ModuleDict, name):
            raise UserError(f"tasks: needed another name than {name!r}, which is an attribute of torch's ModuleDict")
    backbone = make_backbone(encoder, pretrained, freeze_batch_norm, library)
    aspp = ASPP(backbone.channels, aspp_channels, aspp_rates)
    decoders = {
        name: Decoder(aspp.channels, decoder_channels, out_channels, decoder_kernel)
        for name, out_channels in channels.items()
    }
    return MultiTaskNetwork(Encoder(backbone, aspp), decoders)
