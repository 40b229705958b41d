import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multitask.errors import UserError
from multitask.files import LOCK, exclusive
from tests.holding import held


def test_folder_is_held_within_and_left_as_it_was(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run", "training"):
        assert (tmp_path / "run" / LOCK).exists()
    assert list((tmp_path / "run").iterdir()) == []


def test_folder_that_another_process_holds_is_refused_with_its_key(tmp_path: Path) -> None:
    with (
        held(tmp_path / "run"),
        pytest.raises(UserError, match=r"^data.root=.*run: another process is writing frames here$"),
        exclusive(tmp_path / "run", "writing frames", key="data.root"),
    ):
        pytest.fail("two hold the folder")


@pytest.mark.parametrize("again", [False, True])
def test_file_whose_name_was_taken_away_after_it_was_opened_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    lockf, opened = fcntl.lockf, []

    def end_the_holder_first(descriptor: int, how: int) -> None:
        if not opened:  # the holder ends between the opening of the file and the lock, and another begins perhaps
            (tmp_path / LOCK).unlink()
            if again:
                (tmp_path / LOCK).touch()
        opened.append(descriptor)
        lockf(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", end_the_holder_first)
    with exclusive(tmp_path, "training"):
        assert len(opened) == 2
        assert os.path.samestat(os.fstat(opened[1]), (tmp_path / LOCK).stat())


_PROCESS = """
import os, sys
from pathlib import Path
from multitask.files import exclusive
from multitask.errors import UserError

folder, held = Path(sys.argv[1]), 0
while held < 300:
    try:
        with exclusive(folder, "counting"):
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails where two are inside
            os.unlink(folder / "inside")
            held += 1
    except UserError:
        pass
"""


def test_processes_in_a_row_are_never_inside_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROCESS, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert [process.returncode for process in processes] == [0] * 4


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with exclusive(tmp_path, "training"):
        pass
    assert caplog.messages == [
        f"output_dir={tmp_path}: its file system has no locks; see to it that no other process is training here"
    ]


def test_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="needed a folder that can be written to"), exclusive(tmp_path / "run", "x"):
        pytest.fail("the link was followed")
    assert not (tmp_path / "elsewhere").exists()
