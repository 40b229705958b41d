import io
import json
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.data.census import Census, take_census
from multitask.data.cityscapes import Cityscapes
from multitask.data.classes import INSTANCE_BASE
from multitask.data.folder import Folder, Layout
from multitask.data.formats import FORMATS
from multitask.data.kitti import Kitti
from multitask.data.layout import read_png, write_png
from tests.cityscapes import CITYSCAPES, HAS_INSTANCES, ID, LABELS, TRAIN_ID
from tests.layouts import CAMVID, TABLES, kitti_layers, write_all, write_camvid
from tests.png import chunks_of, decode, flip_bits, png_of
from tests.trees import KINDS, write_tree

SIZE = (32, 64)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """A data set in each layout, to damage."""
    return write_all(tmp_path)


def census(kind: Layout, root: Path, split: str = "train") -> Census:
    table = CAMVID.source if kind is FORMATS["camvid"] else CITYSCAPES
    return take_census(kind, root, split, table, workers=1)


# Counting


def test_whole_data_set_is_counted_by_hand(roots: dict[str, Path]) -> None:
    found = census(Kitti, roots["kitti"])
    layers = [kitti_layers(number) for number in range(4)]
    assert found.faults == []
    assert found.num_frames == 4
    assert found.files == dict.fromkeys(KINDS, 4)
    assert found.sizes == {SIZE: 4}
    pixels = Counter(np.concatenate([layer["class_ids"].reshape(-1) for layer in layers]).tolist())
    assert {id: int(count) for id, count in enumerate(found.pixels) if count} == pixels
    # One car and one person in each frame; the group beside the person is none.
    assert {id: int(count) for id, count in enumerate(found.instances) if count} == {ID["car"]: 4, ID["person"]: 4}
    measured = sum(int(np.isfinite(layer["disparity"]).sum()) for layer in layers)
    assert found.measured.tolist() == [measured, 4 * 32 * 64]


def test_several_processes_count_the_same(roots: dict[str, Path]) -> None:
    calls: list[tuple[int, int]] = []
    write_camvid(roots["camvid"], {"train": 20})
    one = census(FORMATS["camvid"], roots["camvid"])
    other = take_census(
        FORMATS["camvid"], roots["camvid"], "train", TABLES["camvid"], 2, lambda *call: calls.append(call)
    )
    for key, value in vars(one).items():
        np.testing.assert_equal(vars(other)[key], value)
    assert calls[-1] == (one.num_frames, one.num_frames)


def test_kind_that_a_split_lacks_is_no_fault(tmp_path: Path) -> None:
    found = census(Cityscapes, write_tree(tmp_path, {"train": 2}, ("image", "class_ids")))
    assert found.faults == []
    assert found.files == {"image": 2, "class_ids": 2}
    assert found.measured.tolist() == [0, 0]


def test_missing_files_are_all_named(roots: dict[str, Path]) -> None:
    frames = Cityscapes(roots["cityscapes"], "train", SIZE, CITYSCAPES)
    gone = [frames.path(kind, frames.names[0]) for kind in ("class_ids", "disparity", "camera")]
    for path in gone:
        path.unlink()
    found = census(Cityscapes, roots["cityscapes"])
    assert found.faults == sorted(f"{path}: no such file" for path in gone)
    assert found.files == {"image": 3, "class_ids": 2, "instance_ids": 3, "disparity": 2, "camera": 2}


