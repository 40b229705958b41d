"""Comparison of two configurations of a run: keys that may differ, and values of keys that older versions lack."""

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
"""Keys that do not affect training; the precision, which would, is saved in the checkpoint."""

_FREE_GROUPS = ("instances.", "starts.")
"""Groups of keys that do not affect training: the grouping of votes into instances, and the available warm starts, of
which the one that is used is ``model.pretrained``.
"""

FREE_ELSEWHERE = ("name", "trainer.max_steps", "trainer.val_every")
"""Keys that may also differ when a run is continued in another folder."""

CLASS_TABLE = "data.classes"
"""Key of the class table, whose file may have moved: the checkpoint contains the table itself."""

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
"""Keys that runs of older versions lack, with the values that reproduce their behaviour."""


def is_free(key: str) -> bool:
    """Whether a (dotted) key may differ when a run is resumed, since training does not depend on it."""
    return key in _FREE_KEYS or key.startswith(_FREE_GROUPS)


def difference(config: Config, before: Mapping[str, Any], *more_free: str) -> str | None:
    """Describes the first key in which ``config`` differs from a flat configuration; None if there is none.

    Args:
        config: nested configuration of the run to start.
        before: flat configuration of the earlier run, see `flatten`.
        more_free: further keys that may differ.
    """
    previous, now = SINCE | dict(before), flatten(config)
    if CLASS_TABLE not in before and "data.mappings" in now:
        previous = {"data.mappings": MAPPED_BEFORE.get(str(before.get("data.format")))} | previous
    for key in [*now, *(key for key in previous if key not in now)]:
        if not is_free(key) and key not in more_free and previous.get(key) != now.get(key):
            return f"{key} was {previous.get(key)!r}, is {now.get(key)!r}"
    return None


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested configuration as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
