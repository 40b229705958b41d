import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.data.layout import Camera, decode_disparity, read_png
from multitask.metrics import PredictedScene
from multitask.prediction.drawing import shown_size
from multitask.prediction.output import check_output_dir, write_scenes
from multitask.prediction.scene import Scene, make_scene
from tests.prediction.made import photo, street


def write(folder: Path, scene: Scene, camera: Camera | None = None, frame: int | None = None) -> dict[str, object]:
    """Writes one scene and returns its line."""
    shown = Image.fromarray(photo(scene.size)).resize(shown_size(scene.size))
    with write_scenes(folder, camera) as writer:
        writer.write(Path("in/sub/a.jpg"), frame, "sub/a", shown, scene)
    (line,) = (folder / "predictions.jsonl").read_text().splitlines()
    return json.loads(line)


def test_written_files_say_what_the_scene_says(tmp_path: Path) -> None:
    scene = street()
    write(tmp_path / "out", scene)
    assert sorted(path.name for path in (tmp_path / "out/sub").iterdir()) == [
        f"a_{kind}.png" for kind in ("class_ids", "disparity", "instance_ids", "panel")
    ]
    np.testing.assert_array_equal(read_png(tmp_path / "out/sub/a_class_ids.png", "class_ids"), scene.class_ids)
    codes = read_png(tmp_path / "out/sub/a_instance_ids.png", "instance_ids")
    np.testing.assert_array_equal(codes, scene.coded_instance_ids())
    disparity = decode_disparity(read_png(tmp_path / "out/sub/a_disparity.png", "disparity"))
    np.testing.assert_allclose(disparity, scene.disparity, atol=1 / 512)


def test_line_lists_the_instances(tmp_path: Path) -> None:
    line = write(tmp_path / "out", street())
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
    assert write(tmp_path / "out", street(), frame=7)["frame"] == 7


def test_line_with_a_camera_has_distances(tmp_path: Path) -> None:
    line = write(tmp_path / "out", street(), Camera(baseline=0.2, fx=100.0, fy=100.0, u0=40.0, v0=20.0))
    assert isinstance(line["instances"], list)
    assert [x["disparity_px"] for x in line["instances"]] == [4, 6, 2]
    assert [x["depth_m"] for x in line["instances"]] == [5, 3.333, 10]


def test_line_of_an_infinite_distance_is_json(tmp_path: Path) -> None:
    far = street()
    assert far.disparity is not None
    instances = [instance._replace(disparity=0.0) for instance in far.instances]
    scene = Scene(far.size, far.class_ids, far.instance_ids, instances, far.disparity * 0)
    line = write(tmp_path / "out", scene, Camera(baseline=0.2, fx=100.0, fy=100.0, u0=40.0, v0=20.0))
    assert isinstance(line["instances"], list)
    assert [x["depth_m"] for x in line["instances"]] == [None] * 3
    coded = read_png(tmp_path / "out/sub/a_disparity.png", "disparity")
    assert (coded == 1).all(), "0 px, not invalid"


def test_written_files_are_of_what_is_predicted(tmp_path: Path) -> None:
    line = write(tmp_path / "out", make_scene(PredictedScene(disparity=np.ones((40, 80))), (40, 80)))
    assert "instances" not in line
    assert sorted(path.name for path in (tmp_path / "out/sub").iterdir()) == ["a_disparity.png", "a_panel.png"]


def test_lines_appear_when_all_are_written(tmp_path: Path) -> None:
    shown = Image.fromarray(photo((40, 80))).resize(shown_size((40, 80)))
    with write_scenes(tmp_path / "out", None) as writer:
        writer.write(Path("a.png"), None, "a", shown, street())
        assert not (tmp_path / "out/predictions.jsonl").exists()
        assert (tmp_path / "out/a_panel.png").exists()
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png", ".jsonl"}


def test_check_output_dir_takes_a_new_or_empty_folder(tmp_path: Path) -> None:
    check_output_dir(tmp_path)
    check_output_dir(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_check_output_dir_names_what_is_in_it(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"{index}.txt").touch()
    with pytest.raises(ValueError, match=r"new or empty folder, found 0\.txt, 1\.txt, 2\.txt and 2 more$"):
        check_output_dir(tmp_path)
    with pytest.raises(ValueError, match=r"output_dir=.*0\.txt: needed a folder, found a file"):
        check_output_dir(tmp_path / "0.txt")


def test_lines_are_kept_where_an_error_ends_the_work(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with write_scenes(tmp_path / "out", None) as writer:
            writer._lines.write("{}\n")
            assert next((tmp_path / "out").iterdir()).read_text() == "{}\n", "at once: a kill leaves it there"
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fill_the_disk()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.jsonl"]
    assert (tmp_path / "out/predictions.jsonl").read_text() == "{}\n"
