"""Calls a command in this process, which has imported everything: many times faster than in one of its own."""

import logging
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import NoReturn

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


class Process:
    """A command in a process of its own, forked from this one, which has imported everything.

    Tests of signals need a process, but not the seconds that a new interpreter takes to import torch.

    Attributes:
        pid: its id.
        stdout, stderr: the ends of pipes to read what it prints.
        returncode: its exit status, negative for a signal; None while it runs.
    """

    def __init__(self, script: str, *arguments: object, cwd: Path, before: Callable[[], object] = lambda: None) -> None:
        ends = [os.pipe(), os.pipe()]
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _become([f"scripts/{script}", *map(str, arguments)], cwd, [end for _, end in ends], before)
        for _, end in ends:
            os.close(end)
        self.stdout, self.stderr = (os.fdopen(end) for end, _ in ends)

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def communicate(self) -> tuple[str, str]:
        """Reads what it still prints, and waits for its end."""
        with ThreadPoolExecutor() as readers:  # either pipe may be full
            output, errors = readers.map(lambda stream: stream.read(), (self.stdout, self.stderr))
        self.stdout.close()
        self.stderr.close()
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return output, errors


def _become(command: list[str], cwd: Path, outputs: list[int], before: Callable[[], object]) -> NoReturn:
    """Runs a command in this process, which was forked for it, and ends."""
    code: object = 1
    try:
        for descriptor, output in enumerate(outputs, start=1):
            os.dup2(output, descriptor)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(cwd)
        sys.argv = command
        sys.path.insert(0, str(ROOT / "scripts"))
        before()
        with _hydra():
            runpy.run_path(str(ROOT / command[0]), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
