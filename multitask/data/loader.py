"""Loading of batches. A step's batch is a function of the seed and the step, which makes resuming exact."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from multitask.data import workers
from multitask.data.mixed import spread
from multitask.data.sample import Sample, Target
from multitask.data.split import Split
from multitask.data.streams import AUGMENTATION, ORDER
from multitask.data.transforms import Augmentation
from multitask.errors import UserError


class Frames(Protocol):
    """A data set of raw samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Encoder(Protocol):
    """The part of a task that the loader uses."""

    def encode(self, sample: Sample) -> Target: ...


class FrameKey(NamedTuple):
    """Key of one frame: its index, and the random stream of its augmentation (None: not augmented)."""

    frame: int
    stream: tuple[int, ...] | None = None


@dataclass
class Batch:
    """A batch of B frames of equal size.

    Attributes:
        names: the frames' names.
        images: [B, 3, H, W] uint8 RGB; `normalize` turns them into the network's input.
        targets: for each task, value [B, ...] and valid [B, H, W].
        samples: the frames' samples, where the loader keeps them; their pictures have zero channels.
    """

    names: list[str]
    images: Tensor
    targets: dict[str, Target]
    samples: list[Sample] = field(default_factory=list)

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on ``device``."""
        targets = {
            name: Target(*(tensor.to(device, non_blocking=True) for tensor in target))
            for name, target in self.targets.items()
        }
        return Batch(self.names, self.images.to(device, non_blocking=True), targets, self.samples)

    def pin_memory(self) -> "Batch":
        """Returns the batch in page-locked memory (called by torch's loader)."""
        targets = {name: Target(*(tensor.pin_memory() for tensor in target)) for name, target in self.targets.items()}
        return Batch(self.names, self.images.pin_memory(), targets, self.samples)

    def split(self, parts: int) -> list["Batch"]:
        """Splits the batch into ``parts`` batches of equal size."""
        size = len(self.names) // parts
        return [self[start : start + size] for start in range(0, len(self.names), size)]

    def __getitem__(self, frames: slice) -> "Batch":
        targets = {name: Target(*(tensor[frames] for tensor in target)) for name, target in self.targets.items()}
        return Batch(self.names[frames], self.images[frames], targets, self.samples[frames])


class _Item(NamedTuple):
    name: str
    image: Tensor
    targets: dict[str, Target]
    sample: Sample | None


class EncodedFrames(Dataset[Any]):
    """Data set that reads, augments and encodes one frame at a time, in a loader's worker process.

    Args:
        frames: the raw samples.
        tasks: encodes each target from the augmented sample.
        augmentation: applied to frames whose key has a random stream.
        keep_samples: whether batches keep the labels of the (augmented) samples, which metrics of scenes need.
        memory: cache size of each loading process, bytes; used only if all frames fit.
    """

    def __init__(
        self,
        frames: Frames,
        tasks: Mapping[str, Encoder],
        augmentation: Augmentation | None = None,
        keep_samples: bool = False,
        memory: int = 0,
    ) -> None:
        self.frames = frames
        self.tasks = tasks
        self.augmentation = augmentation
        self.keep_samples = keep_samples
        self._memory = memory
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def parts(self) -> list[int]:
        """Number of the part, such as one of several data sets, that each frame belongs to."""
        return self.frames.parts if isinstance(self.frames, Split) else [0] * len(self)

    def __getitem__(self, key: FrameKey) -> _Item:
        sample = self._read(key.frame)
        if self.augmentation and key.stream is not None:
            sample = self.augmentation(sample, np.random.default_rng(key.stream))
        image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
        targets = {name: task.encode(sample) for name, task in self.tasks.items()}
        # Without the picture's values, since only its size is used and a worker sends arrays through a pipe.
        kept = replace(sample, image=sample.image[..., :0]) if self.keep_samples else None
        return _Item(sample.name, image, targets, kept)

    def _read(self, frame: int) -> Sample:
        """Reads a frame, and caches it if the memory would hold all frames at its size.

        Decoding and shrinking a large frame costs far more than augmenting it. Caching a few of many would save little.
        """
        if frame in self._kept:
            return self._kept[frame]
        sample = self.frames[frame]
        if sample.nbytes * len(self) <= self._memory:
            self._kept[frame] = sample
        return sample


class StepSampler(Sampler[list[FrameKey]]):
    """The batches of training steps ``start`` to ``stop``: an endless stream of shuffled epochs, cut into batches.

    Args:
        num_frames: size of the data set.
        batch_size: frames in a step.
        seed: seed of the shuffling and of every frame's augmentation.
        start, stop: first step, and the step after the last.
        parts: number of the part that each frame belongs to; every batch holds each part's share.
    """

    def __init__(
        self, num_frames: int, batch_size: int, seed: int, start: int, stop: int, parts: Sequence[int] | None = None
    ) -> None:
        self.num_frames = num_frames
        self.parts = parts or [0] * num_frames
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[FrameKey]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.stop):
            keys = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.num_frames != epoch:
                    epoch = position // self.num_frames
                    order = spread(self.parts, np.random.default_rng((self.seed, ORDER, epoch)))
                keys.append(FrameKey(int(order[position % self.num_frames]), (self.seed, AUGMENTATION, position)))
            yield keys


