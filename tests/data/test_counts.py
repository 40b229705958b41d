import json
import logging
from pathlib import Path

import pytest

from multitask.data import manifest
from multitask.data.cityscapes import Cityscapes
from multitask.data.counts import KEPT, check_counts, has_manifest, keep_counts, kept_counts
from multitask.data.formats import FORMATS, open_split
from tests.cityscapes import CITYSCAPES
from tests.layouts import CAMVID, mixed_data, write_camvid
from tests.trees import KINDS

SIZE = (32, 64)
COUNTS = {"train": dict.fromkeys(KINDS, 3), "val": dict.fromkeys(KINDS, 2)}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def remove_frame(root: Path, split: str) -> None:
    name = Cityscapes(root, split, SIZE, CITYSCAPES).names[0]
    for kind in KINDS:
        Cityscapes(root, split, SIZE, CITYSCAPES, strict=False).path(kind, name).unlink()


def test_counts_are_kept_and_found(tmp_path: Path) -> None:
    assert kept_counts(tmp_path) == {}
    keep_counts(tmp_path, COUNTS)
    assert kept_counts(tmp_path) == COUNTS
    assert [path.name for path in tmp_path.iterdir()] == [KEPT]


def test_fewer_files_than_at_the_check_are_said_in_one_line(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_counts(tree, COUNTS)
    Cityscapes(tree, "train", SIZE, CITYSCAPES)
    assert lines(caplog) == []
    remove_frame(tree, "train")
    caplog.clear()
    assert len(Cityscapes(tree, "train", SIZE, CITYSCAPES)) == 2
    fewer = ", ".join(f"2 of 3 {kind}" for kind in KINDS)
    assert lines(caplog) == [f"data.root={tree}: split 'train' has lost files since it was checked: {fewer}"]
    caplog.clear()
    Cityscapes(tree, "val", SIZE, CITYSCAPES)
    assert lines(caplog) == []


def test_check_that_finds_fewer_says_so_and_keeps_what_is_gone(tmp_path: Path) -> None:
    assert keep_counts(tmp_path, COUNTS) == []
    assert keep_counts(tmp_path, {"train": {**COUNTS["train"], "disparity": 1}}) == [
        "1 of 3 disparity of train",
        *(f"0 of 2 {kind} of val" for kind in KINDS),
    ]
    assert kept_counts(tmp_path) == {"train": {**COUNTS["train"], "disparity": 1}, "val": COUNTS["val"]}


def test_embedded_set_without_a_kind_of_labels_is_refused(tree: Path) -> None:
    manifest.write(tree, manifest.SYNTHETIC, {"seed": 0, "size": [32, 64], "counts": {"train": 3}})
    for path in (tree / "disparity/train").rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"needed the 3 frames of split 'train' .*, found 0 disparity; python scripts"):
        Cityscapes(tree, "train", SIZE, CITYSCAPES)


def test_kind_of_labels_that_is_gone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_camvid(tmp_path, {"train": 2})
    keep_counts(root, {"train": {"image": 2, "class_ids": 2}})
    for path in (root / "trainannot").iterdir():
        path.unlink()
    FORMATS["camvid"](root, "train", SIZE, CAMVID)
    assert lines(caplog) == [f"data.root={root}: split 'train' has lost files since it was checked: 0 of 2 class_ids"]


def test_more_files_than_at_the_check_are_no_loss(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_counts(tree, {"train": {"image": 2}})
    check_counts(tree, ["train"], {"image": 3})
    check_counts(tree, ["other"], {"image": 1})
    assert lines(caplog) == []


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", '{"train": 3}', '{"train": {"image": "3"}}', "[" * 100_000])
def test_counts_that_are_damaged_are_said_and_stop_nobody(
    tree: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (tree / KEPT).write_text(content)
    assert len(Cityscapes(tree, "train", SIZE, CITYSCAPES)) == 3
    assert lines(caplog) == [f"{tree / KEPT}: not the counts of a check; another check writes it again"]


@pytest.mark.parametrize("name", manifest.NAMES)
def test_frames_that_a_manifest_names_must_be_there(tree: Path, tmp_path: Path, name: str) -> None:
    content = {"seed": 0, "source": "/a", "size": [32, 64], "counts": {"train": 3, "val": 2}}
    manifest.write(tree, name, content)
    assert has_manifest(tree)
    keep_counts(tree, {"train": {"image": 9}})  # of a set that the project has written nobody asks
    mixed = mixed_data([str(tree)], SIZE)
    one = {"format": "cityscapes", "root": str(tree), "image_size": SIZE, "classes": "cityscapes"}
    assert [len(open_split(data, "train")) for data in (one, mixed)] == [3, 3]
    remove_frame(tree, "train")
    for data in (one, mixed):
        with pytest.raises(ValueError, match=rf"needed the 3 frames of split 'train' that {name} names, found 2 image"):
            open_split(data, "train")
    assert len(open_split(one, "val")) == 2
    (tree / name).write_text(json.dumps({**content, "counts": {}}))
    assert len(open_split(one, "train")) == 2
