"""Fills the disk under every command at every file that it writes, then makes room and calls it again.

python -m tests.campaigns.disks [command ...]; needs Linux and the right to mount a tmpfs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from multitask.engine import checkpoint
from tests.campaigns.kills import doubles
from tests.compose import IN_A_PROCESS, ROOT
from tests.prediction.made import write_photo
from tests.scripts.called import call
from tests.trees import write_tree

_PAGE = 4096
_AMPLE = 2 << 30
_MOST = 24
"""Moments at which the disk gets full, of a command that writes more files."""

_TINY = (*IN_A_PROCESS, "trainer.max_steps=4", "trainer.val_every=2", "trainer.checkpoint_every=1")


class Command(NamedTuple):
    """A command as typed; ``{disk}`` is the folder that gets full, ``{given}`` what is read."""

    script: str
    arguments: tuple[str, ...]
    outside: bool = False
    """Whether it starts processes, which needs one of its own."""


class Ended(NamedTuple):
    """What became of a command."""

    status: int
    output: str
    errors: str


COMMANDS = {
    "prepare_data": Command(
        "prepare_data.py",
        (
            *("data=synthetic", "data.root={disk}/data", "data.image_size=[32,64]"),
            *("data.num_train=3", "data.num_val=2", "data.num_test=1"),
        ),
    ),
    "train": Command(
        "train.py",
        (*_TINY, "data.root={given}/tree", "data.val_split=val", "output_dir={disk}/run"),
    ),
    "evaluate": Command(
        "evaluate.py",
        ("checkpoint={given}/run/checkpoints/last.pt", "output_dir={disk}/figures", "results_dir={disk}/official"),
    ),
    "predict": Command(
        "predict.py", ("checkpoint={given}/run/checkpoints/last.pt", "input={given}/photos", "output_dir={disk}/out")
    ),
    "export": Command(
        "export.py", ("checkpoint={given}/run/checkpoints/last.pt", "format=torch", "output={disk}/network.pt2")
    ),
    "onnx": Command("export.py", ("checkpoint={given}/run/checkpoints/last.pt", "output={disk}/network.onnx")),
    "plot": Command("plot.py", ("runs=[{given}/run]", "output={disk}/plot.png")),
    "figures": Command("figures.py", ("output_dir={disk}/figures",)),
    "benchmark": Command("benchmark.py", ("parts=[metrics]", "repeats=1", "num_frames=1", "output_dir={disk}/times")),
    "compare": Command(
        "compare.py",
        (
            *("experiment=figure7", *_TINY, "data.root={given}/synthetic", "data.held_out=2", "data.draw=2"),
            *("data.num_train=4", "data.num_val=2", "data.num_test=1", "seeds=[0]", "output_dir={disk}/compared"),
        ),
        outside=True,
    ),
}


@contextmanager
def disk(place: Path, size: int) -> Iterator[Path]:
    """A file system that holds so many bytes."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(_PAGE, size)}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def grow(place: Path) -> None:
    """Makes room."""
    subprocess.run(["mount", "-o", f"remount,size={_AMPLE}", str(place)], check=True)


def ended(command: Command, given: Path, place: Path) -> Ended:
    """Calls a command, in a process that ends with it."""
    arguments = [text.format(disk=place, given=given) for text in command.arguments]
    if command.outside:
        line = [sys.executable, str(ROOT / "scripts" / command.script), *arguments]
        done = subprocess.run(line, cwd=given, capture_output=True, text=True, timeout=900, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)
    note = given / "ended.json"
    child = os.fork()
    if child == 0:
        try:
            done = call(command.script, *arguments, cwd=given)
            found = [done.returncode, done.stdout, done.stderr]
        except BaseException:
            found = [1, "", traceback.format_exc()]
        note.write_text(json.dumps(found))
        os._exit(0)
    os.waitpid(child, 0)
    return Ended(*json.loads(note.read_text()))


