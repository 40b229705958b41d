"""State dicts compared: what a network needs, and what a file has."""

from collections.abc import Mapping

from torch import Tensor

from multitask.errors import shown


def first_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first tensor at which two state dicts differ in names or shapes, in words; None if they do not."""
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        if key not in wanted or key not in found or wanted[key].shape != found[key].shape:
            needed, there = (tuple(side[key].shape) if key in side else "nothing" for side in (wanted, found))
            return f"at {shown(key)} needed {needed}, found {there}"
    return None


def first_other_type(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], exactly: bool) -> str | None:
    """The first tensor of the same name that is of another type, in words; None if there is none.

    Args:
        wanted: what a network has.
        found: what is to be put into it.
        exactly: whether the precision must be the same; else counters may be fractions, too, as averages of them are.
    """
    for key in (key for key in wanted if key in found):
        needed, there = wanted[key].dtype, found[key].dtype
        alike = there.is_floating_point or not (needed.is_floating_point or there.is_complex)
        if there != needed and (exactly or not alike):
            return f"at {shown(key)} needed {needed}, found {there}"
    return None


def first_not_finite(found: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds infinity or no number, in words; None if there is none."""
    for key, value in found.items():
        if not value.isfinite().all():
            return f"at {shown(key)} needed finite numbers, found {int((~value.isfinite()).sum())} that are not"
    return None
