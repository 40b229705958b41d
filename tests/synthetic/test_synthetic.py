"""The embedded data set: geometry, labels, imperfections, determinism, and the folder it writes."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from multitask.data.layout import (
    SUFFIX,
    Camera,
    decode_disparity,
    encode_disparity,
    file_path,
    read_camera,
    read_png,
    write_png,
)
from multitask.errors import UserError
from multitask.synthetic import CITIES, MANIFEST, VERSION, Scene, render, write_dataset
from multitask.synthetic.imperfect import occluded
from multitask.synthetic.mesh import MeshBuilder
from multitask.synthetic.projection import project
from multitask.synthetic.raster import rasterise
from multitask.synthetic.stage import Prop
from tests.cityscapes import COUNTED_ID, EVALUATED, ID, LABELS, TRAIN_ID
from tests.fulldisk import full_disk

SIZE = (64, 128)


@cache
def scenes() -> tuple[Scene, ...]:
    return tuple(render(7, "train", index, (128, 256)) for index in range(60))


def ground_disparity(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Disparity of the plane that lies ``camera.z`` m below the camera, px, per row."""
    slope = (np.arange(size[0]) - camera.v0) / camera.fy
    down = slope * math.cos(camera.pitch) + math.sin(camera.pitch)
    return camera.baseline * camera.fx * down / camera.z


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def two_planes() -> tuple[list[Prop], Camera]:
    """A 1 x 1 m board 4 m ahead before a 20 x 20 m board 8 m ahead, seen by a level camera 1 m above the ground."""
    props = []
    for half, low, z, label in ((10.0, -9.0, 8.0, (11, 11)), (0.5, 0.5, 4.0, (26, 26003))):
        m = MeshBuilder()
        high = low + 2 * half
        m.polygon([(-half, low, 0.0), (half, low, 0.0), (half, high, 0.0), (-half, high, 0.0)], 0)
        props.append(Prop(m.build(), (0.0, 0.0, z), 0.0, np.full((1, 3), 0.5), (label,)))
    return props, Camera(baseline=0.2, fx=40.0, fy=40.0, u0=20.0, v0=20.0, z=1.0)


def test_board_before_board_has_hand_worked_disparity() -> None:
    props, camera = two_planes()
    raster = rasterise(project(props[::-1], camera, (41, 41)), (41, 41))
    disparity = raster.disparity[1::2, 1::2]
    # 0.2 m * 40 px / 4 m = 2 px, and 1 px behind; the board spans 40 * 0.5 / 4 = 5 px around the centre (20, 20).
    expected = np.full((41, 41), 1.0)
    expected[15:26, 15:26] = 2.0
    np.testing.assert_allclose(disparity, expected, atol=1e-6)


def test_slanted_board_has_affine_disparity() -> None:
    props, camera = two_planes()
    raster = rasterise(project([replace(props[0], heading=0.5)], camera, (41, 41)), (41, 41))
    x = (np.arange(41) - 20.0) / 40.0
    # Points of the board: z = 8 - x' tan 0.5 for x' = x z, so 1/z = (1 + x tan 0.5) / 8.
    expected = 0.2 * 40 * (1 + x * math.tan(0.5)) / 8
    np.testing.assert_allclose(raster.disparity[1::2, 1::2], np.broadcast_to(expected, (41, 41)), atol=1e-5)


@pytest.mark.parametrize("heading", [0.0, 0.6])
def test_sloping_bar_shows_its_broad_side(heading: float) -> None:
    camera = Camera(baseline=0.2, fx=400.0, fy=400.0, u0=200.0, v0=200.0, z=1.0)
    m = MeshBuilder()
    m.bar((-0.5, 0.5, 0.0), (0.5, 1.5, 0.0), 0.1, 0.1, 0)
    bar = Prop(m.build(), (0.0, 0.0, 5.0), heading, np.full((1, 3), 0.5), ((26, 26001),))
    raster = rasterise(project([bar], camera, (401, 401)), (401, 401))
    seen = np.isfinite(raster.disparity[1::2, 1::2]) & (raster.disparity[1::2, 1::2] > 0)
    # Turned, it is shorter and as wide as before; 400 px / 5 m at its middle.
    length = math.hypot(math.cos(heading), 1.0)
    assert seen.sum() == pytest.approx(length * 0.2 * 80**2, rel=0.03)


@pytest.mark.parametrize("size", [(128, 256), (64, 128), (96, 160)])
def test_road_has_the_ground_planes_disparity(size: tuple[int, int]) -> None:
    for index in range(4):
        scene = render(3, "val", index, size)
        expected = np.broadcast_to(ground_disparity(scene.camera, size)[:, None], size)
        road = scene.class_ids == ID["road"]
        assert road.sum() > 0.05 * road.size
        np.testing.assert_allclose(scene.exact_disparity[road], expected[road], atol=2e-4)


