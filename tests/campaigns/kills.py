"""Kills the real training command at random moments until it ends, and compares what it leaves with a run left alone.

python -m tests.campaigns.kills [number of kills] [seed]
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multitask.engine import checkpoint
from multitask.engine.history import read_history
from multitask.runs.paths import LAST, METRICS
from tests.compose import IN_A_PROCESS, ROOT
from tests.trees import write_tree

_STEPS = 60
_OPTIONS = (*IN_A_PROCESS, f"trainer.max_steps={_STEPS}", "trainer.val_every=10", "trainer.checkpoint_every=7")
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(data: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """Starts the command in a process group of its own."""
    command = [sys.executable, str(ROOT / "scripts/train.py"), *_OPTIONS, "trainer.num_workers=1"]
    command += [f"data.root={data}", f"output_dir={folder}"]
    with (folder.parent / f"{folder.name}.log").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


def group_is_empty(number: int) -> bool:
    """Whether nobody of a process group lives any more, soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def kill_until_it_ends(data: Path, folder: Path, rng: random.Random, longest: float) -> tuple[int, list[str]]:
    """Kills a run until it ends by itself; returns how often, and what was wrong."""
    kills, wrong = 0, []
    while True:
        process = start(data, folder)
        try:
            process.wait(rng.uniform(0.05, 1) * longest)
        except subprocess.TimeoutExpired:
            number = rng.choice(_SIGNALS)
            whole = rng.random() < 0.3
            (os.killpg if whole else os.kill)(process.pid, number)
            process.wait(1200)
            kills += 1
        else:
            if process.returncode == 0:
                return kills, wrong
            wrong.append(f"ended with {process.returncode}")
        if not group_is_empty(process.pid):
            wrong.append(f"left a process of group {process.pid}")
            os.killpg(process.pid, signal.SIGKILL)


def compare(alone: Path, killed: Path) -> list[str]:
    """In what a run that was killed differs from one that was left alone."""
    wrong = []
    states = [checkpoint.load(folder / LAST) for folder in (alone, killed)]
    for part in ("network", "weighting"):
        one, other = (state[part] for state in states)
        wrong += [f"{part}.{key} differs" for key, value in one.items() if not torch.equal(value, other[key])]
    moments = [state["optimizer"]["state"] for state in states]
    for number, moved in moments[0].items():
        if moved and not torch.equal(moved["momentum_buffer"], moments[1][number]["momentum_buffer"]):
            wrong.append(f"momentum {number} differs")
    if (alone / METRICS).read_text() != (killed / METRICS).read_text():
        wrong.append("metrics.json differs")
    histories = [[(e["step"], sorted(e)) for e in read_history(folder)] for folder in (alone, killed)]
    if histories[0] != histories[1]:
        wrong.append("the histories' steps differ")
    wrong += doubles(killed)
    wrong += [f"{path.name} is left" for path in killed.rglob(".*")]
    return wrong


def doubles(run: Path) -> list[str]:
    """What TensorBoard shows twice of a run."""
    events = EventAccumulator(str(run), {"scalars": 0}).Reload()
    shown = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return [f"TensorBoard shows {tag} at {steps}" for tag, steps in shown.items() if steps != sorted(set(steps))]


def run_alone(place: Path) -> tuple[Path, Path, float]:
    """Lets a run come to its end: its data, its folder, and the seconds that it took."""
    data = write_tree(place / "tree", {"train": 6, "val": 3})
    began = time.monotonic()
    assert start(data, place / "alone").wait() == 0
    return data, place / "alone", time.monotonic() - began


def main(number: int, seed: int) -> None:
    """Kills ``number`` times at least, and prints what came of it."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data, alone, longest = run_alone(place)
        kills = runs = 0
        faults: list[str] = []
        while kills < number:
            folder = place / f"killed{runs}"
            more, wrong = kill_until_it_ends(data, folder, rng, longest)
            wrong += compare(alone, folder)
            kills, runs = kills + more, runs + 1
            faults += [f"run {runs}: {fault}" for fault in wrong]
            print(f"{runs} runs, {kills} kills, {len(faults)} faults", flush=True)
    print("\n".join(faults) or "every run ended as the one left alone")


if __name__ == "__main__":
    main(*(int(text) for text in (*sys.argv[1:], *("100", "0")[len(sys.argv) - 1 :])))
