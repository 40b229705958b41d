"""Pairs of truth and prediction, random and adversarial, for the metrics to agree on with slower or official code."""

from collections.abc import Callable

import numpy as np

from multitask.data.classes import IGNORE
from multitask.data.layout import Camera
from multitask.data.sample import Sample
from multitask.metrics import PredictedInstance, PredictedScene
from tests.cityscapes import CLASS_NAMES, COUNTED_ID, ID, LABELS, TRAIN_ID

Pair = tuple[Sample, PredictedScene]
SIZE = (48, 96)
CAMERA = Camera(baseline=0.2, fx=500.0, fy=500.0, u0=47.5, v0=23.5)
"""100 m are 1 px, 50 m are 2 px."""

COUNTED = np.flatnonzero(COUNTED_ID).tolist()
SINGLE = [label.id for label in LABELS if label.has_instances]
CAR = ID["car"]


def make_pair(
    name: str,
    instance_ids: np.ndarray,
    instance_map: np.ndarray,
    instances: list[PredictedInstance],
    train_ids: np.ndarray | None = None,
    disparity: np.ndarray | None = None,
) -> Pair:
    """A pair from instance layers; train ids are the truth's by default, those of instances where it has none."""
    class_ids = np.where(instance_ids < 1000, instance_ids, instance_ids // 1000).astype(np.uint8)
    if train_ids is None:
        train_ids = np.where(TRAIN_ID[class_ids] == IGNORE, 0, TRAIN_ID[class_ids])
    image = np.zeros((*instance_ids.shape, 3), dtype=np.uint8)
    camera = None if disparity is None else CAMERA
    sample = Sample(name, image, class_ids, instance_ids.astype(np.int32), disparity, camera)
    return sample, PredictedScene(train_ids.astype(np.uint8), instance_map.astype(np.int32), instances)


def shape_mask(rng: np.random.Generator, size: tuple[int, int], area: float) -> np.ndarray:
    """(H, W) bool: an ellipse or a rectangle of about ``area`` px somewhere, perhaps cut by the border."""
    height, width = size
    rows, columns = np.ogrid[:height, :width]
    ratio = rng.uniform(0.5, 2)
    half_height, half_width = np.sqrt(area * ratio) / 2, np.sqrt(area / ratio) / 2
    y, x = (rows - rng.uniform(0, height)) / half_height, (columns - rng.uniform(0, width)) / half_width
    return (x**2 + y**2 < 1.27) if rng.random() < 0.5 else (abs(x) < 1) & (abs(y) < 1)


def shifted(mask: np.ndarray, rng: np.random.Generator, far: int) -> np.ndarray:
    """The mask moved by up to ``far`` px, around the border if need be."""
    return np.roll(mask, rng.integers(-far, far + 1, size=2), axis=(0, 1))


def random_truth(rng: np.random.Generator, size: tuple[int, int], area: tuple[float, float]) -> np.ndarray:
    """(H, W) instance ids: blocks of any class, instances, groups, and perhaps an unseen border."""
    blocks = (-(-size[0] // 8), -(-size[1] // 8))
    plain = [label.id for label in LABELS if not label.has_instances]
    ids = rng.choice(plain, size=blocks).repeat(8, 0).repeat(8, 1)[: size[0], : size[1]].astype(np.int64)
    classes = rng.choice(SINGLE, size=3)
    for number in range(rng.integers(0, 8)):
        class_id = int(rng.choice(classes))
        mask = shape_mask(rng, size, np.exp(rng.uniform(*np.log(area))))
        ids[mask] = class_id if rng.random() < 0.2 else class_id * 1000 + number
    if rng.random() < 0.3:
        ids[-int(rng.integers(1, 12)) :], ids[:, : int(rng.integers(1, 6))] = rng.integers(1, 4), 3
    return ids


def random_prediction(
    rng: np.random.Generator, truth: np.ndarray, area: tuple[float, float]
) -> tuple[np.ndarray, list[PredictedInstance]]:
    """Instances found exactly, displaced, in pieces, of the wrong class, not at all, twice, or where there is none."""
    found = np.zeros(truth.shape, dtype=np.int64)
    instances: list[PredictedInstance] = []
    masks = [truth == number for number in np.unique(truth) if (number if number < 1000 else number // 1000) in SINGLE]
    masks += [shape_mask(rng, (truth.shape[0], truth.shape[1]), rng.uniform(*area)) for _ in range(rng.integers(0, 3))]
    rng.shuffle(masks)  # type: ignore[arg-type]
    numbers = rng.permutation(2000)[: len(masks)] + 1
    for mask, number in zip(masks, numbers.tolist(), strict=True):
        if rng.random() < 0.15:
            continue
        ids = truth[mask]
        class_id = int(ids[0] if ids[0] < 1000 else ids[0] // 1000) if len(ids) else CAR
        if class_id not in COUNTED or rng.random() < 0.15:
            class_id = int(rng.choice(COUNTED))
        found[shifted(mask, rng, int(rng.integers(0, 5)))] = number
        if rng.random() < 0.15:
            found[: truth.shape[0] // 2][mask[: truth.shape[0] // 2]] = 0
        for _ in range(1 + (rng.random() < 0.15) + (rng.random() < 0.05)):
            # Rounded, so that many are tied.
            instances.append(PredictedInstance(number, class_id, round(float(rng.random()), 1)))
            class_id = class_id if rng.random() < 0.7 else int(rng.choice(COUNTED))
    return found, instances


def random_pair(seed: int, size: tuple[int, int] = SIZE, area: tuple[float, float] = (15, 1500)) -> Pair:
    rng = np.random.default_rng(seed)
    truth = random_truth(rng, size, area)
    found, instances = random_prediction(rng, truth, area)
    class_ids = np.where(truth < 1000, truth, truth // 1000)
    blocks = rng.integers(0, len(CLASS_NAMES), size=(size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1)
    agree = (rng.random(size) < 0.8) & (TRAIN_ID[class_ids] != IGNORE)
    train_ids = np.where(agree, TRAIN_ID[class_ids], blocks)
    disparity = np.full(size, np.nan)
    for number in np.unique(truth):
        pixels = truth == number
        measured = pixels & (rng.random(size) < rng.choice([0.0, 0.3, 0.5, 0.9, 1.0]))
        disparity[measured] = rng.uniform(0, 4) * rng.uniform(0.8, 1.2, size=int(measured.sum()))
    return make_pair(f"random_{seed:06d}_000000", truth, found, instances, train_ids, disparity)


def _blank() -> tuple[np.ndarray, np.ndarray]:
    """A road, and no instance found."""
    return np.full(SIZE, ID["road"], dtype=np.int64), np.zeros(SIZE, dtype=np.int64)


def _strips(true: list[tuple[int, int]], predicted: list[tuple[int, int]], **kinds: int) -> Pair:
    """Instances side by side in rows of their own: (first, last) column of each true and each predicted one."""
    truth, found = _blank()
    truth[:, 90:] = kinds.get("beside", ID["road"])
    instances = []
    for number, ((start, stop), (left, right)) in enumerate(zip(true, predicted, strict=True)):
        rows = slice(number * 4, number * 4 + 4)
        truth[rows, start:stop] = kinds.get("true_id", CAR * 1000 + number)
        found[rows, left:right] = number + 1
        instances.append(PredictedInstance(number + 1, CAR, 0.5 + number / 100))
    return make_pair("", truth, found, instances)


def _perfect() -> Pair:
    pair = random_pair(1001)[0]
    assert pair.instance_ids is not None
    numbers = [n for n in np.unique(pair.instance_ids).tolist() if n >= 1000 and n // 1000 in COUNTED]
    found = np.where(np.isin(pair.instance_ids, numbers), pair.instance_ids, 0)
    return make_pair("", pair.instance_ids, found, [PredictedInstance(n, n // 1000, 1.0) for n in numbers])


def _with_prediction(found: Callable[[np.ndarray], np.ndarray], class_id: int = CAR, times: int = 1) -> Pair:
    """A random frame in which ``found`` makes the instance map, one class throughout."""
    truth = random_pair(1002)[0].instance_ids
    assert truth is not None
    truth = truth.copy()
    truth[10:30, 20:60] = CAR * 1000 + 900
    truth[30:40, 20:60] = CAR
    instance_map = found(truth)
    numbers = [n for n in np.unique(instance_map).tolist() if n]
    instances = [PredictedInstance(n, class_id, 0.25 * (n % 4)) for n in numbers for _ in range(times)]
    return make_pair("", truth, instance_map, instances)


def _of_truth(truth_id: int, is_found: bool = True) -> Pair:
    """A frame of nothing but one id, half of which is found as a car, or none."""
    truth, found = _blank()
    truth[:] = truth_id
    found[:, :50] = int(is_found)
    return make_pair("", truth, found, [PredictedInstance(1, CAR, 0.5)] if is_found else [])


def _blocks(truth: np.ndarray) -> np.ndarray:
    """A number for each block of 8 x 8 px."""
    return 1 + np.arange(truth.size // 64).reshape(truth.shape[0] // 8, -1).repeat(8, 0).repeat(8, 1)


def adversarial_pairs() -> dict[str, Pair]:
    """Named frames, each with something that is easily got wrong."""
    # Strips of 4 rows and 25 columns have 100 px; with 24 and 26 they have 96 and 104.
    sizes = [(10, 35), (10, 34), (10, 36)]
    cars = [(10, 60)] * 10
    noise = np.random.default_rng(0)
    pairs = {
        "perfect": _perfect(),
        "nothing found": _with_prediction(np.zeros_like),
        "everything one instance": _with_prediction(np.ones_like),
        "everything one instance twice": _with_prediction(np.ones_like, times=2),
        "everything one train": _with_prediction(np.ones_like, ID["train"]),
        "blocks": _with_prediction(_blocks),
        "noise": _with_prediction(lambda truth: noise.integers(0, 5, size=truth.shape)),
        "true ids as numbers": _with_prediction(lambda truth: truth),
        "each found five times, tied": _with_prediction(lambda truth: np.where(truth >= 1000, truth, 0), times=5),
        "group found": _with_prediction(lambda truth: (truth == CAR).astype(np.int64)),
        "smallest regions": _strips(sizes, sizes),
        # IoU of 0.5, 0.55, ... exactly, as far as the strips allow, which is no match at that threshold.
        "at the thresholds": _strips([(0, 40)] * 10, [(0, 20 + 2 * step) for step in range(10)]),
        "at the thresholds, larger": _strips([(0, 20 + 2 * step) for step in range(10)], [(0, 40)] * 10),
        "groups partly": _strips(cars, [(55 - 4 * n, 70) for n in range(10)], true_id=CAR),
        "void partly": _strips(cars, [(60, 92 + n // 2) for n in range(10)], beside=ID["dynamic"]),
        "void for the most part": _strips([(0, 5)] * 10, [(86 - n, 96) for n in range(10)], beside=ID["out of roi"]),
        "caravans": _strips(cars, cars, true_id=ID["caravan"] * 1000),
        "number 0": _strips([(10, 60)], [(10, 60)], true_id=CAR * 1000),
        "all void": _of_truth(ID["ego vehicle"]),
        "all group": _of_truth(CAR),
        "all one car": _of_truth(CAR * 1000 + 1),
        "all one car, not found": _of_truth(CAR * 1000 + 1, is_found=False),
        "all one caravan": _of_truth(ID["caravan"] * 1000 + 1),
        "all caravans, a group": _of_truth(ID["caravan"]),
        "all road": _of_truth(ID["road"]),
        "all road, rightly": _of_truth(ID["road"], is_found=False),
        "all void, nothing found": _of_truth(0, is_found=False),
    }
    return {
        title: (_renamed(sample, f"adversarial_{index:06d}_000000"), scene)
        for index, (title, (sample, scene)) in enumerate(pairs.items())
    }


def _renamed(sample: Sample, name: str) -> Sample:
    return Sample(name, sample.image, sample.class_ids, sample.instance_ids, sample.disparity, sample.camera)
