"""Damages checkpoints as disks do, and makes hostile ones: none may be taken for what it is not, nor do any harm.

python -m tests.campaigns.checkpoints [damaged | evaluate | predict | export | pretrained | resume] [every so many]
"""

import copy
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from multitask.engine import checkpoint
from multitask.errors import UserError, is_machine_fault
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.export import export_checkpoint
from multitask.runs.paths import LAST
from multitask.runs.run import Run
from tests.archives import Call, Storage, damaged, entries, tensor, write, write_legacy, write_torch
from tests.compose import config, small
from tests.models.test_archive import same
from tests.prediction.made import run_predict, write_photo
from tests.trees import write_tree

_MOST_MB, _LONGEST = 2000, 60
"""Of memory, and seconds, that a command may take."""

Case = tuple[str, Callable[[Path], object]]
"""What is hostile about a file, and what writes it."""


class Outcome(NamedTuple):
    """What became of a command: ``accepted``, ``refused``, or what must not be."""

    kind: str
    said: str
    megabytes: float


def _nested(value: Any, width: int, depth: int) -> list[Any]:
    for _ in range(depth):
        value = [value] * width
    return list(value)


_CIRCLE: dict[str, Any] = {}
_CIRCLE["model"] = _CIRCLE

ABSURD: dict[str, Any] = {
    **{"null": None, "text": "abc", "empty": "", "zero": 0, "minus": -1, "true": True, "list": [], "group": {}},
    **{"large": 10**9, "2^63": 2**63, "400 digits": 10**400, "1e308": 1e308, "1e-308": 1e-308},
    **{"nan": float("nan"), "inf": float("inf"), "lists": [[1], [2]], "groups": {"a": {"b": {"c": 1}}}},
    **{"sizes": [10**6, 10**6], "negative": [-1, -1], "long": list(range(20_000)), "pair": (1, 2)},
    **{"nested": _nested("a", 1, 900), "bomb": _nested("a", 10, 40), "circle": _CIRCLE, "no text": {1.5: 2}},
    **{"escape": "../../../escape/x", "absolute": "/escape/x", "control": "a\x1b[2Jb\nc", "nul": "a\0b"},
    **{"surrogate": "\ud800x", "3 MB": "x" * 3_000_000, "tensor": torch.ones(3), "bytes": b"abc"},
}
"""Values that are put wherever a checkpoint has one."""

_TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    **{"int": torch.Tensor.long, "double": torch.Tensor.double, "half": torch.Tensor.half, "bool": torch.Tensor.bool},
    **{"sparse": torch.Tensor.to_sparse, "list": torch.Tensor.tolist, "none": lambda _: None},
    **{"meta": lambda w: w.to("meta"), "complex": lambda w: w.to(torch.complex64), "nan": lambda w: w * float("nan")},
    **{"expanded": lambda w: torch.ones(1).expand(w.shape), "huge": lambda _: torch.ones(1).expand(10**5, 10**5)},
    **{"other shape": lambda _: torch.zeros(1, 2, 3), "nothing": lambda w: w[:0]},
}

_MODELS: dict[str, dict[str, Any]] = {
    "20,000 dilations": {"aspp_rates": [1] * 20_000},
    "10^9 channels": {"aspp_channels": 10**9},
    "10^9 hidden channels": {"decoder_channels": 10**9},
    "the largest that is allowed": {"aspp_channels": 8192, "decoder_channels": 8192, "aspp_rates": [1] * 64},
    "the widest that is allowed": {"aspp_rates": [1023] * 2},
    "another ResNet": {"encoder": "resnet101"},
}

_TARGETS = (
    *("os.system", "subprocess.Popen", "../../x.Depth", "..", "this.s", "antigravity.X", "torch.nn.Linear"),
    *("multitask.evaluation.checkpoint_evaluation.evaluate_checkpoint", "multitask.tasks.base.Task", "multitask.no.X"),
)


