import errno
import os
import re
from pathlib import Path

import pytest

from multitask.data.reading import opened, read_text, visible


def test_text_is_read_without_the_mark_of_its_coding(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbffx: 1\r\nk\xc3\xb6ln")
    assert read_text(tmp_path / "a") == "fx: 1\r\nköln"


def test_what_is_no_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path, words in (
        (tmp_path, "needed a file, found a folder"),
        (tmp_path / "pipe", "needed a file, found a pipe or device"),
        (Path("/dev/null"), "needed a file, found a pipe or device"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "file/none", "no such file"),
        (tmp_path / "loop", "could not be read (Too many levels of symbolic links)"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{path}: {words}")), opened(path):
            pytest.fail("there is nothing to read")


def test_file_that_cannot_be_read_to_its_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    words = re.escape(f"{tmp_path / 'a'}: could not be read (Input/output error)")
    with pytest.raises(ValueError, match=words), opened(tmp_path / "a"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_visible_passes_over_hidden_files_and_what_lies_in_hidden_folders(tmp_path: Path) -> None:
    root = tmp_path / ".hidden" / "data"  # where the data set lies is its owner's affair
    for name in ("ulm/a.png", "ulm/._a.png", ".cache/a.png", "ulm/.a/a.png", ".a.png", "b.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert sorted(visible(root, "*/*.png")) == [root / "ulm/a.png"]
    assert sorted(visible(root, "*")) == [root / "b.png", root / "ulm"]
    assert list(visible(root / "none", "*")) == []


def test_folder_that_cannot_be_read_is_named_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if folder.name == "ulm":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    for city in ("bonn", "ulm"):
        (tmp_path / city).mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'ulm'}: could not be read (Permission denied)")):
        list(visible(tmp_path, "*/*.png"))
