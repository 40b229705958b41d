"""Comparison of a network's state dict with a file's."""

from collections.abc import Mapping

from torch import Tensor

from multitask.errors import shown


def first_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Describes the first tensor at which two state dicts differ in names or shapes; returns None if they do not."""
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        if key not in wanted or key not in found or wanted[key].shape != found[key].shape:
            needed, there = (tuple(side[key].shape) if key in side else "nothing" for side in (wanted, found))
            return f"at {shown(key)} needed {needed}, found {there}"
    return None


def first_other_type(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], exactly: bool) -> str | None:
    """Describes the first tensor of equal name but different dtype; returns None if there is none.

    Args:
        wanted: state dict of the network.
        found: state dict to be loaded into it.
        exactly: whether dtypes must be equal; otherwise precisions may differ, and integers may be floats, such as
            averaged counters.
    """
    for key in (key for key in wanted if key in found):
        needed, there = wanted[key].dtype, found[key].dtype
        alike = there.is_floating_point or not (needed.is_floating_point or there.is_complex)
        if there != needed and (exactly or not alike):
            return f"at {shown(key)} needed {needed}, found {there}"
    return None


def first_not_finite(found: Mapping[str, Tensor]) -> str | None:
    """Describes the first tensor with infinite or NaN values; returns None if there is none."""
    for key, value in found.items():
        if not value.isfinite().all():
            return f"at {shown(key)} needed finite numbers, found {int((~value.isfinite()).sum())} that are not"
    return None
