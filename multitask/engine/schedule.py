"""The schedule of a run: its length, its batch size, and the steps at which it logs, validates and saves."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from multitask.engine.compute import Compute
from multitask.errors import UserError
from multitask.weighting import Weighting

_MAX_STEPS, _MAX_FRAMES, _MAX_PANELS, _MAX_WORKERS = 10**9, 2**16, 10**4, 256
"""Largest accepted values. Larger ones are typing errors: so many steps take years, and a worker takes some 100 MB."""


@dataclass(frozen=True)
class Schedule:
    """The length of a run, its batch size, and the intervals at which it logs, validates and saves.

    Attributes:
        max_steps: number of optimizer steps.
        batch_size: number of frames in a step.
        accumulate: number of micro-batches into which a step's frames are split, to fit the memory.
        log_every, val_every, checkpoint_every: intervals in steps.
        num_workers: number of data loader workers.
        num_panels: number of panels of validation frames that are written at the end.
        compile: whether to compile the network with torch.compile.
        resume: ``auto``, the path of a checkpoint, or None.
    """

    max_steps: int
    batch_size: int
    accumulate: int
    log_every: int
    val_every: int
    checkpoint_every: int
    num_workers: int
    num_panels: int
    compile: bool
    resume: str | None

    def __post_init__(self) -> None:
        for key in ("max_steps", "batch_size", "accumulate", "log_every", "val_every", "checkpoint_every"):
            most = _MAX_FRAMES if key == "batch_size" else _MAX_STEPS
            if not 1 <= getattr(self, key) <= most:
                raise UserError(f"trainer.{key}: needed a whole number from 1 to {most}, found {getattr(self, key)}")
        if not 0 <= self.num_panels <= _MAX_PANELS:
            raise UserError(f"trainer.num_panels: needed a number from 0 to {_MAX_PANELS}, found {self.num_panels}")
        if not 0 <= self.num_workers <= _MAX_WORKERS:
            raise UserError(
                f"trainer.num_workers: needed auto or a number from 0 to {_MAX_WORKERS}, found {self.num_workers}"
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"trainer.accumulate: needed a divisor of trainer.batch_size={self.batch_size}, found {self.accumulate}"
            )
        if self.batch_size == self.accumulate:
            raise UserError(
                f"trainer.batch_size={self.batch_size}: needed two frames or more in each of "
                f"trainer.accumulate={self.accumulate} micro-batches, found 1: the encoder's global pooling leaves one "
                "value per channel of a single frame, and batch norm cannot normalise one value"
            )


def check_weighting(weighting: Weighting, schedule: Schedule, compute: Compute) -> None:
    """Refuses settings that a weighting cannot be combined with.

    Raises:
        UserError: naming both keys.
    """
    name = f"weighting={type(weighting).__name__}"
    if schedule.accumulate > 1 and not weighting.additive:
        raise UserError(
            f"trainer.accumulate={schedule.accumulate}: needed 1 for {name}, which needs the losses of the whole step "
            "at once"
        )
    if weighting.own_backward and compute.dtype == torch.float16:
        raise UserError(
            f"trainer.precision: needed fp32 or bf16 for {name}, whose backward pass knows no loss scale, found fp16"
        )
    if weighting.own_backward and schedule.compile:
        raise UserError(f"trainer.compile=true: needed false for {name}, which looks into the network")


def check_compiler(schedule: Schedule, compute: Compute) -> None:
    """Refuses ``trainer.compile=true`` without the compiler that torch needs: the first step would fail.

    Raises:
        UserError: naming the key and what is missing.
    """
    if not schedule.compile:
        return
    if compute.device.type == "cuda":
        if find_spec("triton") is None:
            raise UserError("trainer.compile=true: needed triton to compile for CUDA, found none: pip install triton")
        variable, names = "CC", ["gcc", "clang"]  # triton's
    else:
        variable, names = "CXX", [{"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")]  # torch's
    if given := shlex.split(os.environ.get(variable, "")):
        names = given[:1]
    if not any(map(shutil.which, names)):
        raise UserError(
            f"trainer.compile=true: needed a C{'++' * (variable == 'CXX')} compiler, found no {' or '.join(names)}; "
            f"install one, name yours in the environment's {variable}, or set trainer.compile=false"
        )
