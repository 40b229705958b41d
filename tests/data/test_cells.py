import numpy as np
import pytest

from multitask.data.cells import nearest, resize_measured
from tests.reference import cell_medians

NONE = float("nan")


def reduced(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_measured(layer.astype(np.float32), size, np.arange(size[0]), np.arange(size[1]))


def measurements(size: tuple[int, int], share: float, seed: int = 0) -> np.ndarray:
    """Disparities of few values, so that many are alike, of which a share is measured."""
    rng = np.random.default_rng(seed)
    layer = rng.integers(0, 12, size).astype(np.float32) / 4
    layer[rng.random(size) >= share] = np.nan
    return layer


def test_medians_by_hand() -> None:
    layer = np.array(
        [
            [5.0, NONE, 1.0, 9.0, NONE, NONE],
            [NONE, NONE, 9.0, 1.0, NONE, NONE],
            [3.0, 0.0, 2.0, NONE, 8.0, 7.0],
            [4.0, NONE, NONE, NONE, 6.0, 7.5],
        ]
    )
    np.testing.assert_array_equal(
        reduced(layer, (2, 3)),
        # One; the lower of 1 1 9 9 in the middle; none. 0 3 4; one; the lower of 7 and 7.5 in 6 7 7.5 8.
        [[5, 1, NONE], [3, 2, 7]],
    )


def test_cells_of_a_factor_that_is_not_whole_by_hand() -> None:
    # Of 5 columns for 3: 0, 1 and 2, 3 and 4. Of 3 rows for 2: 0, 1 and 2.
    layer = np.array([[1, 2, 3, 4, 5], [6, NONE, 8, 9, NONE], [10, 11, 12, 13, 14.0]])
    np.testing.assert_array_equal(reduced(layer, (2, 3)), [[1, 2, 4], [6, 11, 13]])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9, 1.0])
@pytest.mark.parametrize(
    ("size", "new"),
    [
        ((12, 24), (4, 8)),
        ((13, 29), (4, 10)),
        ((13, 29), (12, 28)),
        ((7, 9), (1, 1)),
        ((9, 30), (9, 10)),
        ((9, 30), (3, 30)),
    ],
)
def test_medians_equal_the_slow_reference(size: tuple[int, int], new: tuple[int, int], share: float) -> None:
    layer = measurements(size, share)
    np.testing.assert_array_equal(reduced(layer, new), cell_medians(layer, new))


def test_size_kept_changes_nothing() -> None:
    layer = measurements((11, 17), 0.5)
    np.testing.assert_array_equal(reduced(layer, (11, 17)), layer)


def test_every_value_is_one_that_was_measured_in_its_cell() -> None:
    layer = measurements((30, 40), 0.3, seed=3)
    found = reduced(layer, (10, 10))
    for i, j in np.ndindex(10, 10):
        cell = layer[3 * i : 3 * i + 3, 4 * j : 4 * j + 4]
        assert np.isnan(found[i, j]) == np.isnan(cell).all()
        assert np.isnan(found[i, j]) or found[i, j] in cell


def test_an_axis_that_is_enlarged_takes_the_nearest_and_the_other_the_median() -> None:
    layer = measurements((12, 5), 0.5)
    rows = reduced(layer, (4, 5))
    np.testing.assert_array_equal(reduced(layer, (4, 8)), rows[:, nearest(np.arange(8), 8 / 5, 5)])
    np.testing.assert_array_equal(reduced(layer, (24, 10)), layer.repeat(2, 0).repeat(2, 1))


def test_part_is_the_part_of_the_whole() -> None:
    layer = measurements((40, 60), 0.4)
    for scaled in ((13, 25), (39, 80), (40, 20)):
        whole = reduced(layer, scaled)
        rows, columns = np.arange(3, 11), np.arange(5, 19)
        np.testing.assert_array_equal(resize_measured(layer, scaled, rows, columns), whole[3:11, 5:19])


def test_nothing_measured_stays_nothing() -> None:
    assert np.isnan(reduced(np.full((8, 8), np.nan), (2, 4))).all()


def test_no_value_is_lost_at_the_ends_of_its_range() -> None:
    layer = np.array([[0.0, 65535 / 256], [1 / 256, 1e-30]])
    assert reduced(layer, (1, 1)).item() == np.float32(1e-30)
    assert reduced(layer, (1, 2)).tolist() == [[0.0, np.float32(1e-30)]]
