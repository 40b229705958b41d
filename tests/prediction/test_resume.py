"""The same call, again, after a signal, a kill or an error has ended it."""

import json
from pathlib import Path
from typing import Any

import pytest

from multitask.data.layout import write_camera
from multitask.prediction.journal import Journal
from multitask.prediction.output import SceneWriter
from multitask.prediction.pictures import Picture, read_picture
from tests.prediction.made import run_predict, write_photo
from tests.trees import CAMERA


def names(folder: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (folder / "predictions.jsonl").read_text().splitlines()]


class Kill(BaseException):
    """As a signal ends the command."""


def test_predict_goes_on_where_it_was_ended(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(7):
        write_photo(tmp_path / f"in/{index}.png", (24, 48), index)
    run_predict(trained, tmp_path / "in", tmp_path / "whole", batch_size=1)
    write, done = SceneWriter.write, []

    def counted(self: SceneWriter, *given: Any) -> None:
        if len(done) == 3:
            raise Kill
        write(self, *given)
        done.append(given)

    monkeypatch.setattr(SceneWriter, "write", counted)
    with pytest.raises(Kill):
        run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=1)
    assert names(tmp_path / "out") == ["0", "1", "2"]
    assert len(list((tmp_path / "out").glob("*.png"))) == 3 * 4
    with pytest.raises(ValueError, match=r"needed a new or empty folder, or size=None as in the unfinished prediction"):
        run_predict(trained, tmp_path / "in", tmp_path / "out", size=[16, 32])
    monkeypatch.undo()
    before = (tmp_path / "out/0_panel.png").stat()
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=2)
    assert (predicted.count, predicted.kept) == (7, 3)
    assert str(predicted).startswith("7 pictures predicted, 3 of them before\n")
    assert (tmp_path / "out/0_panel.png").stat() == before
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "out").iterdir())) == 7 * 4 + 1


def test_predict_of_a_folder_that_holds_the_results_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_photo(tmp_path / f"{name}.png")
    monkeypatch.setattr(Journal, "write_lines", lambda *_: (_ for _ in ()).throw(Kill))
    with pytest.raises(Kill):
        run_predict(trained, tmp_path, tmp_path / "out")
    monkeypatch.undo()
    assert run_predict(trained, tmp_path, tmp_path / "out").count == 2
    assert names(tmp_path / "out") == ["a", "b"]


def test_predict_with_a_camera_goes_on_with_pictures_of_its_size(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_camera(tmp_path / "camera.json", CAMERA)
    write_photo(tmp_path / "in/a.png", (32, 64))
    monkeypatch.setattr(Journal, "write_lines", lambda *_: (_ for _ in ()).throw(Kill))
    with pytest.raises(Kill):
        run_predict(trained, tmp_path / "in", tmp_path / "out", camera=str(tmp_path / "camera.json"))
    monkeypatch.undo()
    write_photo(tmp_path / "in/b.png", (16, 32))
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", camera=str(tmp_path / "camera.json"))
    assert (predicted.count, predicted.kept, len(predicted.failures)) == (1, 1, 1)
    assert "b.png: needed 32 x 64 px, as the first picture" in predicted.failures[0]


def test_predict_retries_what_could_not_be_read_before(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "in/a.png")
    (tmp_path / "in/0.png").touch()
    monkeypatch.setattr(Journal, "write_lines", lambda *_: (_ for _ in ()).throw(Kill))
    with pytest.raises(Kill):
        run_predict(trained, tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    write_photo(tmp_path / "in/0.png")
    assert run_predict(trained, tmp_path / "in", tmp_path / "out").count == 2
    assert names(tmp_path / "out") == ["0", "a"]


def test_predict_ended_early_reads_no_further(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(40):
        write_photo(tmp_path / f"in/{index:02d}.png", (8, 16), index)
    read: list[Path] = []

    def noted(path: Path, least: tuple[int, int]) -> Picture:
        read.append(path)
        return read_picture(path, least)

    def ended(*_: object) -> None:
        raise Kill

    monkeypatch.setattr("multitask.prediction.command.read_picture", noted)
    monkeypatch.setattr(SceneWriter, "write", ended)
    with pytest.raises(Kill):
        run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=1)
    assert len(read) <= 9, "the four at once that are predicted, the four after them, and one"
