"""Weights for a backbone that were trained elsewhere: its library's by name, or from a file in the library's names."""

import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
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

_PIECE = 1 << 20
"""Bytes that are read at once."""

_MOST_NAMES = 20
"""That a line shows."""


def is_file(pretrained: str) -> bool:
    """Whether ``model.pretrained`` is the path of a file, not a name."""
    return Path(pretrained).is_file()


def load_torchvision(backbone: nn.Module, name: str, pretrained: str, everything: Iterable[str]) -> None:
    """Fills a backbone of torchvision with weights that were trained elsewhere.

    Args:
        backbone: whose parameters have torchvision's names.
        name: of its architecture.
        pretrained: one of torchvision's names of weights, or the path of a file.
        everything: names of all that torchvision's whole network has.
    Raises:
        UserError: as `load_weights`.
    """
    load_weights(backbone, name, pretrained, lambda: _torchvision(name, pretrained), everything)


def load_weights(
    network: nn.Module,
    name: str,
    pretrained: str,
    download: Callable[[], Mapping[str, Tensor]],
    everything: Iterable[str],
    names: Mapping[str, str] | None = None,
) -> None:
    """Fills a network with weights that were trained elsewhere.

    A file may hold the state dict, wrapped in a training program's file or not, with a common prefix such as
    ``module.`` or ``backbone.`` or without. Classifiers, what the network is a part of, and whatever lies outside the
    prefix, are left out, which a line says.

    Args:
        network: to be filled.
        name: of its architecture.
        pretrained: a name of weights, or the path of a file.
        download: gets the weights of that name.
        everything: names in the library's state dict, also of layers that ``network`` leaves out.
        names: the library's names of the network's own; None: they are the same.
    Raises:
        UserError: naming ``model.pretrained``, and the first tensor that differs.
    """
    whole = _read(pretrained) if is_file(pretrained) else download()
    own = {(names or {}).get(key, key): key for key in network.state_dict()}
    needed = {key: network.state_dict()[value] for key, value in own.items()}
    state = _of_the_network(_unwrapped(whole, pretrained), pretrained, name, needed, set(everything) - needed.keys())
    # Files from before torch 0.4.1, torchvision's own among them, hold no counters; torch then starts them at zero.
    wanted = {k: value for k, value in needed.items() if k in state or not k.endswith(".num_batches_tracked")}
    if difference := first_difference(wanted, state) or first_other_type(wanted, state, exactly=False):
        raise UserError(f"model.pretrained={pretrained}: not a {name}: {difference}")
    if fault := first_not_finite(state):
        raise UserError(f"model.pretrained={pretrained}: spoilt: {fault}")
    network.load_state_dict({own[key]: value for key, value in state.items()}, strict=False)


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


def _of_the_network(
    state: Mapping[str, Tensor], path: str, name: str, needed: Mapping[str, Tensor], beyond: Collection[str]
) -> dict[str, Tensor]:
    """The tensors of the one network in a state dict, without prefix and what lies beyond; a line says what that is."""
    anchor = _anchor(needed)
    prefixes = [key.removesuffix(anchor) for key in state if key == anchor or key.endswith(f".{anchor}")]
    if len(prefixes) > 1:
        raise UserError(f"model.pretrained={path}: needed one {name}, found {len(prefixes)}, below {shown(prefixes)}")
    prefix = prefixes[0] if prefixes else ""
    if "conv1.weight" in needed and (deep := f"{prefix}conv1.0.weight") in state:
        raise UserError(
            f"model.pretrained={path}: needed a ResNet that begins with one convolution, "
            f"{shown(f'{prefix}conv1.weight')}, found a stem of several, as of timm's resnet50d, at {shown(deep)}"
        )
    inside = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    taken = {k: v for k, v in inside.items() if k in needed or not (k in beyond or k.split(".")[0] in _HEADS)}
    left_out = {key.split(".")[0] for key in state if not key.startswith(prefix)}
    parts = {key.split(".")[0] for key in needed}
    for key in inside.keys() - taken.keys():
        first, *rest = key.split(".")
        left_out.add(f"{first}.{rest[0]}" if first in parts and rest else first)
    if left_out:
        log.info("model.pretrained=%s: %s is taken, left out: %s", path, name, _listed(sorted(left_out)))
    return taken


def _anchor(needed: Iterable[str]) -> str:
    """A name that no other ends with: what stands in front of it stands in front of all."""
    names = [name for name in needed if name.endswith(".weight")]
    return next(name for name in names if not any(other.endswith(f".{name}") for other in names))


def _listed(names: Sequence[str]) -> str:
    """Names of a file, on one line and not too many."""
    few = ", ".join(name if name.replace(".", "_").isidentifier() else shown(name) for name in names[:_MOST_NAMES])
    return few if len(names) <= _MOST_NAMES else f"{few} and {len(names) - _MOST_NAMES} more"


def _torchvision(name: str, pretrained: str) -> Mapping[str, Tensor]:
    published = name in torchvision.models.list_models()
    weights = torchvision.models.get_model_weights(name) if published else None
    if weights is None or pretrained not in weights.__members__:
        names = f" or one of {sorted(weights.__members__)}" if weights else ""
        raise UserError(f"model.pretrained={pretrained}: needed an existing file{names} for {name}")
    _check_cached(weights[pretrained].url, pretrained)
    try:
        return weights[pretrained].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the file's hash is wrong
        raise UserError(
            f"model.pretrained={pretrained}: the weights could not be downloaded ({error}); download "
            f"{weights[pretrained].url} elsewhere and set model.pretrained to the file's path"
        ) from error


def _check_cached(url: str, pretrained: str) -> None:
    """Compares a file that torch has downloaded before with the check sum in its name, which torch does only once.

    Raises:
        UserError: naming the file, if it is damaged.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    needed = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if not (needed and path.is_file()):
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if not digest.hexdigest().startswith(needed[1]):
        raise UserError(
            f"model.pretrained={pretrained}: {path} is damaged: needed a SHA-256 that begins with {needed[1]}, found "
            f"{digest.hexdigest()[: len(needed[1])]}; once it is deleted, it is downloaded again"
        )
