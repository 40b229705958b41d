import numpy as np
import pytest
import torch

from multitask.data.sample import Sample, Target
from multitask.data.transforms import Augmentation, resize
from multitask.tasks.depth import Depth
from tests.cityscapes import CITYSCAPES

NAN = float("nan")
ROAD, SKY = 7, 23


def _encode(disparity: np.ndarray | None, class_ids: np.ndarray | None = None) -> Target:
    layer = disparity if disparity is not None else class_ids
    assert layer is not None
    image = np.zeros((*layer.shape, 3), dtype=np.uint8)
    if disparity is not None:
        disparity = disparity.astype(np.float32)
    return Depth(CITYSCAPES).encode(Sample("a_0_0", image, class_ids=class_ids, disparity=disparity))


def test_encode_hand_worked() -> None:
    value, valid = _encode(np.array([[1.5, NAN, 0.0, 30.0]]), np.array([[ROAD, ROAD, ROAD, 26]]))
    assert value.dtype == torch.float32
    assert value.shape == (1, 1, 4)
    assert value.flatten().tolist() == [1.5, 0, 0, 30]
    assert valid.tolist() == [[True, False, True, True]]


def test_encode_zero_disparity_counts() -> None:
    value, valid = _encode(np.zeros((2, 3)))
    assert valid.all()
    assert not value.any()


@pytest.mark.parametrize("measured", [NAN, 0.0, 12.0])
def test_encode_sky_is_at_zero(measured: float) -> None:
    value, valid = _encode(np.array([[measured, measured, 3.0]]), np.array([[SKY, SKY, ROAD]]))
    assert valid.all()
    assert value.flatten().tolist() == [0, 0, 3]


def test_encode_sky_of_a_frame_without_a_measurement_does_not_count() -> None:
    # Otherwise a data set with broken disparity would train on its sky.
    _, valid = _encode(np.full((1, 3), NAN), np.array([[SKY, SKY, ROAD]]))
    assert not valid.any()


@pytest.mark.parametrize("unseen", [1, 2, 3])
def test_encode_unseen_pixels_never_count(unseen: int) -> None:
    _, valid = _encode(np.array([[5.0, 0.0, 5.0]]), np.array([[unseen, unseen, ROAD]]))
    assert valid.tolist() == [[False, False, True]]


@pytest.mark.parametrize("void", [0, 4, 5, 6, 29])
def test_encode_void_that_is_seen_counts(void: int) -> None:
    assert _encode(np.array([[5.0]]), np.array([[void]])).valid.all()


def test_encode_without_class_ids_counts_what_was_measured() -> None:
    value, valid = _encode(np.array([[5.0, NAN, 0.0]]))
    assert valid.tolist() == [[True, False, True]]
    assert value.flatten().tolist() == [5, 0, 0]


