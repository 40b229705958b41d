"""Calls a command in this process, which has imported everything: many times faster than in one of its own."""

import logging
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hydra.core.global_hydra import GlobalHydra

from tests.compose import ROOT


def call(script: str, *arguments: object, cwd: Path) -> CompletedProcess[str]:
    """What a command prints, and its exit status; for commands that do no more than to answer."""
    command = [f"scripts/{script}", *map(str, arguments)]
    output, errors = StringIO(), StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as monkeypatch, _hydra():
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.syspath_prepend(ROOT / "scripts")
        with redirect_stdout(output), redirect_stderr(errors):
            try:
                runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")
            except SystemExit as end:
                code = end.code
    assert code is None or isinstance(code, int)
    return CompletedProcess(command, code or 0, output.getvalue(), errors.getvalue())


@contextmanager
def _hydra() -> Iterator[None]:
    """Gives Hydra no memory of other calls, and takes back what it does to loggers."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    loggers = [x for x in logging.Logger.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    disabled = [logger.disabled for logger in loggers]
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was
