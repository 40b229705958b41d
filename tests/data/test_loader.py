import random
import re
import signal
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from multitask.data.cityscapes import Cityscapes
from multitask.data.loader import (
    Batch,
    EncodedFrames,
    FrameKey,
    Loader,
    StepSampler,
    in_order,
    normalize,
)
from multitask.data.sample import Sample, Target
from multitask.data.transforms import Augmentation
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES

# Torch warns of two workers on a machine of one core.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

TASKS = {"semantic": Semantic(CITYSCAPES), "instance": Instance(CITYSCAPES), "depth": Depth(CITYSCAPES)}
AUGMENTATION = Augmentation(scale=(0.7, 2.0), crop=(24, 40), jitter=0.2)


@pytest.fixture
def frames(shared_tree: Any) -> EncodedFrames:
    return EncodedFrames(Cityscapes(shared_tree, "train", (32, 64), CITYSCAPES), TASKS, AUGMENTATION)


def batches_of(
    frames: EncodedFrames, start: int, stop: int, *, seed: int = 0, batch_size: int = 4, num_workers: int = 0
) -> list[Batch]:
    sampler = StepSampler(len(frames.frames), batch_size, seed, start, stop)
    return list(Loader(frames, sampler, num_workers, pin=False))


def same(one: Batch, other: Batch) -> bool:
    return (
        one.names == other.names
        and torch.equal(one.images, other.images)
        and one.targets.keys() == other.targets.keys()
        and all(
            torch.equal(mine, others)
            for name in one.targets
            for mine, others in zip(one.targets[name], other.targets[name], strict=True)
        )
    )


