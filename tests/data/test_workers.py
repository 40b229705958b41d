"""What becomes of a run whose loader's processes die, hang or have no room for a batch."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from multitask.data import loader, workers
from multitask.data.loader import EncodedFrames, Loader, closed_after, in_order
from multitask.data.sample import Sample
from multitask.engine.interruption import Interrupted
from multitask.errors import UserError
from tests.engine.test_trainer import make_trainer

_SAMPLE = Sample("frame", np.zeros((2, 2, 3), dtype=np.uint8))


class Frames(Sequence[Sample]):
    """Frames, of which those from ``first`` on are not to be had."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if index >= self.first:
            self.fail()
        return _SAMPLE

    def fail(self) -> None:
        raise NotImplementedError


class Killed(Frames):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hanging(Frames):
    def fail(self) -> None:
        time.sleep(1000)


class Broken(Frames):
    def fail(self) -> None:
        raise RuntimeError("a fault of the program")


class Unreadable(Frames):
    def fail(self) -> None:
        raise UserError("a.png: not a readable PNG")


def load(frames: Frames, num_workers: int = 2) -> int:
    """Loads all frames, one at a time; returns how many there were before the failure, of which it tells."""
    count = 0
    with closed_after(Loader(EncodedFrames(frames, {}), in_order(100, 1), num_workers, pin=False)) as batches:
        for _ in batches:
            count += 1
    return count


def _children() -> set[int]:
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return set(map(int, found))


def test_process_that_is_killed_is_said_with_what_would_help() -> None:
    # torch names the signal, or the worker, or what broke while it took over a batch, by when it notices.
    message = r"^trainer.num_workers=2: no batch came from the processes that load frames \(.*\)"
    with pytest.raises(UserError, match=message) as raised:
        load(Killed(30))
    assert "needed more memory, more shared memory (of a container: --shm-size=8g) or fewer processes" in str(raised)
    assert "\n" not in str(raised.value)


def test_process_that_hangs_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "TIMEOUT", 1)
    before = _children()
    with pytest.raises(UserError, match=r"no batch came .* timed out after 1 seconds"):
        load(Hanging(6))
    deadline = time.monotonic() + 20
    while _children() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _children() <= before


def test_batch_for_which_shared_memory_has_no_room_is_no_endless_wait(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")

    # In the workers, which are forked: what they do to send a batch.
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    with pytest.raises(UserError, match=r"no batch came .*; /dev/shm has \d+ of \d+ MiB free"):
        load(Frames(100))
    assert "a process that loads frames: unable to write to file </torch_1>: No space left" in capfd.readouterr().err


@pytest.mark.parametrize("num_workers", [0, 2])
def test_fault_of_the_program_stays_one(num_workers: int) -> None:
    with pytest.raises(RuntimeError, match="a fault of the program") as raised:
        load(Broken(3), num_workers)
    assert not isinstance(raised.value, UserError)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_frame_is_said_in_one_line(num_workers: int) -> None:
    with pytest.raises(UserError, match=r"^a.png: not a readable PNG$"):
        load(Unreadable(3), num_workers)


def test_loader_that_is_closed_early_leaves_no_process() -> None:
    before = _children()
    with closed_after(Loader(EncodedFrames(Frames(100), {}), in_order(100, 1), 2, pin=False)) as batches:
        next(batches)
        assert len(_children() - before) == 2
    assert _children() <= before


class Worker:
    """A process that hangs, in an iterator of torch's."""

    def __init__(self, obeys: bool) -> None:
        self.obeys, self.alive, self.waited = obeys, True, 0.0

    def terminate(self) -> None:
        self.alive &= not self.obeys

    def join(self, seconds: float) -> None:
        self.waited += seconds if self.alive else 0.0

    def kill(self) -> None:
        self.alive = False


class Iterator:
    def __init__(self, *obey: bool) -> None:
        self._workers = [Worker(obeys) for obeys in obey]
        self.alive_at_shutdown: list[bool] | None = None

    def _shutdown_workers(self) -> None:
        self.alive_at_shutdown = [worker.alive for worker in self._workers]


def test_processes_that_hang_are_not_waited_for_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.25, 0.5, 2.0])
    monkeypatch.setattr(workers.time, "monotonic", lambda: next(now))
    iterator = Iterator(True, False, False)
    workers.shut_down(iterator)
    assert iterator.alive_at_shutdown == [False, False, False], "torch finds none that it would wait for"
    assert [worker.waited for worker in iterator._workers] == [0.0, 0.5, 0.0], "a second for all together"


