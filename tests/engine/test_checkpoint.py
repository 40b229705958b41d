import os
import pickle
import resource
import signal
import stat
from pathlib import Path

import pytest
import torch

from multitask.engine.checkpoint import VERSION, load, load_network, save


def state(**changes: object) -> dict[str, object]:
    keys = ("step", "network", "weighting", "optimizer", "scaler", "rng", "score", "config", "tasks")
    return {**dict.fromkeys(keys, 0), "network": {"w": torch.arange(4.0)}, **changes}


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    save(tmp_path / "deep/er/last.pt", state(step=7, config={"a": [1, 2.5, None, "x", True]}))
    loaded = load(tmp_path / "deep/er/last.pt")
    assert loaded["step"] == 7
    assert loaded["config"] == {"a": [1, 2.5, None, "x", True]}
    assert torch.equal(loaded["network"]["w"], torch.arange(4.0))
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["last.pt"]


def test_save_on_a_full_disk_keeps_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(path, state(step=1))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"last\.pt: could not save .*; the checkpoint before it is untouched"):
            save(path, state(step=2, network={"w": torch.zeros(1_000_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load(path)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_save_that_cannot_rename_says_that_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ValueError, match=r"No space left on device.*there was none before it"):
        save(tmp_path / "last.pt", state())
    assert list(tmp_path.iterdir()) == []


def test_save_needs_no_folder_that_can_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    save(tmp_path / "a.pt", {"step": 3})
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 3


def test_load_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"checkpoint=.*gone\.pt: no such file"):
        load(tmp_path / "gone.pt")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_load_of_a_truncated_file_names_it(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pt"
    save(path, state())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=rf"last\.pt: not a readable checkpoint, {path.stat().st_size} bytes"):
        load(path)


def test_load_of_something_else_names_what_is_missing(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"not a checkpoint of this package, it lacks \['classes', 'config'"):
        load(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="not a checkpoint of this package"):
        load(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load(tmp_path / "text.pt")


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_load_runs_no_code(tmp_path: Path, plain_pickle: bool) -> None:
    bomb = {**state(), "version": 1, "classes": [], "extra": Attack(tmp_path / "attacked")}
    if plain_pickle:
        (tmp_path / "bomb.pt").write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load(tmp_path / "bomb.pt")
    assert not (tmp_path / "attacked").exists()


def test_load_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "new.pt", state(version=VERSION + 1))
    with pytest.raises(ValueError, match=f"needed version {VERSION} or older, found {VERSION + 1}"):
        load(tmp_path / "new.pt")


def test_load_of_another_class_table_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "other.pt", state(classes=["cat", "dog"]))
    with pytest.raises(ValueError, match=r"needed the classes \['road'.*found \['cat', 'dog'\]"):
        load(tmp_path / "other.pt")


def test_load_network_of_another_architecture_names_the_first_difference() -> None:
    network = torch.nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"checkpoint=x\.pt: .*at 'weight' needed \(3, 2\), found \(4, 2\)"):
        load_network(network, {"network": torch.nn.Linear(2, 4).state_dict()}, "x.pt")
    with pytest.raises(ValueError, match=r"at 'bias' needed \(3,\), found nothing"):
        load_network(network, {"network": torch.nn.Linear(2, 3, bias=False).state_dict()}, "x.pt")
    with pytest.raises(ValueError, match=r"at 'more' needed nothing, found \(1,\)"):
        load_network(network, {"network": {**network.state_dict(), "more": torch.zeros(1)}}, "x.pt")
