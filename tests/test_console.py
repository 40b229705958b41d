import pytest

from multitask.console import Progress


def test_progress_without_a_terminal_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("pictures")
    for done in range(1, 41):
        progress(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"{done}/40 pictures" for done in range(4, 41, 4)]


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress("pictures")
    progress(1, 3)
    progress(3, 3)
    first, last = capsys.readouterr().err.strip("\r").split("\r")
    assert first.startswith(f"[{'#' * 10}{'.' * 20}] 1/3 pictures, ")
    assert last.startswith(f"[{'#' * 30}] 3/3 pictures, ")
    assert last.endswith("\n")
