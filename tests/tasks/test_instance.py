import colorsys

import numpy as np
import pytest
import torch

from multitask.data.sample import Sample, Target
from multitask.tasks.instance import Instance, centroid_offsets
from tests.cityscapes import CITYSCAPES
from tests.reference import INSTANCE_CLASSES, centroid_vectors

CAR, PERSON = 26000, 24000


def _encode(instance_ids: np.ndarray) -> Target:
    image = np.zeros((*instance_ids.shape, 3), dtype=np.uint8)
    return Instance(CITYSCAPES).encode(Sample("a_0_0", image, instance_ids=instance_ids.astype(np.int32)))


def _batched(target: Target) -> Target:
    return Target(target.value.unsqueeze(0), target.valid.unsqueeze(0))


def _hue(color: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(color / 255))[0]


def test_encode_hand_worked() -> None:
    ids = np.full((3, 4), 7)
    ids[0:2, 0:3] = CAR + 1
    value, valid = _encode(ids)
    # The centroid is at x = 1, y = 0.5: vectors are centroid minus pixel, x first.
    assert value.dtype == torch.float32
    assert value[:, 0, 0].tolist() == [1, 0.5]
    assert value[:, 1, 2].tolist() == [-1, -0.5]
    assert valid.tolist() == [[True, True, True, False]] * 2 + [[False] * 4]


def test_encode_two_instances_of_a_class_have_their_own_centroids() -> None:
    ids = np.array([[CAR, CAR, CAR + 1, CAR + 1]])
    assert _encode(ids).value[0, 0].tolist() == [0.5, -0.5, 0.5, -0.5]


def test_encode_equal_numbers_of_two_classes_are_two_instances() -> None:
    ids = np.array([[CAR + 3, CAR + 3, PERSON + 3, PERSON + 3]])
    assert _encode(ids).value[0, 0].tolist() == [0.5, -0.5, 0.5, -0.5]


def test_encode_instance_cut_by_a_pole_has_one_centroid() -> None:
    ids = np.array([[CAR, CAR, 17, CAR, CAR, CAR]])
    value, valid = _encode(ids)
    centroid = (0 + 1 + 3 + 4 + 5) / 5
    np.testing.assert_allclose(value[0, 0][valid[0]], centroid - np.array([0, 1, 3, 4, 5]), rtol=1e-6)
    assert valid[0].tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize("bare", [7, 23, *sorted(INSTANCE_CLASSES)])
def test_encode_leaves_out_stuff_and_groups(bare: int) -> None:
    value, valid = _encode(np.array([[CAR + 5, bare, bare]]))
    assert valid.tolist() == [[True, False, False]]
    assert not value.any()


@pytest.mark.parametrize("number", [29000, 29001, 30000, 30007])
def test_encode_leaves_out_caravans_and_trailers(number: int) -> None:
    assert _encode(np.array([[number, CAR]])).valid.tolist() == [[False, True]]


@pytest.mark.parametrize("class_id", sorted(INSTANCE_CLASSES))
@pytest.mark.parametrize("number", [0, 999])
def test_encode_counts_every_evaluated_class(class_id: int, number: int) -> None:
    assert _encode(np.array([[class_id * 1000 + number]])).valid.all()


def test_encode_zero_vectors_count() -> None:
    ids = np.full((5, 5), 7)
    ids[1:4, 1:4] = CAR
    ids[4, 4] = PERSON
    value, valid = _encode(ids)
    assert value[:, 2, 2].tolist() == [0, 0]
    assert value[:, 4, 4].tolist() == [0, 0]
    assert valid[2, 2]
    assert valid[4, 4]
    assert valid.sum() == 10


@pytest.mark.parametrize("seed", range(5))
def test_encode_random_equals_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    choices = [7, 11, 24, 26, 24000, 24001, 26000, 26013, 29000, 30001, 33999, 31000]
    ids = rng.choice(choices, size=(9, 13))
    value, valid = _encode(ids)
    expected, where = centroid_vectors(ids)
    np.testing.assert_allclose(value.numpy(), expected, atol=1e-5)
    assert (valid.numpy() == where).all()


def test_encode_vectors_of_an_instance_sum_to_zero() -> None:
    ids = np.random.default_rng(0).choice([7, CAR, CAR + 1], size=(20, 30))
    value, valid = _encode(ids)
    assert valid.any()
    for number in (CAR, CAR + 1):
        assert value[:, torch.from_numpy(ids == number)].sum(1).abs().max() < 1e-2


def test_encode_of_a_mirrored_frame_changes_the_sign_of_x() -> None:
    ids = np.random.default_rng(1).choice([7, CAR, CAR + 1, PERSON], size=(6, 9))
    value, valid = _encode(ids)
    mirrored, mirrored_valid = _encode(ids[:, ::-1])
    torch.testing.assert_close(mirrored, value.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1))
    assert torch.equal(mirrored_valid, valid.flip(-1))


