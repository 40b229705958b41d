"""The shared encoder (section 4, appendix A): a dilated ResNet and atrous spatial pyramid pooling."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 8
"""Input px for one px of the features, along each axis."""

_RESNETS = {
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
}


class DilatedResNet(nn.Module):
    """torchvision's ResNet at output stride 8: the strides of the last two stages become dilations 2 and 4.

    Every block of these stages is dilated, not the first alone. The names of the parameters are torchvision's.

    Args:
        name: ``resnet18``, ``resnet50`` or ``resnet101``.
        pretrained: None (random), one of torchvision's names of weights, or the path of a state dict.
    """

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        if name not in _RESNETS:
            raise ValueError(f"model.encoder: needed one of {sorted(_RESNETS)}, found {name!r}")
        resnet = _RESNETS[name]()
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = _dilate(resnet.layer3, 2), _dilate(resnet.layer4, 4)
        self.channels: int = resnet.fc.in_features
        if pretrained is not None:
            _load_pretrained(self, name, pretrained)

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


def _load_pretrained(resnet: DilatedResNet, name: str, pretrained: str) -> None:
    state = _state_dict(name, pretrained)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    # Files from before torch 0.4.1, torchvision's own among them, hold no counters; torch then starts them at zero.
    wanted = {
        key: value
        for key, value in resnet.state_dict().items()
        if key in state or not key.endswith(".num_batches_tracked")
    }
    for key in [*wanted, *(key for key in state if key not in wanted)]:
        if key not in wanted or key not in state or wanted[key].shape != state[key].shape:
            needed, found = (tuple(side[key].shape) if key in side else "nothing" for side in (wanted, state))
            raise ValueError(f"model.pretrained={pretrained}: not a {name}: at {key!r} needed {needed}, found {found}")
    resnet.load_state_dict(state)


def _state_dict(name: str, pretrained: str) -> dict[str, Any]:
    if Path(pretrained).is_file():
        try:
            state = torch.load(pretrained, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
            raise ValueError(f"model.pretrained={pretrained}: not a file of tensors ({error})") from error
        if not isinstance(state, dict):
            raise ValueError(f"model.pretrained={pretrained}: needed a state dict, found {type(state).__name__}")
        for key, value in state.items():
            if not (isinstance(key, str) and isinstance(value, Tensor)):
                raise ValueError(
                    f"model.pretrained={pretrained}: needed a state dict, found {type(value).__name__} at {key!r}"
                )
        return state
    weights = torchvision.models.get_model_weights(name)
    if pretrained not in weights.__members__:
        raise ValueError(
            f"model.pretrained={pretrained}: needed an existing file or one of {sorted(weights.__members__)} for {name}"
        )
    try:
        return weights[pretrained].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the file's hash is wrong
        raise ValueError(
            f"model.pretrained={pretrained}: the weights could not be downloaded ({error}); download "
            f"{weights[pretrained].url} elsewhere and set model.pretrained to the file's path"
        ) from error


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
