import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from multitask import files
from multitask.errors import UserError, is_machine_fault, reason
from multitask.files import (
    atomic_writer,
    is_leftover,
    keep,
    make_folder,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)
from tests.fulldisk import full_disk


def test_file_appears_at_the_end_and_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file"
    with atomic_writer(path) as file:
        file.write(b"new")
        assert not path.exists()
        assert [is_leftover(found) for found in path.parent.iterdir()] == [True]
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    write_text(tmp_path / "file", "")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_a_write_leaves_the_file_before_it_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_writer(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_full_disk_is_said_with_the_file_and_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with full_disk(100), pytest.raises(UserError, match=r"file: could not be written \(File too large\)"):
        write_bytes(path, b"x" * 1000)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_folder_in_the_place_of_the_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match=r"file: could not be written \(Is a directory\)"):
        write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match=r"a/b: needed a folder that can be written to \(Not a directory\)"):
        make_folder(tmp_path / "a/b")


def test_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "file").symlink_to(tmp_path / "other")
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_writers_of_one_file_never_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [str(number) * 50_000 for number in range(8)]

    def write(content: str) -> None:
        for _ in range(25):
            write_text(path, content)
            assert path.read_text() in contents

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert list(tmp_path.iterdir()) == [path]


def test_json_that_cannot_be_written_leaves_the_file_before_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'


def test_kept_file_outlives_its_replacement(tmp_path: Path) -> None:
    last, previous = tmp_path / "last", tmp_path / "previous"
    for number in range(3):
        keep(last, previous)
        write_text(last, str(number))
    assert (last.read_text(), previous.read_text()) == ("2", "1")
    assert sorted(tmp_path.iterdir()) == [last, previous]


def test_kept_twice_a_file_has_both_names(tmp_path: Path) -> None:
    last, previous = tmp_path / "last", tmp_path / "previous"
    write_text(last, "new")
    keep(last, previous)
    keep(last, previous)
    assert last.read_text() == previous.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [last, previous]


def test_file_system_without_second_names_keeps_the_file_under_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(files.os, "link", refuse)
    write_text(tmp_path / "last", "new")
    keep(tmp_path / "last", tmp_path / "previous")
    assert [path.name for path in tmp_path.iterdir()] == ["previous"]


def test_leftovers_are_removed_and_no_other_file(tmp_path: Path) -> None:
    names = ["file", ".hidden", "file.tmp"]
    for name in names:
        (tmp_path / name).touch()
    with atomic_writer(tmp_path / "killed"):
        (unfinished,) = (path for path in tmp_path.iterdir() if is_leftover(path))
        os.link(unfinished, tmp_path / f"{unfinished.name}-of-another")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "killed"])


def test_faults_of_the_machine_are_told_from_those_of_the_program() -> None:
    assert is_machine_fault(OSError(28, "No space left on device"))
    assert is_machine_fault(PermissionError(13, "Permission denied"))
    assert not is_machine_fault(FileNotFoundError(2, "No such file or directory"))
    assert not is_machine_fault(OSError("no number"))


def test_reason_is_one_line_in_the_system_s_words() -> None:
    assert reason(OSError(28, "No space left on device", "a")) == "No space left on device"
    assert reason(RuntimeError("first\n  second")) == "first second"
    assert reason(EOFError()) == "EOFError"
