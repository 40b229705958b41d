import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from multitask.errors import UserError
from multitask.files import atomic_writer
from multitask.prediction.journal import Entry, Journal, Origin, check_output_dir, journal, state
from tests.holding import held

CALL = {"input": "/photos", "camera": None, "size": [32, 64]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lines(folder: Path) -> list[object]:
    return [json.loads(line)["name"] for line in (folder / "predictions.jsonl").read_text().splitlines()]


def add(notes: Journal, name: str) -> None:
    notes.add(Origin(Path(f"/photos/{name}.jpg"), None, {"path": f"/photos/{name}.jpg"}), ["panel"], line_of(name))


def line_of(name: str) -> dict[str, object]:
    return {"name": name, "height": 4, "width": 8}


def entry_of(name: str) -> Entry:
    return Entry(None, {"path": f"/photos/{name}.jpg"}, ["panel"], (4, 8))


def killed(folder: Path, *done: str) -> None:
    """What a killed process leaves that has done some pictures."""

    class Kill(BaseException):
        pass

    try:
        with journal(folder, CALL) as notes:
            notes.begun = True
            for name in done:
                (folder / f"{name}_panel.png").touch()
                add(notes, name)
            raise Kill
    except Kill:
        (folder / "predictions.jsonl").unlink(missing_ok=True)


def test_check_output_dir_takes_a_new_or_empty_folder(tmp_path: Path) -> None:
    check_output_dir(tmp_path, CALL)
    check_output_dir(tmp_path / "new", CALL)
    assert list(tmp_path.iterdir()) == []


def test_check_output_dir_takes_what_a_killed_process_left(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "a.png") as file:
        (temporary,) = tmp_path.iterdir()
        left = Path(os.fspath(temporary) + "x")
        left.write_bytes(b"")
        file.write(b"")
    (tmp_path / "a.png").unlink()
    check_output_dir(tmp_path, CALL)
    with journal(tmp_path, CALL):
        assert names(tmp_path) == [".lock", "unfinished.jsonl"]


def test_check_output_dir_names_what_is_in_it(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"{index}.txt").touch()
    with pytest.raises(UserError, match=r"new or empty folder, found 0\.txt, 1\.txt, 2\.txt and 2 more$"):
        check_output_dir(tmp_path, CALL)
    with pytest.raises(UserError, match=r"output_dir=.*0\.txt: needed a folder, found a file"):
        check_output_dir(tmp_path / "0.txt", CALL)


def test_lines_appear_at_the_end_and_nothing_else_stays(tmp_path: Path) -> None:
    with journal(tmp_path / "out", CALL) as notes:
        for name in ("b", "a"):
            add(notes, name)
        assert names(tmp_path / "out") == [".lock", "unfinished.jsonl"]
    assert names(tmp_path / "out") == ["predictions.jsonl"]
    assert lines(tmp_path / "out") == ["b", "a"]


def test_lines_appear_where_an_error_ends_the_work(tmp_path: Path) -> None:
    def fail() -> None:
        with journal(tmp_path / "out", CALL) as notes:
            notes.begun = True
            add(notes, "a")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert names(tmp_path / "out") == ["predictions.jsonl", "unfinished.jsonl"]
    assert lines(tmp_path / "out") == ["a"]


def test_same_call_goes_on_and_its_lines_are_in_order(tmp_path: Path) -> None:
    killed(tmp_path, "a", "c")
    with journal(tmp_path, CALL) as notes:
        assert notes.earlier == {"a": entry_of("a"), "c": entry_of("c")}
        notes.keep("a")
        add(notes, "b")
        notes.keep("c")
    assert lines(tmp_path) == ["a", "b", "c"]
    assert names(tmp_path) == ["a_panel.png", "c_panel.png", "predictions.jsonl"]


def test_same_call_ended_twice_loses_no_line(tmp_path: Path) -> None:
    killed(tmp_path, "a", "b")
    killed(tmp_path, "c")
    with journal(tmp_path, CALL) as notes:
        assert list(notes.earlier) == ["a", "b", "c"]
        notes.keep("b")
    assert lines(tmp_path) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "torn", [b'{"name": "x"', b'{"name": "x"}', b"\0\0\0\0\n", b"[1]\n", b"\xff\xfe\n", b"9" * 5000 + b"\n"]
)
def test_line_that_was_not_finished_is_left_out(tmp_path: Path, torn: bytes) -> None:
    killed(tmp_path, "a")
    with (tmp_path / "unfinished.jsonl").open("ab") as file:
        file.write(torn)
    with journal(tmp_path, CALL) as notes:
        assert list(notes.earlier) == ["a"]
        notes.keep("a")
        add(notes, "b")
    assert lines(tmp_path) == ["a", "b"]


