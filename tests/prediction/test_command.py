import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from multitask.data.layout import read_png, write_camera
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.prediction import Predictor
from tests.prediction.made import photo, run_predict, write_photo
from tests.trees import CAMERA


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_predict_writes_each_picture_s_scene(trained: Path, predictor: Predictor, tmp_path: Path) -> None:
    for index, size in enumerate([(24, 48), (48, 24), (30, 60)]):
        write_photo(tmp_path / f"in/{index}.png", size, index)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert str(predicted) == f"3 pictures predicted\nwritten to {tmp_path / 'out'}"
    for index in range(3):
        scene = predictor.predict(tmp_path / f"in/{index}.png")
        np.testing.assert_array_equal(read_png(tmp_path / f"out/{index}_class_ids.png", "class_ids"), scene.class_ids)
    assert [line["name"] for line in lines(tmp_path / "out")] == ["0", "1", "2"]
    assert len(list((tmp_path / "out").iterdir())) == 3 * 4 + 1


def test_predict_keeps_the_order_of_many_pictures_of_several_sizes(trained: Path, tmp_path: Path) -> None:
    sizes = [(16, 32), (32, 16), (20, 20)]
    for index in range(11):
        write_photo(tmp_path / f"in/{index:02d}.png", sizes[index % 3], index)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=2)
    assert predicted.count == 11
    found = [(line["name"], (line["height"], line["width"])) for line in lines(tmp_path / "out")]
    assert found == [(f"{index:02d}", sizes[index % 3]) for index in range(11)]


def test_predict_does_not_depend_on_the_batch(trained: Path, tmp_path: Path) -> None:
    for index in range(5):
        write_photo(tmp_path / f"in/{index}.png", (24, 48), index)
    for batch_size in (1, 3):
        run_predict(trained, tmp_path / "in", tmp_path / f"out{batch_size}", batch_size=batch_size)
    for path in (tmp_path / "out1").glob("*_class_ids.png"):
        other = read_png(tmp_path / "out3" / path.name, "class_ids")
        assert (read_png(path, "class_ids") == other).mean() > 0.99


