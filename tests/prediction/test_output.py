import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.data.layout import Camera, decode_disparity, read_png
from multitask.errors import UserError
from multitask.metrics import PredictedScene
from multitask.prediction.drawing import shown_size
from multitask.prediction.enlarge import Enlargement
from multitask.prediction.journal import Origin
from multitask.prediction.output import SceneWriter, Unwritable, write_scenes
from tests.cityscapes import CITYSCAPES
from tests.prediction.made import photo, street, street_predicted

SIZE = 40, 80
CALL = {"input": "in"}


def write_one(
    writer: SceneWriter, name: str, predicted: PredictedScene | None = None, frame: int | None = None
) -> None:
    shown = Image.fromarray(photo(SIZE)).resize(shown_size(SIZE))
    scene = Enlargement(predicted or street_predicted(), SIZE, CITYSCAPES)
    writer.write(Origin(Path(f"in/{name}.jpg"), frame, {"path": f"/in/{name}.jpg"}), name, shown, scene)


def write(
    folder: Path, predicted: PredictedScene | None = None, camera: Camera | None = None, frame: int | None = None
) -> dict[str, object]:
    """Writes one scene and returns its line."""
    with write_scenes(folder, camera, CALL) as writer:
        write_one(writer, "sub/a", predicted, frame)
    (line,) = (folder / "predictions.jsonl").read_text().splitlines()
    return json.loads(line)


def lines(folder: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_written_files_say_what_the_scene_says(tmp_path: Path) -> None:
    scene = street()
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/sub").iterdir()) == [
        f"a_{kind}.png" for kind in ("class_ids", "disparity", "instance_ids", "panel")
    ]
    np.testing.assert_array_equal(read_png(tmp_path / "out/sub/a_class_ids.png", "class_ids"), scene.class_ids)
    codes = read_png(tmp_path / "out/sub/a_instance_ids.png", "instance_ids")
    np.testing.assert_array_equal(codes, scene.coded_instance_ids())
    disparity = decode_disparity(read_png(tmp_path / "out/sub/a_disparity.png", "disparity"))
    np.testing.assert_allclose(disparity, scene.disparity, atol=1 / 512)


def test_line_lists_the_instances(tmp_path: Path) -> None:
    line = write(tmp_path / "out")
    instances = line.pop("instances")
    assert line == {"file": "in/sub/a.jpg", "name": "sub/a", "width": 80, "height": 40}
    assert isinstance(instances, list)
    assert [x["png_value"] for x in instances] == [26000, 24000, 26001]
    assert instances[0] == {
        "id": 1,
        "png_value": 26000,
        "class": "car",
        "class_id": 26,
        "confidence": 0.9,
        "box": [40, 20, 76, 36],
        "area_px": 576,
        "disparity_px": 4.0,
    }


def test_line_of_a_video_says_the_frame(tmp_path: Path) -> None:
    assert write(tmp_path / "out", frame=7)["frame"] == 7


def test_line_with_a_camera_has_distances(tmp_path: Path) -> None:
    line = write(tmp_path / "out", camera=Camera(baseline=0.2, fx=100.0, fy=100.0, u0=40.0, v0=20.0))
    assert isinstance(line["instances"], list)
    assert [x["disparity_px"] for x in line["instances"]] == [4, 6, 2]
    assert [x["depth_m"] for x in line["instances"]] == [5, 3.333, 10]


def test_line_of_an_infinite_distance_is_json(tmp_path: Path) -> None:
    near = street_predicted()
    assert near.disparity is not None
    far = PredictedScene(near.train_ids, near.instance_map, near.instances, near.disparity * 0)
    line = write(tmp_path / "out", far, Camera(baseline=0.2, fx=100.0, fy=100.0, u0=40.0, v0=20.0))
    assert isinstance(line["instances"], list)
    assert [x["depth_m"] for x in line["instances"]] == [None] * 3
    coded = read_png(tmp_path / "out/sub/a_disparity.png", "disparity")
    assert (coded == 1).all(), "0 px, not invalid"