def in_order(num_frames: int, batch_size: int) -> list[list[FrameKey]]:
    """Returns the batches of an evaluation: every frame once, in order, without augmentation."""
    keys = [FrameKey(index) for index in range(num_frames)]
    return [keys[start : start + batch_size] for start in range(0, num_frames, batch_size)]


TIMEOUT = 300
"""Seconds without a batch after which loading is aborted: far more than a slow disk needs for one."""


class Loader:
    """Iterable over batches, loaded in this process or in worker processes that end with it.

    Args:
        frames: the data set.
        batches: the keys of each batch.
        num_workers: number of worker processes; 0 loads in this process.
        pin: whether to put batches into page-locked memory, for a CUDA device.
    """

    def __init__(
        self,
        frames: EncodedFrames,
        batches: Sampler[list[FrameKey]] | Sequence[list[FrameKey]],
        num_workers: int,
        pin: bool,
    ) -> None:
        self._num_workers = num_workers
        self._loader: DataLoader[Batch] = DataLoader(
            frames,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=_collate,
            pin_memory=pin,
            # A generator of its own: otherwise starting the loader would draw from torch's global random state.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=workers.start,
            timeout=TIMEOUT if num_workers else 0,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Yields the batches.

        Raises:
            UserError: if a frame cannot be read, or the worker processes die or hang, with advice on what may help.
        """
        iterator: Any = None
        try:
            with workers.deaths.noticed():
                iterator = iter(self._loader)
            while True:
                with workers.deaths.noticed():
                    batch = next(iterator, None)
                if batch is None:
                    return
                yield batch
        except (UserError, *workers.FAILURES) as error:
            raise workers.user_error(error, self._num_workers) from error
        finally:
            # After an error the traceback keeps the iterator, and so its workers, alive.
            workers.shut_down(iterator)


@contextmanager
def closed_after(batches: Iterable[Batch]) -> Iterator[Iterator[Batch]]:
    """Yields, within ``with``, an iterator over batches whose worker processes end with the block, also on errors."""
    iterator = iter(batches)
    try:
        yield iterator
    finally:
        if isinstance(iterator, Generator):
            iterator.close()


def _collate(items: list[_Item]) -> Batch:
    return Batch(
        names=[item.name for item in items],
        images=torch.stack([item.image for item in items]),
        targets={
            name: Target(*map(torch.stack, zip(*(item.targets[name] for item in items), strict=True)))
            for name in items[0].targets
        },
        samples=[item.sample for item in items if item.sample is not None],
    )


_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def normalize(images: Tensor) -> Tensor:
    """Converts [B, 3, H, W] uint8 RGB to the network's input: float32, normalised by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) * 255 for values in (_MEAN, _STD))
    return (images.float() - mean) / std