def test_predict_of_the_same_names_in_several_folders_loses_none(trained: Path, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_photo(tmp_path / "in" / folder / "a.png")
    write_photo(tmp_path / "in/x/a.bmp")
    assert run_predict(trained, tmp_path / "in", tmp_path / "out").count == 3
    panels = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*_panel.png"))
    assert panels == ["x/a.bmp_panel.png", "x/a.png_panel.png", "y/a_panel.png"]


def test_predict_names_what_it_could_not_read_and_goes_on(trained: Path, tmp_path: Path) -> None:
    for index in range(4):
        write_photo(tmp_path / f"in/{index}.png")
    whole = (tmp_path / "in/1.png").read_bytes()
    (tmp_path / "in/1.png").write_bytes(whole[: len(whole) // 2])
    write_photo(tmp_path / "in/2.png", (5, 48))
    (tmp_path / "in/phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "gone.png")
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", batch_size=1)
    assert predicted.count == 2
    assert [line["name"] for line in lines(tmp_path / "out")] == ["0", "3"]
    one, two, link, phone = predicted.failures
    assert f"{tmp_path}/in/1.png: not a readable picture, {len(whole) // 2} bytes (" in one
    assert f"{tmp_path}/in/2.png: needed at least 8 x 8 px" in two
    assert link == f"{tmp_path}/in/link.png: no such file"
    assert f"{tmp_path}/in/phone.heic: not a readable picture, 12 bytes (none of PNG, JPEG" in phone
    first, *middle, last = str(predicted).splitlines()
    assert first == "2 pictures predicted, 4 not:"
    assert middle == [f"  {failure}" for failure in predicted.failures]
    assert last == f"written to {tmp_path / 'out'}"


def test_predict_of_pictures_with_odd_names(trained: Path, tmp_path: Path) -> None:
    names = ["two\nlines", "snow \u2603", "bytes \udcff", "brackets [1] {2}", "a" * 230]
    for name in names:
        write_photo(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in/bad\n\udcff.png").touch()
    long = write_photo(tmp_path / "in" / ("b" * 251 + ".png"))
    out = tmp_path / "out \udcff\n"
    predicted = run_predict(trained, tmp_path / "in", out)
    assert {line["name"] for line in lines(out)} == set(names)
    assert {path.name for path in out.glob("*_panel.png")} == {f"{name}_panel.png" for name in names}
    assert len(predicted.failures) == 2
    assert f"{long}: needed a name of at most 238 bytes for its results, found 251" in predicted.failures
    str(predicted).encode()
    assert len(str(predicted).splitlines()) == 4


def test_predict_of_nothing_readable_says_so(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a picture")
    predicted = run_predict(trained, tmp_path / "a.png", tmp_path / "out")
    assert str(predicted).startswith("0 pictures predicted, 1 not:\n")
    assert "written" not in str(predicted)
    assert list((tmp_path / "out").iterdir()) == []
    write_photo(tmp_path / "a.png")
    assert run_predict(trained, tmp_path / "a.png", tmp_path / "out").count == 1


def test_predict_with_a_camera_writes_distances(trained: Path, tmp_path: Path) -> None:
    write_camera(tmp_path / "camera.json", CAMERA)
    write_photo(tmp_path / "a.png", (32, 64))
    run_predict(trained, tmp_path / "a.png", tmp_path / "out", camera=str(tmp_path / "camera.json"))
    run_predict(trained, tmp_path / "a.png", tmp_path / "without")
    with Image.open(tmp_path / "out/a_panel.png") as with_it, Image.open(tmp_path / "without/a_panel.png") as without:
        assert with_it.height > without.height
    (line,) = lines(tmp_path / "out")
    assert isinstance(line["instances"], list)


def test_predict_with_a_camera_refuses_pictures_of_another_size(trained: Path, tmp_path: Path) -> None:
    write_camera(tmp_path / "camera.json", CAMERA)
    for name, size in (("a", (32, 64)), ("b", (16, 32)), ("c", (32, 64))):
        write_photo(tmp_path / f"in/{name}.png", size)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", camera=str(tmp_path / "camera.json"))
    assert predicted.count == 2
    assert predicted.failures == [
        f"{tmp_path}/in/b.png: needed 32 x 64 px, as the first picture for which camera= is, found 16 x 32"
    ]


def test_predict_reads_pictures_of_every_mode(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for mode in ("1", "L", "P", "RGBA", "LA"):
        Image.fromarray(photo()).convert(mode).save(tmp_path / f"in/{mode}.png")
    Image.fromarray(photo()[..., 0].astype(np.uint16) * 200).save(tmp_path / "in/deep.png")
    Image.fromarray(photo()).convert("CMYK").save(tmp_path / "in/print.jpg")
    Image.fromarray(photo()[..., 0].astype(np.float32)).save(tmp_path / "in/real.tif")
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.failures) == (8, [])


WRONG = [
    ({"checkpoint": None}, "checkpoint: needed the path of a checkpoint"),
    ({"input": None}, "input: needed a picture, a folder"),
    ({"output_dir": None}, "output_dir: needed a new folder"),
    ({"input": "nowhere"}, "input=nowhere: needed a file, a folder or a pattern of files, found no such thing"),
    ({"checkpoint": "nowhere.pt"}, "checkpoint=nowhere.pt: no such file"),
    ({"camera": "nowhere.json"}, "nowhere.json: no such file"),
    ({"size": [4, 4]}, "size: needed at least 8 x 8 px"),
    ({"batch_size": 0}, "batch_size: needed a whole number above zero, found 0"),
    ({"device": "tpu"}, "device: needed auto, cpu or cuda, found 'tpu'"),
    ({"precision": "int8"}, "precision: needed one of"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_predict_refuses_what_makes_no_sense_and_writes_nothing(
    trained: Path, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    write_photo(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        run_predict(trained, tmp_path / "a.png", tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


def test_predict_again_is_refused_and_changes_nothing(trained: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    run_predict(trained, tmp_path / "a.png", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match=r"needed a new or empty folder, found a_class_ids\.png, a_disparity\.png, "):
        run_predict(trained, tmp_path / "a.png", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_predict_with_a_newer_checkpoint_is_refused(trained: Path, tmp_path: Path) -> None:
    torch.save({**torch.load(trained, weights_only=True), "version": checkpoint.VERSION + 1}, tmp_path / "new.pt")
    write_photo(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"new\.pt: needed version {checkpoint.VERSION} or older, found"):
        run_predict(tmp_path / "new.pt", tmp_path / "a.png", tmp_path / "out")


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_predict_with_a_checkpoint_that_holds_code_runs_none(trained: Path, tmp_path: Path) -> None:
    bomb = {**torch.load(trained, weights_only=True), "extra": Attack(tmp_path / "attacked")}
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(bomb))
    torch.save(bomb, tmp_path / "torch.pt")
    write_photo(tmp_path / "a.png")
    for name in ("plain.pt", "torch.pt"):
        with pytest.raises(ValueError, match=rf"checkpoint=.*{name}: not a readable checkpoint"):
            run_predict(tmp_path / name, tmp_path / "a.png", tmp_path / "out")
    assert not (tmp_path / "attacked").exists()
    assert not (tmp_path / "out").exists()


def test_predict_of_a_folder_without_pictures_is_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").touch()
    with pytest.raises(
        ValueError, match=r"needed pictures or videos, found none \(passed over 1 file .*: notes\.txt\)"
    ):
        run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predict_passes_over_pipes_and_devices(trained: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    os.mkfifo(tmp_path / "in/b.png")
    (tmp_path / "in/c.png").symlink_to("/dev/zero")
    (tmp_path / "in/notes.txt").touch()
    for number, given in enumerate((tmp_path / "in", tmp_path / "in/*.png")):
        predicted = run_predict(trained, given, tmp_path / f"out{number}")
        assert (predicted.count, predicted.failures) == (1, [])
        assert "b.png (a pipe), " in str(predicted).splitlines()[1]
        assert "c.png (a device)" in str(predicted).splitlines()[1]
    with pytest.raises(UserError, match=r"input=.*b\.png: needed a picture, .* found a pipe"):
        run_predict(trained, tmp_path / "in/b.png", tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_predict_of_a_pattern_with_dots_writes_into_the_folder_alone(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index, name in enumerate(("a/p/1", "a/q/1", "a/x/1", "a/x/2", "b/1")):
        write_photo(tmp_path / f"{name}.jpg", (24, 48), index)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    for number, (given, count) in enumerate(
        [("../a/*/../x/*.jpg", 2), ("../?/../a/*/1.jpg", 3), ("../*/*/../**/*.jpg", 4)]
    ):
        predicted = run_predict(trained, given, tmp_path / f"out{number}")
        assert (predicted.count, predicted.failures) == (count, [])
        assert len(list((tmp_path / f"out{number}").rglob("*_panel.png"))) == count
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "here", "out0", "out1", "out2"}


def test_predict_of_a_picture_whose_files_have_no_place_names_it(trained: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png", seed=1)
    write_photo(tmp_path / "in/a_panel.png/b.png", seed=2)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert predicted.count == 1
    (failure,) = predicted.failures
    assert "a_panel.png" in failure
    assert [line["name"] for line in lines(tmp_path / "out")] in (["a"], ["a_panel.png/b"])


@pytest.mark.parametrize("largest", [0, -5, 1.5, True, "many", None])
def test_predict_refuses_a_largest_that_is_no_number(trained: Path, tmp_path: Path, largest: object) -> None:
    write_photo(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"largest: needed a whole number of px above zero, found {largest!r}"):
        run_predict(trained, tmp_path / "a.png", tmp_path / "out", largest=largest)
    assert not (tmp_path / "out").exists()


def test_predict_of_a_picture_that_is_too_large_names_it(trained: Path, tmp_path: Path) -> None:
    for index, size in enumerate([(24, 48), (48, 96)]):
        write_photo(tmp_path / f"in/{index}.png", size)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out", largest=24 * 48)
    assert predicted.count == 1
    assert f"{tmp_path}/in/1.png: needed at most 1152 px (largest=1152), found 48 x 96" in predicted.failures[0]
    assert run_predict(trained, tmp_path / "in", tmp_path / "more", largest=48 * 96).count == 2