class Counted:
    """Frames, and how often each was read."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        return self.frames[index]


# Sampler

SIZES = [(10, 4), (6, 6), (7, 3), (3, 8), (1, 5), (5, 1)]


@pytest.mark.parametrize(("num_frames", "batch_size"), SIZES)
def test_steps_from_the_middle_are_those_of_a_run_from_the_start(num_frames: int, batch_size: int) -> None:
    whole = list(StepSampler(num_frames, batch_size, 3, 0, 12))
    for start in range(13):
        assert list(StepSampler(num_frames, batch_size, 3, start, 12)) == whole[start:]
        assert len(StepSampler(num_frames, batch_size, 3, start, 12)) == 12 - start


@pytest.mark.parametrize(("num_frames", "batch_size"), SIZES)
def test_every_epoch_is_a_permutation(num_frames: int, batch_size: int) -> None:
    keys = list(chain(*StepSampler(num_frames, batch_size, 0, 0, 4 * num_frames)))
    assert len(keys) == 4 * num_frames * batch_size
    for start in range(0, len(keys), num_frames):
        assert sorted(key.frame for key in keys[start : start + num_frames]) == list(range(num_frames))


@pytest.mark.parametrize(("num_frames", "batch_size"), SIZES)
def test_every_frame_of_a_run_has_its_own_random_stream(num_frames: int, batch_size: int) -> None:
    keys = list(chain(*StepSampler(num_frames, batch_size, 0, 0, 20)))
    assert len({key.stream for key in keys}) == len(keys)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(key.frame for key in next(iter(StepSampler(30, 30, seed, epoch, epoch + 1))))

    orders = {order(seed, epoch) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert tuple(range(30)) not in orders


def test_sampler_can_be_run_again() -> None:
    sampler = StepSampler(5, 2, 0, 1, 6)
    assert list(sampler) == list(sampler)


def test_finished_run_has_no_steps_left() -> None:
    assert list(StepSampler(5, 2, 0, 7, 7)) == []


@pytest.mark.parametrize(("num_frames", "batch_size", "sizes"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 5, [2])])
def test_in_order_covers_every_frame_once(num_frames: int, batch_size: int, sizes: list[int]) -> None:
    batches = in_order(num_frames, batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert list(chain(*batches)) == [FrameKey(index, None) for index in range(num_frames)]


# Loader


def test_batches_are_a_function_of_seed_and_step_whatever_the_workers(frames: EncodedFrames) -> None:
    alone, helped = (batches_of(frames, 0, 4, num_workers=workers) for workers in (0, 2))
    assert len(alone) == len(helped) == 4
    assert all(map(same, alone, helped))


def test_resumed_run_sees_the_batches_of_the_run_that_was_not_stopped(frames: EncodedFrames) -> None:
    whole = batches_of(frames, 0, 5)
    assert all(map(same, batches_of(frames, 2, 5), whole[2:]))
    assert all(map(same, batches_of(frames, 4, 5, num_workers=2), whole[4:]))


def test_batches_of_other_seeds_and_steps_differ(frames: EncodedFrames) -> None:
    batches = batches_of(frames, 0, 4) + batches_of(frames, 0, 4, seed=1)
    for index, batch in enumerate(batches):
        assert not any(same(batch, other) for other in batches[:index])


def test_frame_is_augmented_anew_each_time(frames: EncodedFrames) -> None:
    (batch,) = batches_of(frames, 0, 1, batch_size=24)  # four epochs of six frames in one batch
    assert sorted(batch.names) == sorted(frames.frames.names * 4)
    for name in set(batch.names):
        pictures = [batch.images[index] for index in range(24) if batch.names[index] == name]
        assert not any(torch.equal(pictures[0], other) for other in pictures[1:])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_leaves_the_global_random_states_alone(frames: EncodedFrames, num_workers: int) -> None:
    def states() -> tuple[Any, ...]:
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 it is the global state that must not change
        return random.getstate(), name, keys.tolist(), rest, torch.get_rng_state().tolist()

    before = states()
    assert len(batches_of(frames, 0, 2, num_workers=num_workers)) == 2
    assert states() == before


def test_batches_do_not_depend_on_the_global_random_states(frames: EncodedFrames) -> None:
    expected = batches_of(frames, 0, 2)
    torch.manual_seed(99)
    random.seed(99)
    assert all(map(same, batches_of(frames, 0, 2), expected))


def test_evaluation_batches_hold_the_frames_as_they_are(frames: EncodedFrames) -> None:
    batches = list(Loader(frames, in_order(6, 4), 0, pin=False))
    assert [len(batch.names) for batch in batches] == [4, 2]
    assert list(chain(*(batch.names for batch in batches))) == frames.frames.names
    for index in range(6):
        sample = frames.frames[index]
        batch, place = batches[index // 4], index % 4
        assert batch.images.dtype == torch.uint8
        np.testing.assert_array_equal(batch.images[place].permute(1, 2, 0).numpy(), sample.image)
        for name, task in TASKS.items():
            expected = task.encode(sample)
            assert torch.equal(batch.targets[name].value[place], expected.value)
            assert torch.equal(batch.targets[name].valid[place], expected.valid)


def test_batch_has_the_shapes_and_types_of_the_convention(frames: EncodedFrames) -> None:
    (batch,) = batches_of(frames, 0, 1, batch_size=3)
    assert batch.images.shape == (3, 3, 24, 40)
    found = {name: (tuple(target.value.shape), target.value.dtype) for name, target in batch.targets.items()}
    assert found == {
        "semantic": ((3, 24, 40), torch.int64),
        "instance": ((3, 2, 24, 40), torch.float32),
        "depth": ((3, 1, 24, 40), torch.float32),
    }
    for target in batch.targets.values():
        assert isinstance(target, Target)
        assert target.valid.shape == (3, 24, 40)
        assert target.valid.dtype == torch.bool
        assert target.value.isfinite().all()


def test_augmentation_is_off_without_one_or_without_a_stream(frames: EncodedFrames) -> None:
    plain = EncodedFrames(frames.frames, TASKS)
    for encoded, key in ((plain, FrameKey(0, (0, 0))), (frames, FrameKey(0))):
        np.testing.assert_array_equal(encoded[key].image.permute(1, 2, 0).numpy(), frames.frames[0].image)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_file_is_named_from_any_worker(tree: Any, num_workers: int) -> None:
    raw = Cityscapes(tree, "train", (32, 64), CITYSCAPES)
    path = raw.path("disparity", raw.names[1])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        list(Loader(EncodedFrames(raw, TASKS), in_order(3, 1), num_workers, pin=False))


class SignalFrames(Sequence[Sample]):
    """Frames whose names say what the process that loads them does with signals."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
        ignored = [signal.getsignal(number) == signal.SIG_IGN for number in numbers]
        return Sample(str(ignored), np.zeros((2, 2, 3), dtype=np.uint8))


