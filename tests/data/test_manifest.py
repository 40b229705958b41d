import json
import re
from pathlib import Path

import pytest

from multitask.data import manifest

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
    monkeypatch.setattr(manifest.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        manifest.write(tmp_path, NAME, {"seed": 5})
    assert json.loads((tmp_path / NAME).read_text()) == CONTENT


def test_interrupted_first_write_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / (NAME + ".tmp")).write_text("{")
    assert manifest.claim(tmp_path, NAME, CONTENT) is None
    manifest.write(tmp_path, NAME, CONTENT)
    assert manifest.claim(tmp_path, NAME, CONTENT) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
