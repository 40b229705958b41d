import random
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from multitask.data.layout import Camera
from multitask.data.loader import normalize
from multitask.data.sample import Sample
from multitask.data.transforms import Augmentation, resize
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES, ID
from tests.trees import random_layers

CAMERA = Camera(baseline=0.21, fx=70.0, fy=64.0, u0=30.0, v0=13.0, z=1.2)
LAYERS = ("image", "class_ids", "instance_ids", "disparity")
PAD = (124, 116, 104)


def random_sample(size: tuple[int, int] = (32, 64), seed: int = 0) -> Sample:
    layers = random_layers(np.random.default_rng(seed), size)
    return Sample(
        name="ulm_000000_000019",
        image=layers["image"].astype(np.uint8),
        class_ids=layers["class_ids"].astype(np.uint8),
        instance_ids=layers["instance_ids"],
        disparity=layers["disparity"].astype(np.float32),
        camera=CAMERA,
    )


def coordinate_sample(height: int = 48, width: int = 80) -> Sample:
    """Every layer says where its pixels were: row times 5 in red, column times 3 in green, row * width + column."""
    rows, columns = np.mgrid[:height, :width]
    return Sample(
        name="ulm_000000_000019",
        image=np.stack([rows * 5, columns * 3, rows * 0], axis=-1).astype(np.uint8),
        class_ids=(columns + 1).astype(np.uint8),
        instance_ids=(rows * width + columns + 1).astype(np.int32),
        disparity=(columns + 0.5).astype(np.float32),
        camera=CAMERA,
    )


def augment(sample: Sample, seed: int = 0, **values: Any) -> Sample:
    return Augmentation(**values)(sample, np.random.default_rng(seed))


def flipped(sample: Sample) -> Sample:
    return augment(sample, flip=1.0)


def assert_same(found: Sample, expected: Sample) -> None:
    for field in fields(Sample):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def geometry(found: Sample, source: Sample, flip: bool) -> tuple[tuple[int, int], int, int]:
    """What the camera says was done to the (flipped) source: scaled size (H, W), and the window's top and left."""
    height, width = source.image.shape[:2]
    camera = source.camera.flipped(width) if flip else source.camera
    kx, ky = found.camera.fx / camera.fx, found.camera.fy / camera.fy
    left = (camera.u0 + 0.5) * kx - 0.5 - found.camera.u0
    top = (camera.v0 + 0.5) * ky - 0.5 - found.camera.v0
    numbers = [height * ky, width * kx, top, left]
    np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-9)
    scaled_height, scaled_width, top, left = (round(number) for number in numbers)
    return (scaled_height, scaled_width), top, left


def slow_window(source: Sample, flip: bool, scaled: tuple[int, int], top: int, left: int, size: tuple[int, int]) -> Any:
    """Class ids, instance ids and disparity, pixel by pixel."""
    height, width = source.image.shape[:2]
    class_ids = np.zeros(size, dtype=np.uint8)
    instance_ids = np.zeros(size, dtype=np.int32)
    disparity = np.full(size, np.nan, dtype=np.float32)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = row + top, column + left
            if 0 <= y < scaled[0] and 0 <= x < scaled[1]:
                # The pixel's centre is at y + 1/2 of scaled[0], and so in this pixel of the source.
                i, j = (2 * y + 1) * height // (2 * scaled[0]), (2 * x + 1) * width // (2 * scaled[1])
                j = width - 1 - j if flip else j
                class_ids[row, column] = source.class_ids[i, j]
                instance_ids[row, column] = source.instance_ids[i, j]
                disparity[row, column] = slow_median(source.disparity, flip, scaled, y, x) * np.float32(
                    scaled[1] / width
                )
    return class_ids, instance_ids, disparity


