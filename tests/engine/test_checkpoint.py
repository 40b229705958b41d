import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from multitask.data.class_tables import table_of
from multitask.engine.checkpoint import VERSION, load, load_network, save, table_of_run
from multitask.errors import UserError
from tests.cityscapes import CITYSCAPES
from tests.fulldisk import full_disk
from tests.states import state


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    save(tmp_path / "deep/er/last.pt", state(step=7, config={"a": [1, 2.5, None, "x", True]}))
    loaded = load(tmp_path / "deep/er/last.pt")
    assert loaded["step"] == 7
    assert loaded["config"] == {"a": [1, 2.5, None, "x", True]}
    assert torch.equal(loaded["network"]["w"], torch.arange(4.0))
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["last.pt"]


def test_load_gives_parameters_of_older_versions_their_names_of_today(tmp_path: Path) -> None:
    names = {"encoder.resnet.conv1.weight": 1.0, "encoder.aspp.encoder.resnet.w": 2.0, "decoders.a.w": 3.0}
    network = {name: torch.tensor(value) for name, value in names.items()}
    save(tmp_path / "old.pt", state(version=2, network=network))
    found = load(tmp_path / "old.pt")["network"]
    today = {"encoder.backbone.conv1.weight": 1.0, "encoder.aspp.encoder.resnet.w": 2.0, "decoders.a.w": 3.0}
    assert {name: value.item() for name, value in found.items()} == today
    save(tmp_path / "new.pt", state(network=network))
    assert load(tmp_path / "new.pt")["network"].keys() == names.keys()


def test_save_on_a_full_disk_keeps_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(path, state(step=1))
    untouched = r"last\.pt: .*\(File too large\); the checkpoint before it is untouched"
    with full_disk(100_000), pytest.raises(UserError, match=untouched):
        save(path, state(step=2, network={"w": torch.zeros(1_000_000)}))
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


def test_save_keeps_the_one_before_where_there_are_no_hard_links_and_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    save(tmp_path / "last.pt", {"step": 3})
    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"No space left on device\); the checkpoint before it is untouched$"):
        save(tmp_path / "last.pt", {"step": 4}, tmp_path / "previous.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 3


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


def test_class_table_is_the_one_that_was_saved(tmp_path: Path) -> None:
    content = {"name": "pets", "classes": [{"name": "cat", "id": 3, "instances": True}, {"name": "dog", "id": 0}]}
    for table in (table_of(content, ""), CITYSCAPES):
        save(tmp_path / "last.pt", state(classes=table.content()))
        found = table_of_run(load(tmp_path / "last.pt"), "last.pt")
        assert (found, found.name) == (table, table.name)


def test_class_table_of_older_versions_is_that_of_cityscapes() -> None:
    assert table_of_run({"classes": list(CITYSCAPES.names)}, "last.pt") == CITYSCAPES
    with pytest.raises(UserError, match=r"last\.pt: needed the classes \['road'.*found \['cat', 'dog'\]"):
        table_of_run({"classes": ["cat", "dog"]}, "last.pt")
    with pytest.raises(UserError, match=r"last\.pt: classes: classes: needed a list of classes, found \[\]"):
        table_of_run({"classes": {"classes": []}}, "last.pt")


def test_load_network_of_another_architecture_names_the_first_difference() -> None:
    network = torch.nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"checkpoint=x\.pt: .*at 'weight' needed \(3, 2\), found \(4, 2\)"):
        load_network(network, {"network": torch.nn.Linear(2, 4).state_dict()}, "x.pt")
    with pytest.raises(ValueError, match=r"at 'bias' needed \(3,\), found nothing"):
        load_network(network, {"network": torch.nn.Linear(2, 3, bias=False).state_dict()}, "x.pt")
    with pytest.raises(ValueError, match=r"at 'more' needed nothing, found \(1,\)"):
        load_network(network, {"network": {**network.state_dict(), "more": torch.zeros(1)}}, "x.pt")


def test_load_network_of_other_numbers_names_the_first() -> None:
    network = torch.nn.Linear(2, 3)
    whole = network.state_dict()
    with pytest.raises(UserError, match=r"another architecture: at 'weight' needed torch\.float32, found torch\.int64"):
        load_network(network, {"network": {**whole, "weight": whole["weight"].long()}}, "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: spoilt: at 'bias' needed finite numbers, found 3 that are not"):
        load_network(network, {"network": {**whole, "bias": whole["bias"] / 0}}, "x.pt")


def test_load_network_makes_room_only_for_what_fits() -> None:
    whole = torch.nn.Linear(2, 3).state_dict()
    with torch.device("meta"):
        network, huge = torch.nn.Linear(2, 3), torch.nn.Linear(10**6, 10**6)
    with pytest.raises(UserError, match=r"at 'weight' needed \(1000000, 1000000\), found \(3, 2\)"):
        load_network(huge, {"network": whole}, "x.pt")
    load_network(network, {"network": whole}, "x.pt")
    assert torch.equal(network(torch.ones(1, 2)), torch.nn.functional.linear(torch.ones(1, 2), *whole.values()))


def test_load_of_a_file_that_a_disk_has_changed_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "last.pt", state())
    whole = (tmp_path / "last.pt").read_bytes()
    at = whole.index(torch.arange(4.0).numpy().tobytes()) + 6
    (tmp_path / "last.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UserError, match=r"last\.pt: not a readable checkpoint, \d+ bytes \(damaged: the check sum of "):
        load(tmp_path / "last.pt")


@pytest.mark.parametrize("key", sorted(state()))
def test_load_names_a_key_that_is_missing(tmp_path: Path, key: str) -> None:
    save(tmp_path / "last.pt", {name: value for name, value in state().items() if name != key})
    with pytest.raises(UserError, match=rf"last\.pt: not a checkpoint of this package, it lacks \['{key}'\]"):
        load(tmp_path / "last.pt")


def test_load_refuses_tensors_that_share_their_numbers(tmp_path: Path) -> None:
    """Each is as large as what is stored, and a network of them many times the file."""
    shared = torch.zeros(10_000)
    save(tmp_path / "last.pt", state(network={f"w{index}": shared for index in range(100)}))
    assert (tmp_path / "last.pt").stat().st_size < 100_000
    with pytest.raises(UserError, match="network: 4000000 bytes of tensors in a file of "):
        load(tmp_path / "last.pt")
