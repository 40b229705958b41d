"""The training loop, which counts steps instead of epochs and loses nothing when it is stopped."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multitask.data.loader import Batch, EncodedFrames, Loader, StepSampler, closed_after
from multitask.engine import finite
from multitask.engine.compute import Compute
from multitask.engine.history import (
    GRADIENT_NORM,
    IMAGES_PER_SECOND,
    LEARNING_RATE,
    LOG_VARIANCE,
    LOSS,
    VARIANCE,
    WEIGHT,
)
from multitask.engine.interruption import Deferral, Interrupted, Stopped, Waiting, deferred_signals
from multitask.engine.objective import Objective, present_tasks
from multitask.engine.optimization import Optimization
from multitask.engine.schedule import Schedule
from multitask.engine.state import check_likelihoods, check_resumable
from multitask.errors import UserError


class Trainer:
    """Trains an objective; its `state` holds all that is needed to resume.

    Args:
        objective: network, tasks and weighting, on the device.
        frames: the training split, augmented.
        optimization: settings of the optimizer.
        schedule: length, batch size and intervals of the run.
        compute: device, precision and memory format.
        seed: seed of the order of frames and of their augmentation.
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
        """Number of finished steps."""
        self.validated = 0
        """Last step after which the network was validated."""
        self.stop: list[int] = []
        """Numbers of the signals received, which ask the run to end."""
        self.optimizer = optimization.make(objective.network, objective.weighting)
        self.scaler = compute.scaler()
        self._recent = _Means()
        self._seen_pixels = {
            name: torch.zeros((), dtype=torch.int64, device=compute.device) for name in objective.tasks
        }

    def state(self) -> dict[str, Any]:
        """Returns all that later steps depend on, except the schedule and the sampler, functions of step and seed.

        Raises:
            Diverged: if a parameter, a running statistic or a momentum is not finite, which no step could repair.
        """
        finite.check_state(self.step, self.objective, self.optimizer)
        return {
            "step": self.step,
            "validated": self.validated,
            "precision": str(self.compute.dtype),
            "network": self.objective.network.state_dict(),
            "weighting": self.objective.weighting.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "seen_pixels": {name: int(count) for name, count in self._seen_pixels.items()},
            # Asking for CUDA's state would initialise CUDA, even in a run on the CPU.
            "rng": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if self._on_cuda else []},
        }

    def restore(self, state: Mapping[str, Any], source: Path) -> None:
        """Resumes from a `state`, whose network `multitask.engine.checkpoint.load_network` has loaded and checked.

        Raises:
            UserError: naming the file or the key, if the state is of another precision, weighting or length.
        """
        if state["precision"] != str(self.compute.dtype):
            raise UserError(
                f"trainer.precision: checkpoint={source} was trained in {state['precision']}, and here it would be "
                f"{self.compute.dtype}"
            )
        if state["step"] > self.schedule.max_steps:
            raise UserError(
                f"trainer.max_steps={self.schedule.max_steps}: checkpoint={source} is at step {state['step']} already"
            )
        weighting = self.objective.weighting
        check_likelihoods(weighting, state["version"], f"checkpoint={source}")
        check_resumable(state, weighting, self.optimizer, self.scaler, self._seen_pixels, f"checkpoint={source}")
        weighting.load_state_dict(state["weighting"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.validated = state["step"], state["validated"]
        for name, count in state["seen_pixels"].items():
            self._seen_pixels[name].fill_(count)
        torch.set_rng_state(state["rng"]["torch"])
        if self._on_cuda and len(state["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])

    def run(
        self,
        on_log: Callable[[int, dict[str, float]], None],
        on_val: Callable[[Waiting], None],
        save: Callable[[], None],
    ) -> None:
        """Trains from `step` to the last step.

        Args:
            on_log: called every ``log_every`` steps with the step and named scalars.
            on_val: called every ``val_every`` steps and after the last one, with a context manager to wait for frames
                in. A signal raises `Stopped` there, and `on_val` is called again when the run resumes.
            save: called every ``checkpoint_every`` steps, before and after `on_val`, and before a signal or an
                unreadable frame ends the run.
        Raises:
            Interrupted: after SIGINT, SIGTERM or SIGHUP and `save`.
            Diverged, UserError: if a loss or a gradient is not finite; if a task has no valid pixel in the whole split.
        """
        schedule = self.schedule
        sampler = StepSampler(
            len(self.frames), schedule.batch_size, self.seed, self.step, schedule.max_steps, self.frames.parts
        )
        loader = Loader(self.frames, sampler, schedule.num_workers, pin=self._on_cuda)
        self.objective.train()
        with deferred_signals(self.stop) as deferral, closing(self._batches(loader, deferral, save)) as batches:
            self._validate_if_due(on_val, deferral, save)
            self._end_if_asked(save)
            for batch in batches:
                try:
                    self._train_step(batch.to(self.compute.device))
                except torch.OutOfMemoryError as error:
                    raise self._too_many() from error
                if self.step % schedule.log_every == 0 or self.step == schedule.max_steps:
                    on_log(self.step, self._log_values())
                if self.step % schedule.checkpoint_every == 0:
                    save()
                self._validate_if_due(on_val, deferral, save)
                self._end_if_asked(save)
            self._end_if_asked(save)  # for a signal that came while the loader shut down

    @property
    def _on_cuda(self) -> bool:
        return self.compute.device.type == "cuda"

    def _batches(self, loader: Loader, deferral: Deferral, save: Callable[[], None]) -> Generator[Batch, None, None]:
        """Yields the batches until a signal comes.

        If reading a batch fails, the finished steps are saved before the error is raised.
        """
        with closed_after(loader) as loaded:
            first = self.step
            while True:
                try:
                    with deferral.waiting():
                        batch = next(loaded, None)
                except Stopped:
                    return
                except Exception:
                    if self.stop:  # a signal to the process group has ended the loader's workers, too
                        return
                    if self.step > first:
                        save()
                    raise
                if batch is None:
                    return
                yield batch

    def _end_if_asked(self, save: Callable[[], None]) -> None:
        if self.stop:
            save()
            raise Interrupted(self.stop[0], f"step {self.step}")

    def _validate_if_due(self, on_val: Callable[[Waiting], None], deferral: Deferral, save: Callable[[], None]) -> None:
        due = self.step % self.schedule.val_every == 0 or self.step == self.schedule.max_steps
        if not due or self.validated == self.step or self.stop:
            return
        save()  # if the validation fails, these steps are not lost
        try:
            with self._recent.paused():
                on_val(deferral.waiting)
        except Stopped:
            return
        except UserError:
            if self.stop:  # as in `_batches`
                return
            raise
        self.validated = self.step
        save()

    def _train_step(self, batch: Batch) -> None:
        self.optimization.set_rates(self.optimizer, self.step, self.schedule.max_steps)
        counts = {name: target.valid.sum() for name, target in batch.targets.items()}
        present, weighting = present_tasks(counts), self.objective.weighting
        parts = batch.split(self.schedule.accumulate)
        values: list[dict[str, Tensor]] = []
        for part in parts:
            total, losses = self.objective(part, counts, self.compute, share=1 / len(parts))
            weighting.backward(self.scaler.scale(total), losses, present)
            values.append({"total": total.detach(), **{name: loss.detach() for name, loss in losses.items()}})
        step_values = {name: torch.stack([value[name] for value in values]).sum() for name in values[0]}
        self.scaler.unscale_(self.optimizer)
        norm = finite.gradient_norm(self.optimizer).to(self.compute.device)
        moves = finite.check_step(self.step + 1, step_values, norm, self.objective, self.scaler, batch.names)
        weighting.bound_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if moves:
            step_losses = {name: step_values[name] for name in counts}
            weighting.after_step(step_losses, present, lambda: self.objective.losses_again(batch, counts, self.compute))
        self.step += 1
        self._recent.add(step_values, counts, norm, len(batch.names))
        for name, count in counts.items():
            self._seen_pixels[name] += count

    def _too_many(self) -> UserError:
        """Returns the error for a step that does not fit into memory, with a remedy."""
        size, accumulate = self.schedule.batch_size, self.schedule.accumulate
        possible = [n for n in range(accumulate + 1, size // 2 + 1) if size % n == 0]
        if possible and self.objective.weighting.additive:
            needed = f"trainer.accumulate={possible[0]}"
        else:
            needed = "a smaller trainer.batch_size, data.augmentation.crop, data.image_size or model"
        if self._on_cuda:
            needed += ", or less beside it in that memory"
        return UserError(
            f"trainer.accumulate={accumulate}: {size // accumulate} frames at once are too many for the memory of "
            f"{self.compute.device}; needed {needed}"
        )

    def _log_values(self) -> dict[str, float]:
        weighting = self.objective.weighting
        values = self._recent.compute()
        self._recent = _Means()
        values |= {WEIGHT + name: value.item() for name, value in weighting.weights().items()}
        for name, s in weighting.log_variances().items():  # s is not the log-variance in every likelihood
            values[LOG_VARIANCE + name] = weighting.likelihoods[name].log_variance(s.detach()).item()
        values |= {VARIANCE + name: value.item() for name, value in weighting.variances().items()}
        values[LEARNING_RATE] = self.optimizer.param_groups[0]["lr"]
        if self.step * self.schedule.batch_size >= len(self.frames):
            for name, count in self._seen_pixels.items():
                if not count:
                    raise UserError(
                        f"task {name!r}: not one valid pixel in the {len(self.frames)} frames of the training split; "
                        f"repair its labels or leave it out of tasks={list(self._seen_pixels)}"
                    )
        return values


class _Means:
    """Means of the losses and the gradient norm since the last log, summed on the device and read only when logged."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._frames = 0
        self._start = time.perf_counter()

    def add(self, values: dict[str, Tensor], counts: dict[str, Tensor], norm: Tensor, num_frames: int) -> None:
        for name, value in values.items():
            # A step without valid pixels of a task has no loss for it.
            counted = counts[name] > 0 if name in counts else torch.ones_like(value, dtype=torch.bool)
            self._add(LOSS + name, value, counted)
        self._add(GRADIENT_NORM, norm, norm.isfinite())
        self._frames += num_frames

    def _add(self, name: str, value: Tensor, counted: Tensor) -> None:
        self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + torch.where(counted, value, 0)
        self._counts[name] = self._counts.get(name, torch.zeros_like(value)) + counted

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time spent within ``with`` from the training speed."""
        before = time.perf_counter()
        yield
        self._start += time.perf_counter() - before

    def compute(self) -> dict[str, float]:
        means = {name: (total / self._counts[name]).item() for name, total in self._sums.items() if self._counts[name]}
        means[IMAGES_PER_SECOND] = self._frames / (time.perf_counter() - self._start)
        return means