def test_nothing_lies_below_the_road() -> None:
    for scene in scenes()[:20]:
        expected = ground_disparity(scene.camera, scene.class_ids.shape)[:, None]
        seen = ~np.isin(scene.class_ids, (1, 2, 3, ID["sky"]))
        # One pixel's slope, for the lower edges of what stands on the road: corners are rounded to half pixels.
        slack = scene.camera.baseline * scene.camera.fx / scene.camera.fy / scene.camera.z
        assert (scene.exact_disparity > expected - slack)[seen].all()


def test_sky_is_infinitely_far_and_all_else_is_not() -> None:
    for scene in scenes()[:20]:
        sky = scene.class_ids == ID["sky"]
        assert (scene.exact_disparity[sky] == 0).all()
        inside = ~np.isin(scene.class_ids, (1, 2, 3, ID["sky"]))
        assert (scene.exact_disparity[inside] > 0).all()


def test_measured_disparity_is_near_the_exact_one() -> None:
    for scene in scenes()[:20]:
        valid = ~np.isnan(scene.disparity) & (scene.exact_disparity > 0)
        error = np.abs(scene.disparity - scene.exact_disparity)[valid]
        assert error.mean() < 0.05
        assert error.max() < 0.5


def test_measured_disparity_survives_the_file() -> None:
    for scene in scenes()[:5]:
        np.testing.assert_array_equal(decode_disparity(encode_disparity(scene.disparity)), scene.disparity)


def test_share_of_invalid_disparity_is_realistic() -> None:
    share = [np.isnan(scene.disparity).mean() for scene in scenes()]
    assert 0.1 < np.mean(share) < 0.3
    assert max(share) < 0.6


def test_occlusion_shadow_lies_left_of_a_near_object() -> None:
    disparity = np.full((1, 20), 1.0, dtype=np.float32)
    disparity[0, 10:14] = 4.0
    # The object hides what lies in the right image where it lands: 4 - 1 = 3 px left of it; column 0 leaves the image.
    assert np.flatnonzero(occluded(disparity)[0]).tolist() == [0, 7, 8, 9]


def test_invalid_pixels_are_more_frequent_left_of_near_objects() -> None:
    left, right = [], []
    for scene in scenes():
        lost, inside = np.isnan(scene.disparity), scene.instance_ids >= 1000
        step = np.diff(scene.exact_disparity, axis=1)
        left.append(lost[:, :-1][(step > 2) & inside[:, 1:]])
        right.append(lost[:, 1:][(step < -2) & inside[:, :-1]])
    assert np.concatenate(left).mean() > 0.9
    assert np.concatenate(right).mean() < 0.3


