"""Starts every writing command twice at once in one folder, and compares what is left with what one of them leaves.

python -m tests.campaigns.pairs [number of pairs] [seed]
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.campaigns.kills import compare, run_alone, start
from tests.compose import ROOT

_REFUSED = "another process is"
_COUNTS = ("data.num_train=20", "data.num_val=4", "data.num_test=2", "data.image_size=[64,128]")


def prepare(folder: Path) -> "subprocess.Popen[bytes]":
    """Starts the command that writes the embedded data set."""
    command = [sys.executable, str(ROOT / "scripts/prepare_data.py"), "data=synthetic", *_COUNTS]
    with (folder.parent / f"{folder.name}.log").open("ab") as output:
        return subprocess.Popen([*command, f"data.root={folder}"], stdout=output, stderr=output)


def different(one: Path, other: Path) -> list[str]:
    """In what the files of two folders differ."""
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    if contents[0].keys() != contents[1].keys():
        return [f"other files: {sorted(map(str, contents[0].keys() ^ contents[1].keys()))}"]
    return [f"{path} differs" for path, content in contents[0].items() if content != contents[1][path]]


def outcome(processes: "list[subprocess.Popen[bytes]]", log: Path) -> tuple[str, list[str]]:
    """How two processes ended, and what was wrong with that."""
    statuses = sorted(process.wait(300) for process in processes)
    text = log.read_text()
    if "Traceback" in text:
        return "traceback", [text[-800:]]
    if statuses == [0, 0]:
        return "one after the other", []
    if statuses == [0, 2] and text.count(_REFUSED) == 1:
        return "one refused", []
    return str(statuses), [text[-800:]]


def main(number: int, seed: int) -> None:
    """Starts so many pairs of each command, and prints what came of it."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data, alone, longest = run_alone(place)
        assert prepare(place / "prepared").wait() == 0
        for command in ("train", "prepare_data"):
            seen: Counter[str] = Counter()
            faults: list[str] = []
            for pair in range(number):
                folder = place / f"{command}{pair}"
                delay = rng.choice((0.0, 0.0, rng.uniform(0, 0.5), rng.uniform(0, 1.2) * longest))
                processes = []
                for pause in (delay, 0.0):
                    processes.append(start(data, folder) if command == "train" else prepare(folder))
                    time.sleep(pause)
                kind, wrong = outcome(processes, place / f"{folder.name}.log")
                seen[kind] += 1
                if command == "train":
                    wrong += compare(alone, folder)
                else:
                    wrong += different(place / "prepared", folder)
                faults += [f"  pair {pair}: {fault}" for fault in wrong]
            print(f"{command}: {number} pairs, {dict(seen)}, {len(faults)} faults", *faults, sep="\n", flush=True)


if __name__ == "__main__":
    main(*(int(text) for text in (*sys.argv[1:], *("20", "0")[len(sys.argv) - 1 :])))