def test_another_call_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    killed(tmp_path, "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = r"needed a new or empty folder, or size=\[32,64\] as in the unfinished .*; found size=null"
    with pytest.raises(UserError, match=message):
        check_output_dir(tmp_path, {**CALL, "size": None})
    with pytest.raises(UserError, match=message), journal(tmp_path, {**CALL, "size": None}):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_call_with_a_key_fewer_or_more_is_another(tmp_path: Path) -> None:
    killed(tmp_path, "a")
    with pytest.raises(UserError, match=r"or input=/photos as in the unfinished .*; found input=null"):
        check_output_dir(tmp_path, {key: value for key, value in CALL.items() if key != "input"})
    with pytest.raises(UserError, match=r"or largest=null as in the unfinished .*; found largest=5"):
        check_output_dir(tmp_path, {**CALL, "largest": 5})


def test_call_with_a_file_that_has_changed_is_another(tmp_path: Path) -> None:
    path, out = tmp_path / "camera.json", tmp_path / "out"
    path.write_text("1")
    with suppress(KeyboardInterrupt), journal(out, {**CALL, "camera": state(path)}) as notes:
        add(notes, "a")
        notes.begun = True
        raise KeyboardInterrupt
    check_output_dir(out, {**CALL, "camera": state(path)})
    with pytest.raises(UserError, match=rf"or camera={path} as in the unfinished .*; found camera=null$"):
        check_output_dir(out, CALL)
    path.write_text("23")
    with pytest.raises(UserError, match=rf"or camera={path} as it was when .*; found that it has changed since$"):
        check_output_dir(out, {**CALL, "camera": state(path)})


def test_picture_that_is_done_again_has_one_line(tmp_path: Path) -> None:
    killed(tmp_path, "a", "b")
    with journal(tmp_path, CALL) as notes:
        notes.drop("a")
        assert notes.unmade([Path("/photos/a.jpg"), Path("/photos/b.jpg")]) == ["b"]
        assert notes.unmade([Path("/photos/c.jpg")]) == []
        add(notes, "a")
    assert lines(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("content", [b"my own notes\n", b'{"x": 1}\n', b"notes"])
def test_somebody_s_file_of_the_same_name_is_no_journal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "unfinished.jsonl").write_bytes(content)
    for attempt in (check_output_dir, lambda folder, call: journal(folder, call).__enter__()):
        with pytest.raises(UserError, match=r"needed a new or empty folder, found unfinished\.jsonl"):
            attempt(tmp_path, CALL)
    assert (tmp_path / "unfinished.jsonl").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b'{"ca', b'{"call": {"inp'])
def test_call_that_was_killed_at_once_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "unfinished.jsonl").write_bytes(content)
    with journal(tmp_path, CALL) as notes:
        add(notes, "a")
    assert lines(tmp_path) == ["a"]


def test_two_processes_do_not_predict_into_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with held(folder), pytest.raises(UserError, match=r"output_dir=.*: another process is predicting here$"):
        journal(folder, CALL).__enter__()
    assert names(folder) == [".lock"]
    with journal(folder, CALL) as notes:
        add(notes, "a")
    assert names(folder) == ["predictions.jsonl"]


def test_folder_that_another_process_has_filled_meanwhile_is_refused(tmp_path: Path) -> None:
    check_output_dir(tmp_path, CALL)
    with journal(tmp_path, CALL) as notes:
        add(notes, "a")
    with pytest.raises(UserError, match=r"found predictions\.jsonl"), journal(tmp_path, CALL):
        pass
    assert names(tmp_path) == ["predictions.jsonl"]


@pytest.mark.parametrize(
    "plant",
    [lambda path: path.symlink_to(path.parent / "other"), os.mkfifo, Path.mkdir],
    ids=["link", "pipe", "folder"],
)
def test_journal_follows_no_link_and_opens_no_pipe(tmp_path: Path, plant: Callable[[Path], object]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/other").write_text("precious")
    plant(tmp_path / "out/unfinished.jsonl")
    with pytest.raises(UserError), journal(tmp_path / "out", CALL):
        pass
    assert (tmp_path / "out/other").read_text() == "precious"


def test_full_disk_leaves_whole_lines_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.pwrite, [350]

    def limited(descriptor: int, content: bytes, offset: int) -> int:
        taken = min(len(content), room[0])
        if not taken:
            raise OSError(28, "No space left on device")
        room[0] -= taken
        return write(descriptor, content[:taken], offset)

    def predict() -> None:
        with journal(tmp_path, CALL) as notes:
            notes.begun = True
            for name in "abcdefghij":
                add(notes, name)

    monkeypatch.setattr("os.pwrite", limited)
    with pytest.raises(UserError, match=r"unfinished\.jsonl: could not be written \(No space left on device\)"):
        predict()
    assert lines(tmp_path) == ["a", "b"]
    monkeypatch.undo()
    with journal(tmp_path, CALL) as notes:
        assert list(notes.earlier) == ["a", "b"]
