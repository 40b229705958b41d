"""Pretrained weights for a backbone: its library's by name, or from a file with the library's names."""

import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multitask.errors import UserError, shown
from multitask.models import archive
from multitask.models.tensors import first_difference, first_not_finite, first_other_type

log = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model", "model_state")
"""Keys under which training programs store the state dict in a larger file."""

_HEADS = ("fc", "classifier", "head")
"""Names of the classification layer in torchvision and timm."""

SAFETENSORS = ".safetensors"
"""Extension of safetensors files."""

_PIECE = 1 << 20
"""Number of bytes read at once."""

_MOST_NAMES = 20
"""Number of names that a message shows."""


def is_file(pretrained: str) -> bool:
    """Whether ``model.pretrained`` is the path of an existing file rather than a name."""
    return Path(pretrained).is_file()


def load_torchvision(backbone: nn.Module, name: str, pretrained: str, all_names: Iterable[str]) -> None:
    """Loads pretrained weights into a backbone of torchvision.

    Args:
        backbone: backbone with torchvision's parameter names.
        name: name of its architecture.
        pretrained: one of torchvision's names of weights, or the path of a file.
        all_names: names in the state dict of torchvision's complete network.
    Raises:
        UserError: as for `load_weights`.
    """
    load_weights(backbone, name, pretrained, lambda: _download(name, pretrained), all_names)


def load_weights(
    network: nn.Module,
    name: str,
    pretrained: str,
    download: Callable[[], Mapping[str, Tensor]],
    all_names: Iterable[str],
    names: Mapping[str, str] | None = None,
) -> None:
    """Loads pretrained weights into a network.

    A file may hold the state dict alone or inside a training program's file, and its names may have a common prefix
    such as ``module.`` or ``backbone.``. Classifiers, other parts of the library's network, and everything outside of
    the prefix are left out, which is logged in one line.

    Args:
        network: network to load into.
        name: name of its architecture.
        pretrained: a name of weights, or the path of a file.
        download: downloads the weights of that name.
        all_names: names in the state dict of the library's network, including layers that ``network`` leaves out.
        names: the library's names by the network's names; None: they are equal.
    Raises:
        UserError: naming ``model.pretrained``, and the first tensor that differs.
    """
    content = _read(pretrained) if is_file(pretrained) else download()
    own_names = {(names or {}).get(key, key): key for key in network.state_dict()}
    needed = {key: network.state_dict()[value] for key, value in own_names.items()}
    state = _select(_unwrapped(content, pretrained), pretrained, name, needed, set(all_names) - needed.keys())
    # Files from before torch 0.4.1, including torchvision's, have no batch counters; torch then starts them at zero.
    wanted = {k: value for k, value in needed.items() if k in state or not k.endswith(".num_batches_tracked")}
    if difference := first_difference(wanted, state) or first_other_type(wanted, state, exactly=False):
        raise UserError(f"model.pretrained={pretrained}: not a {name}: {difference}")
    if fault := first_not_finite(state):
        raise UserError(f"model.pretrained={pretrained}: spoilt: {fault}")
    network.load_state_dict({own_names[key]: value for key, value in state.items()}, strict=False)


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
        return load_file(path)  # compares its header with the file's length; it has no checksum
    except Exception as error:  # of safetensors' own type, or of the system
        raise UserError(archive.first_line(error)) from error


def _unwrapped(content: Any, path: str) -> dict[str, Tensor]:
    """Returns the state dict in a file's content."""
    for _ in _WRAPPERS:  # bounded, since a dict may contain itself
        inner = [key for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)]
        content = content[inner[0]] if inner else content
    if not isinstance(content, dict):
        raise UserError(f"model.pretrained={path}: needed a state dict, found {type(content).__name__}")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            found = f"{type(value).__name__} at {shown(key)}"
            raise UserError(f"model.pretrained={path}: needed a state dict, found {found}")
    return content


def _select(
    state: Mapping[str, Tensor], path: str, name: str, needed: Mapping[str, Tensor], other_names: Collection[str]
) -> dict[str, Tensor]:
    """Returns a network's tensors from a state dict, without prefix and other parts; logs what is left out.

    Args:
        state: the state dict of a file.
        path: ``model.pretrained``, for errors.
        name: name of the network's architecture.
        needed: state dict of the network.
        other_names: names of further layers of the library's network.
    """
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
    taken = {k: v for k, v in inside.items() if k in needed or not (k in other_names or k.split(".")[0] in _HEADS)}
    left_out = {key.split(".")[0] for key in state if not key.startswith(prefix)}
    parts = {key.split(".")[0] for key in needed}
    for key in inside.keys() - taken.keys():
        first, *rest = key.split(".")
        left_out.add(f"{first}.{rest[0]}" if first in parts and rest else first)
    if left_out:
        log.info("model.pretrained=%s: %s is taken, left out: %s", path, name, _listed(sorted(left_out)))
    return taken


def _anchor(needed: Iterable[str]) -> str:
    """Returns a name that is the end of no other name, so that the text in front of it is the common prefix."""
    names = [name for name in needed if name.endswith(".weight")]
    return next(name for name in names if not any(other.endswith(f".{name}") for other in names))


def _listed(names: Sequence[str]) -> str:
    """Formats a limited number of names from a file on one line."""
    few = ", ".join(name if name.replace(".", "_").isidentifier() else shown(name) for name in names[:_MOST_NAMES])
    return few if len(names) <= _MOST_NAMES else f"{few} and {len(names) - _MOST_NAMES} more"


def _download(name: str, pretrained: str) -> Mapping[str, Tensor]:
    import torchvision  # as in `multitask.models.backbones`

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
    """Verifies an already downloaded file by the checksum in its name, which torch does only after the download.

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
