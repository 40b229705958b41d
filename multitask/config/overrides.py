"""Overrides of a saved configuration from the command line."""

import copy
from collections.abc import Sequence
from typing import Any

from multitask.config.factories import Config
from multitask.errors import UserError, shown


def key_of(override: str) -> str:
    """Returns the key of an override, ``key=value`` or ``+key=value``."""
    return override.lstrip("+").partition("=")[0]


def merge(saved: Config, given: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns a saved configuration in which the keys named by ``overrides`` have their values from ``given``.

    Raises:
        UserError: for an override that is not ``key=value`` or ``group=choice``.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(saved))
    for override in overrides:
        key = key_of(override)
        if "=" not in override or key.startswith("~") or key == "experiment":
            raise UserError(f"{override}: needed key=value or group=choice, of the checkpoint's configuration")
        *parents, last = key.split(".")
        source, target = given, merged
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise UserError(
                    f"{override}: needed a group {parent} in the checkpoint's configuration, found {shown(target)}"
                )
        target[last] = source[last]
    return merged
