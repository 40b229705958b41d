"""Weights for the ResNet that were trained elsewhere: torchvision's by name, or from a file in torchvision's names."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from multitask.errors import UserError, shown
from multitask.models import archive
from multitask.models.tensors import first_difference, first_not_finite, first_other_type

log = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model", "model_state")
"""Under which training programs keep the state dict in a larger file."""

_HEADS = ("fc", "classifier", "head")
"""What torchvision and timm call the layer that names the classes of their own data sets."""

SAFETENSORS = ".safetensors"
"""What the names of safetensors' files end with."""

_MOST_NAMES = 20
"""That a line shows."""

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
    if difference := first_difference(wanted, state) or first_other_type(wanted, state, exactly=False):
        raise UserError(f"model.pretrained={pretrained}: not a {name}: {difference}")
    if fault := first_not_finite(state):
        raise UserError(f"model.pretrained={pretrained}: spoilt: {fault}")
    resnet.load_state_dict(state)


def _read(path: str) -> Any:
    try:
        return _read_safetensors(path) if path.endswith(SAFETENSORS) else archive.read(Path(path))
    except UserError as error:
        raise UserError(f"model.pretrained={path}: not a file of tensors ({error})") from error


def _read_safetensors(path: str) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError("reading it needs safetensors: pip install -e '.[safetensors]'") from None
    try:
        return load_file(path)  # compares its header with the file's length; there is no check sum
    except Exception as error:  # of a kind of its own, or of the system's
        raise UserError(archive.first_line(error)) from error


def _unwrapped(content: Any, path: str) -> dict[str, Tensor]:
    """The state dict in a file's content."""
    for _ in _WRAPPERS:  # at most as often as there are, since a dict may hold itself
        inner = [key for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)]
        content = content[inner[0]] if inner else content
    if not isinstance(content, dict):
        raise UserError(f"model.pretrained={path}: needed a state dict, found {type(content).__name__}")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            found = f"{type(value).__name__} at {shown(key)}"
            raise UserError(f"model.pretrained={path}: needed a state dict, found {found}")
    return content


def _of_the_resnet(state: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The tensors of the one ResNet in a state dict, without prefix and classifier; a line says what is left out."""
    prefixes = [key.removesuffix(_ANCHOR) for key in state if key == _ANCHOR or key.endswith(f".{_ANCHOR}")]
    if len(prefixes) > 1:
        raise UserError(f"model.pretrained={path}: needed one ResNet, found {len(prefixes)}, below {shown(prefixes)}")
    prefix = prefixes[0] if prefixes else ""
    if (deep := f"{prefix}conv1.0.weight") in state:
        raise UserError(
            f"model.pretrained={path}: needed a ResNet that begins with one convolution, "
            f"{shown(f'{prefix}conv1.weight')}, found a stem of several, as of timm's resnet50d, at {shown(deep)}"
        )
    taken = [key for key in state if key.startswith(prefix) and key[len(prefix) :].split(".")[0] not in _HEADS]
    if left_out := sorted({key.removeprefix(prefix).split(".")[0] for key in state.keys() - taken}):
        log.info("model.pretrained=%s: the ResNet is taken, left out: %s", path, _listed(left_out))
    return {key[len(prefix) :]: state[key] for key in taken}


def _listed(names: Sequence[str]) -> str:
    """Names of a file, on one line and not too many."""
    few = ", ".join(name if name.isidentifier() else shown(name) for name in names[:_MOST_NAMES])
    return few if len(names) <= _MOST_NAMES else f"{few} and {len(names) - _MOST_NAMES} more"


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
