"""Encoders from timm, an optional extra: all networks that support output stride 8."""

import difflib
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.errors import UserError, shown
from multitask.models import archive
from multitask.models.convolutions import in_right_form
from multitask.models.pretrained import is_file, load_weights
from multitask.models.stride import STRIDE, Backbone

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation by which the network's input is normalised: ImageNet's."""

_FLATTENED = re.compile(r"^([^.]+)_(\d+)\.")


class TimmEncoder(Backbone):
    """The deepest features of one of timm's networks.

    Parameters lie below ``body`` under the names of timm's ``features_only``. For weights that expect another mean and
    deviation than ImageNet's, the input is normalised again by `scale` and `shift`, which are part of the checkpoint.

    Args:
        name: name of timm's architecture, without a tag.
        pretrained: None (random), the tag of timm's weights for this architecture, or the path of a file with timm's
            names.
    Raises:
        UserError: naming the key, if timm is not installed, does not know the name, or does not support stride 8.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        timm = _timm(name)
        self.body = _features(timm, name)
        self.channels = self.body.feature_info.channels()[-1]
        weights = name
        if pretrained is not None:
            if not is_file(pretrained):
                weights = _published(timm, name, pretrained)
            names = {key: _FLATTENED.sub(r"\1.\2.", key) for key in self.body.state_dict()}
            with torch.device("meta"):
                all_names = timm.create_model(name).state_dict().keys()
            if not set(names.values()) <= all_names:  # features_only keeps this network's names
                names = {key: key for key in names}
            load_weights(self.body, name, pretrained, lambda: _download(timm, weights, pretrained), all_names, names)
        _keep_all_buffers(self.body)
        found = timm.get_pretrained_cfg(weights)
        mean, std = (torch.tensor(getattr(found, key, None) or own) for key, own in (("mean", MEAN), ("std", STD)))
        self.register_buffer("scale", (torch.tensor(STD) / std)[:, None, None])
        self.register_buffer("shift", ((torch.tensor(MEAN) - mean) / std)[:, None, None])
        in_right_form(self.body)

    def forward(self, images: Tensor) -> Tensor:
        # Networks with patch embeddings would drop the last columns and rows. The padding is not written as a modulo,
        # since torch.export could not prove that the sum is a multiple of the stride.
        below, right = ((side + STRIDE - 1) // STRIDE * STRIDE - side for side in images.shape[-2:])
        whole = functional.pad(images * self.scale + self.shift, (0, right, 0, below))
        return self.body(whole)[-1]


def _timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError:
        raise UserError(f"model.encoder={name}: needs timm: pip install -e '.[timm]'") from None
    return timm


def _features(timm: ModuleType, name: str) -> Any:
    if not timm.is_model(name) or "." in name:
        close = difflib.get_close_matches(name, timm.list_models(), 4)
        raise UserError(f"model.encoder: needed the name of one of timm's networks{_such_as(close)}, found {name!r}")
    try:
        body = timm.create_model(name, features_only=True, output_stride=STRIDE, pretrained=False)
    except Exception as error:  # of many types: some networks lack the argument, some assert that it is 32
        found = archive.first_line(error)
        raise UserError(f"model.encoder={name}: needed one that can have stride {STRIDE} ({found})") from error
    if (found := body.feature_info.reduction()[-1]) != STRIDE:
        raise UserError(f"model.encoder={name}: needed one that can have stride {STRIDE}, found {found}")
    return body


def _published(timm: ModuleType, name: str, tag: str) -> str:
    """Returns timm's name for an architecture with the weights of a tag."""
    known = [found.partition(".")[2] for found in timm.list_pretrained(f"{name}.*")]
    if tag not in known:
        raise UserError(
            f"model.pretrained={tag}: needed an existing file{f' or one of {shown(known)}' if known else ''} for {name}"
        )
    return f"{name}.{tag}"


def _download(timm: ModuleType, weights: str, tag: str) -> Mapping[str, Tensor]:
    try:
        return timm.create_model(weights, pretrained=True).state_dict()
    except Exception as error:  # of the system, or one of the hub's many types
        raise UserError(
            f"model.pretrained={tag}: the weights could not be downloaded ({archive.first_line(error)}); download "
            f"timm/{weights} elsewhere and set model.pretrained to the file's path"
        ) from error


def _keep_all_buffers(network: nn.Module) -> None:
    """Makes timm's computed buffers part of checkpoints, since a network may be created empty and then filled."""
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer, persistent=True)


def _such_as(names: list[str]) -> str:
    return f" such as {', '.join(names)}" if names else ""
