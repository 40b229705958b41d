import math

import numpy as np
import pytest
import torch

from multitask.data.classes import IGNORE
from multitask.data.sample import Sample, Target
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES, CLASS_NAMES, EVALUATED, LABELS

# Written out, so that the class table is not compared with itself.
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
TRAIN_IDS |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}


def _encode(class_ids: np.ndarray) -> Target:
    image = np.zeros((*class_ids.shape, 3), dtype=np.uint8)
    return Semantic(CITYSCAPES).encode(Sample("a_0_0", image, class_ids=class_ids.astype(np.uint8)))


def _batched(target: Target) -> Target:
    return Target(target.value.unsqueeze(0), target.valid.unsqueeze(0))


def test_encode_every_class_id() -> None:
    value, valid = _encode(np.arange(len(LABELS)).reshape(2, 17))
    expected = [TRAIN_IDS.get(number, 255) for number in range(34)]
    assert value.dtype == torch.int64
    assert valid.dtype == torch.bool
    assert value.flatten().tolist() == expected
    assert valid.flatten().tolist() == [number in TRAIN_IDS for number in range(34)]


def test_encode_counts_the_class_whose_train_id_is_zero() -> None:
    assert _encode(np.full((2, 3), 7)).valid.all()


@pytest.mark.parametrize("unseen", [1, 2, 3])
def test_encode_unseen_pixels_are_never_valid(unseen: int) -> None:
    value, valid = _encode(np.full((2, 3), unseen))
    assert not valid.any()
    assert (value == IGNORE).all()


def test_encode_without_class_ids_has_nothing_valid() -> None:
    value, valid = Semantic(CITYSCAPES).encode(Sample("a_0_0", np.zeros((3, 5, 3), dtype=np.uint8)))
    assert value.shape == valid.shape == (3, 5)
    assert value.dtype == torch.int64
    assert not valid.any()


def test_loss_hand_worked() -> None:
    target = _batched(_encode(np.array([[7, 26, 0, 1]])))
    logits = torch.zeros(1, 19, 1, 4)
    logits[0, 13, 0, 1] = math.log(19)
    total, count = Semantic(CITYSCAPES).loss(logits, target)
    # Even odds at the first pixel; odds of 19 to 18 for the truth at the second; the others are void.
    assert count.item() == 2
    assert total.item() == pytest.approx(math.log(19) + math.log(37 / 19), rel=1e-5)


def test_loss_of_void_has_no_gradient() -> None:
    target = _batched(_encode(np.array([[7, 0, 26, 3]])))
    logits = torch.randn(1, 19, 1, 4, requires_grad=True)
    Semantic(CITYSCAPES).loss(logits, target)[0].backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(1).flatten() > 0
    assert touched.tolist() == [True, False, True, False]


def test_loss_without_valid_pixels_is_zero_with_a_graph() -> None:
    logits = torch.randn(2, 19, 3, 4, requires_grad=True)
    value = torch.full((2, 3, 4), IGNORE)
    total, count = Semantic(CITYSCAPES).loss(logits, Target(value, value != IGNORE))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_ideal_is_one_hot_and_empty_where_ignored() -> None:
    prediction = Semantic(CITYSCAPES).ideal(torch.tensor([[[0, 18, IGNORE]]]))
    assert prediction.shape == (1, 19, 1, 3)
    assert prediction.sum(1).flatten().tolist() == [1, 1, 0]
    assert prediction.argmax(1)[..., :2].flatten().tolist() == [0, 18]


def test_render_official_colours() -> None:
    prediction = Semantic(CITYSCAPES).ideal(torch.arange(19).view(1, 1, 19))[0]
    picture = Semantic(CITYSCAPES).render(prediction)
    assert picture.shape == (1, 19, 3)
    assert picture.dtype == np.uint8
    assert [tuple(color) for color in picture[0]] == [label.color for label in EVALUATED]


def test_render_is_black_where_not_valid() -> None:
    prediction = torch.randn(19, 2, 3)
    valid = torch.tensor([[True, False, True], [False, True, False]])
    picture = Semantic(CITYSCAPES).render(prediction, valid)
    assert (picture.any(-1) == valid.numpy()).all()
    assert (picture[valid] == Semantic(CITYSCAPES).render(prediction)[valid]).all()


def test_legend_is_of_every_class() -> None:
    legend = Semantic(CITYSCAPES).legend(256)
    assert [text for text, _ in legend] == list(CLASS_NAMES)
    assert len({color for _, color in legend}) == 19


def test_likelihood_unknown_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"task\.semantic\.likelihood: .*found 'laplace'"):
        Semantic(CITYSCAPES, "laplace")