def _places(group: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if place:
        yield place
    for key, value in group.items() if isinstance(group, dict) else ():
        yield from _places(value, (*place, key))


def _with(state: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    state = {**state, "config": copy.deepcopy(state["config"])}
    group = state
    for key in place[:-1]:
        group = group[key]
    group[place[-1]] = value
    return state


def _contents(good: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Checkpoints that are archives of torch.save, but hold what no run leaves."""
    places = [("config", *place) for place in _places(good["config"])] + [(key,) for key in good]
    for place in places:
        for name, value in ABSURD.items():
            yield f"{'.'.join(place)} is {name}", _with(good, place, value)
    for key in good:
        yield f"{key} is missing", {name: value for name, value in good.items() if name != key}
    weights, task = good["network"], good["config"]["task"]["depth"]
    for key in ("encoder.backbone.conv1.weight", "decoders.depth.output.weight"):
        for name, change in _TENSORS.items():
            yield f"{key} is {name}", {**good, "network": {**weights, key: change(weights[key])}}
    for name in ("a.b", "", "keys", "../y", "a\nb", "x" * 300):
        changed = _with(_with(good, ("config", "tasks"), [name]), ("config", "task"), {name: task})
        yield f"a task {name[:9]!r}", {**changed, "tasks": [name]}
    for target in _TARGETS:
        yield f"a task of {target}", _with(good, ("config", "task", "depth", "_target_"), target)
    for name, values in _MODELS.items():
        yield f"a model of {name}", _with(good, ("config", "model"), good["config"]["model"] | values)
    momentum = {number: {"momentum_buffer": torch.ones(7)} for number in good["optimizer"]["state"]}
    yield "momentum of another shape", {**good, "optimizer": {**good["optimizer"], "state": momentum}}
    for name, bad in {"short": torch.zeros(9, dtype=torch.uint8), "of floats": torch.zeros(5056)}.items():
        yield f"a random state {name}", {**good, "rng": {"torch": bad, "cuda": []}}


def _files(good: dict[str, Any], path: Path, ran: Path) -> Iterator[Case]:
    """Files that torch.save did not write."""
    attack = {**good, "more": Call(os.system, f"touch {ran}")}
    small_parts = {key: value for key, value in good.items() if key not in ("network", "optimizer", "rng")}

    def made(storage: Storage, size: int, stride: int) -> dict[str, Any]:
        return {**small_parts, "weighting": {}, "network": {"w": tensor(storage, (size,), (stride,))}}

    yield "code", lambda to: torch.save(attack, to)
    yield "code in an old file", lambda to: torch.save(attack, to, _use_new_zipfile_serialization=False)
    yield "compressed", lambda to: write(to, entries(path), 8)
    yield "3 GB of zeros", lambda to: write_torch(to, made(Storage(8 * 10**8), 8 * 10**8, 1), bytes(32 * 10**8), how=8)
    yield "a huge storage", lambda to: write_torch(to, made(Storage(10**9), 10**9, 1), bytes(16))
    yield "a huge tensor", lambda to: write_torch(to, made(Storage(4), 10**9, 0), bytes(16))
    yield "an old huge storage", lambda to: write_legacy(to, made(Storage(10**9, old=True), 4, 1), (4, bytes(16)))
    yield "huge bytes", lambda to: write_torch(to, Call(bytearray, 4 * 10**9))
    yield "nothing", lambda to: to.write_bytes(b"")
    yield "text", lambda to: to.write_text("weights")


def _command(name: str, path: Path, data: Path, out: Path) -> None:
    if name == "evaluate":
        given = [f"checkpoint={path}", f"data.root={data / 'tree'}"]
        evaluate_checkpoint(config(*given, name="evaluate"), given)
    elif name == "predict":
        run_predict(path, data / "photos", out / "predicted")
    elif name == "export":
        export_checkpoint(str(path), "onnx", str(out / "network.onnx"))
    elif name == "pretrained":
        Run(small(data / "tree", out / "run", "model.encoder=resnet10", f"model.pretrained={path}"))
    else:
        keys = ("model.encoder=resnet10", "trainer.max_steps=3", "trainer.val_every=2", f"trainer.resume={path}")
        Run(small(data / "tree", out / "run", *keys)).train()


def _outcome(name: str, path: Path, data: Path, out: Path) -> Outcome:
    """Runs a command on a file in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(_LONGEST)
        os.chdir(out)
        kind, said = "accepted", ""
        try:
            _command(name, path, data, out)
        except UserError as error:
            kind, said = "refused", str(error)
            kind = kind if len(said) < 2000 and not any(ord(sign) < 32 for sign in said) else "not one short line"
        except BaseException as error:  # whatever else comes of a file is a fault, and reported
            kind = "refused" if isinstance(error, OSError) and is_machine_fault(error) else "TRACEBACK"
            said = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        os.write(writing, json.dumps([kind, said[:2000], peak]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said_of_it = answer.read()
    os.waitpid(child, 0)
    return Outcome(*json.loads(said_of_it)) if said_of_it else Outcome("DIED", "", 0)


def _write(make: Callable[[Path], object], path: Path) -> bool:
    """Writes a file in a process of its own, which may take any memory; false if it cannot be made."""
    child = os.fork()
    if child == 0:
        sys.setrecursionlimit(10**5)
        try:
            make(path)
        except BaseException:  # such as a recursion too deep for pickle, or a text that it cannot encode
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def hostile(name: str, every: int) -> None:
    """Gives hostile checkpoints to a command, and prints what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        good = _trained(place / "data")
        path, ran = place / "given/models/c.pt", place / "ran"
        cases: list[Case] = [(what, lambda to, state=state: torch.save(state, to)) for what, state in _contents(good)]
        cases = cases[::every] + list(_files(good, place / "data/run" / LAST, ran))
        outcomes: Counter[str] = Counter()
        peak = 0.0
        for what, make in cases:
            for part in ("given", "out"):
                shutil.rmtree(place / part, ignore_errors=True)
            path.parent.mkdir(parents=True)
            (place / "out").mkdir()
            if not _write(make, path):
                outcomes["cannot be made"] += 1
                continue
            began = time.monotonic()
            outcome = _outcome(name, path, place / "data", place / "out")
            outcomes[outcome.kind] += 1
            peak = max(peak, outcome.megabytes)
            there = {item.name for item in (*place.iterdir(), *path.parent.parent.iterdir())}
            strange = there - {"data", "given", "out", "models"}
            slow = time.monotonic() - began > _LONGEST
            if outcome.kind not in ("accepted", "refused") or strange or slow or outcome.megabytes > _MOST_MB:
                print(
                    f"{what}: {outcome.kind}, {outcome.megabytes:.0f} MB, {sorted(strange)} {outcome.said}", flush=True
                )
        print(f"{name}: {len(cases)} checkpoints, {dict(outcomes)}, {peak:.0f} MB at most")


def rotten(number: int) -> None:
    """Damages a real checkpoint in so many ways, and prints how many were taken, and for what."""
    with tempfile.TemporaryDirectory() as folder:
        good = _trained(Path(folder) / "data")
        path = Path(folder) / "data/run" / LAST
        outcomes: Counter[str] = Counter()
        for kind, content in damaged(path.read_bytes(), np.random.default_rng(0), number):
            path.write_bytes(content)
            try:
                outcomes[f"{kind}: {'the same' if same(checkpoint.load(path), good) else 'ACCEPTED AND WRONG'}"] += 1
            except UserError:
                outcomes[f"{kind}: refused"] += 1
        print(*(f"{number:4d}  {what}" for what, number in sorted(outcomes.items())), sep="\n")


def _trained(folder: Path) -> dict[str, Any]:
    write_tree(folder / "tree", {"train": 6, "val": 3})
    write_photo(folder / "photos/a.png")
    Run(
        small(folder / "tree", folder / "run", "model.encoder=resnet10", "trainer.max_steps=2", "trainer.val_every=2")
    ).train()
    return checkpoint.load(folder / "run" / LAST)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    which, often = (*sys.argv[1:], *("damaged", "1")[len(sys.argv) - 1 :])
    if which == "damaged":
        rotten(100)
    else:
        hostile(which, int(often))
