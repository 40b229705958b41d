import pytest
import torch

from multitask.models.tensors import first_difference, first_not_finite, first_other_type

FLOATS, COUNTS = {"a": torch.zeros(2)}, {"a": torch.tensor(1)}


def test_first_difference_hand_worked() -> None:
    one, two = {"a": torch.zeros(2), "b": torch.zeros(3, 1)}, {"a": torch.zeros(2), "b": torch.zeros(3)}
    assert first_difference(one, one) is None
    assert first_difference(one, two) == "at 'b' needed (3, 1), found (3,)"
    assert first_difference(one, {"a": torch.zeros(2)}) == "at 'b' needed (3, 1), found nothing"
    assert first_difference({"a": torch.zeros(2)}, one) == "at 'b' needed nothing, found (3, 1)"


@pytest.mark.parametrize(
    ("wanted", "found", "exactly", "fits"),
    [
        (FLOATS, torch.float32, True, True),
        (FLOATS, torch.float16, True, False),
        (FLOATS, torch.float16, False, True),
        (FLOATS, torch.int64, False, False),
        (FLOATS, torch.complex64, False, False),
        (COUNTS, torch.int64, True, True),
        (COUNTS, torch.float32, True, False),
        (COUNTS, torch.float32, False, True),
        (COUNTS, torch.int32, False, True),
        (COUNTS, torch.complex64, False, False),
    ],
)
def test_first_other_type_of_each_pair(
    wanted: dict[str, torch.Tensor], found: torch.dtype, exactly: bool, fits: bool
) -> None:
    difference = first_other_type(wanted, {"a": wanted["a"].to(found), "b": torch.zeros(1)}, exactly)
    assert difference == (None if fits else f"at 'a' needed {wanted['a'].dtype}, found {found}")


def test_first_not_finite_counts_what_is_wrong() -> None:
    assert first_not_finite({"a": torch.zeros(2), "b": torch.tensor(3)}) is None
    wrong = torch.tensor([1.0, float("nan"), float("-inf")])
    assert first_not_finite({"a": torch.zeros(2), "b": wrong}) == "at 'b' needed finite numbers, found 2 that are not"