def _cropped(disparity: np.ndarray, seed: int) -> tuple[Sample, Target]:
    """A random crop of a frame whose upper half is sky."""
    class_ids = np.full(disparity.shape, ROAD, dtype=np.uint8)
    class_ids[: len(disparity) // 2] = SKY
    image = np.zeros((*disparity.shape, 3), dtype=np.uint8)
    frame = Sample("a_0_0", image, class_ids=class_ids, disparity=disparity.astype(np.float32))
    augmentation = Augmentation(flip=0.5, scale=(0.7, 2.0), crop=(6, 8), jitter=0.2)
    cropped = augmentation(resize(frame, (24, 32)), np.random.default_rng(seed))
    return cropped, Depth(CITYSCAPES).encode(cropped)


def test_encode_sky_counts_in_every_crop_of_a_frame_with_one_measurement() -> None:
    disparity = np.full((16, 20), NAN)
    disparity[15, 19] = 4.0
    unmeasured = 0
    for seed in range(40):
        cropped, (value, valid) = _cropped(disparity, seed)
        unmeasured += not np.isfinite(cropped.disparity).any()
        assert (valid.numpy() == ((cropped.class_ids == SKY) | np.isfinite(cropped.disparity))).all()
        assert not value[0][torch.from_numpy(cropped.class_ids == SKY)].any()
    assert unmeasured > 30


def test_encode_sky_counts_in_no_crop_of_a_frame_without_a_measurement() -> None:
    assert not any(_cropped(np.full((16, 20), NAN), seed)[1].valid.any() for seed in range(10))


def test_encode_without_disparity_has_nothing_valid() -> None:
    value, valid = _encode(None, np.full((3, 5), SKY))
    assert value.shape == (1, 3, 5)
    assert valid.shape == (3, 5)
    assert not valid.any()


def test_encode_values_are_finite_everywhere() -> None:
    disparity = np.array([[NAN, np.inf, -np.inf, 2.0]])
    value, valid = _encode(disparity)
    assert value.isfinite().all()
    assert valid.tolist() == [[False, False, False, True]]


def test_encode_leaves_the_sample_as_it_is() -> None:
    disparity = np.array([[NAN, 3.0]], dtype=np.float32)
    value, _ = _encode(disparity, np.array([[SKY, SKY]]))
    value.fill_(9)
    assert np.isnan(disparity[0, 0])
    assert disparity[0, 1] == 3


@pytest.mark.parametrize(("likelihood", "expected"), [("paper", 2 + 3), ("laplace", 2 + 3), ("gaussian", 4 + 9)])
def test_loss_hand_worked(likelihood: str, expected: float) -> None:
    value = torch.tensor([0.0, 4.0, 1.0, 0.0]).view(1, 1, 1, 4)
    prediction = torch.tensor([-2.0, 1.0, 1.0, 50.0]).view(1, 1, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    total, count = Depth(CITYSCAPES, likelihood).loss(prediction, Target(value, valid))
    assert total.item() == pytest.approx(expected)
    assert count.item() == 3


def test_loss_is_in_px_without_rounding() -> None:
    prediction = torch.tensor(100.3).view(1, 1, 1, 1)
    target = Target(torch.tensor(100.0).view(1, 1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert Depth(CITYSCAPES).loss(prediction, target)[0].item() == pytest.approx(0.3, abs=1e-4)


def test_render_grows_lighter_with_disparity() -> None:
    picture = Depth(CITYSCAPES).render(torch.linspace(0, 4, 64).view(1, 1, 64))
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 64, 3)
    brightness = picture[0].astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] - brightness[0] > 150


def test_render_ends_at_a_sixteenth_of_the_width() -> None:
    disparity = torch.tensor([-3.0, 0.0, 4.0, 400.0]).repeat(16).view(1, 1, 64)
    picture = Depth(CITYSCAPES).render(disparity)
    assert (picture[0, 0] == picture[0, 1]).all()
    assert (picture[0, 2] == picture[0, 3]).all()
    assert (picture[0, 1] != picture[0, 2]).any()


def test_render_one_value_has_one_colour_in_every_picture() -> None:
    near, far = torch.full((1, 4, 32), 2.0), torch.zeros(1, 4, 32)
    near[0, 1, 5] = far[0, 1, 5] = 0.6
    assert (Depth(CITYSCAPES).render(near)[1, 5] == Depth(CITYSCAPES).render(far)[1, 5]).all()


def test_render_is_black_where_not_valid() -> None:
    valid = torch.tensor([[True, False] * 8])
    picture = Depth(CITYSCAPES).render(torch.zeros(1, 1, 16), valid)
    assert (picture.any(-1) == valid.numpy()).all()


@pytest.mark.parametrize("width", [64, 256, 2048])
def test_legend_says_what_render_draws(width: int) -> None:
    legend = Depth(CITYSCAPES).legend(width)
    assert len(legend) == 5
    assert len({color for _, color in legend}) == 5
    for text, color in legend:
        level = float(text.removesuffix(" px"))
        drawn = Depth(CITYSCAPES).render(torch.full((1, 1, width), level))[0, 0]
        assert np.abs(drawn.astype(int) - color).max() <= 2


def test_likelihood_unknown_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"task\.depth\.likelihood: .*found 'cauchy'"):
        Depth(CITYSCAPES, "cauchy")