def test_workers_leave_signals_of_a_terminal_to_the_main_process() -> None:
    loaders = [Loader(EncodedFrames(SignalFrames(), {}), in_order(1, 1), workers, False) for workers in (0, 1)]
    names = [batch.names for loader in loaders for batch in loader]
    assert names == [["[False, False, False]"], ["[True, False, True]"]]


# Batch


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_parts_of_a_batch_are_equal_and_in_order(frames: EncodedFrames, parts: int) -> None:
    (batch,) = batches_of(frames, 0, 1, batch_size=6)
    pieces = batch.split(parts)
    assert [len(piece.names) for piece in pieces] == [6 // parts] * parts
    joined = Batch(
        names=list(chain(*(piece.names for piece in pieces))),
        images=torch.cat([piece.images for piece in pieces]),
        targets={
            name: Target(
                torch.cat([piece.targets[name].value for piece in pieces]),
                torch.cat([piece.targets[name].valid for piece in pieces]),
            )
            for name in batch.targets
        },
    )
    assert same(joined, batch)


def test_batch_moves_with_all_its_tensors(frames: EncodedFrames) -> None:
    (batch,) = batches_of(frames, 0, 1)
    moved = batch.to(torch.device("meta"))
    tensors = [moved.images, *(tensor for target in moved.targets.values() for tensor in target)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.names == batch.names
    assert same(batch.to(torch.device("cpu")), batch)


# Normalize


def test_normalized_values_by_hand() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    found = normalize(images)
    # (x / 255 - mean) / std, with x / 255 = 0, 1 and 0.2.
    expected = [[-2.117904, 2.248908, -1.244541], [-2.035714, 2.428571, -1.142857], [-1.804444, 2.64, -0.915556]]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.view(3, 3), torch.tensor(expected), atol=2e-6, rtol=0)


def test_normalize_keeps_shape_and_source() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    before = images.clone()
    assert normalize(images).shape == (2, 3, 4, 5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_samples_are_kept_through_workers_and_slices(tree: Any, num_workers: int) -> None:
    raw = Cityscapes(tree, "train", (32, 64), CITYSCAPES)
    encoded = EncodedFrames(raw, TASKS, keep_samples=True)
    (batch,) = Loader(encoded, in_order(2, 2), num_workers, pin=False)
    moved = batch.to(torch.device("cpu"))[1:]
    assert [sample.name for sample in moved.samples] == moved.names == batch.names[1:]
    sample, whole = moved.samples[0], raw[1]
    assert sample.image.shape == (32, 64, 0)
    np.testing.assert_array_equal(sample.class_ids, whole.class_ids)
    np.testing.assert_array_equal(sample.disparity, whole.disparity)
    assert sample.camera == whole.camera
    (plain,) = Loader(EncodedFrames(raw, TASKS), in_order(2, 2), num_workers, pin=False)
    assert plain.samples == []


# Frames that are kept

SIZE = 32 * 64 * (3 + 1 + 4 + 4)
"""Bytes of a frame of the shared tree."""


@pytest.mark.parametrize("augmentation", [AUGMENTATION, None])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_frames_that_are_kept_are_those_of_frames_that_are_read_again(
    frames: EncodedFrames, num_workers: int, augmentation: Augmentation | None
) -> None:
    counted = Counted(frames.frames)
    kept = EncodedFrames(counted, TASKS, augmentation, memory=2**20)
    again = batches_of(kept, 0, 9, num_workers=num_workers)
    assert len(again) * 4 > 3 * len(frames)  # several epochs
    assert all(map(same, again, batches_of(EncodedFrames(frames.frames, TASKS, augmentation), 0, 9)))
    if not num_workers:
        assert sorted(counted.reads) == list(range(len(frames)))
        keys = [[FrameKey(index)] for index in range(len(frames))]
        plain = (Loader(of, keys, 0, pin=False) for of in (kept, EncodedFrames(frames.frames, TASKS)))
        assert all(map(same, *plain)), "nothing has been written into what is kept"


def test_frames_are_kept_where_all_of_them_fit(frames: EncodedFrames) -> None:
    assert frames.frames[0].nbytes == SIZE
    for memory, reads in ((len(frames) * SIZE, 1), (len(frames) * SIZE - 1, 3), (0, 3)):
        counted = Counted(frames.frames)
        kept = EncodedFrames(counted, TASKS, memory=memory)
        for _ in range(3):
            for index in range(len(frames)):
                kept[FrameKey(index)]
        assert counted.reads == reads * list(range(len(frames)))
