import re
import warnings

import numpy as np
import pytest

from multitask.errors import UserError
from multitask.instances import optics
from tests import reference


def _points(rng: np.random.Generator) -> np.ndarray:
    """Clusters of several densities and outliers; every other set has coordinates that make ties and duplicates."""
    num_clusters = rng.integers(1, 5)
    centres, spread = rng.uniform(0, 20, size=(num_clusters, 2)), rng.uniform(0.1, 2, size=num_clusters)
    owner = rng.integers(0, num_clusters, size=rng.integers(10, 50))
    points = np.concatenate(
        [centres[owner] + rng.normal(size=(len(owner), 2)) * spread[owner, None], rng.uniform(-50, 50, size=(6, 2))]
    )
    if rng.random() < 0.5:
        points = np.concatenate([points, points[rng.integers(0, len(points), size=8)]]).round()
    return points


def _cut(plot: tuple[np.ndarray, ...], height: float) -> np.ndarray:
    from sklearn.cluster import cluster_optics_dbscan

    ordering, reachability, core = plot
    return cluster_optics_dbscan(reachability=reachability, core_distances=core, ordering=ordering, eps=height)


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """1 for the same clusters, whatever their numbers."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(one, other))


@pytest.mark.parametrize("block", range(4))
def test_optics_agrees_with_scikit_learn(block: int) -> None:
    from sklearn.cluster import DBSCAN, compute_optics_graph

    for seed in range(20):
        rng = np.random.default_rng((block, seed))
        points, least = _points(rng), int(rng.integers(2, 9))
        radius = float(rng.choice([2, 6, 30, np.inf]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # every point may be alone
            order, core, reachability, _ = compute_optics_graph(
                points,
                min_samples=least,
                max_eps=radius,
                metric="minkowski",
                p=2,
                metric_params=None,
                algorithm="kd_tree",
                leaf_size=30,
                n_jobs=1,
            )
        plot = optics(points, np.ones(len(points)), radius, least)
        np.testing.assert_allclose(plot.core_distance, core, atol=1e-12)
        np.testing.assert_allclose(
            plot.reachability[plot.ordering], reachability[order], atol=1e-12, err_msg=f"seed {block, seed}"
        )
        for height in (0.4, 1, 2):
            labels = _cut(plot, height)
            assert _agreement(_cut((order, reachability, core), height), labels) == 1
            sure = plot.core_distance <= height  # a point at the border of two clusters may be in either
            truth = DBSCAN(eps=height, min_samples=least).fit_predict(points)
            assert _agreement(truth[sure], labels[sure]) == 1


def test_optics_agrees_with_loops_over_all_points() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        points = _points(rng)[:30]
        weights = rng.integers(1, 5, size=len(points)).astype(float)
        plot = optics(points, weights, 5, 6)
        ordering, reachability, core = reference.optics(points, weights, 5, 6)
        np.testing.assert_allclose(plot.core_distance, core, atol=1e-12)
        np.testing.assert_allclose(plot.reachability, reachability, atol=1e-12)
        assert plot.ordering.tolist() == ordering


def test_optics_hand_worked() -> None:
    points = np.array([(0, 0), (1, 0), (3, 0), (10, 0), (3, 2)])
    plot = optics(points, np.ones(5), 4, 3)
    # Within 3 of the first there are 3 points, itself included; of the second within 2; of the third within 2.
    assert plot.core_distance.tolist() == [3, 2, 2, np.inf, pytest.approx(8**0.5)]
    # From the first all are 3 away or more; from the second, the third is 2 away; then the last.
    assert plot.ordering.tolist() == [0, 1, 2, 4, 3]
    assert plot.reachability.tolist() == [np.inf, 3, 2, np.inf, 2]


def test_optics_weight_counts_as_coincident_points() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        points = np.unique(_points(rng), axis=0)
        weights = rng.integers(1, 5, size=len(points))
        heavy = optics(points, weights, 6, 7)
        copies = np.repeat(np.arange(len(points)), weights)
        many = optics(points[copies], np.ones(len(copies)), 6, 7)
        np.testing.assert_allclose(many.core_distance, heavy.core_distance[copies], atol=1e-12)
        for height in (0.5, 1.5, 4):
            sure = many.core_distance <= height
            assert _agreement(_cut(many, height)[sure], _cut(heavy, height)[copies][sure]) == 1


def test_optics_clusters_do_not_depend_on_the_order_of_points() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        points = _points(rng)
        shuffled = rng.permutation(len(points))
        one, other = (optics(p, np.ones(len(p)), 6, 4) for p in (points, points[shuffled]))
        assert np.array_equal(one.core_distance[shuffled], other.core_distance)
        for height in (0.5, 1.5, 4):
            sure = other.core_distance <= height
            assert _agreement(_cut(one, height)[shuffled][sure], _cut(other, height)[sure]) == 1


def test_optics_moves_and_scales_with_the_points() -> None:
    points = _points(np.random.default_rng(0)).round(2)
    weights = np.ones(len(points))
    plot = optics(points, weights, 6, 4)
    scaled = optics(points * 4, weights, 24, 4)
    assert scaled.ordering.tolist() == plot.ordering.tolist()
    assert np.array_equal(scaled.reachability, plot.reachability * 4)
    moved = optics(points.round() + np.array([-512, 4096]), weights, 6, 4)
    assert np.array_equal(moved.reachability, optics(points.round(), weights, 6, 4).reachability)


def test_optics_of_nothing_one_and_coincident_points() -> None:
    assert [len(part) for part in optics(np.zeros((0, 2)), np.zeros(0), 1, 1)] == [0, 0, 0]
    assert optics(np.array([[7, 7]]), np.array([5]), 1, 5).core_distance.tolist() == [0]
    assert optics(np.array([[7, 7]]), np.array([4]), 1, 5).core_distance.tolist() == [np.inf]
    assert optics(np.ones((9, 2)), np.ones(9), 1e-9, 9).reachability.tolist() == [np.inf, *[0] * 8]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points", np.array([[0, np.nan]])),
        ("points", np.zeros((1, 3))),
        ("weights", np.zeros(1)),
        ("weights", np.ones(2)),
        ("max_radius", 0.0),
        ("max_radius", np.nan),
        ("min_weight", -1.0),
    ],
)
def test_optics_refuses_what_makes_no_sense(name: str, value: object) -> None:
    arguments = {"points": np.zeros((1, 2)), "weights": np.ones(1), "max_radius": 1.0, "min_weight": 1.0, name: value}
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}: needed .*, found") as raised:
        optics(**arguments)  # type: ignore[arg-type]
    assert not isinstance(raised.value, UserError), "a fault of the program"