def test_loader_works_in_a_thread() -> None:
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(load(Frames(100))))
    thread.start()
    thread.join(60)
    assert counts == [100]


def test_death_of_a_process_never_tears_a_step(shared_tree: Path) -> None:
    """torch says it from a signal's handler; here it comes while a step is under way."""
    trainer = make_trainer(shared_tree, "trainer.num_workers=1", "trainer.max_steps=60", "trainer.val_every=60")
    before = _children()
    saved: list[int] = []

    def kill_in_step_3(*_: object) -> None:
        if trainer.step == 2:
            for child in _children() - before:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.5)  # the handler would raise here

    trainer.objective.register_forward_pre_hook(kill_in_step_3)
    with pytest.raises(UserError, match="no batch came from the processes that load frames"):
        trainer.run(lambda *_: None, lambda _: None, lambda: saved.append(trainer.step))
    assert trainer.step >= 3, "the step went on"
    assert saved[-1] == trainer.step, "what is done is kept"


def test_signal_while_a_batch_is_awaited_saves_and_ends_at_once(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "trainer.num_workers=1", "trainer.max_steps=60", "trainer.val_every=60")
    frames, main, saved = trainer.frames, os.getpid(), []

    class Waiting(EncodedFrames):
        def __getitem__(self, key):
            if key.stream[-1] >= 8:  # the third step's
                os.kill(main, signal.SIGTERM)
                time.sleep(1000)
            return super().__getitem__(key)

    trainer.frames = Waiting(frames.frames, frames.tasks, frames.augmentation)
    started = time.monotonic()
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step"):
        trainer.run(lambda *_: None, lambda _: None, lambda: saved.append(trainer.step))
    assert saved[-1] == trainer.step <= 2
    assert time.monotonic() - started < 200, "it has waited for the frames"


def test_signal_to_the_whole_group_is_no_failure_of_the_loader(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "trainer.num_workers=1", "trainer.max_steps=60", "trainer.val_every=60")
    before, saved = _children(), []

    def end_all(*_: object) -> None:
        if trainer.step == 2:
            for process in (*(_children() - before), os.getpid()):
                os.kill(process, signal.SIGTERM)
            time.sleep(0.5)

    trainer.objective.register_forward_pre_hook(end_all)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 3"):
        trainer.run(lambda *_: None, lambda _: None, lambda: saved.append(trainer.step))
    assert saved[-1] == 3


_PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.data.test_workers import Frames, Loader, EncodedFrames, in_order, os, time
batches = iter(Loader(EncodedFrames(Frames(100), {}), in_order(100, 1), 2, pin=False))
next(batches)
print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read(), flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end them")
def test_processes_end_with_the_one_that_is_killed() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(root)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        children = list(map(int, parent.stdout.readline().split()))
        parent.kill()
    deadline = time.monotonic() + 30
    while any(_is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(children) == 2
    assert not any(_is_alive(child) for child in children)


def _is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_worker_that_dies_while_its_batch_is_taken_over_is_said_alike(error: Exception) -> None:
    assert isinstance(workers.user_error(error, 2), UserError)
    assert workers.user_error(error, 0) is error


def test_message_of_a_loader_names_no_shared_memory_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SHARED_MEMORY", "/nowhere")
    said = str(workers.user_error(RuntimeError("DataLoader timed out after 300 seconds"), 4))
    assert said.startswith("trainer.num_workers=4: no batch came")
    assert "MiB" not in said
