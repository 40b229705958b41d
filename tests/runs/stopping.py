"""Ending runs in their midst, and comparing what they come to."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask.engine import checkpoint
from multitask.engine.interruption import Interrupted
from multitask.evaluation.evaluator import Evaluator
from multitask.reporting.tensorboard import Tracker
from multitask.runs.paths import LAST
from multitask.runs.run import Run


class Killed(BaseException):
    """In place of SIGKILL, which would kill the test."""


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Has a run do something when a step is done and nothing of it is written yet."""
    scalars = Tracker.scalars

    def act_and_log(self: Tracker, at: int, values: dict[str, float]) -> None:
        if at == step and "loss/total" in values:
            act()
        scalars(self, at, values)

    monkeypatch.setattr(Tracker, "scalars", act_and_log)


def around_validation(
    monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Callable[[], dict[str, float]]], dict[str, float]]
) -> None:
    """Has a run call ``wrap`` with what validates, in place of that."""
    for name in ("pixel_figures", "all_figures"):
        figures = getattr(Evaluator, name)

        def wrapped(self: Evaluator, *given: Any, figures: Callable[..., dict[str, float]] = figures) -> Any:
            return wrap(lambda: figures(self, *given))

        monkeypatch.setattr(Evaluator, name, wrapped)


def send(number: signal.Signals) -> Callable[[], object]:
    """Sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def run_until(config: dict[str, Any], step: int, number: signal.Signals = signal.SIGTERM) -> None:
    """A run that a signal ends while the given step is logged."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        after_step(monkeypatch, step, send(number))
        with pytest.raises(Interrupted, match=f"after step {step}"):
            Run(config).train()


def assert_same_state(one: Path, other: Path) -> None:
    """That two runs have come to their ends with the same bits."""
    first, second = final_state(one), final_state(other)
    assert first.keys() == second.keys()
    assert [key for key, value in first.items() if not torch.equal(value, second[key])] == []


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder / LAST)
    tensors = {f"network.{key}": value for key, value in state["network"].items()}
    tensors |= {f"weighting.{key}": value for key, value in state["weighting"].items()}
    for number, entry in state["optimizer"]["state"].items():
        tensors |= {f"momentum.{number}": entry["momentum_buffer"]} if entry.get("momentum_buffer") is not None else {}
    assert state["step"] == state["config"]["trainer"]["max_steps"]
    return tensors