def test_encode_without_an_instance_has_nothing_valid() -> None:
    value, valid = _encode(np.full((4, 6), 7))
    assert value.shape == (2, 4, 6)
    assert not value.any()
    assert not valid.any()


def test_encode_without_instance_ids_has_nothing_valid() -> None:
    value, valid = Instance(CITYSCAPES).encode(Sample("a_0_0", np.zeros((3, 5, 3), dtype=np.uint8)))
    assert value.shape == (2, 3, 5)
    assert valid.shape == (3, 5)
    assert not value.any()
    assert not valid.any()


@pytest.mark.parametrize(
    ("likelihood", "expected"), [("paper", 3 + 5 + 0), ("laplace", 3 + 5 + 0), ("gaussian", 5 + 13 + 0)]
)
def test_loss_hand_worked(likelihood: str, expected: float) -> None:
    value = torch.tensor([[0.0, 0.0, 1.0, 9.0], [0.0, 0.0, 1.0, 9.0]]).view(1, 2, 1, 4)
    prediction = torch.tensor([[1.0, -2.0, 1.0, 0.0], [2.0, 3.0, 1.0, 0.0]]).view(1, 2, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    total, count = Instance(CITYSCAPES, likelihood).loss(prediction, Target(value, valid))
    assert total.item() == pytest.approx(expected)
    assert count.item() == 3


def test_loss_without_valid_pixels_is_zero_with_a_graph() -> None:
    prediction = torch.randn(1, 2, 3, 4, requires_grad=True)
    total, count = Instance(CITYSCAPES).loss(prediction, _batched(_encode(np.full((3, 4), 26))))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert prediction.grad is not None
    assert not prediction.grad.any()


def test_render_direction_is_hue_and_length_intensity() -> None:
    vectors = torch.zeros(2, 1, 64)
    vectors[0, 0, :4] = torch.tensor([0.0, 2.0, 4.0, 400.0])
    picture = Instance(CITYSCAPES).render(vectors)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 64, 3)
    # Full at 64 / 16 = 4 px, and no more than full beyond.
    assert picture[0, :4].max(-1).tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize("vector", [(4.0, 0.0), (0.0, -4.0), (3.0, -2.0), (-1.0, 4.0)])
def test_render_opposite_vectors_have_opposite_hues(vector: tuple[float, float]) -> None:
    vectors = torch.tensor([vector, (-vector[0], -vector[1])]).T.reshape(2, 1, 2).repeat(1, 1, 16)
    picture = Instance(CITYSCAPES).render(vectors)
    difference = abs(_hue(picture[0, 0]) - _hue(picture[0, 1]))
    assert difference == pytest.approx(0.5, abs=0.02)


def test_render_one_vector_has_one_colour_in_every_picture() -> None:
    rng = torch.Generator().manual_seed(0)
    pictures = []
    for size in (1.0, 50.0):
        vectors = size * torch.randn(2, 5, 32, generator=rng)
        vectors[:, 2, 3] = torch.tensor([0.7, -1.1])
        pictures.append(Instance(CITYSCAPES).render(vectors))
    assert (pictures[0][2, 3] == pictures[1][2, 3]).all()
    assert pictures[0][2, 3].any()


def test_render_is_black_where_not_valid() -> None:
    valid = torch.tensor([[True, False] * 8])
    picture = Instance(CITYSCAPES).render(torch.full((2, 1, 16), 5.0), valid)
    assert (picture.any(-1) == valid.numpy()).all()


def test_legend_says_what_render_draws() -> None:
    legend = dict(Instance(CITYSCAPES).legend(128))
    assert len(legend) == 4
    assert len(set(legend.values())) == 4
    right = Instance(CITYSCAPES).render(torch.tensor([99.0, 0.0]).view(2, 1, 1).expand(2, 1, 128))[0, 0]
    above = Instance(CITYSCAPES).render(torch.tensor([0.0, -99.0]).view(2, 1, 1).expand(2, 1, 128))[0, 0]
    assert legend["centre right"] == tuple(right)
    assert legend["centre above"] == tuple(above)


def test_likelihood_unknown_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"task\.instance\.likelihood: .*found 'softmax_exact'"):
        Instance(CITYSCAPES, "softmax_exact")


def test_centroid_offsets_leave_out_groups_stuff_and_unevaluated_classes() -> None:
    ids = np.array([[0, 7, 26, 33, 1000, 7001, 23999, 24000, 26001, 28999, 29000, 30005, 31000, 33999]])
    _, valid = centroid_offsets(ids, CITYSCAPES)
    assert valid.tolist() == [[False] * 7 + [True] * 3 + [False] * 2 + [True] * 2]
