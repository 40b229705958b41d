"""Weights for the ResNet that were trained elsewhere: torchvision's by name, or from a file in torchvision's names."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from multitask.errors import UserError

log = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model", "model_state")
"""Under which training programs keep the state dict in a larger file."""

_HEADS = ("fc", "classifier", "head")
"""What torchvision and timm call the layer that names the classes of their own data sets."""

_ANCHOR = "layer1.0.conv1.weight"
"""A tensor that each ResNet has once: what stands in front of its name stands in front of all."""


def load_resnet(resnet: nn.Module, name: str, pretrained: str) -> None:
    """Fills a ResNet with weights that were trained elsewhere.

    A file may hold the state dict of torchvision or timm, wrapped in a training program's file or not, with a common
    prefix such as ``module.`` or ``backbone.`` or without. Classifiers, and whatever lies outside the prefix, are left
    out, which a line says.

    Args:
        resnet: whose parameters have torchvision's names.
        name: of its architecture.
        pretrained: one of torchvision's names of weights, or the path of a file.
    Raises:
        UserError: naming ``model.pretrained``, and the first tensor that differs.
    """
    whole = _read(pretrained) if Path(pretrained).is_file() else _torchvision(name, pretrained)
    state = _of_the_resnet(_unwrapped(whole, pretrained), pretrained)
    # Files from before torch 0.4.1, torchvision's own among them, hold no counters; torch then starts them at zero.
    wanted = {
        key: value
        for key, value in resnet.state_dict().items()
        if key in state or not key.endswith(".num_batches_tracked")
    }
    if difference := first_difference(wanted, state):
        raise UserError(f"model.pretrained={pretrained}: not a {name}: {difference}")
    resnet.load_state_dict(state)


def first_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first tensor at which two state dicts differ in names or shapes, in words; None if they do not."""
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        if key not in wanted or key not in found or wanted[key].shape != found[key].shape:
            needed, there = (tuple(side[key].shape) if key in side else "nothing" for side in (wanted, found))
            return f"at {key!r} needed {needed}, found {there}"
    return None


def first_line(error: Exception) -> str:
    """What an error of torch says, of which the first line is for people; its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _read(path: str) -> Any:
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise UserError(f"model.pretrained={path}: needs safetensors: pip install -e '.[safetensors]'") from None
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise UserError(f"model.pretrained={path}: not a file of tensors ({first_line(error)})") from error


def _unwrapped(content: Any, path: str) -> dict[str, Tensor]:
    """The state dict in a file's content."""
    while isinstance(content, dict) and (inner := [key for key in _WRAPPERS if isinstance(content.get(key), dict)]):
        content = content[inner[0]]
    if not isinstance(content, dict):
        raise UserError(f"model.pretrained={path}: needed a state dict, found {type(content).__name__}")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise UserError(f"model.pretrained={path}: needed a state dict, found {type(value).__name__} at {key!r}")
    return content


def _of_the_resnet(state: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The tensors of the one ResNet in a state dict, without prefix and classifier; a line says what is left out."""
    prefixes = [key.removesuffix(_ANCHOR) for key in state if key == _ANCHOR or key.endswith(f".{_ANCHOR}")]
    if len(prefixes) > 1:
        raise UserError(f"model.pretrained={path}: needed one ResNet, found {len(prefixes)}, below {prefixes}")
    prefix = prefixes[0] if prefixes else ""
    if (deep := f"{prefix}conv1.0.weight") in state:
        raise UserError(
            f"model.pretrained={path}: needed a ResNet that begins with one convolution, '{prefix}conv1.weight', "
            f"found a stem of several, as of timm's resnet50d, at {deep!r}"
        )
    taken = [key for key in state if key.startswith(prefix) and key[len(prefix) :].split(".")[0] not in _HEADS]
    if left_out := sorted({key.removeprefix(prefix).split(".")[0] for key in state.keys() - taken}):
        log.info("model.pretrained=%s: the ResNet is taken, left out: %s", path, ", ".join(left_out))
    return {key[len(prefix) :]: state[key] for key in taken}


def _torchvision(name: str, pretrained: str) -> Mapping[str, Tensor]:
    published = name in torchvision.models.list_models()
    weights = torchvision.models.get_model_weights(name) if published else None
    if weights is None or pretrained not in weights.__members__:
        names = f" or one of {sorted(weights.__members__)}" if weights else ""
        raise UserError(f"model.pretrained={pretrained}: needed an existing file{names} for {name}")
    try:
        return weights[pretrained].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the file's hash is wrong
        raise UserError(
            f"model.pretrained={pretrained}: the weights could not be downloaded ({error}); download "
            f"{weights[pretrained].url} elsewhere and set model.pretrained to the file's path"
        ) from error