def slow_cell(position: int, new: int, old: int) -> range:
    """Source pixels along one axis: the one in the middle where there are more of the new ones."""
    if new >= old:
        middle = (2 * position + 1) * old // (2 * new)
        return range(middle, middle + 1)
    return range(position * old // new, (position + 1) * old // new)


def slow_median(layer: np.ndarray, flip: bool, scaled: tuple[int, int], y: int, x: int) -> float:
    """The median of what is measured in a cell, the lower of the middle two; NaN where nothing is."""
    layer = layer[:, ::-1] if flip else layer
    cell = [
        layer[i, j]
        for i in slow_cell(y, scaled[0], layer.shape[0])
        for j in slow_cell(x, scaled[1], layer.shape[1])
        if np.isfinite(layer[i, j])
    ]
    return sorted(cell)[(len(cell) - 1) // 2] if cell else np.nan


def slow_pixel(image: np.ndarray, scaled: tuple[int, int], y: int, x: int) -> np.ndarray:
    """One pixel of the resized image: a triangle about its centre, as wide as two pixels of the coarser grid."""
    weights = []
    for position, length, new in ((y, image.shape[0], scaled[0]), (x, image.shape[1], scaled[1])):
        centre = (position + 0.5) * length / new - 0.5
        weight = np.maximum(0, 1 - abs(np.arange(length) - centre) * min(new / length, 1))
        weights.append(weight / weight.sum())
    return np.einsum("ijc,i,j->c", image.astype(float), *weights)


# Against the slow reference

CASES = [
    {"scale": (1.0, 1.0), "crop": (20, 40)},
    {"scale": (1.0, 1.0), "crop": (40, 70)},
    {"scale": (1.0, 1.0), "crop": (20, 90)},
    {"scale": (0.7, 2.0), "crop": (24, 24)},
    {"scale": (0.7, 2.0), "crop": (33, 33)},
    {"scale": (0.7, 2.0), "crop": None},
    {"scale": (0.1, 0.5), "crop": (9, 17)},
]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_augmented_labels_equal_the_pixel_by_pixel_reference(case: dict[str, Any], flip: bool) -> None:
    for seed, size in enumerate([(32, 64), (33, 65), (17, 31)]):
        source = random_sample(size, seed)
        found = augment(source, seed, flip=float(flip), **case)
        window = case["crop"] or size
        scaled, top, left = geometry(found, source, flip)
        class_ids, instance_ids, disparity = slow_window(source, flip, scaled, top, left, window)
        np.testing.assert_array_equal(found.class_ids, class_ids)
        np.testing.assert_array_equal(found.instance_ids, instance_ids)
        np.testing.assert_array_equal(found.disparity, disparity)
        assert found.image.shape == (*window, 3)
        for layer in LAYERS:
            assert getattr(found, layer).dtype == getattr(source, layer).dtype


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("case", CASES[:6])
def test_augmented_image_equals_the_pixel_by_pixel_reference(case: dict[str, Any], flip: bool) -> None:
    source = replace(
        random_sample((17, 31)), image=np.random.default_rng(3).integers(0, 256, (17, 31, 3), dtype=np.uint8)
    )
    found = augment(source, 1, flip=float(flip), **case)
    scaled, top, left = geometry(found, source, flip)
    image = source.image[:, ::-1] if flip else source.image
    for row, column in np.ndindex(*found.image.shape[:2]):
        y, x = row + top, column + left
        inside = 0 <= y < scaled[0] and 0 <= x < scaled[1]
        expected = slow_pixel(image, scaled, y, x) if inside else PAD
        # Pillow rounds to whole grey levels after each of its two passes.
        assert abs(found.image[row, column] - expected).max() <= (1.1 if inside and scaled != (17, 31) else 0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("crop", [(48, 80), (24, 24), (120, 150)])
def test_all_layers_stay_aligned(crop: tuple[int, int], flip: float) -> None:
    source = coordinate_sample()
    for seed in range(10):
        found = augment(source, seed, flip=flip, scale=(0.7, 2.0), crop=crop)
        rows, columns = np.divmod(found.instance_ids - 1, 80)
        inside = found.instance_ids > 0
        np.testing.assert_array_equal(found.class_ids[inside], columns[inside] + 1)
        factor = found.camera.fx / CAMERA.fx
        np.testing.assert_allclose(found.disparity[inside], (columns[inside] + 0.5) * factor, rtol=1e-6)
        # The image is interpolated, so it may differ by half a pixel, and more at the frame's border.
        inner = inside & (rows > 1) & (rows < 46) & (columns > 1) & (columns < 78)
        assert inner.sum() > 100
        assert abs(found.image[inner][:, 0] / 5 - rows[inner]).max() < 0.75
        assert abs(found.image[inner][:, 1] / 3 - columns[inner]).max() < 0.85


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [(0.7, 2.0), (0.5, 0.5), (0.6, 0.7)])
def test_window_of_a_scaled_frame_is_the_scaled_frame_cropped(scale: tuple[float, float], flip: bool) -> None:
    rng = np.random.default_rng(7)
    for seed in range(10):
        source = replace(random_sample((40, 56)), image=rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))
        found = augment(source, seed, flip=float(flip), scale=scale, crop=(17, 21))
        scaled, top, left = geometry(found, source, flip)
        whole = resize(flipped(source) if flip else source, scaled)
        window = slice(top, top + 17), slice(left, left + 21)
        for layer in LAYERS[1:]:
            np.testing.assert_array_equal(getattr(found, layer), getattr(whole, layer)[window])
        difference = abs(found.image.astype(int) - whole.image[window])
        assert difference.max() <= 2  # on noise, where rounding twice can add up
        assert (difference > 1).mean() < 0.005


# Resize


def test_resize_to_an_eighth_is_the_mean_of_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    found = resize(Sample("a", image), (8, 16)).image
    means = image.reshape(8, 8, 16, 8, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(found, np.floor(means + 0.5))


def test_window_at_a_quarter_is_the_mean_of_its_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    means = np.floor(image.reshape(16, 4, 32, 4, 3).mean(axis=(1, 3)) + 0.5)
    source = Sample("a", image, camera=CAMERA)
    for seed in range(5):
        found = augment(source, seed, flip=0.0, scale=(0.25, 0.25), crop=(7, 11))
        _, top, left = geometry(found, source, flip=False)
        np.testing.assert_array_equal(found.image, means[top : top + 7, left : left + 11])


def test_resize_to_an_eighth_takes_nearest_labels_and_medians_and_scales_disparity_and_camera() -> None:
    source = random_sample((64, 128))
    found = resize(source, (8, 16))
    for layer in ("class_ids", "instance_ids"):
        np.testing.assert_array_equal(getattr(found, layer), getattr(source, layer)[4::8, 4::8])
    blocks = source.disparity.reshape(8, 8, 16, 8).transpose(0, 2, 1, 3).reshape(8, 16, 64)
    middle = (np.isfinite(blocks).sum(-1, keepdims=True) - 1) // 2
    np.testing.assert_array_equal(found.disparity, np.take_along_axis(np.sort(blocks), middle, -1)[..., 0] / 8)
    assert found.camera == CAMERA.scaled(1 / 8, 1 / 8)
    assert found.name == source.name


def test_resize_across_only_scales_disparity_and_down_only_does_not() -> None:
    source = replace(random_sample(), disparity=np.full((32, 64), 6.0, dtype=np.float32))
    assert (resize(source, (32, 16)).disparity == 1.5).all()
    assert (resize(source, (8, 64)).disparity == 6).all()
    assert (resize(source, (64, 96)).disparity == 9).all()


def test_resize_to_the_same_size_changes_nothing() -> None:
    source = random_sample()
    assert_same(resize(source, (32, 64)), source)


def test_resize_of_an_image_alone_leaves_the_other_layers_away() -> None:
    found = resize(Sample("a", random_sample().image), (16, 16))
    assert (found.class_ids, found.instance_ids, found.disparity, found.camera) == (None, None, None, None)


def test_constant_image_stays_constant_at_every_size() -> None:
    source = Sample("a", np.full((13, 29, 3), PAD, dtype=np.uint8))
    for size in [(1, 1), (3, 5), (6, 14), (7, 15), (13, 30), (40, 100)]:
        assert (resize(source, size).image == np.array(PAD)).all()


# Geometry


def test_flip_twice_is_the_identity() -> None:
    source = random_sample((32, 61))
    assert_same(flipped(flipped(source)), source)


def test_flip_mirrors_offsets_and_changes_the_sign_of_x() -> None:
    source = random_sample((32, 61))
    value, valid = Instance(CITYSCAPES).encode(source)
    flipped_value, flipped_valid = Instance(CITYSCAPES).encode(flipped(source))
    assert valid.any()
    assert torch.equal(flipped_valid, valid.flip(-1))
    torch.testing.assert_close(flipped_value, value.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1))
    again = Instance(CITYSCAPES).encode(flipped(flipped(source)))
    assert torch.equal(again.value, value)
    assert torch.equal(again.valid, valid)


def test_flip_mirrors_disparity_and_keeps_its_values() -> None:
    source = random_sample((32, 61))
    value, valid = Depth(CITYSCAPES).encode(source)
    flipped_value, flipped_valid = Depth(CITYSCAPES).encode(flipped(source))
    assert torch.equal(flipped_value, value.flip(-1))
    assert torch.equal(flipped_valid, valid.flip(-1))


def test_offsets_after_augmentation_point_at_the_centroid_of_what_is_visible() -> None:
    source, valid_pixels = random_sample((32, 61)), 0
    for seed in range(8):
        found = augment(source, seed, scale=(0.7, 2.0), crop=(28, 44))
        (x, y), valid = Instance(CITYSCAPES).encode(found)
        for row, column in np.argwhere(valid.numpy()):
            own = np.argwhere(found.instance_ids == found.instance_ids[row, column])
            assert float(y[row, column]) == pytest.approx(own[:, 0].mean() - row, abs=1e-4)
            assert float(x[row, column]) == pytest.approx(own[:, 1].mean() - column, abs=1e-4)
            valid_pixels += 1
    assert valid_pixels > 500


@pytest.mark.parametrize("width", [64, 65, 7])
def test_scale_multiplies_disparity_by_the_factor_of_the_rounded_width(width: int) -> None:
    source = replace(random_sample((9, width)), disparity=np.full((9, width), 3.0, dtype=np.float32))
    for seed in range(20):
        factor = 0.7 + 0.065 * seed
        found = augment(source, seed, flip=0.0, scale=(factor, factor), crop=(3, 4))
        expected = np.float32(3.0) * np.float32(round(width * factor) / width)
        assert (found.disparity == expected).all()
        assert found.camera.fx == pytest.approx(CAMERA.fx * round(width * factor) / width)


@pytest.mark.parametrize("flip", [False, True])
def test_disparity_of_a_plane_agrees_with_the_camera_after_augmentation(flip: bool) -> None:
    """Of an oblique plane a X + b Y + c Z = 1: d = f_x baseline / Z is affine in the pixel's coordinates."""
    a, b, c = 0.05, 0.5, 0.1

    def plane(camera: Camera, mirrored: bool, size: tuple[int, int]) -> np.ndarray:
        rows, columns = np.mgrid[: size[0], : size[1]]
        x, y = (columns - camera.u0) / camera.fx, (rows - camera.v0) / camera.fy
        return camera.fx * camera.baseline * ((-a if mirrored else a) * x + b * y + c)

    source = replace(random_sample((40, 80)), disparity=plane(CAMERA, False, (40, 80)).astype(np.float32))
    for seed in range(10):
        found = augment(source, seed, flip=float(flip), scale=(0.7, 2.0), crop=(20, 30))
        factor = found.camera.fx / CAMERA.fx
        expected = plane(found.camera, flip, (20, 30))
        # The nearest pixel is off by half a pixel of the source at most, in each direction.
        tolerance = factor * CAMERA.baseline * 0.51 * (a + b * CAMERA.fx / CAMERA.fy)
        assert np.isfinite(found.disparity).mean() > 0.5
        assert np.nanmax(abs(found.disparity - expected)) <= tolerance
        assert abs(np.nanmean(found.disparity - expected)) <= tolerance / 3


def test_no_augmentation_changes_nothing() -> None:
    source = random_sample()
    assert_same(augment(source, flip=0.0), source)
    assert_same(augment(source, flip=0.0, crop=(32, 64), scale=(1.0, 1.0)), source)


# Padding


@pytest.mark.parametrize(("scale", "crop"), [(1.0, (40, 80)), (0.5, (32, 64)), (0.7, (23, 70)), (0.25, (60, 17))])
def test_padding_is_ignored_by_every_task(scale: float, crop: tuple[int, int]) -> None:
    full = np.full((32, 64), ID["car"])
    source = replace(
        random_sample(),
        class_ids=full.astype(np.uint8),
        instance_ids=full.astype(np.int32) * 1000,
        disparity=np.ones((32, 64), dtype=np.float32),
    )
    for seed in range(5):
        found = augment(source, seed, flip=0.0, scale=(scale, scale), crop=crop)
        (height, width), top, left = geometry(found, source, flip=False)
        padded = np.ones(crop, dtype=bool)
        padded[max(-top, 0) : height - top, max(-left, 0) : width - left] = False
        assert padded.any()
        assert not padded.all()
        assert (found.class_ids[padded] == 0).all()
        assert (found.instance_ids[padded] == 0).all()
        assert np.isnan(found.disparity[padded]).all()
        assert (found.image[padded] == PAD).all()
        for task in (Semantic(CITYSCAPES), Instance(CITYSCAPES), Depth(CITYSCAPES)):
            np.testing.assert_array_equal(task.encode(found).valid.numpy(), ~padded)


def test_padding_is_ignored_without_class_ids() -> None:
    source = replace(random_sample(), class_ids=None, disparity=np.ones((32, 64), dtype=np.float32))
    assert int(Depth(CITYSCAPES).encode(augment(source, crop=(40, 80))).valid.sum()) == 32 * 64


def test_padding_is_zero_once_normalized() -> None:
    found = augment(Sample("a", np.zeros((1, 1, 3), dtype=np.uint8)), crop=(9, 9)).image
    pixels = normalize(torch.from_numpy(found).permute(2, 0, 1).unsqueeze(0))
    assert int((pixels.abs() < 0.02).all(1).sum()) == 80


# Randomness


def test_same_random_stream_gives_the_same_augmentation() -> None:
    values = {"scale": (0.7, 2.0), "crop": (24, 24), "jitter": 0.3}
    source = random_sample()
    results = [augment(source, seed, **values) for seed in (0, 1, 0)]
    assert_same(results[0], results[2])
    assert not np.array_equal(results[0].instance_ids, results[1].instance_ids)


def test_augmentation_uses_no_global_randomness() -> None:
    def states() -> tuple[Any, ...]:
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 it is the global state that must not change
        return random.getstate(), name, keys.tolist(), rest, torch.get_rng_state().tolist()

    before = states()
    random_ = augment(random_sample(), 3, scale=(0.7, 2.0), crop=(24, 24), jitter=0.3)
    assert states() == before
    assert random_.image.shape == (24, 24, 3)


def test_flip_happens_as_often_as_its_probability_says() -> None:
    source, augmentation, rng = random_sample((4, 8)), Augmentation(flip=0.25), np.random.default_rng(0)
    mirrored = sum(augmentation(source, rng).camera != source.camera for _ in range(1000))
    assert 200 < mirrored < 300


@pytest.mark.parametrize(("crop", "windows"), [((3, 7), {(0, 0), (0, 1), (1, 0), (1, 1)}), ((6, 8), {(-2, 0), (0, 0)})])
def test_every_position_of_the_window_occurs(crop: tuple[int, int], windows: set[tuple[int, int]]) -> None:
    source, augmentation, rng = random_sample((4, 8)), Augmentation(flip=0.0, crop=crop), np.random.default_rng(0)
    found = {geometry(augmentation(source, rng), source, flip=False)[1:] for _ in range(100)}
    assert windows <= found
    assert found <= {(top, left) for top in (-2, -1, 0, 1) for left in (0, 1)}


def test_scales_fill_their_range() -> None:
    source, rng = random_sample((100, 100)), np.random.default_rng(0)
    augmentation = Augmentation(scale=(0.7, 2.0), crop=(2, 2))
    factors = np.array([augmentation(source, rng).camera.fy / CAMERA.fy for _ in range(300)])
    assert factors.min() == pytest.approx(0.7, abs=0.03)
    assert factors.max() == pytest.approx(2.0, abs=0.03)
    assert factors.mean() == pytest.approx(1.35, abs=0.07)


# Jitter


def test_jitter_changes_the_image_alone() -> None:
    source = random_sample()
    found = augment(source, flip=0.0, jitter=0.3)
    assert not np.array_equal(found.image, source.image)
    assert found.image.dtype == np.uint8
    assert_same(replace(found, image=source.image), source)


def test_jitter_of_a_grey_picture_stays_within_its_fraction() -> None:
    source = Sample("a", np.full((4, 4, 3), 100, dtype=np.uint8))
    levels = np.array([augment(source, seed, jitter=0.2).image[0, 0, 0] for seed in range(200)])
    assert levels.min() in range(79, 85)
    assert levels.max() in range(116, 122)


# Robustness


def test_source_is_never_changed() -> None:
    for seed in range(20):
        source = random_sample((32, 64))
        for layer in LAYERS:
            getattr(source, layer).setflags(write=False)
        augment(source, seed, flip=1.0, scale=(0.5, 2.0), crop=(30, 80), jitter=0.5)
        resize(source, (7, 100))
        assert_same(source, random_sample((32, 64)))


def test_odd_sizes_and_factors_give_the_size_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    for seed in range(300):
        size, crop = (tuple(int(side) for side in rng.integers(1, 24, 2)) for _ in range(2))
        low, high = sorted(rng.uniform(0.01, 3, 2))
        found = augment(random_sample(size, seed), seed, scale=(low, high), crop=crop if seed % 4 else None)
        expected = crop if seed % 4 else size
        assert [getattr(found, layer).shape[:2] for layer in LAYERS] == [expected] * 4
        finite = found.disparity[np.isfinite(found.disparity)]
        assert (finite >= 0).all()


def test_missing_layers_stay_missing() -> None:
    found = augment(Sample("a", random_sample().image), flip=1.0, scale=(0.7, 2.0), crop=(20, 20))
    assert found.image.shape == (20, 20, 3)
    assert (found.class_ids, found.instance_ids, found.disparity, found.camera) == (None, None, None, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flip", -0.1),
        ("flip", 1.5),
        ("flip", float("nan")),
        ("scale", (0.0, 1.0)),
        ("scale", (2.0, 0.7)),
        ("scale", (-1.0, 1.0)),
        ("scale", (1.0,)),
        ("scale", (0.7, 1.0, 2.0)),
        ("scale", (float("nan"), 1.0)),
        ("jitter", -0.1),
        ("jitter", 1.0),
        ("jitter", float("nan")),
    ],
)
def test_augmentation_that_makes_no_sense_names_the_key(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"data\.augmentation\.{key}: needed"):
        Augmentation(**{key: value})
