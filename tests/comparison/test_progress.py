import io
import os

import pytest

from multitask.comparison import progress
from multitask.comparison.plan import Job, Plan
from tests.comparison.made import CANDIDATES, EQUAL, EXPERIMENT, LEARNED, SINGLE, TASKS, result

PLAN = Plan(EXPERIMENT, TASKS, [0, 1], "test", [1.0], 9)
DONE = {Job(SINGLE, "test", 1.0, seed).key: result("semantic", {}, seed=seed) for seed in (0, 1)}
FAILED = {Job(EQUAL, "test", 1.0, 1).key}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((40, 6)))


def test_summary_counts_what_is_left_and_how_long_it_takes() -> None:
    # 2 candidates, 3 rows that are known and 1 that follows, of 2 seeds; 2 done, 1 failed, the rest a minute each.
    assert progress.summary(PLAN, DONE, FAILED, 1, 1) == "2 of about 10 runs done, 1 failed, 7 left, about 7m00s left"
    assert progress.summary(PLAN, DONE, FAILED, 2, 2).endswith("about 3m30s left")
    assert progress.summary(PLAN, {}, set(), 1, 1) == "0 of about 10 runs done, 0 failed, 10 left, time left unknown"


def test_table_has_a_line_for_each_row() -> None:
    running = [(Job(EQUAL, "test", 1.0, 0), "at step 30")]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in progress.table(PLAN, DONE, FAILED, running)
    ]
    assert lines[0] == ["row", "done", "failed", "left", "running"]
    table = {cells[0]: cells[1:] for cells in lines[2:]}
    assert table[SINGLE.name] == ["2", "-", "-", ""]
    assert table[EQUAL.name] == ["-", "1", "-", "test-rate1-seed0 at step 30"]
    assert table[LEARNED.name] == ["-", "-", "3", ""], "its two seeds, and the search for the sum of its weights"
    assert {row.name for row in CANDIDATES} < table.keys()


def test_display_redraws_in_place_on_a_terminal() -> None:
    stream = Terminal()
    display = progress.Display(stream)
    display.show(["one", "two"])
    display.show(["one", "two"])
    assert stream.getvalue() == "one\ntwo\n", "what is there already is not drawn again"
    display.show(["three"])
    display.clear()
    display.clear()
    assert stream.getvalue() == "one\ntwo\n\x1b[2F\x1b[Jthree\n\x1b[1F\x1b[J"


def test_display_fits_the_terminal() -> None:
    stream = Terminal()
    progress.Display(stream).show(["x" * 100] * 100)
    assert stream.getvalue() == ("x" * 39 + "\n") * 5


def test_display_elsewhere_shows_nothing() -> None:
    stream = io.StringIO()
    display = progress.Display(stream)
    display.show(["one"])
    display.clear()
    assert not display.live
    assert stream.getvalue() == ""