def files(place: Path) -> list[Path]:
    """The files below a folder, in the order in which they were finished."""
    return sorted((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)


def unreadable(path: Path) -> str:
    """What a reader says of a file that is not whole; nothing if it is, or grows line by line."""
    try:
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pt":
            checkpoint.load(path)
        elif path.suffix == ".pt2":
            assert path.stat().st_size > 10_000
        elif path.suffix in (".md", ".yaml", ".onnx"):
            assert path.stat().st_size
    except Exception as error:
        return f"{path.name}: {error}"
    return ""


def same(one: Path, other: Path) -> bool:
    """Whether two calls wrote the same; times apart."""
    if one.suffix in (".png", ".txt", ".md", ".yaml"):
        times = one.name in ("training.png", "report.md", "config.yaml") or one.name.endswith(".log.txt")
        return times or one.read_bytes() == other.read_bytes()
    if one.suffix == ".pt":
        states = [checkpoint.load(path)["network"] for path in (one, other)]
        return all(bool((value == states[1][key]).all()) for key, value in states[0].items())
    return one.stat().st_size > 0


def moments(place: Path) -> list[int]:
    """Sizes in bytes of disks that get full while one of these files is written: in its middle, for most of them."""
    sizes, below = [], 0
    for path in files(place):
        pages = -(-path.stat().st_size // _PAGE)
        sizes.append((below + pages // 2) * _PAGE)
        below += pages
    sizes += list(range(_PAGE, below * _PAGE, max(_PAGE, below * _PAGE // 8)))
    sizes = sorted({max(_PAGE, size) for size in sizes})
    return [sizes[round(k)] for k in np.linspace(0, len(sizes) - 1, min(len(sizes), _MOST))]


def faults(name: str, given: Path, reference: Path, size: int, place: Path) -> tuple[str, list[str]]:
    """What a command said on a disk of this size, and what was wrong then or after room was made."""
    command, wrong = COMMANDS[name], []
    with disk(place, size):
        first = ended(command, given, place)
        lines = first.errors.strip().splitlines()
        said = lines[-1] if lines else ""
        if first.status == 0:
            said = "held"
        elif name == "compare" and first.status == 1:  # a run of it ended, as its report says
            said = next(line for line in first.output.splitlines() if "could not be written" in line)
        elif first.status != 2 or not said.startswith("error: ") or "Traceback" in first.errors:
            wrong.append(f"status {first.status}: {first.errors[-800:]}")
        wrong += [f"{path.name} is left" for path in place.rglob(".multitask-*")]
        wrong += [f"half-written {what}" for what in map(unreadable, files(place)) if what]
        grow(place)
        second = ended(command, given, place) if first.status else first
        if "results_dir" in second.errors and (place / "official").exists():
            # They were whole before the disk was full, and nobody's to overwrite.
            shutil.rmtree(place / "official")
            second = ended(command, given, place)
        if second.status:
            wrong.append(f"with room again: status {second.status}: {second.errors[-800:]}")
        wanted = {path.relative_to(reference): path for path in files(reference) if "tfevents" not in path.name}
        found = {path.relative_to(place): path for path in files(place) if "tfevents" not in path.name}
        if wanted.keys() != found.keys():
            wrong.append(f"other files: {sorted(map(str, wanted.keys() ^ found.keys()))}")
        else:
            wrong += [f"{path} differs" for path in wanted if not same(wanted[path], found[path])]
        wrong += doubles(place / "run") if name == "train" else []
    return said, wrong


def prepare(given: Path) -> None:
    """What the commands read: data sets, a run, photographs."""
    write_tree(given / "tree", {"train": 4, "val": 2})
    for number in range(3):
        write_photo(given / f"photos/{number}.jpg", seed=number)
    counts = ("data.num_train=4", "data.num_val=2", "data.num_test=1", "data.image_size=[32,64]")
    for command in (
        Command("train.py", (*_TINY, "data.root={given}/tree", "output_dir={given}/run")),
        Command("prepare_data.py", ("data=synthetic", "data.root={given}/synthetic", *counts)),
    ):
        done = ended(command, given, given)
        assert done.status == 0, done.errors


def main(names: list[str]) -> None:
    """Fills the disk under these commands, and prints what came of it."""
    with tempfile.TemporaryDirectory() as name:
        given = Path(name)
        prepare(given)
        for command in names or list(COMMANDS):
            with disk(given / "ample", _AMPLE) as ample:
                reference = ended(COMMANDS[command], given, ample)
                assert reference.status == 0, reference.errors
                sizes = moments(ample)
                said: dict[str, int] = {}
                wrong: list[str] = []
                for size in sizes:
                    line, more = faults(command, given, ample, size, given / "full")
                    said[line.replace(str(given / "full"), "")] = said.get(line, 0) + 1
                    wrong += [f"  {size} bytes: {fault}" for fault in more]
                print(f"{command}: {len(sizes)} disks, {len(wrong)} faults", flush=True)
                print(*(f"  {line}" for line in said), *wrong, sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
