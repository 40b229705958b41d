import re

import numpy as np
import pytest

from multitask.data.classes import IGNORE, INSTANCE_BASE
from multitask.errors import UserError
from multitask.instances import Grouping, Instances
from multitask.instances import group as group_in
from multitask.instances.grouping import LEVELS
from tests.cityscapes import CITYSCAPES, COUNTED_ID, TRAIN_ID
from tests.reference import centroid_vectors

PERSON, CAR, BUS = 11, 13, 15
SIZE = (64, 128)
TOGETHER = Grouping(level="all")


def group(
    train_ids: np.ndarray,
    offsets: np.ndarray,
    probability: np.ndarray | None = None,
    grouping: Grouping | None = None,
) -> Instances:
    return group_in(train_ids, offsets, CITYSCAPES, probability, grouping)


def _draw(*boxes: tuple[int, int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Instance ids of boxes (class id, top, bottom, left, right), in Cityscapes coding; road elsewhere."""
    ids = np.full(size, 7)
    for number, (class_id, top, bottom, left, right) in enumerate(boxes):
        ids[top:bottom, left:right] = class_id * INSTANCE_BASE + number
    return ids


def _predict(ids: np.ndarray, noise: float = 0, wild: float = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True classes, and true vectors with noise.

    Args:
        ids: (H, W) Cityscapes coding; pixels of groups are of no class.
        noise: standard deviation of the vectors as a share of the square root of the instance's area.
        wild: share of the votes that are anywhere in the picture.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    classes = TRAIN_ID[np.where(ids >= INSTANCE_BASE, ids // INSTANCE_BASE, 7)]
    _, index, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    vectors, valid = _vectors(ids)
    vectors = vectors + rng.normal(size=vectors.shape) * noise * np.sqrt(sizes)[index.reshape(ids.shape)]
    anywhere = rng.random(ids.shape) < wild
    rows, columns = np.indices(ids.shape)
    for vector, start, extent in zip(vectors, (columns, rows), ids.shape[::-1], strict=True):
        vector[anywhere] = (rng.uniform(0, extent, ids.shape) - start)[anywhere]
    return classes, np.where(valid, vectors, 0)


def _vectors(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vectors, valid = np.zeros((2, *ids.shape)), (ids >= INSTANCE_BASE) & COUNTED_ID[ids // INSTANCE_BASE]
    for number in np.unique(ids[valid]):
        mask = ids == number
        rows, columns = np.nonzero(mask)
        vectors[:, mask] = columns.mean() - columns, rows.mean() - rows
    return vectors, valid


def _same(instances: Instances, ids: np.ndarray) -> bool:
    """Whether the instances are those of Cityscapes-coded ids, pixel by pixel."""
    pairs = np.unique(np.stack([instances.ids, np.where(ids < INSTANCE_BASE, 0, ids)]).reshape(2, -1), axis=1)
    return pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


def test_vectors_of_these_tests_are_the_reference() -> None:
    ids = _draw((26, 2, 9, 3, 20), (24, 5, 20, 15, 22), size=(24, 32))
    for mine, slow in zip(_vectors(ids), centroid_vectors(ids), strict=True):
        np.testing.assert_allclose(mine, slow, atol=1e-12)


def test_group_hand_worked() -> None:
    ids = _draw((26, 10, 20, 10, 30), (24, 15, 35, 60, 66))
    classes, vectors = _predict(ids)
    probability = np.where(classes == PERSON, 0.9, 0.6)
    instances = group(classes, vectors, probability)
    assert _same(instances, ids)
    assert instances.train_ids.tolist() == [PERSON, CAR]  # the surest first
    assert instances.ids[15, 60] == 1
    assert instances.ids[10, 10] == 2
    np.testing.assert_allclose(instances.centres, [(62.5, 24.5), (19.5, 14.5)])
    assert instances.ids.dtype == np.int32
    assert ((instances.confidence > 0) & (instances.confidence <= 1)).all()


def test_group_car_cut_in_two_by_a_pole_is_one() -> None:
    ids = _draw((26, 10, 30, 10, 50))
    ids[:, 27:31] = 17
    classes, vectors = _predict(ids, noise=0.1, wild=0.05)
    instances = group(classes, vectors)
    assert instances.train_ids.tolist() == [CAR]
    left, right = (instances.ids[10:30, part] for part in (slice(10, 27), slice(31, 50)))
    assert (left == 1).mean() > 0.9
    assert (right == 1).mean() > 0.9
    assert not instances.ids[:, 27:31].any()


@pytest.mark.parametrize("level", LEVELS)
def test_group_two_touching_cars_are_two(level: str) -> None:
    ids = _draw((26, 10, 30, 10, 34), (26, 12, 30, 34, 60))
    classes, vectors = _predict(ids, noise=0.1, wild=0.05)
    instances = group(classes, vectors, grouping=Grouping(level=level))
    assert instances.train_ids.tolist() == [CAR, CAR]
    for part in (slice(10, 34), slice(34, 60)):
        shares = np.bincount(instances.ids[12:30, part].ravel(), minlength=3) / instances.ids[12:30, part].size
        assert shares[1:].max() > 0.9


def test_group_finds_sparse_and_dense_clusters_at_once() -> None:
    ids = _draw((26, 4, 44, 4, 64), *((24, 8, 28, left, left + 6) for left in (80, 86, 92)))
    classes, vectors = _predict(ids, noise=0.1, wild=0.02)
    assert sorted(group(classes, vectors).train_ids.tolist()) == [PERSON] * 3 + [CAR]


def test_group_class_of_most_pixels_wins_where_classes_may_mix() -> None:
    ids = _draw((26, 10, 30, 10, 50))
    classes, vectors = _predict(ids)
    classes[10:16, 10:50] = BUS
    assert sorted(group(classes, vectors, grouping=Grouping(level="class")).train_ids.tolist()) == [CAR, BUS]
    for level in ("category", "all"):
        mixed = group(classes, vectors, grouping=Grouping(level=level))
        assert mixed.train_ids.tolist() == [CAR]
        assert _same(mixed, ids)


def test_group_by_category_keeps_a_rider_off_the_bicycle() -> None:
    ids = _draw((33, 20, 40, 40, 60), (25, 10, 40, 45, 55))
    classes, vectors = _predict(ids)
    vectors[1, ids >= 33000] -= 5  # the two centres are one
    by_level = [group(classes, vectors, grouping=Grouping(level=level)).train_ids.tolist() for level in LEVELS]
    assert [len(found) for found in by_level] == [2, 2, 1]


def test_group_noise_stays_noise_unless_it_is_close() -> None:
    ids = _draw((26, 10, 30, 10, 50))
    classes, vectors = _predict(ids, noise=0.05)
    vectors[:, 12, 12] = 90, 30
    vectors[:, 25, 40] += 3
    instances = group(classes, vectors)
    assert instances.ids[12, 12] == 0
    assert instances.ids[25, 40] == 1


def test_group_drops_what_is_smaller_than_the_least_area() -> None:
    ids = _draw((26, 10, 20, 10, 30), (26, 40, 46, 60, 68))
    classes, vectors = _predict(ids)
    areas = [np.bincount(group(classes, vectors, grouping=Grouping(min_area=a)).ids.ravel())[1:] for a in (0, 2e4)]
    assert [sorted(a.tolist()) for a in areas] == [[48, 200], [200]]


def test_group_moves_with_the_picture() -> None:
    ids = _draw((26, 10, 30, 10, 34), (26, 12, 30, 34, 50), (24, 4, 20, 60, 66))
    classes, vectors = _predict(ids, noise=0.1)
    shift = (15, 30)  # whole squares in which votes are merged
    still, moved = group(classes, vectors), group(np.roll(classes, shift, (0, 1)), np.roll(vectors, shift, (1, 2)))
    assert np.array_equal(np.roll(still.ids, shift, (0, 1)), moved.ids)
    np.testing.assert_allclose(still.centres + shift[::-1], moved.centres)


def test_group_does_not_depend_on_which_way_is_right() -> None:
    ids = _draw((26, 10, 30, 10, 34), (26, 12, 30, 34, 50), (24, 4, 20, 60, 66))
    classes, vectors = _predict(ids)
    mirrored = group(classes[:, ::-1], vectors[:, :, ::-1] * np.array([-1, 1])[:, None, None])
    assert _same(mirrored, ids[:, ::-1])


def test_group_scales_with_the_picture() -> None:
    ids = _draw((26, 10, 30, 10, 34), (26, 12, 30, 34, 50), (24, 4, 20, 60, 66))
    large = ids.repeat(4, 0).repeat(4, 1)
    classes, vectors = _predict(large, noise=0.1, wild=0.05)
    found = group(classes, vectors)
    assert sorted(found.train_ids.tolist()) == sorted(group(*_predict(ids, noise=0.1)).train_ids.tolist())
    assert Grouping().scaled(2048) == Grouping()
    assert Grouping().scaled(512).max_radius == Grouping().max_radius / 4


def test_group_without_instance_classes_finds_nothing() -> None:
    for classes in (np.zeros(SIZE, dtype=np.uint8), np.full(SIZE, IGNORE), np.zeros((0, 0), dtype=np.int64)):
        instances = group(classes, np.zeros((2, *classes.shape)))
        assert not instances.ids.any()
        assert instances.ids.shape == classes.shape
        assert [len(x) for x in (instances.train_ids, instances.confidence, instances.centres)] == [0, 0, 0]


def test_group_votes_of_every_pixel_for_one_point_are_one_instance() -> None:
    rows, columns = np.indices(SIZE)
    instances = group(np.full(SIZE, CAR), np.stack([40 - columns, 20 - rows]))
    assert (instances.ids == 1).all()
    assert instances.centres.tolist() == [[40, 20]]


def test_group_votes_all_over_and_outside_are_noise() -> None:
    rng = np.random.default_rng(0)
    classes = np.zeros(SIZE, dtype=np.uint8)
    classes[10:20, 10:20] = CAR
    spread = rng.uniform(-1e6, 1e6, size=(2, *SIZE))
    assert not group(classes, spread).ids.any()
    assert not group(np.full(SIZE, CAR), np.full((2, *SIZE), 3e38, dtype=np.float32)).ids.any()
    anywhere = rng.uniform(0, 64, size=(2, *SIZE)) - np.indices(SIZE)[::-1]
    instances = group(np.where(np.indices(SIZE)[0] % 2, CAR, PERSON), anywhere)
    assert instances.ids.max() == len(instances.train_ids)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_group_refuses_vectors_that_are_not_finite(value: float) -> None:
    vectors = np.zeros((2, *SIZE), dtype=np.float32)
    vectors[1, 3, 5] = value
    with pytest.raises(ValueError, match=r"instance task.*: needed finite numbers, found 1 of 16384 .*\(3, 5\)"):
        group(np.full(SIZE, CAR), vectors)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_ids", np.zeros((2, 3))),
        ("train_ids", np.zeros(6, dtype=np.int64)),
        ("train_ids", np.full(SIZE, -1)),
        ("train_ids", np.full(SIZE, 26000)),
        ("offsets", np.zeros((2, 64, 127))),
        ("probability", np.zeros((2, 3))),
    ],
)
def test_group_refuses_what_makes_no_sense(name: str, value: np.ndarray) -> None:
    arguments = {"train_ids": np.full(SIZE, CAR), "offsets": np.zeros((2, *SIZE)), "probability": np.ones(SIZE)}
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}.*: needed .*, found") as raised:
        group(**(arguments | {name: value}))
    assert not isinstance(raised.value, UserError), "a fault of the program"


@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("cell", 0.0, "a number above zero"),
        ("max_radius", float("inf"), "a number above zero"),
        ("min_area", -1.0, "a number >= 0"),
        ("separation", 1.0, "a number above 1"),
        ("level", "instance", "one of"),
        ("confidence", [], "some of"),
        ("confidence", ["size", "luck"], "some of"),
    ],
)
def test_grouping_refuses_what_makes_no_sense(key: str, value: object, needed: str) -> None:
    with pytest.raises(ValueError, match=rf"^instances\.{key}: needed {re.escape(needed)}.*, found"):
        Grouping(**{key: value})


def test_confidence_is_the_product_of_its_factors() -> None:
    classes, vectors = _predict(_draw((26, 10, 20, 10, 30), (24, 15, 35, 60, 66)), noise=0.1)
    probability = np.where(classes == PERSON, 0.9, 0.6)
    by_factor = {}
    for factors in (["probability"], ["compactness"], ["size"], ["probability", "compactness", "size"]):
        found = group(classes, vectors, probability, Grouping(confidence=factors))
        by_factor[tuple(factors)] = dict(zip(found.train_ids.tolist(), found.confidence.tolist(), strict=True))
    single = [by_factor[name,] for name in ("probability", "compactness", "size")]
    assert single[0] == pytest.approx({PERSON: 0.9, CAR: 0.6})
    for train_id in (PERSON, CAR):
        product = np.prod([values[train_id] for values in single])
        assert by_factor["probability", "compactness", "size"][train_id] == pytest.approx(product)


def test_confidence_of_size_is_a_half_at_the_area_that_is_named() -> None:
    classes, vectors = _predict(_draw((26, 10, 20, 10, 30)))
    # 200 px of 128 px width are 51200 px of 2048.
    (confidence,) = group(classes, vectors, grouping=Grouping(confidence=["size"], half_area=51200.0)).confidence
    assert confidence == pytest.approx(0.5)


def test_confidence_falls_with_the_spread_of_the_votes() -> None:
    ids = _draw((26, 10, 50, 10, 70))
    values = [
        group(*_predict(ids, noise=noise), grouping=Grouping(confidence=["compactness"])).confidence[0]
        for noise in (0, 0.02, 0.05)
    ]
    assert values[0] == 1
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("width", [128, 256, 512])
@pytest.mark.parametrize("separation", [1.1, 1.6, 2.5, 5.0])
def test_a_single_object_is_found_at_every_separation(width: int, separation: float) -> None:
    ids = _draw((26, width // 16, width // 4, width // 16, width // 4), size=(width // 2, width))
    found = group(*_predict(ids, noise=0.01), grouping=Grouping(separation=separation))
    assert found.train_ids.tolist() == [CAR]


def test_a_cluster_that_loses_its_votes_to_another_is_gone() -> None:
    """A ring of votes around a blob, whose centre is the ring's own."""
    classes = np.zeros((128, 256), dtype=np.uint8)
    classes[:40] = CAR
    rows, columns = np.nonzero(classes)
    vectors = np.zeros((2, 128, 256))
    angle = np.linspace(0, 200 * np.pi, len(rows))
    ring = np.arange(len(rows)) % 4 > 0
    vectors[0, rows, columns] = 128 + ring * 30 * np.cos(angle) - columns
    vectors[1, rows, columns] = 64 + ring * 30 * np.sin(angle) - rows
    found = group(classes, vectors, grouping=Grouping(min_area=0.0))
    assert len(found.train_ids) == found.ids.max() >= 1
    assert set(found.train_ids.tolist()) == {CAR}
    assert np.isfinite(found.confidence).all()


def test_votes_everywhere_are_merged_until_they_are_few() -> None:
    found = group(np.full((256, 1024), CAR), np.zeros((2, 256, 1024)))
    assert found.ids.max() == len(found.train_ids)


def test_group_refuses_infinities_of_both_signs() -> None:
    vectors = np.zeros((2, *SIZE))
    vectors[0, 0, :2] = np.inf, -np.inf
    with pytest.raises(UserError, match="needed finite numbers, found 2 of"):
        group(np.full(SIZE, CAR), vectors)


def test_group_refuses_probabilities_that_are_not_finite() -> None:
    with pytest.raises(UserError, match=r"^probability: needed finite numbers, found 8192 of 8192 NaN"):
        group(np.full(SIZE, CAR), np.zeros((2, *SIZE)), np.full(SIZE, np.nan))
