import numpy as np
import pytest

from multitask.instances.optics import Plot, optics
from multitask.instances.valleys import valleys
from tests.reference import clusters_of_plot

INF = float("inf")


def plot(walls: list[float], bottoms: list[float]) -> Plot:
    return Plot(np.arange(len(walls)), np.array(walls), np.array(bottoms))


def test_valleys_of_a_plot_worked_by_hand() -> None:
    walls = [INF, 1, 1, 6, 2, 2, INF, 9, 9]
    bottoms = [1, 1, 1, 2, 2, 2, 9, 9, 9]
    # The wall of 6 is three times each bottom and more; the second component is too shallow for a limit of 10.
    assert valleys(plot(walls, bottoms), 10, 3, 0.1).tolist() == [0, 0, 0, 1, 1, 1, -1, -1, -1]
    assert valleys(plot(walls, bottoms), 10, 3.1, 0.1).tolist() == [0] * 6 + [-1] * 3
    assert valleys(plot(walls, bottoms), 30, 3, 0.1).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_points_that_meet_two_clusters_after_these_have_met_are_noise() -> None:
    walls = [INF, 1, 5, 1, 6]
    bottoms = [1, 1, 1, 1, 6]
    assert valleys(plot(walls, bottoms), 10, 2, 0.1).tolist() == [0, 0, 1, 1, -1]


def test_core_distances_below_the_resolution_do_not_part() -> None:
    walls, bottoms = [INF, 0, 3, 0], [0, 0, 0, 0]
    assert valleys(plot(walls, bottoms), 10, 2, 1).tolist() == [0, 0, 1, 1]
    assert valleys(plot(walls, bottoms), 10, 2, 2).tolist() == [0, 0, 0, 0]


def test_valleys_of_nothing() -> None:
    assert valleys(plot([], []), 10, 2, 1).tolist() == []


@pytest.mark.parametrize("seed", range(200))
def test_valleys_are_those_of_cutting_at_the_highest_wall(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 40))
    points = rng.normal(size=(num, 2)) + rng.integers(0, 4, size=(num, 1)) * rng.uniform(1, 6)
    if seed % 2:
        points = points.round()  # ties and duplicates
    max_radius, separation = rng.uniform(0.5, 6), rng.uniform(1.1, 3)
    found = optics(points, rng.integers(1, 4, size=num).astype(float), max_radius, rng.integers(1, 8))
    resolution = rng.uniform(0, 0.5)
    labels = valleys(found, max_radius, separation, resolution)
    walls = found.reachability[found.ordering].tolist()
    bottoms = np.maximum(found.core_distance[found.ordering], resolution).tolist()
    expected = np.full(num, -1)
    for number, part in enumerate(clusters_of_plot(walls, bottoms, max_radius, separation)):
        expected[found.ordering[list(part)]] = number
    assert labels.tolist() == expected.tolist()