def test_written_files_are_of_what_is_predicted(tmp_path: Path) -> None:
    line = write(tmp_path / "out", PredictedScene(disparity=np.ones((40, 80))))
    assert "instances" not in line
    assert sorted(path.name for path in (tmp_path / "out/sub").iterdir()) == ["a_disparity.png", "a_panel.png"]


def test_lines_appear_when_all_are_written(tmp_path: Path) -> None:
    with write_scenes(tmp_path / "out", None, CALL) as writer:
        write_one(writer, "a")
        assert not (tmp_path / "out/predictions.jsonl").exists()
        assert (tmp_path / "out/a_panel.png").exists()
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png", ".jsonl"}
    assert len(list((tmp_path / "out").iterdir())) == 5


@pytest.mark.parametrize("name", ["../a", "a/../../b", "..", ".", "a/..", "", "/etc/a", "a//b", "./a"])
def test_nothing_is_written_outside_the_folder(tmp_path: Path, name: str) -> None:
    message = r"in/.*\.jpg: needed a place in .*out for its results, found "
    with write_scenes(tmp_path / "out", None, CALL) as writer, pytest.raises(Unwritable, match=message):
        write_one(writer, name)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_nothing_is_written_where_a_link_leads_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with write_scenes(tmp_path / "out", None, CALL) as writer:
        (tmp_path / "out/sub").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "out/a_panel.png").symlink_to(tmp_path / "elsewhere/file")
        with pytest.raises(Unwritable, match="needed a place in"):
            write_one(writer, "sub/a")
        write_one(writer, "a")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "out/a_panel.png").is_symlink()


def test_no_picture_s_files_replace_another_s(tmp_path: Path) -> None:
    with write_scenes(tmp_path / "out", None, CALL) as writer:
        write_one(writer, "a")
        before = (tmp_path / "out/a_panel.png").stat()
        for name in ("a", "A"):
            with pytest.raises(
                Unwritable, match=rf"in/{name}\.jpg: needed a name of its own .* found that {name} is taken"
            ):
                write_one(writer, name)
        assert (tmp_path / "out/a_panel.png").stat() == before


def test_a_picture_whose_files_cannot_be_written_leaves_none(tmp_path: Path) -> None:
    with write_scenes(tmp_path / "out", None, CALL) as writer:
        (tmp_path / "out/a_class_ids.png").mkdir()
        (tmp_path / "out/sub").touch()
        with pytest.raises(Unwritable, match=r"in/a\.jpg: .*a_class_ids\.png: could not be written \(Is a directory\)"):
            write_one(writer, "a")
        with pytest.raises(Unwritable, match=r"in/sub/a\.jpg: .*sub.*\((File exists|Not a directory)\)"):
            write_one(writer, "sub/a")
        write_one(writer, "b")
    assert {path.name for path in (tmp_path / "out").glob("a*")} == {"a_class_ids.png"}
    assert len(list((tmp_path / "out").glob("b_*"))) == 4


def test_a_full_disk_names_the_file_and_leaves_none_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def predict() -> None:
        with write_scenes(tmp_path / "out", None, CALL) as writer:
            write_one(writer, "a")
            monkeypatch.setattr(Image.Image, "save", full)
            write_one(writer, "b")

    with pytest.raises(UserError, match=r"b_panel\.png: could not be written \(No space left on device\)"):
        predict()
    assert lines(tmp_path / "out") == ["a"]
    assert {path.name[0] for path in (tmp_path / "out").glob("*.png")} == {"a"}


def test_written_layers_are_the_scene_s_whatever_the_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "whole")
    monkeypatch.setattr("multitask.prediction.enlarge._BAND", 7 * 80)
    write(tmp_path / "bands")
    for path in (tmp_path / "whole/sub").iterdir():
        with Image.open(path) as whole, Image.open(tmp_path / "bands/sub" / path.name) as bands:
            np.testing.assert_array_equal(np.asarray(whole), np.asarray(bands), err_msg=path.name)
    assert (tmp_path / "whole/predictions.jsonl").read_text() == (tmp_path / "bands/predictions.jsonl").read_text()
