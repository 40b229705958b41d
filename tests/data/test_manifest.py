import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from multitask.data import manifest
from multitask.errors import UserError
from tests.holding import held
from tests.trees import KINDS

NAME = "set.json"
CONTENT = {"size": [128, 256], "seed": 0, "source": "/a"}


def test_new_or_empty_folder_may_be_claimed_and_is_not_changed(tmp_path: Path) -> None:
    assert manifest.claim(tmp_path, NAME, CONTENT) is None
    assert manifest.claim(tmp_path / "new" / "er", NAME, CONTENT) is None
    assert list(tmp_path.iterdir()) == []


def test_manifest_that_was_written_is_found(tmp_path: Path) -> None:
    root = tmp_path / "new" / "er"
    manifest.write(root, NAME, CONTENT)
    assert manifest.claim(root, NAME, CONTENT) == CONTENT
    assert [path.name for path in root.iterdir()] == [NAME]


def test_manifest_may_hold_more_and_stand_beside_other_files(tmp_path: Path) -> None:
    manifest.write(tmp_path, NAME, CONTENT | {"counts": {"train": 3}})
    (tmp_path / "leftImg8bit").mkdir()
    found = manifest.claim(tmp_path, NAME, CONTENT)
    assert found == CONTENT | {"counts": {"train": 3}}


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "other.json"])
def test_folder_with_foreign_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"data\.root={re.escape(str(tmp_path))}: .*{NAME}"):
        manifest.claim(tmp_path, NAME, CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"data\.root=.*file"):
        manifest.claim(tmp_path / "file", NAME, CONTENT)


@pytest.mark.parametrize(("key", "value"), [("size", [64, 128]), ("seed", 1), ("source", "/b"), ("version", 2)])
def test_manifest_with_another_value_is_refused_by_key(tmp_path: Path, key: str, value: object) -> None:
    manifest.write(tmp_path, NAME, CONTENT)
    with pytest.raises(ValueError, match=rf"needed {key} {re.escape(repr(value))}, found") as caught:
        manifest.claim(tmp_path, NAME, CONTENT | {key: value})
    assert repr(CONTENT.get(key)) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"null", b"[1]", b"\xff\xfe"])
def test_manifest_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / NAME))):
        manifest.claim(tmp_path, NAME, CONTENT)
    assert (tmp_path / NAME).read_bytes() == content


def test_interrupted_write_keeps_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    manifest.write(tmp_path, NAME, CONTENT)
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        manifest.write(tmp_path, NAME, {"seed": 5})
    assert json.loads((tmp_path / NAME).read_text()) == CONTENT


def test_what_killed_processes_leave_is_nobodys_and_is_removed_by_who_holds_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with held(root):
        (root / "camera/ulm").mkdir(parents=True)
        left = [root / ".multitask-0123", root / "camera/ulm/.multitask-4567"]
        manifest.write(root, NAME, CONTENT)
        for path in left:
            path.write_text("{")
        message = r"^data\.root=.*: another process is writing a data set here$"
        with pytest.raises(UserError, match=message), manifest.claimed(root, NAME, CONTENT):
            pytest.fail("another process holds it")
        assert all(path.exists() for path in left), "another process may be writing them"
    with manifest.claimed(root, NAME, CONTENT) as found:
        assert found == CONTENT
    assert not any(path.exists() for path in left)


def test_folder_of_a_killed_first_call_may_be_claimed(tmp_path: Path) -> None:
    for name in (".multitask-0123", ".lock"):
        (tmp_path / name).touch()
    assert manifest.claim(tmp_path, NAME, CONTENT) is None


def test_folder_is_claimed_again_once_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def slow(root: Path, *_: object, **__: object) -> Iterator[None]:
        manifest.write(root, NAME, {**CONTENT, "seed": 1})  # by another process, meanwhile
        yield

    monkeypatch.setattr(manifest, "exclusive", slow)
    with pytest.raises(ValueError, match="needed seed 0, found 1"), manifest.claimed(tmp_path, NAME, CONTENT):
        pytest.fail("the folder holds another data set")


def test_folder_that_is_refused_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    (tmp_path / ".multitask-0123").touch()
    with pytest.raises(ValueError, match="needed an empty folder"), manifest.claimed(tmp_path, NAME, CONTENT):
        pytest.fail("the folder holds a thesis")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".multitask-0123", "thesis.tex"]


# Frames that are missing


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        (
            manifest.SYNTHETIC,
            {"seed": 3, "size": [32, 64], "counts": {"train": 6, "val": 2}},
            "python scripts/prepare_data.py data=synthetic data.root={} 'data.image_size=[32,64]' data.seed=3 "
            "data.num_train=6 data.num_val=2",
        ),
        (
            manifest.TINY,
            {"source": "/a b", "size": [8, 16], "counts": {"train": 6}},
            "python scripts/prepare_data.py data=tiny_cityscapes data.root={} 'data.image_size=[8,16]' "
            "'data.source=/a b'",
        ),
    ],
)
def test_missing_frames_name_the_command_that_writes_them(
    tmp_path: Path, name: str, content: dict[str, object], command: str
) -> None:
    manifest.write(tmp_path, name, content)
    for there in (6, 7):
        manifest.check_frames(tmp_path, name, "train", dict.fromkeys(KINDS, there))
    manifest.check_frames(tmp_path, name, "test", {})
    with pytest.raises(ValueError, match=r"data\.root=") as caught:
        manifest.check_frames(tmp_path, name, "train", dict.fromkeys(KINDS, 4))
    assert str(caught.value) == (
        f"data.root={tmp_path}: needed the 6 frames of split 'train' that {name} names, found 4 image; "
        f"{command.format(tmp_path)} writes the others"
    )


def test_manifest_of_an_older_version_names_no_frames(tmp_path: Path) -> None:
    manifest.write(tmp_path, manifest.TINY, {"source": "/a", "size": [8, 16]})
    manifest.check_frames(tmp_path, manifest.TINY, "train", {"image": 1})


@pytest.mark.parametrize("counts", [3, [3], {"train": "3"}, {"train": True}])
def test_manifest_with_other_counts_is_refused(tmp_path: Path, counts: object) -> None:
    manifest.write(tmp_path, NAME, {"counts": counts})
    with pytest.raises(ValueError, match=rf"{NAME}: counts: needed a number of frames per split, found"):
        manifest.read(tmp_path, NAME)
