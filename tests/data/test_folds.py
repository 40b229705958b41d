import logging
from pathlib import Path
from typing import Any

import pytest

from multitask.config import factories as build
from multitask.data.counts import keep_counts
from multitask.data.folds import Fold
from multitask.data.kitti import Kitti
from multitask.data.split import Split
from multitask.tasks.labels import tasks_with_labels
from tests.cityscapes import CITYSCAPES
from tests.compose import config
from tests.layouts import write_all, write_kitti
from tests.trees import KINDS

ALL = [f"{number:06}_10" for number in range(11)]


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven frames, of which the first four and the last lack disparity; no test may change them."""
    root = write_kitti(tmp_path_factory.mktemp("kitti"), range(11))
    for number in (0, 1, 2, 3, 10):
        (root / f"training/disp_occ_0/{number:06}_10.png").unlink()
    return root


def frames(root: Path, split: str, *overrides: str) -> Split:
    given = "data=kitti", f"data.root={root}", "data.partial=true", "data.image_size=[32,64]"
    return build.make_frames(config(*given, "data.augmentation.crop=null", *overrides), split)


@pytest.mark.parametrize(("num_frames", "of"), [(11, 3), (10, 5), (200, 7), (2, 2), (5, 5), (180, 5)])
def test_blocks_follow_each_other_and_differ_by_one_frame_at_most(num_frames: int, of: int) -> None:
    blocks = [Fold(number, of).block(num_frames) for number in range(of)]
    assert [place for block in blocks for place in block] == list(range(num_frames))
    assert {len(block) for block in blocks} <= {num_frames // of, -(-num_frames // of)}


@pytest.mark.parametrize("fold", range(3))
def test_block_is_val_and_test_and_the_others_train(kitti: Path, fold: int) -> None:
    tested = [ALL[:3], ALL[3:7], ALL[7:]][fold]
    given = "data.folds=3", f"data.fold={fold}"
    for split in ("val", "test"):
        assert frames(kitti, split, *given).names == tested
        assert frames(kitti, split, *given).split == split
    train = frames(kitti, "train", *given)
    assert train.names == [name for name in ALL if name not in tested]
    train.check_headers()
    assert train[0].name == train.names[0]


def test_without_folds_the_split_is_as_ever(kitti: Path) -> None:
    for split in ("train", "val"):
        assert frames(kitti, split).names == Kitti(kitti, split, (32, 64), CITYSCAPES, partial=True).names
    assert frames(kitti, "val").names == [ALL[4], ALL[9]]
    with pytest.raises(ValueError, match=r"testing.image_2: no such folder; needed split 'test'"):
        frames(kitti, "test")


def test_held_out_and_drawn_frames_are_of_the_training_frames(kitti: Path) -> None:
    given = "data.folds=3", "data.fold=2", "data.held_out=2", "data.draw=3"
    assert frames(kitti, "held_out", *given).names == ALL[5:7]
    drawn = frames(kitti, "train", *given, "seed=3").names
    assert len(drawn) == 3
    assert set(drawn) <= set(ALL[:5])
    with pytest.raises(ValueError, match=r"data\.held_out: needed 0 to 6 frames, found 7"):
        frames(kitti, "train", "data.folds=3", "data.fold=2", "data.held_out=7")


def test_fold_may_be_left_to_the_seed(kitti: Path) -> None:
    tested = [frames(kitti, "test", "data.folds=3", "data.fold=seed", f"seed={seed}").names for seed in range(7)]
    assert tested == [ALL[:3], ALL[3:7], ALL[7:], ALL[:3], ALL[3:7], ALL[7:], ALL[:3]]


def test_messages_name_the_fold(kitti: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tasks = build.make_tasks(config(), CITYSCAPES)
    found = frames(kitti, "test", "data.folds=3", "data.fold=0")
    assert list(tasks_with_labels(tasks, found)) == ["semantic", "instance"]
    where = f"data.root={kitti} data.folds=3 data.fold=0"
    assert caplog.messages == [
        f"{where}: split 'test' has 3 frames, 3 with class_ids, 3 with instance_ids, 0 with disparity",
        f"task 'depth' is off: {where} has no disparity for split 'test'",
    ]
    with pytest.raises(ValueError, match=r"data\.fold=0: split 'test' has no labels for any of tasks=\['depth'\]"):
        tasks_with_labels({"depth": tasks["depth"]}, found)
    assert "depth" in tasks_with_labels(tasks, frames(kitti, "train", "data.folds=3", "data.fold=0"))


@pytest.mark.parametrize(
    ("overrides", "split", "message"),
    [
        (["data.folds=3"], "train", r"data\.fold: needed 0 to 2 or seed, found None"),
        (["data.folds=3", "data.fold=3"], "train", r"data\.fold: needed 0 to 2 or seed, found 3"),
        (["data.folds=3", "data.fold=-1"], "val", r"data\.fold: needed 0 to 2 or seed, found -1"),
        (["data.folds=3", "data.fold=speed"], "val", r"data\.fold: needed 0 to 2 or seed, found 'speed'"),
        (["data.folds=3", "data.fold=true"], "val", r"data\.fold: needed 0 to 2 or seed, found True"),
        (["data.folds=1", "data.fold=0"], "val", r"data\.folds: needed null or a whole number from 2, found 1"),
        (["data.folds=2.5", "data.fold=0"], "val", r"data\.folds: needed null or a whole number from 2, found 2\.5"),
        (["data.folds=12", "data.fold=0"], "val", r"data\.folds: needed at most 11, the frames of .*kitti.*, found 12"),
        (["data.fold=0"], "train", r"data\.folds: needed how many there are for data\.fold=0, found null"),
        (["data.folds=3", "data.fold=0"], "other", r"split 'other': needed one of \['train', 'val', 'test'\]"),
    ],
)
def test_folds_that_make_no_sense_name_the_key(kitti: Path, overrides: list[str], split: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frames(kitti, split, *overrides)


@pytest.mark.parametrize("name", ["cityscapes", "camvid", "synthetic", "tiny_cityscapes", "mixed"])
def test_folds_of_data_with_splits_of_their_own_are_refused(tmp_path: Path, name: str) -> None:
    roots = write_all(tmp_path)
    root: Any = {"mixed": f"data.roots=[{roots['kitti']}]"}.get(name, f"data.root={roots.get(name, tmp_path)}")
    found = config(f"data={name}", root, "data.folds=5", "data.fold=1")
    message = rf"data\.folds: needed null, since data={name} has splits of its own, found 5"
    with pytest.raises(ValueError, match=message):
        build.make_frames(found, "train")


def test_whole_split_is_of_layouts_with_one_folder_alone(tmp_path: Path) -> None:
    root = write_all(tmp_path)["kitti"]
    (root / "training").rename(root / "testing")
    with pytest.raises(ValueError, match=r"training.image_2: no such folder; needed split 'whole', found \['test'\]"):
        Kitti(root, "whole", (32, 64), CITYSCAPES)


def test_files_lost_since_a_check_are_said_of_folds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_kitti(tmp_path, range(11))
    keep_counts(root, {"train": dict.fromkeys(KINDS, 9), "val": dict.fromkeys(KINDS, 2)})
    frames(root, "train", "data.folds=3", "data.fold=1")
    assert caplog.messages == []
    (root / "training/semantic/000004_10.png").unlink()
    frames(root, "train", "data.folds=3", "data.fold=1")
    assert caplog.messages == [
        f"data.root={root}: split 'train' and 'val' has lost files since it was checked: 10 of 11 class_ids"
    ]
