"""Whether two configurations are of one run: which keys may differ, and what keys that are missing meant."""

from collections.abc import Mapping
from typing import Any

from multitask.config.factories import Config
from multitask.data.formats import MAPPED_BEFORE

_FREE_KEYS = (
    "output_dir",
    "data.root",
    "data.roots",
    "trainer.device",
    "trainer.precision",
    "trainer.num_workers",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.num_panels",
    "trainer.resume",
)
"""Keys that change nothing that training depends on; a checkpoint knows the precision that was meant."""

_FREE_GROUPS = ("instances.", "starts.")
"""Groups of keys that change no training: how votes are grouped, and what starts there are to choose from, of which a
run's own is its ``model.pretrained``.
"""

FREE_ELSEWHERE = ("name", "trainer.max_steps", "trainer.val_every")
"""What may also differ where a run goes on in another folder."""

CLASS_TABLE = "data.classes"
"""Names the class table, whose file may have moved: the checkpoint has the table itself."""

SINCE = {
    CLASS_TABLE: "cityscapes",
    "data.held_out": 0,
    "data.partial": False,
    "data.folds": None,
    "data.fold": None,
    "optimizer.encoder_lr_factor": 1.0,
    "optimizer.warmup_steps": 0,
    "model.freeze_batch_norm": False,
    "model.library": "torchvision",
}
"""Keys that runs of older versions lack, and what those did."""


def is_free(key: str) -> bool:
    """Whether a key (dotted) may be given otherwise when a run is started again: nothing that training depends on."""
    return key in _FREE_KEYS or key.startswith(_FREE_GROUPS)


def difference(config: Config, before: Mapping[str, Any], *more_free: str) -> str | None:
    """The first key of a flat configuration that is given otherwise in ``config``, in words; None if there is none."""
    previous, now = SINCE | dict(before), flatten(config)
    if CLASS_TABLE not in before and "data.mappings" in now:
        previous = {"data.mappings": MAPPED_BEFORE.get(str(before.get("data.format")))} | previous
    for key in [*now, *(key for key in previous if key not in now)]:
        if not is_free(key) and key not in more_free and previous.get(key) != now.get(key):
            return f"{key} was {previous.get(key)!r}, is {now.get(key)!r}"
    return None


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
