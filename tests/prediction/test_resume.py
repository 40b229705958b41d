"""The same call, again, after a signal, a kill or an error has ended it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from multitask.data.layout import write_camera
from multitask.errors import UserError
from multitask.prediction.decoding import Picture, read_picture
from multitask.prediction.journal import Journal
from multitask.prediction.output import SceneWriter
from tests.prediction.made import run_predict, write_photo
from tests.trees import CAMERA


def names(folder: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (folder / "predictions.jsonl").read_text().splitlines()]


class Kill(BaseException):
    """As a signal ends the command."""


def ended(trained: Path, given: Path, output: Path, count: int, **changed: Any) -> None:
    """A call that a signal ends when so many pictures are done."""
    write, done = SceneWriter.write, []

    def counted(self: SceneWriter, *arguments: Any) -> None:
        if len(done) == count:
            raise Kill
        write(self, *arguments)
        done.append(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SceneWriter, "write", counted)
        with pytest.raises(Kill):
            run_predict(trained, given, output, batch_size=1, **changed)


def as_if_never_ended(trained: Path, given: Path, output: Path) -> bool:
    """Whether the same files are there that one call would have written."""
    run_predict(trained, given, output.parent / "whole")
    one, other = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (output, output.parent / "whole"))
    return one == other


def test_predict_goes_on_where_it_was_ended(trained: Path, tmp_path: Path) -> None:
    for index in range(7):
        write_photo(tmp_path / f"in/{index}.png", (24, 48), index)
    run_predict(trained, tmp_path / "in", tmp_path / "whole", batch_size=1)
    ended(trained, tmp_path / "in", tmp_path / "out", 3)
    assert names(tmp_path / "out") == ["0", "1", "2"]
    assert len(list((tmp_path / "out").glob("*.png"))) == 3 * 4
    with pytest.raises(ValueError, match=r"needed a new or empty folder, or size=null as in the unfinished prediction"):
        run_predict(trained, tmp_path / "in", tmp_path / "out", size=[16, 32])
    before = (tmp_path / "out/0_panel.png").stat().st_mtime_ns
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=2)
    assert (predicted.count, predicted.kept) == (7, 3)
    assert str(predicted).startswith("7 pictures predicted, 3 of them before\n")
    assert (tmp_path / "out/0_panel.png").stat().st_mtime_ns == before
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

    def noted(path: Path, min_size: tuple[int, int]) -> Picture:
        read.append(path)
        return read_picture(path, min_size)

    def ended(*_: object) -> None:
        raise Kill

    monkeypatch.setattr("multitask.prediction.command.read_picture", noted)
    monkeypatch.setattr(SceneWriter, "write", ended)
    with pytest.raises(Kill):
        run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=1)
    assert len(read) <= 9, "the four at once that are predicted, the four after them, and one"


def test_predict_of_another_picture_of_the_same_name_predicts_it(trained: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        write_photo(tmp_path / "in" / name, seed=seed)
    ended(trained, tmp_path / "in", tmp_path / "out", 1)
    (tmp_path / "in/a.jpg").rename(tmp_path / "in/zz.jpg")
    write_photo(tmp_path / "in/a.png", seed=9)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.kept, predicted.failures) == (4, 0, [])
    assert as_if_never_ended(trained, tmp_path / "in", tmp_path / "out")


def test_predict_of_a_picture_that_was_edited_predicts_it_again(trained: Path, tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        write_photo(tmp_path / f"in/{name}.png", seed=seed)
    ended(trained, tmp_path / "in", tmp_path / "out", 2)
    before = (tmp_path / "in/a.png").stat()
    write_photo(tmp_path / "in/a.png", seed=9)
    os.utime(tmp_path / "in/a.png", ns=(0, before.st_mtime_ns + 1))
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.kept) == (3, 1)
    assert as_if_never_ended(trained, tmp_path / "in", tmp_path / "out")


def test_predict_of_a_picture_that_has_another_name_now_leaves_nothing_of_the_old(
    trained: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate(("a.bmp", "b.bmp", "c.bmp")):
        write_photo(tmp_path / "in" / name, seed=seed)
    ended(trained, tmp_path / "in", tmp_path / "out", 2)
    write_photo(tmp_path / "in/a.png", seed=9)  # by which both keep their endings
    (tmp_path / "in/b.bmp").write_text("no picture any more")
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.kept, len(predicted.failures)) == (3, 0, 1)
    assert as_if_never_ended(trained, tmp_path / "in", tmp_path / "out")


def test_predict_keeps_what_it_made_of_pictures_that_are_gone(trained: Path, tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        write_photo(tmp_path / f"in/{name}.png", seed=seed)
    ended(trained, tmp_path / "in", tmp_path / "out", 2)
    (tmp_path / "in/a.png").unlink()
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.kept) == (2, 1)
    assert names(tmp_path / "out") == ["b", "c", "a"]
    assert (tmp_path / "out/a_panel.png").exists()


def test_predict_makes_files_again_that_are_gone_or_not_whole(trained: Path, tmp_path: Path) -> None:
    for seed, name in enumerate("abcdef"):
        write_photo(tmp_path / f"in/{name}.png", seed=seed)
    ended(trained, tmp_path / "in", tmp_path / "out", 5)
    (tmp_path / "out/a_panel.png").unlink()
    (tmp_path / "out/b_panel.png").write_bytes(b"")  # as a power cut leaves what was not on the disk yet
    whole = (tmp_path / "out/c_disparity.png").read_bytes()
    (tmp_path / "out/c_disparity.png").write_bytes(whole[:-1])
    whole = (tmp_path / "out/d_class_ids.png").read_bytes()
    (tmp_path / "out/d_class_ids.png").write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.kept) == (6, 1)
    assert as_if_never_ended(trained, tmp_path / "in", tmp_path / "out")


def test_predict_with_another_camera_is_another_call(trained: Path, tmp_path: Path) -> None:
    camera = tmp_path / "camera.json"
    write_camera(camera, CAMERA)
    for name in "ab":
        write_photo(tmp_path / f"in/{name}.png", (32, 64))
    ended(trained, tmp_path / "in", tmp_path / "out", 1, camera=str(camera))
    with pytest.raises(UserError, match=rf"or camera={camera} as in the unfinished .*; found camera=null"):
        run_predict(trained, tmp_path / "in", tmp_path / "out")
    write_camera(camera, CAMERA.scaled(0.5, 0.5))
    with pytest.raises(UserError, match=rf"or camera={camera} as it was .*; found that it has changed since"):
        run_predict(trained, tmp_path / "in", tmp_path / "out", camera=str(camera))


def test_predict_with_a_checkpoint_that_has_changed_is_another_call(trained: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.pt"
    shutil.copy(trained, checkpoint)
    write_photo(tmp_path / "in/a.png")
    ended(checkpoint, tmp_path / "in", tmp_path / "out", 0)
    write_photo(tmp_path / "in/b.png")
    ended(checkpoint, tmp_path / "in", tmp_path / "out", 1)
    os.utime(checkpoint, ns=(0, 0))
    with pytest.raises(UserError, match=rf"or checkpoint={checkpoint} as it was .*; found that it has changed since"):
        run_predict(checkpoint, tmp_path / "in", tmp_path / "out")


def test_predict_with_a_camera_takes_one_size_of_what_was_done_before(trained: Path, tmp_path: Path) -> None:
    write_camera(tmp_path / "camera.json", CAMERA)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.png").write_text("no picture yet")
    for name in "ab":
        write_photo(tmp_path / f"in/{name}.png", (32, 64))
    ended(trained, tmp_path / "in", tmp_path / "out", 1, camera=str(tmp_path / "camera.json"))
    write_photo(tmp_path / "in/0.png", (16, 32))
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", camera=str(tmp_path / "camera.json"))
    assert (predicted.count, predicted.kept, len(predicted.failures)) == (1, 0, 2)
    assert names(tmp_path / "out") == ["0"]
    assert not (tmp_path / "out/a_panel.png").exists()
