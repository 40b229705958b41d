"""The training loop: steps, not epochs, and nothing lost when it is stopped."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from multitask.data.loader import Batch, EncodedFrames, StepSampler, make_loader
from multitask.engine.compute import Compute
from multitask.engine.settings import Optimization, Schedule
from multitask.tasks.base import Task
from multitask.weighting import Weighting

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """Training was stopped by a signal, after its state was saved.

    Attributes:
        signum: the signal.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}; the same command goes on from there"
        )
        self.signum = signum


class Objective(nn.Module):
    """Everything that has parameters, from images to the total: what a step differentiates."""

    def __init__(self, network: nn.Module, tasks: Mapping[str, Task], weighting: Weighting) -> None:
        super().__init__()
        self.network = network
        self.tasks = dict(tasks)
        self.weighting = weighting

    def forward(
        self, batch: Batch, counts: dict[str, Tensor], compute: Compute, share: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and each task's mean loss.

        Args:
            batch: a step's batch, or a micro-batch of it.
            counts: valid pixels of each task in the whole step, so that micro-batches add up to the step's mean.
            compute: device and type.
            share: part of the step that this micro-batch is.
        """
        with compute.autocast():
            predictions = self.network(compute.network_input(batch.images))
        predictions = self.weighting.temper(predictions)
        losses = {
            name: task.loss(predictions[name], batch.targets[name])[0] / counts[name].clamp(min=1)
            for name, task in self.tasks.items()
        }
        present = {name: count > 0 for name, count in counts.items()}
        return self.weighting(losses, present, share), losses


class Trainer:
    """Trains an objective; all it needs to go on later is in `state`.

    Args:
        objective: network, tasks and weighting, on the device.
        frames: the training split, augmented.
        optimization, schedule, compute: see there.
        seed: of the order of frames and of their augmentation.
    """

    def __init__(
        self,
        objective: Objective,
        frames: EncodedFrames,
        optimization: Optimization,
        schedule: Schedule,
        compute: Compute,
        seed: int,
    ) -> None:
        self.objective = objective
        self.frames = frames
        self.optimization = optimization
        self.schedule = schedule
        self.compute = compute
        self.seed = seed
        self.step = 0
        """Steps that are done."""
        self._first_step = 0
        self.optimizer = optimization.make(objective.network, objective.weighting)
        self.scaler = compute.scaler()
        self._recent = _Means()
        self._seen_pixels = {
            name: torch.zeros((), dtype=torch.int64, device=compute.device) for name in objective.tasks
        }

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on. The schedule and the sampler are functions of step and seed."""
        return {
            "step": self.step,
            "network": self.objective.network.state_dict(),
            "weighting": self.objective.weighting.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "seed": self.seed},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`, whose network `multitask.engine.checkpoint.load_network` has loaded and checked."""
        self.step = state["step"]
        self.objective.weighting.load_state_dict(state["weighting"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"]["torch"])
        if len(state["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])

    def run(
        self, on_log: Callable[[int, dict[str, float]], None], on_val: Callable[[], None], save: Callable[[], None]
    ) -> None:
        """Trains from `step` to the last one.

        Args:
            on_log: gets the step and named numbers, every ``log_every`` steps.
            on_val: called every ``val_every`` steps and after the last one.
            save: called every ``checkpoint_every`` steps, after the last one, and before a signal ends the run.
        Raises:
            Interrupted: after SIGINT or SIGTERM and `save`.
            ValueError: if a loss is not finite, or a task has no valid pixel in the whole training split.
        """
        schedule = self.schedule
        self._first_step = self.step
        sampler = StepSampler(len(self.frames), schedule.batch_size, self.seed, self.step, schedule.max_steps)
        loader = make_loader(self.frames, sampler, schedule.num_workers, pin=self.compute.device.type == "cuda")
        self.objective.train()
        with _deferred_signals() as pending:
            for batch in loader:
                self._train_step(batch.to(self.compute.device))
                last = self.step == schedule.max_steps
                if self.step % schedule.log_every == 0 or last:
                    on_log(self.step, self._log_values())
                if self.step % schedule.val_every == 0 or last:
                    with self._recent.paused():
                        on_val()
                if self.step % schedule.checkpoint_every == 0 or last or pending:
                    save()
                if pending and not last:
                    raise Interrupted(pending[0], self.step)

    def _train_step(self, batch: Batch) -> None:
        self.optimization.set_rates(self.optimizer, self.step, self.schedule.max_steps)
        counts = {name: target.valid.sum() for name, target in batch.targets.items()}
        parts = batch.split(self.schedule.accumulate)
        values: list[dict[str, Tensor]] = []
        for part in parts:
            total, losses = self.objective(part, counts, self.compute, share=1 / len(parts))
            self.scaler.scale(total).backward()
            values.append({"total": total.detach(), **{name: loss.detach() for name, loss in losses.items()}})
        step_values = {name: torch.stack([value[name] for value in values]).sum() for name in values[0]}
        self._check_finite(step_values, batch)
        self.scaler.unscale_(self.optimizer)
        self.objective.weighting.bound_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.step += 1
        self._recent.add(step_values, counts, len(batch.names))
        for name, count in counts.items():
            self._seen_pixels[name] += count

    def _check_finite(self, values: dict[str, Tensor], batch: Batch) -> None:
        # One look at the device each step, while it is still busy with the backward pass: the price of a stop before
        # the update instead of a spoilt checkpoint.
        if not torch.stack(list(values.values())).isfinite().all():
            # The total comes first, and is to blame only where no task is.
            name = [name for name, value in values.items() if not value.isfinite()][-1]
            raise ValueError(
                f"step {self.step + 1}: loss {name!r} is {values[name].item()}; stopped before the update; frames: "
                + ", ".join(batch.names)
            )

    def _log_values(self) -> dict[str, float]:
        weighting = self.objective.weighting
        values = self._recent.compute()
        self._recent = _Means()
        values |= {f"weight/{name}": value.item() for name, value in weighting.weights().items()}
        values |= {f"log_variance/{name}": value.item() for name, value in weighting.log_variances().items()}
        values |= {f"sigma2/{name}": value.item() for name, value in weighting.variances().items()}
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        if (self.step - self._first_step) * self.schedule.batch_size >= len(self.frames):
            for name, count in self._seen_pixels.items():
                if not count:
                    raise ValueError(
                        f"task {name!r}: not one valid pixel in the {len(self.frames)} frames of the training split; "
                        f"repair its labels or leave it out of tasks={list(self._seen_pixels)}"
                    )
        return values


class _Means:
    """Losses since the last log, added up on the device and read when they are logged."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._frames = 0
        self._start = time.perf_counter()

    def add(self, values: dict[str, Tensor], counts: dict[str, Tensor], num_frames: int) -> None:
        for name, value in values.items():
            # A step without a valid pixel of a task has no loss of that task.
            counted = counts[name] > 0 if name in counts else torch.ones_like(value, dtype=torch.bool)
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + torch.where(counted, value, 0)
            self._counts[name] = self._counts.get(name, torch.zeros_like(value)) + counted
        self._frames += num_frames

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time that something other than training takes."""
        before = time.perf_counter()
        yield
        self._start += time.perf_counter() - before

    def compute(self) -> dict[str, float]:
        means = {
            f"loss/{name}": (total / self._counts[name]).item()
            for name, total in self._sums.items()
            if self._counts[name]
        }
        means["images_per_second"] = self._frames / (time.perf_counter() - self._start)
        return means


@contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in the list it yields, so that a step is never torn; a second one acts at once."""
    pending: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        pending.append(number)
        restore()
        log.info("%s: saving after this step", signal.Signals(number).name)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is not threading.main_thread():
        yield pending  # Python hands signals to the main thread alone
        return
    for number in before:
        signal.signal(number, note)
    try:
        yield pending
    finally:
        restore()
