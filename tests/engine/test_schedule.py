import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from multitask.config import factories as build
from multitask.engine import schedule as schedule_module
from multitask.engine.compute import Compute
from multitask.engine.schedule import check_compiler
from multitask.errors import UserError
from tests.compose import small

CPU, CUDA = (Compute(torch.device(kind), torch.float32, channels_last=False) for kind in ("cpu", "cuda"))


@pytest.fixture
def schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> schedule_module.Schedule:
    """One that compiles, where there is no compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return build.make_schedule(small(tmp_path, tmp_path, "trainer.compile=true"))


def _program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_compiler_that_is_missing_is_named(schedule: schedule_module.Schedule) -> None:
    with pytest.raises(UserError, match=r"^trainer\.compile=true: needed a C\+\+ compiler, found no g\+\+; .*=false$"):
        check_compiler(schedule, CPU)
    check_compiler(replace(schedule, compile=False), CPU)


def test_compiler_that_is_there_will_do(
    schedule: schedule_module.Schedule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "g++")
    check_compiler(schedule, CPU)
    monkeypatch.setenv("CXX", "ccache-that-is-missing g++")
    with pytest.raises(UserError, match="found no ccache-that-is-missing;"):
        check_compiler(schedule, CPU)
    monkeypatch.setenv("CXX", f"{_program(tmp_path / 'mine')} -O1")
    check_compiler(schedule, CPU)


def test_compiler_for_cuda_is_triton_s(
    schedule: schedule_module.Schedule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"trainer\.compile=true: needed triton to compile for CUDA, found none"):
        check_compiler(schedule, CUDA)
    monkeypatch.setattr(schedule_module, "find_spec", lambda name: name == "triton")
    with pytest.raises(UserError, match="needed a C compiler, found no gcc or clang; "):
        check_compiler(schedule, CUDA)
    _program(tmp_path / "clang")
    assert os.environ["PATH"] == str(tmp_path)
    check_compiler(schedule, CUDA)
