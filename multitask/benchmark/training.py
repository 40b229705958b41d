"""Speed of the parts of training: data generator, data loader, network and weighting."""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from multitask.benchmark.timing import Results, median_seconds, seconds
from multitask.data.cityscapes import Cityscapes
from multitask.data.loader import Batch, EncodedFrames, Loader, StepSampler
from multitask.data.transforms import Augmentation
from multitask.engine.compute import Compute, make_compute
from multitask.engine.memory import keep_freed_memory
from multitask.engine.objective import Objective
from multitask.models.network import make_network
from multitask.synthetic import CLASSES, write_dataset
from multitask.tasks.base import Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from multitask.weighting import Fixed, Uncertainty, Weighting

_SIZE = (128, 256)
_BATCH = 8
_NUM_FRAMES = 48


def measure_training(repeats: int) -> Results:
    """Measures images/s and ms per step, medians of ``repeats``."""
    keep_freed_memory()  # as runs do
    tasks: dict[str, Task] = {task.name: task for task in (Semantic(CLASSES), Instance(CLASSES), Depth(CLASSES))}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "frames"
        write = partial(write_dataset, root, {"train": _NUM_FRAMES}, size=_SIZE, seed=0, workers=1)
        results: Results = {"generator, 1 process": (_NUM_FRAMES / seconds(write), "images/s")}
        frames = EncodedFrames(Cityscapes(root, "train", _SIZE, CLASSES), tasks, Augmentation())
        results |= _loading_against_training(frames, tasks, repeats)
        batch = next(iter(_loader(frames, 1, 0)))
    return results | _precisions(batch, tasks, repeats) | _weightings(batch, tasks, repeats)


def _loader(frames: EncodedFrames, steps: int, workers: int) -> Loader:
    return Loader(frames, StepSampler(_NUM_FRAMES, _BATCH, 0, 0, steps), workers, pin=False)


def _loading_against_training(frames: EncodedFrames, tasks: dict[str, Task], repeats: int) -> Results:
    steps = _NUM_FRAMES // _BATCH
    loading = _BATCH * steps / median_seconds(partial(_consume, frames, steps), repeats)
    compute = make_compute("auto", "auto", channels_last=True)
    batch = next(iter(_loader(frames, 1, 0))).to(compute.device)
    step = _stepper(tasks, compute, Uncertainty, encoder="resnet18", channels=64, rates=[3, 6, 9])
    training = _BATCH / median_seconds(partial(step, batch), repeats)
    return {
        "loader, 1 core": (loading, "images/s"),
        f"quickstart training, {compute.device.type}": (training, "images/s"),
        "loader / quickstart training": (loading / training, "x"),
    }


def _consume(frames: EncodedFrames, steps: int) -> None:
    for _ in _loader(frames, steps, workers=0):
        pass


def _precisions(batch: Batch, tasks: dict[str, Task], repeats: int) -> Results:
    times = {}
    for title, precision, channels_last in (("fp32 NCHW", "fp32", False), ("bf16 channels_last", "bf16", True)):
        compute = make_compute("auto", precision, channels_last)
        step = _stepper(tasks, compute, Uncertainty, encoder="resnet101", channels=256, rates=[12, 24, 36])
        times[title] = median_seconds(partial(step, batch.to(compute.device)), repeats)
    slow, fast = times.values()
    named = {f"ResNet-101 step, batch 8, {title}": (value * 1000, "ms") for title, value in times.items()}
    return {**named, "fp32 NCHW / bf16 channels_last": (slow / fast, "x")}


def _weightings(batch: Batch, tasks: dict[str, Task], repeats: int) -> Results:
    """Measures the cost of learning the weights; both kinds of steps alternate, so that clock drift affects both."""
    compute = make_compute("auto", "auto", channels_last=True)
    moved = batch.to(compute.device)
    kinds: tuple[Callable[..., Weighting], ...] = (_fixed, Uncertainty)
    steps = [_stepper(tasks, compute, kind, encoder="resnet18", channels=64, rates=[3, 6, 9]) for kind in kinds]
    for step in steps:
        step(moved)  # a warm-up step
    pairs = [[seconds(partial(step, moved)) for step in steps] for _ in range(4 * repeats)]
    fixed, learned = (statistics.median(times) for times in zip(*pairs, strict=True))
    alone = [median_seconds(_arithmetic(tasks, compute, kind), 100) for kind in kinds]
    return {
        "learned / fixed weights, step": (learned / fixed, "x"),
        "learned - fixed weights, their arithmetic alone": (1000 * (alone[1] - alone[0]), "ms"),
        "the same in per cent of a step": (100 * (alone[1] - alone[0]) / fixed, "%"),
    }


def _fixed(likelihoods: dict[str, object]) -> Weighting:
    return Fixed(likelihoods, dict.fromkeys(likelihoods, 1.0))  # type: ignore[arg-type]


def _arithmetic(tasks: dict[str, Task], compute: Compute, kind: Callable[..., Weighting]) -> Callable[[], None]:
    """Returns a function that runs a weighting's part of a step: forward and backward pass, and its own update."""
    weighting = kind({name: task.likelihood for name, task in tasks.items()}).to(compute.device)
    own = list(weighting.parameters())
    optimizer = torch.optim.SGD(own, lr=1e-4, momentum=0.9, nesterov=True) if own else None
    losses = {name: torch.ones((), device=compute.device, requires_grad=True) for name in tasks}
    present = {name: torch.ones((), dtype=torch.bool, device=compute.device) for name in tasks}

    def step() -> None:
        weighting.backward(weighting(losses, present), losses, present)
        weighting.bound_gradients()
        if optimizer:
            optimizer.step()
            optimizer.zero_grad()
        _wait_for(compute)

    return step


def _wait_for(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def _stepper(
    tasks: dict[str, Task],
    compute: Compute,
    weighting: Callable[..., Weighting],
    *,
    encoder: str,
    channels: int,
    rates: list[int],
) -> Callable[[Batch], None]:
    """Returns a function that trains a new network for one step on a batch."""
    network = make_network(
        {name: task.channels for name, task in tasks.items()},
        encoder=encoder,
        pretrained=None,
        aspp_channels=channels,
        aspp_rates=rates,
        decoder_channels=channels,
        decoder_kernel=3,
    ).to(memory_format=compute.memory_format)
    likelihoods = {name: task.likelihood for name, task in tasks.items()}
    objective = Objective(network, tasks, weighting(likelihoods)).to(compute.device)
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-4, momentum=0.9, nesterov=True)

    def step(batch: Batch) -> None:
        counts = {name: target.valid.sum() for name, target in batch.targets.items()}
        objective(batch, counts, compute)[0].backward()
        objective.weighting.bound_gradients()
        optimizer.step()
        optimizer.zero_grad()
        _wait_for(compute)

    return step
