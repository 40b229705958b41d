import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.data.cityscapes import Cityscapes
from multitask.data.layout import file_path, read_png
from multitask.data.tiny import MANIFEST, shrink
from tests.cityscapes import CITYSCAPES
from tests.reference import cell_medians
from tests.trees import CAMERA, KINDS, write_tree

SOURCE_SIZE, SIZE = (64, 128), (8, 16)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 3 + 2 frames of 64 x 128 px, which no test may change."""
    return write_tree(tmp_path_factory.mktemp("source"), {"train": 3, "val": 2}, size=SOURCE_SIZE)


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source at an eighth of its size, which no test may change."""
    root = tmp_path_factory.mktemp("finished") / "tiny"
    assert shrink(source, root, SIZE, CITYSCAPES, workers=1) == {"train": 3, "val": 2}
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished data set."""
    return shutil.copytree(finished, tmp_path / "tiny")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


# What is written


def test_tiny_has_the_files_of_its_source_and_a_manifest(source: Path, finished: Path) -> None:
    assert set(files(finished)) == set(files(source)) | {MANIFEST}


def test_tiny_image_is_the_mean_of_blocks(source: Path, finished: Path) -> None:
    for name in Cityscapes(source, "train", SOURCE_SIZE, CITYSCAPES).names:
        large, small = (read_png(file_path(root, "image", "train", name), "image") for root in (source, finished))
        means = large.reshape(8, 8, 16, 8, 3).mean(axis=(1, 3))
        assert np.array_equal(small, np.floor(means + 0.5))


def test_tiny_labels_are_nearest_and_medians_of_disparity_and_the_camera_are_scaled(
    source: Path, finished: Path
) -> None:
    large, small = (
        Cityscapes(source, "val", SOURCE_SIZE, CITYSCAPES)[1],
        Cityscapes(finished, "val", SIZE, CITYSCAPES)[1],
    )
    assert np.array_equal(small.class_ids, large.class_ids[4::8, 4::8])
    assert np.array_equal(small.instance_ids, large.instance_ids[4::8, 4::8])
    expected = cell_medians(large.disparity, SIZE) / 8
    assert np.array_equal(np.isnan(small.disparity), np.isnan(expected))
    assert np.nanmax(abs(small.disparity - expected)) <= 0.5 / 256  # the step of the 16-bit coding
    assert small.camera == CAMERA.scaled(1 / 8, 1 / 8)
    assert (small.camera.baseline, small.camera.z) == (CAMERA.baseline, CAMERA.z)


def test_tiny_reads_as_the_source_reads_at_that_size(source: Path, finished: Path) -> None:
    small, large = Cityscapes(finished, "train", SIZE, CITYSCAPES), Cityscapes(source, "train", SIZE, CITYSCAPES)
    assert small.names == large.names
    for found, expected in zip(small, large, strict=True):
        for layer in ("image", "class_ids", "instance_ids"):
            assert np.array_equal(getattr(found, layer), getattr(expected, layer))


def test_files_and_faults_do_not_depend_on_the_number_of_workers(source: Path, finished: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(source, tmp_path / "source")
    path = file_path(broken, "disparity", "train", Cityscapes(source, "train", SIZE, CITYSCAPES).names[1])
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        shrink(broken, tmp_path / "broken", SIZE, CITYSCAPES, workers=2)
    shrink(source, tmp_path / "tiny", SIZE, CITYSCAPES, workers=2)
    assert files(tmp_path / "tiny") == files(finished)


@pytest.mark.parametrize("missing", [("disparity",), ("disparity", "camera"), ("class_ids", "instance_ids"), KINDS[1:]])
def test_source_without_some_kinds_gives_the_others(tmp_path: Path, missing: tuple[str, ...]) -> None:
    kinds = tuple(kind for kind in KINDS if kind not in missing)
    write_tree(tmp_path / "source", {"val": 1}, kinds, SOURCE_SIZE)
    assert shrink(tmp_path / "source", tmp_path / "tiny", SIZE, CITYSCAPES, workers=1) == {"val": 1}
    assert Cityscapes(tmp_path / "tiny", "val", SIZE, CITYSCAPES).kinds == set(kinds) - {"image"}


def test_kind_missing_in_one_split_is_missing_there_only(source: Path, tmp_path: Path) -> None:
    partial = shutil.copytree(source, tmp_path / "source")
    shutil.rmtree(partial / "gtFine" / "val")
    shrink(partial, tmp_path / "tiny", SIZE, CITYSCAPES, workers=1)
    assert Cityscapes(tmp_path / "tiny", "train", SIZE, CITYSCAPES).kinds == set(KINDS[1:])
    assert Cityscapes(tmp_path / "tiny", "val", SIZE, CITYSCAPES).kinds == {"disparity", "camera"}


def test_progress_counts_every_frame(source: Path, root: Path) -> None:
    calls: list[tuple[int, int]] = []
    shrink(source, root, SIZE, CITYSCAPES, 1, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(1, 6)]


# Resuming


def test_finished_frames_are_left_untouched(source: Path, root: Path) -> None:
    before = times(root)
    assert shrink(source, root, SIZE, CITYSCAPES, workers=1) == {"train": 3, "val": 2}
    assert times(root) == before


@pytest.mark.parametrize("kind", KINDS)
def test_deleted_file_is_written_again_and_other_frames_are_left_untouched(
    source: Path, finished: Path, root: Path, kind: str
) -> None:
    name = Cityscapes(source, "train", SIZE, CITYSCAPES).names[1]
    file_path(root, kind, "train", name).unlink()
    before = times(root)
    shrink(source, root, SIZE, CITYSCAPES, workers=1)
    assert files(root) == files(finished)
    changed = {path for path, time in times(root).items() if before.get(path) != time}
    assert changed
    assert all(path.name.startswith(name) for path in changed)


def test_temporary_file_of_a_killed_call_is_removed(source: Path, finished: Path, root: Path) -> None:
    path = file_path(root, "image", "train", Cityscapes(source, "train", SIZE, CITYSCAPES).names[0])
    path.rename(path.with_name(".multitask-0123"))
    shrink(source, root, SIZE, CITYSCAPES, workers=1)
    assert files(root) == files(finished)


def test_call_that_was_stopped_is_finished_by_the_next(source: Path, finished: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    root = tmp_path / "tiny"
    with pytest.raises(KeyboardInterrupt):
        shrink(source, root, SIZE, CITYSCAPES, 1, stop)
    assert (root / MANIFEST).is_file()
    shrink(source, root, SIZE, CITYSCAPES, workers=1)
    assert files(root) == files(finished)


def test_kind_that_was_added_to_the_source_is_added(source: Path, finished: Path, tmp_path: Path) -> None:
    growing = shutil.copytree(source, tmp_path / "source")
    shutil.rmtree(growing / "disparity")
    shrink(growing, tmp_path / "tiny", SIZE, CITYSCAPES, workers=1)
    assert not (tmp_path / "tiny" / "disparity").exists()
    shutil.copytree(source / "disparity", growing / "disparity")
    shrink(growing, tmp_path / "tiny", SIZE, CITYSCAPES, workers=1)
    expected = {path: content for path, content in files(finished).items() if path != MANIFEST}
    assert {path: content for path, content in files(tmp_path / "tiny").items() if path != MANIFEST} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_file_is_written_again(source: Path, finished: Path, root: Path, kind: str) -> None:
    path = file_path(root, kind, "val", Cityscapes(source, "val", SIZE, CITYSCAPES).names[0])
    whole = path.read_bytes()
    of_another_size = whole if kind == "camera" else (source / path.relative_to(root)).read_bytes()
    for content in (b"", whole[: len(whole) // 2], bytes(len(whole)), of_another_size):
        path.write_bytes(content)
        shrink(source, root, SIZE, CITYSCAPES, workers=1)
        assert files(root) == files(finished)


def test_files_are_checked_at_the_end(source: Path, root: Path) -> None:
    name = Cityscapes(source, "val", SIZE, CITYSCAPES).names[0]
    path = file_path(root, "image", "val", name).with_name("ulm_000000_000019_leftImg8bit.png")
    path.touch()  # a frame of nobody's
    with pytest.raises(ValueError, match=re.escape(str(path))):
        shrink(source, root, SIZE, CITYSCAPES, workers=1)


def test_frames_of_nearest_disparity_are_not_mixed_with_medians(source: Path, root: Path) -> None:
    content = json.loads((root / MANIFEST).read_text())
    del content["disparity"]  # as older versions wrote it
    (root / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"holds another data set: needed disparity 'median of each cell', found None"):
        shrink(source, root, SIZE, CITYSCAPES, workers=1)


def test_manifest_says_how_many_frames_there_are(source: Path, finished: Path, root: Path, tmp_path: Path) -> None:
    content = json.loads((finished / MANIFEST).read_text())
    made = {"source": str(source), "size": list(SIZE), "disparity": "median of each cell"}
    assert content == {**made, "counts": {"train": 3, "val": 2}}
    (root / MANIFEST).write_text(json.dumps({key: content[key] for key in made}))  # of an older version
    shrink(source, root, SIZE, CITYSCAPES, workers=1)
    assert json.loads((root / MANIFEST).read_text()) == content


def test_source_that_has_lost_frames_is_refused(source: Path, tmp_path: Path) -> None:
    shrinking, root = shutil.copytree(source, tmp_path / "source"), tmp_path / "tiny"
    shrink(shrinking, root, SIZE, CITYSCAPES, workers=1)
    before = files(root)
    for kind in KINDS:
        file_path(shrinking, kind, "train", Cityscapes(source, "train", SIZE, CITYSCAPES).names[0]).unlink()
    with pytest.raises(
        ValueError,
        match=rf"data\.source={shrinking}: needed the 3 frames of split 'train' that {MANIFEST} names, found 2",
    ):
        shrink(shrinking, root, SIZE, CITYSCAPES, workers=1)
    shutil.rmtree(shrinking / "leftImg8bit/train")
    assert shrink(shrinking, root, SIZE, CITYSCAPES, workers=1) == {"val": 2}
    assert files(root) == before


# Refusals


def assert_refused(source: Path, root: Path, words: str, size: tuple[int, int] = SIZE) -> None:
    """The call is refused and changes nothing."""
    before = times(root)
    with pytest.raises(ValueError, match=words):
        shrink(source, root, size, CITYSCAPES, workers=1)
    assert times(root) == before


def test_root_that_is_the_source_is_refused(source: Path, tmp_path: Path) -> None:
    assert_refused(source, source, r"data\.root")
    assert_refused(source, source / "gtFine" / "..", r"data\.root")
    (tmp_path / "link").symlink_to(source)
    assert_refused(source, tmp_path / "link", r"data\.root")
    assert MANIFEST not in files(source)


def test_folder_with_foreign_files_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert_refused(source, tmp_path, rf"data\.root={re.escape(str(tmp_path))}")


def test_another_data_set_in_the_cityscapes_layout_is_refused(source: Path, tree: Path) -> None:
    assert_refused(source, tree, r"data\.root")


def test_root_of_another_size_is_refused(source: Path, root: Path) -> None:
    assert_refused(source, root, r"needed size \[16, 32\], found \[8, 16\]", size=(16, 32))


def test_root_of_another_source_is_refused(source: Path, root: Path, tree: Path) -> None:
    assert_refused(tree, root, r"needed source .*tree'")


@pytest.mark.parametrize("content", ["", "leftImg8bit", "leftImg8bit/other/ulm"])
def test_source_without_a_split_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "source" / content).mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"data\.source={re.escape(str(tmp_path / 'source'))}"):
        shrink(tmp_path / "source", tmp_path / "tiny", SIZE, CITYSCAPES, workers=1)
    assert not (tmp_path / "tiny").exists()


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.source=.*none"):
        shrink(tmp_path / "none", tmp_path / "tiny", SIZE, CITYSCAPES, workers=1)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_missing_file_in_the_source_is_named_before_anything_is_written(
    source: Path, tmp_path: Path, kind: str
) -> None:
    broken = shutil.copytree(source, tmp_path / "source")
    if kind == "image":
        shutil.rmtree(broken / "leftImg8bit" / "val")
        (broken / "leftImg8bit" / "val").mkdir()
        named = broken / "leftImg8bit" / "val"
    else:
        named = file_path(broken, kind, "train", Cityscapes(source, "train", SIZE, CITYSCAPES).names[2])
        named.unlink()
    with pytest.raises(ValueError, match=re.escape(str(named))):
        shrink(broken, tmp_path / "tiny", SIZE, CITYSCAPES, workers=1)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "size", "mode"])
def test_damaged_source_is_named_and_once_repaired_the_call_is_finished(
    source: Path, finished: Path, tmp_path: Path, damage: str
) -> None:
    broken, root = shutil.copytree(source, tmp_path / "source"), tmp_path / "tiny"
    path = file_path(broken, "disparity", "train", Cityscapes(source, "train", SIZE, CITYSCAPES).names[1])
    whole = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        Image.new("I;16" if damage == "size" else "L", (32, 16)).save(path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        shrink(broken, root, SIZE, CITYSCAPES, workers=1)
    path.write_bytes(whole)
    shrink(broken, root, SIZE, CITYSCAPES, workers=1)
    expected = {path: content for path, content in files(finished).items() if path != MANIFEST}
    assert {path: content for path, content in files(root).items() if path != MANIFEST} == expected