def test_same_arguments_give_the_same_scene() -> None:
    first, second = render(1, "test", 5, SIZE), render(1, "test", 5, SIZE)
    for name in ("image", "class_ids", "instance_ids", "disparity", "exact_disparity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.camera == second.camera


def test_seed_split_and_index_change_the_scene() -> None:
    base = render(1, "train", 3, SIZE)
    for other in (render(2, "train", 3, SIZE), render(1, "val", 3, SIZE), render(1, "train", 4, SIZE)):
        assert (other.class_ids != base.class_ids).mean() > 0.1


def test_other_size_shows_the_same_scene() -> None:
    small, large = render(4, "train", 2, (64, 128)), render(4, "train", 2, (192, 384))
    # Every third pixel of the large picture lies on the centre of one of the small picture.
    assert (large.class_ids[1::3, 1::3] == small.class_ids).mean() > 0.93
    for name in ("fx", "fy", "u0", "v0", "baseline", "z", "pitch"):
        assert getattr(large.camera, name) == pytest.approx(getattr(small.camera.scaled(3, 3), name))
    same = (large.class_ids[1::3, 1::3] == small.class_ids) & (small.class_ids == ID["road"])
    np.testing.assert_allclose(large.exact_disparity[1::3, 1::3][same], 3 * small.exact_disparity[same], atol=2e-3)


def test_camera_is_like_cityscapes() -> None:
    cameras = [scene.camera for scene in scenes()]
    assert cameras[0].fx == pytest.approx(2262.52 / 8)
    for name, low, high in (("baseline", 0.19, 0.23), ("z", 1.05, 1.4), ("pitch", -0.05, 0.12), ("u0", 125, 150)):
        values = [getattr(camera, name) for camera in cameras]
        assert low < min(values) < max(values) < high


def test_cities_are_disjoint_and_names_unique() -> None:
    names = [city for cities in CITIES.values() for city in cities]
    assert len(names) == len(set(names))
    assert all(name.isalpha() and name.islower() for name in names)
    assert all(len(cities) > 1 for cities in CITIES.values())
    assert len({scene.name for scene in scenes()}) == len(scenes())
    assert {scene.name.rsplit("_", 2)[0] for scene in scenes()} == set(CITIES["train"])


def test_every_class_appears_often_enough() -> None:
    shares = np.mean(
        [np.bincount(TRAIN_ID[scene.class_ids].ravel(), minlength=256)[:19] >= 10 for scene in scenes()], axis=0
    )
    for label in EVALUATED:
        assert shares[label.train_id] >= 0.03, label.name


def test_void_is_a_small_share() -> None:
    void = np.mean([(TRAIN_ID[scene.class_ids] == 255).mean() for scene in scenes()])
    assert 0.05 < void < 0.15
    for name in ("ego vehicle", "rectification border", "out of roi"):
        assert all((scene.class_ids == ID[name]).any() for scene in scenes())


def test_instances_agree_with_classes() -> None:
    has_instances = np.array([label.has_instances for label in LABELS])
    for scene in scenes():
        ids, classes = scene.instance_ids.astype(np.int64), scene.class_ids
        single = ids >= 1000
        np.testing.assert_array_equal(ids[single] // 1000, classes[single])
        np.testing.assert_array_equal(ids[~single], classes[~single])
        assert has_instances[classes[single]].all()
        assert not np.isin(classes[~single], (ID["rider"],)).any()


def test_some_crowds_are_groups() -> None:
    counted = np.flatnonzero(COUNTED_ID)
    groups = [np.intersect1d(np.unique(scene.instance_ids), counted) for scene in scenes()]
    assert sum(len(group) > 0 for group in groups) >= 5
    assert len(np.unique(np.concatenate(groups))) >= 2


def split_by_pole(scene: Scene) -> bool:
    """Whether some row of an instance goes object, pole, object."""
    pole = scene.class_ids == ID["pole"]
    for number in np.unique(scene.instance_ids[scene.instance_ids >= 1000]):
        mask = scene.instance_ids == number
        columns = np.flatnonzero(mask.any(axis=0))
        empty = np.setdiff1d(np.arange(columns[0], columns[-1]), columns)
        rows = mask.any(axis=1)
        # Columns without the object between columns with it: it is in two pieces.
        if len(empty) and pole[rows][:, empty].mean() > 0.9:
            return True
    return False


def test_some_objects_are_cut_in_two_by_a_pole() -> None:
    assert sum(split_by_pole(scene) for scene in scenes()) >= 3


def test_pictures_differ_in_light_and_are_not_flat() -> None:
    means = np.array([scene.image.mean() for scene in scenes()])
    assert means.std() > 8
    assert min(scene.image.std() for scene in scenes()) > 15


def test_position_alone_says_little() -> None:
    labels = np.stack([TRAIN_ID[scene.class_ids] for scene in scenes()])
    counts = np.stack([(labels == k).sum(axis=0) for k in range(19)])
    guess = counts.argmax(axis=0)
    hit = np.array([counts[k][guess == k].sum() for k in range(19)])
    union = np.array([counts[k].sum() + counts[:, guess == k].sum() for k in range(19)]) - hit
    assert (hit / union).mean() < 0.2


def write(root: Path, workers: int = 1, **changes: object) -> None:
    arguments = {"counts": {"train": 3, "val": 2}, "size": (32, 64), "seed": 5} | changes
    write_dataset(root, workers=workers, **arguments)  # type: ignore[arg-type]


def test_files_hold_the_scene(tmp_path: Path) -> None:
    write(tmp_path)
    scene = render(5, "val", 1, (32, 64))
    for kind in ("image", "class_ids", "instance_ids"):
        np.testing.assert_array_equal(
            read_png(file_path(tmp_path, kind, "val", scene.name), kind), getattr(scene, kind)
        )
    coded = read_png(file_path(tmp_path, "disparity", "val", scene.name), "disparity")
    np.testing.assert_array_equal(decode_disparity(coded), scene.disparity)
    assert read_camera(file_path(tmp_path, "camera", "val", scene.name)) == scene.camera
    assert len(digests(tmp_path)) == 5 * len(SUFFIX) + 1
    assert json.loads((tmp_path / MANIFEST).read_text())["counts"] == {"train": 3, "val": 2}


def test_number_of_workers_does_not_change_a_byte(tmp_path: Path) -> None:
    write(tmp_path / "one", counts={"train": 10})
    write(tmp_path / "two", counts={"train": 10}, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_resuming_restores_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path)
    before = digests(tmp_path)
    for name in list(before)[1::3]:
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / MANIFEST).write_text(
        json.dumps({"generator": VERSION, "seed": 5, "size": [32, 64], "counts": {"train": 3}})
    )
    write(tmp_path)
    assert digests(tmp_path) == before


def test_torn_files_are_written_again_and_no_others(tmp_path: Path) -> None:
    write(tmp_path)
    before = digests(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    name = render(5, "train", 1, (32, 64)).name
    for number, kind in enumerate(SUFFIX):
        path = file_path(tmp_path, kind, "train", name)
        content = path.read_bytes()
        middle = len(content) // 2
        torn = [
            content[:middle],
            b"",
            content[:middle] + b"~" + content[middle + 1 :],
            bytes(len(content)),
            content[1:],
        ]
        path.write_bytes(torn[number])
        write(tmp_path)
        assert digests(tmp_path) == before
        changed = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
        assert all(path.name.startswith(name) for path in changed)


def test_file_of_another_size_is_written_again(tmp_path: Path) -> None:
    write(tmp_path)
    before = digests(tmp_path)
    path = file_path(tmp_path, "disparity", "val", render(5, "val", 0, (32, 64)).name)
    write_png(path, np.zeros((16, 64), dtype=np.uint16))
    write(tmp_path)
    assert digests(tmp_path) == before


def test_full_disk_is_named_and_the_call_can_be_finished(tmp_path: Path) -> None:
    with full_disk(3000), pytest.raises(UserError, match=r"leftImg8bit\.png: could not be written"):
        write(tmp_path / "full")
    assert not list((tmp_path / "full").rglob(".multitask-*"))
    write(tmp_path / "full")
    write(tmp_path / "other")
    assert digests(tmp_path / "full") == digests(tmp_path / "other")


def test_two_at_once_are_one_after_the_other_or_one_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "alone", counts={"train": 8})
    code = (
        "import sys; from pathlib import Path; from multitask.synthetic import write_dataset; "
        'write_dataset(Path(sys.argv[1]), {"train": 8}, size=(32, 64), seed=5, workers=1)'
    )
    command = [sys.executable, "-c", code, str(tmp_path / "both")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    refused = [text for process, text in zip(both, said, strict=True) if process.returncode]
    assert len(refused) < 2
    assert all("both: another process is writing a data set here" in text for text in refused)
    assert digests(tmp_path / "both") == digests(tmp_path / "alone")


def test_complete_data_set_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write(tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_progress_counts_what_is_there(tmp_path: Path) -> None:
    write(tmp_path)
    calls: list[tuple[int, int]] = []
    write(tmp_path, counts={"train": 4, "val": 3}, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(6, 7), (7, 7)]


def test_fewer_frames_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match=r"data\.num_train: .*2.*found 3"):
        write(tmp_path, counts={"train": 2, "val": 2})


@pytest.mark.parametrize(("key", "value"), [("seed", 6), ("size", (64, 128))])
def test_folder_of_another_data_set_is_refused(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path)
    before = digests(tmp_path)
    with pytest.raises(ValueError, match=rf"needed {key} .*found"):
        write(tmp_path, **{key: value})
    assert digests(tmp_path) == before


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("sea")
    with pytest.raises(ValueError, match=r"needed an empty folder.*holiday\.jpg"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_broken_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="not a readable manifest"):
        write(tmp_path)


def test_killed_before_its_manifest_resumes(tmp_path: Path) -> None:
    (tmp_path / ".multitask-0123").write_text("{")
    write(tmp_path, counts={"val": 1})
    assert (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"trian": 1}}, "split: needed one of train, val, test, found 'trian'"),
        ({"counts": {"train": -1}}, r"data\.num_train: needed 0 to 999999 frames, found -1"),
        ({"counts": {}}, "needed at least one split"),
        ({"size": (16, 64)}, r"data\.image_size: needed .*found \(16, 64\)"),
        ({"size": (1024, 4096)}, r"data\.image_size: needed .*found \(1024, 4096\)"),
        ({"seed": -1}, r"data\.seed: needed 0 or more, found -1"),
        ({"workers": 0}, "workers: needed 1 or more, found 0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "new", **changes)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_failure_in_a_worker_surfaces(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(
        json.dumps({"generator": VERSION, "seed": 5, "size": [32, 64], "counts": {"train": 3, "val": 2}})
    )
    (tmp_path / "camera").write_text("a file where a folder is needed")
    with pytest.raises(ValueError, match=r"camera.*: needed a folder that can be written to"):
        write(tmp_path, workers=2)