@pytest.mark.parametrize("layout", list(FORMATS))
def test_hidden_files_and_folders_are_nobodys_frames(roots: dict[str, Path], layout: str) -> None:
    """As macOS and Jupyter leave them: ``._name`` beside each file, and copies in a hidden folder."""
    before = census(FORMATS[layout], roots[layout])
    for path in list(roots[layout].rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
            for hidden in (path.parent / ".ipynb_checkpoints", path.parent.parent / ".ipynb_checkpoints"):
                hidden.mkdir(exist_ok=True)
                shutil.copy(path, hidden)
    assert FORMATS[layout].splits(roots[layout]) == ["train", "val"]
    frames = FORMATS[layout](roots[layout], "train", SIZE, TABLES[layout])
    frames.check_headers()
    assert len(frames) == before.num_frames
    found = census(FORMATS[layout], roots[layout])
    assert found.faults == []
    assert found.files == before.files


@pytest.mark.parametrize("layout", list(FORMATS))
def test_labels_without_a_picture_are_all_named(roots: dict[str, Path], layout: str) -> None:
    frames = FORMATS[layout](roots[layout], "train", SIZE, TABLES[layout])
    name = frames.names[1]
    frames.path("image", name).unlink()
    found = census(FORMATS[layout], roots[layout])
    kinds = [kind for kind in KINDS[1:] if frames.has(kind)]
    expected = [f"{frames.path(kind, name)}: belongs to no image of split 'train'" for kind in kinds]
    assert found.faults == sorted(expected)
    assert found.files == dict.fromkeys(["image", *kinds], len(frames) - 1)


def test_files_in_the_folder_of_another_city_are_named(roots: dict[str, Path]) -> None:
    frames = Cityscapes(roots["cityscapes"], "train", SIZE, CITYSCAPES)
    moved = []
    for kind, name in (("image", frames.names[0]), ("disparity", frames.names[1])):
        path = frames.path(kind, name)
        other = path.parent.parent / "ulm"
        other.mkdir()
        moved.append(path.rename(other / path.name))
    faults = census(Cityscapes, roots["cityscapes"]).faults
    assert {f"{path}: belongs to no image of split 'train'" for path in moved} <= set(faults)
    assert f"{frames.path('disparity', frames.names[1])}: no such file" in faults


def test_sizes_that_differ_name_the_odd_one(roots: dict[str, Path]) -> None:
    frames = Kitti(roots["kitti"], "train", SIZE, CITYSCAPES)
    image, ids = frames.path("image", "000000_10"), frames.path("instance_ids", "000002_10")
    write_png(image, np.zeros((30, 60, 3), dtype=np.uint8))
    write_png(ids, np.zeros((16, 16), dtype=np.uint16))
    first, second = census(Kitti, roots["kitti"]).faults
    assert first.startswith(f"{image}: needed 32 x 64 px, the size of ")
    assert second == f"{ids}: needed 32 x 64 px, the size of {frames.path('image', '000002_10')}, found 16 x 16"


def test_data_set_that_training_refuses_is_a_fault(roots: dict[str, Path]) -> None:
    for folder in ("semantic", "instance", "disp_occ_0"):
        shutil.rmtree(roots["kitti"] / "training" / folder)
    found = census(Kitti, roots["kitti"])
    assert found.files["image"] == 4
    assert len(found.faults) == 1
    assert f"data.root={roots['kitti']}: needed labels in " in found.faults[0]


def test_split_without_pictures_is_a_fault(roots: dict[str, Path]) -> None:
    shutil.rmtree(roots["camvid"] / "train")
    found = census(FORMATS["camvid"], roots["camvid"])
    assert found.num_frames == 0
    assert found.faults == [f"{roots['camvid'] / 'train'}: no such folder; needed split 'train', found ['val']"]


def test_rows_that_a_header_claims_and_the_file_lacks_are_missed(roots: dict[str, Path]) -> None:
    """Pillow reads them as black, and passes over those that are too many."""
    path = roots["camvid"] / "train/0000TP_000001.png"
    (name, header), *others = chunks_of(path.read_bytes())
    for height, said in (
        (40, "needed 3880 bytes in 40 rows, found "),
        (20, "needed 1940 bytes in 20 rows, found 2328"),
    ):
        path.write_bytes(png_of([(name, header[:4] + struct.pack(">I", height) + header[8:]), *others]))
        found = census(FORMATS["camvid"], roots["camvid"])
        (fault,) = found.faults
        assert fault.startswith(f"{path}: ")
        assert said in fault
        assert found.files == {"image": 2, "class_ids": 3}


def test_pixels_whose_own_check_sum_is_wrong_are_named(roots: dict[str, Path]) -> None:
    path = roots["camvid"] / "trainannot/0000TP_000001.png"
    chunks = [(name, data[:-1] + b"!" if name == b"IDAT" else data) for name, data in chunks_of(path.read_bytes())]
    path.write_bytes(png_of(chunks))
    (fault,) = census(FORMATS["camvid"], roots["camvid"]).faults
    assert fault.startswith(f"{path}: not a readable PNG")


def test_labels_that_contradict_each_other_name_the_file_that_is_wrong(roots: dict[str, Path]) -> None:
    for layout in ("cityscapes", "kitti"):
        frames = FORMATS[layout](roots[layout], "train", SIZE, TABLES[layout])
        path = frames.path("class_ids", frames.names[1])
        write_png(path, TRAIN_ID[read_png(path, "class_ids")] % 255)
        found = census(FORMATS[layout], roots[layout])
        (fault,) = found.faults
        assert fault.startswith(f"{path}: needed the classes of {frames.path('instance_ids', frames.names[1])}, found ")
        assert fault.endswith("; its values look like train ids")
        assert found.files == {**dict.fromkeys(KINDS, len(frames)), "class_ids": len(frames) - 1}


# Five hundred ways to spoil a file


def spoil(content: bytes, kind: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """What was done, and what the file holds then."""
    ways = ["flipped", "truncated", "replaced"] + ([] if kind == "camera" else ["header", "mode", "recoded"] * 2)
    way = ways[rng.integers(len(ways))]
    if way == "flipped":
        return way, flip_bits(content, int(rng.integers(1, 4)), rng)
    if way == "truncated":
        return way, content[: rng.integers(len(content))]
    if way == "replaced":
        other = [b"", b"version https://git-lfs.github.com/spec/v1\n", rng.bytes(100), content + b"\0", content * 2]
        return way, other[rng.integers(len(other))]
    if way == "header":
        return way, wrong_header(content, rng)
    with Image.open(io.BytesIO(content)) as image:
        modes = ["1", "L", "P", "RGB", "RGBA", "I;16", "LA"]
        spoilt = image.convert("L" if image.mode == "I;16" else image.mode).convert("RGB")
        if way == "mode":
            mode = modes[rng.integers(len(modes))]
            spoilt = spoilt.convert("L").convert(mode) if mode in ("I;16", "LA", "1") else spoilt.convert(mode)
        else:  # of the right mode, with another size or other values
            factor = int(rng.integers(1, 3))
            spoilt = image.resize((image.width // factor, image.height), Image.Resampling.NEAREST)
            if image.mode != "RGB":
                spoilt = Image.fromarray(np.asarray(spoilt) + np.asarray(spoilt).dtype.type(rng.integers(0, 3)))
        coded = io.BytesIO()
        spoilt.save(coded, rng.choice(["PNG", "PNG", "TIFF"]))
    return way, coded.getvalue()


def wrong_header(png: bytes, rng: np.random.Generator) -> bytes:
    """One number of the header changed, as a bad program would: the check sum is right."""
    (name, header), *others = chunks_of(png)
    fields = list(struct.unpack(">IIBBBBB", header))
    place = int(rng.integers(6))
    values = [[0, 1, 31, 33, 65, 20_000, 2**31 - 1], [1, 2, 4, 8, 16, 32], [0, 2, 3, 4, 6, 7], [1, 255]]
    choice = values[max(0, min(place - 1, 3))]
    fields[place] = choice[rng.integers(len(choice))]
    return png_of([(name, struct.pack(">IIBBBBB", *fields)), *others])


def layer_of(layout: str, kind: str, content: bytes) -> np.ndarray | None:
    """By an independent way: a file's layer with its classes' places in the table, a camera's numbers, or None."""
    if kind == "camera":
        return camera_of(layout, content)
    coded = decode(content, kind)
    if coded is None or kind == "image":
        return coded
    ids = coded.astype(int)
    if kind == "disparity":
        return np.where(ids == 0, np.nan, ids)
    if layout == "camvid":
        return None if ids.max() > 11 else np.where(ids == 11, 0, ids + 1)  # void is the first of the table
    if kind == "class_ids":
        return ids if ids.max() < len(LABELS) else None
    if layout == "kitti":
        if ids.max() >= 256 * len(LABELS):
            return None
        return np.where(HAS_INSTANCES[ids // 256] & (ids % 256 > 0), ids // 256 * 1000 + ids % 256, ids // 256)
    classes = np.where(ids < INSTANCE_BASE, ids, ids // INSTANCE_BASE)
    return ids if classes.max() < len(LABELS) else None


def camera_of(layout: str, content: bytes) -> np.ndarray | None:
    try:
        text = content.decode()
        if layout == "kitti":
            lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
            rows = {key.strip(): values.split() for key, values in lines}
            left, right = (np.array(rows[key], dtype=float) for key in ("P_rect_02", "P_rect_03"))
            numbers = np.array([*left, *right])
            positive = [left[0], left[5], left[3] - right[3]]
            assert len(left) == len(right) == 12
        else:
            table = json.loads(text)
            extrinsic = [table["extrinsic"][key] for key in ("baseline", "x", "y", "z", "yaw", "pitch", "roll")]
            intrinsic = [table["intrinsic"][key] for key in ("fx", "fy", "u0", "v0")]
            numbers = np.array([float(number) for number in extrinsic + intrinsic])
            positive = [numbers[0], numbers[7], numbers[8]]
        assert np.isfinite(numbers).all()
        assert min(positive) > 0
    except (AssertionError, ValueError, LookupError, TypeError):
        return None
    return numbers


def contradictory(class_ids: np.ndarray | None, instance_ids: np.ndarray | None) -> bool:
    if class_ids is None or instance_ids is None or class_ids.shape != instance_ids.shape:
        return False
    pairs = zip(class_ids.reshape(-1).tolist(), instance_ids.reshape(-1).tolist(), strict=True)
    return any(one != (id // INSTANCE_BASE or id) for one, id in pairs)


def expected(layout: str, frames: Folder) -> tuple[set[Path], dict[str, object]]:
    """By an independent way: the files with a fault, and what the others hold."""
    wrong, files = set(), Counter(dict.fromkeys((kind for kind in KINDS if frames.has(kind)), 0))
    pixels, instances, measured = np.zeros(34, dtype=int), np.zeros(34, dtype=int), np.zeros(2, dtype=int)
    for name in frames.names:
        paths = {kind: frames.path(kind, name) for kind in files}
        layers = {kind: layer_of(layout, kind, path.read_bytes()) for kind, path in paths.items()}
        if contradictory(layers.get("class_ids"), layers.get("instance_ids")):
            layers["class_ids"] = None
        sizes = Counter(layer.shape[:2] for kind, layer in layers.items() if layer is not None and kind != "camera")
        for kind, layer in layers.items():
            if layer is None or (kind != "camera" and sizes and layer.shape[:2] != sizes.most_common(1)[0][0]):
                wrong.add(paths[kind])
                continue
            files[kind] += 1
            if kind == "class_ids":
                pixels += [(layer == id).sum() for id in range(34)]
            if kind == "instance_ids":
                instances += [len({i for i in np.unique(layer) if i // 1000 == id}) if id else 0 for id in range(34)]
            if kind == "disparity":
                measured += [np.isfinite(layer).sum(), layer.size]
    by_class = {"pixels": np.pad(pixels, (0, 256 - 34)), "instances": np.pad(instances, (0, 256 - 34))}
    return wrong, {"files": files, "measured": measured, **by_class}


def assert_named(layout: str, found: Census, frames: Folder) -> int:
    """The census names exactly the files with a fault and counts all others."""
    wrong, counts = expected(layout, frames)
    assert {Path(fault.split(": ")[0]) for fault in found.faults} == wrong
    assert len(found.faults) == len(wrong)
    for key, value in counts.items():
        np.testing.assert_equal(getattr(found, key), value)
    return len(wrong)


@pytest.mark.parametrize("part", range(2))
def test_two_hundred_spoilt_files_are_named_and_nothing_else_is_lost(tmp_path: Path, part: int) -> None:
    roots = write_all(tmp_path)
    splits = {layout: FORMATS[layout](root, "train", SIZE, TABLES[layout]) for layout, root in roots.items()}
    outcomes: Counter[tuple[str, int]] = Counter()
    for layout, frames in splits.items():
        assert assert_named(layout, census(FORMATS[layout], roots[layout]), frames) == 0
    for number in range(100):
        rng = np.random.default_rng((part, number))
        layout = list(splits)[rng.integers(3)]
        frames = splits[layout]
        kinds = [kind for kind in KINDS if frames.has(kind)]
        kind = kinds[rng.integers(len(kinds))]
        path = frames.path(kind, frames.names[rng.integers(len(frames))])
        before = path.read_bytes()
        way, content = spoil(before, kind, rng)
        path.write_bytes(content)
        found = census(FORMATS[layout], roots[layout])
        wrong = assert_named(layout, found, frames)
        assert all(str(path) in fault for fault in found.faults)
        outcomes[way, wrong] += 1
        path.write_bytes(before)
    assert sum(outcomes.values()) == 100
    for way in ("truncated", "header", "mode", "replaced"):
        assert outcomes[way, 1] > 0
    assert sum(count for (_, wrong), count in outcomes.items() if wrong) > 70
