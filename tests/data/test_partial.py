"""Frames with the labels they have: ``data.partial=true``."""

import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from multitask.config import factories as build
from multitask.data.census import take_census
from multitask.data.cityscapes import Cityscapes
from multitask.data.counts import keep_counts
from multitask.data.folder import Folder
from multitask.data.formats import FORMATS, open_mixed
from multitask.data.layout import file_path, read_png, write_png
from multitask.data.loader import EncodedFrames, Loader, StepSampler
from multitask.data.subset import HELD_OUT
from multitask.data.tiny import shrink
from multitask.runs.run import Run
from multitask.tasks.labels import tasks_with_labels
from tests.cityscapes import CITYSCAPES, ID
from tests.compose import SMALL, config, small
from tests.layouts import CAMVID, TABLES, mixed_data, write_all
from tests.trees import KINDS, write_tree

SIZE = (32, 64)


def partial(root: Path, split: str = "train") -> Cityscapes:
    return Cityscapes(root, split, SIZE, CITYSCAPES, partial=True)


def remove(frames: Folder, **kinds: tuple[int, ...]) -> None:
    """Takes the files of these frames away."""
    for kind, places in kinds.items():
        for place in places:
            frames.path(kind, frames.names[place]).unlink()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six and two frames: 0 lacks nothing, 1 and 2 disparity and camera, 3 and 4 instances, 4 classes, 5 all of it."""
    root = write_tree(tmp_path / "data", {"train": 6, "val": 2})
    remove(
        Cityscapes(root, "train", SIZE, CITYSCAPES),
        disparity=(1, 2, 5),
        camera=(1, 2, 5),
        instance_ids=(3, 4, 5),
        class_ids=(4, 5),
    )
    return root


# Reading


def test_frames_have_the_labels_that_are_there(root: Path) -> None:
    frames, whole = partial(root), write_tree(root.parent / "whole", {"train": 6})
    frames.check_headers()
    full = Cityscapes(whole, "train", SIZE, CITYSCAPES)
    lacking = {1: {"disparity", "camera"}, 3: {"instance_ids"}, 4: {"instance_ids", "class_ids"}, 5: set(KINDS[1:])}
    lacking[2] = lacking[1]
    for place, name in enumerate(frames.names):
        sample, expected = frames[place], full[place]
        assert frames.kinds_of(name) == set(KINDS[1:]) - lacking.get(place, set())
        for kind in KINDS:
            found = getattr(sample, kind)
            if kind in lacking.get(place, ()):
                assert found is None
            elif kind == "camera":
                assert found == expected.camera
            else:
                np.testing.assert_array_equal(found, getattr(expected, kind))
        assert sample.measured is (place not in (1, 2, 5))


def test_frames_are_counted_by_kind_of_label(root: Path) -> None:
    frames = partial(root)
    assert {kind: frames.count(kind) for kind in KINDS} == dict(zip(KINDS, (6, 4, 3, 3, 3), strict=True))
    assert frames.count("class_ids", "disparity") == 2
    assert frames.lacking("disparity") == []
    assert not frames.only([1, 2, 5]).has("disparity")
    assert frames.only([1, 2, 5]).lacking("disparity") == [f"data.root={root}"]
    assert frames.only([0, 4]).count("disparity") == 2
    assert not frames.only([1, 3]).has("instance_ids", "disparity")


@pytest.mark.parametrize("name", ["cityscapes", "kitti", "camvid"])
def test_every_layout_may_be_partial(tmp_path: Path, name: str) -> None:
    root, kind, table = write_all(tmp_path)[name], FORMATS[name], TABLES[name]
    path = kind(root, "train", SIZE, table).path("class_ids", kind(root, "train", SIZE, table).names[0])
    path.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: no such file, but .* needs it"):
        kind(root, "train", SIZE, table)
    frames = kind(root, "train", SIZE, table, partial=True)
    frames.check_headers()
    assert frames.count("class_ids") == len(frames) - 1
    assert frames[0].class_ids is None
    assert frames[1].class_ids is not None


def test_kind_that_all_frames_lack_is_none(root: Path) -> None:
    stray = file_path(root, "disparity", "val", "valville_000009_000019")
    frames = Cityscapes(root, "val", SIZE, CITYSCAPES)
    frames.path("disparity", frames.names[0]).rename(
        stray.parent.parent / frames.names[0].rsplit("_", 2)[0] / stray.name
    )
    frames.path("disparity", frames.names[1]).unlink()
    assert partial(root, "val").kinds == set(KINDS[1:]) - {"disparity"}


def test_damaged_file_is_a_fault_of_partial_frames_too(root: Path) -> None:
    frames = partial(root)
    path = frames.path("disparity", frames.names[3])
    path.write_bytes(path.read_bytes()[:100])
    for read in (frames.check_headers, lambda: frames[3]):
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: not a readable PNG"):
            read()
    assert take_census(Cityscapes, root, "train", CITYSCAPES, 1, partial=True).faults[0].startswith(f"{path}: not a")


def test_placeholders_of_a_test_split_may_be_missing(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"test": 3})
    names = Cityscapes(root, "test", SIZE, CITYSCAPES).names
    for name in names:
        ids = np.zeros(SIZE, dtype=np.uint8)
        ids[:4] = ID["ego vehicle"]
        write_png(file_path(root, "class_ids", "test", name), ids)
    file_path(root, "class_ids", "test", names[0]).unlink()
    frames = partial(root, "test")
    assert frames.kinds == {"disparity", "camera"}
    first, second = frames[0].disparity, frames[1].disparity
    assert first is not None
    assert second is not None
    assert np.isfinite(first[:4]).any()
    assert np.isnan(second[:4]).all()


def test_value_that_is_no_truth_names_the_key(root: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.partial: needed true or false, found 'some'"):
        build.make_frames(small(root, root, "data.partial=some"), "train")


# One mechanism for several data sets and for one


def test_mixed_parts_may_be_partial(root: Path, tmp_path: Path) -> None:
    bare = write_tree(tmp_path / "bare", {"train": 2}, ("image", "class_ids"))
    with pytest.raises(ValueError, match="no such file, but"):
        open_mixed("train", mixed_data([str(root), str(bare)], SIZE))
    frames = open_mixed("train", mixed_data([str(root), str(bare)], SIZE), partial=True)
    assert frames.count("class_ids") == 6
    assert frames.count("disparity") == 3
    assert frames.lacking("disparity") == [f"data.root={bare}"]
    own = partial(root)
    for place, name in enumerate(frames.names):
        number, _, own_name = name.partition("-")
        assert frames.kinds_of(name) == (own.kinds_of(own_name) if number == "1" else {"class_ids"})
        assert (frames[place].disparity is not None) == ("disparity" in frames.kinds_of(name))
    groups = dict(zip(frames.names, frames.parts, strict=True))
    assert len(set(groups.values())) == 6, "five kinds of frames in one, one in the other"


def test_labels_of_the_chosen_frames_alone_count_in_mixed_data(tmp_path: Path) -> None:
    bare = write_tree(tmp_path / "bare", {"train": 4}, ("image", "class_ids"))
    full = write_tree(tmp_path / "full", {"train": 4})
    frames = open_mixed("train", mixed_data([str(bare), str(full)], SIZE))
    some = frames.only(place for place, part in enumerate(frames.parts) if part == 1)
    assert not some.has("disparity")
    assert some.lacking("disparity") == [f"data.root={bare}"]


def test_every_batch_has_its_share_of_labelled_frames(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"train": 12})
    remove(Cityscapes(root, "train", SIZE, CITYSCAPES), disparity=tuple(range(9)), camera=tuple(range(9)))
    frames = partial(root)
    assert len(set(frames.parts)) == 2
    for keys in StepSampler(12, 4, seed=3, start=0, stop=9, parts=frames.parts):
        assert sum(frames.kinds_of(frames.names[key.frame]) == set(KINDS[1:]) for key in keys) == 1


def test_frames_that_lack_nothing_are_shuffled_as_ever(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"train": 3})
    assert partial(root).parts == Cityscapes(root, "train", SIZE, CITYSCAPES).parts == [0, 0, 0]


# Tasks


def test_each_task_learns_from_the_frames_that_have_its_labels(root: Path) -> None:
    found = small(root, root, "data.partial=true")
    frames, tasks = build.make_frames(found, "train"), build.make_tasks(found, CITYSCAPES)
    valid: Counter[tuple[str, int]] = Counter()
    for batch in Loader(EncodedFrames(frames, tasks), StepSampler(6, 6, 0, 0, 1), 0, pin=False):
        for name, target in batch.targets.items():
            for frame, mask in zip(batch.names, target.valid, strict=True):
                valid[name, frames.names.index(frame)] += int(mask.sum())
    seen = {name: {place for task, place in valid if task == name and valid[task, place]} for name in tasks}
    assert seen == {"semantic": {0, 1, 2, 3}, "instance": {0, 1, 2}, "depth": {0, 3, 4}}


def test_a_line_says_how_many_frames_have_which_labels(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = small(root, root, "data.partial=true")
    tasks = build.make_tasks(found, CITYSCAPES)
    assert tasks_with_labels(tasks, build.make_frames(found, "train")) == tasks
    assert caplog.messages == [
        f"data.root={root}: split 'train' has 6 frames, 4 with class_ids, 3 with instance_ids, 3 with disparity"
    ]


def test_task_without_a_labelled_frame_is_off(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    remove(partial(root), disparity=(0, 3, 4))
    found = small(root, root, "data.partial=true")
    frames, tasks = build.make_frames(found, "train"), build.make_tasks(found, CITYSCAPES)
    assert list(tasks_with_labels(tasks, frames)) == ["semantic", "instance"]
    assert caplog.messages == [f"task 'depth' is off: data.root={root} has no disparity for split 'train'"]
    with pytest.raises(ValueError, match=r"split 'train' has no labels for any of tasks=\['depth'\]"):
        tasks_with_labels({"depth": tasks["depth"]}, frames)


def test_drawn_frames_without_a_label_turn_its_task_off(root: Path, tmp_path: Path) -> None:
    found = small(root, tmp_path, "data.partial=true", "data.held_out=4")
    frames = build.make_frames(found, "train")
    assert frames.count("disparity") == 1
    held_out = build.make_frames(found, HELD_OUT)
    assert [held_out.count(kind) for kind in KINDS[1:4]] == [2, 1, 2]


# Figures


def test_figures_are_those_of_the_labelled_frames(tmp_path: Path) -> None:
    """What validates has two frames, of which one loses its labels: figures are those of the other alone."""
    root = write_tree(tmp_path / "data", {"train": 4, "val": 2})
    frames = Cityscapes(root, "val", SIZE, CITYSCAPES)
    remove(frames, instance_ids=(0,), disparity=(0,), class_ids=(0,), camera=(0,))
    alone = write_tree(tmp_path / "alone", {"train": 4, "val": 2})
    for kind in KINDS:
        frames = Cityscapes(alone, "val", SIZE, CITYSCAPES, strict=False)
        frames.path(kind, frames.names[0] if kind == "image" else "bad_val_000000_000019").unlink()
    steps = "trainer.max_steps=3", "trainer.val_every=3"
    given = {root: ("data.partial=true",), alone: ()}
    figures = [
        Run(small(where, tmp_path / where.name / "run", *steps, *overrides)).train()
        for where, overrides in given.items()
    ]
    assert {"instance/ap", "panoptic/pq", "semantic/iiou_class", "depth/abs_rel"} <= figures[0].keys()
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)  # sums over other batches


# Runs


def test_run_goes_on_with_the_same_labels_alone(root: Path, tmp_path: Path) -> None:
    given = (*SMALL, f"data.root={root}", f"output_dir={tmp_path / 'run'}", "trainer.max_steps=1")
    Run(config(*given, "data.partial=true")).train()
    Run(config(*given, "data.partial=true"))
    remove(partial(root), class_ids=(0,))
    with pytest.raises(ValueError, match=r"was trained on 6 frames, names \w+, labels \w+; .* has 6 frames, names"):
        Run(config(*given, "data.partial=true"))


def test_names_alone_tell_frames_that_all_have_the_same_labels(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"train": 3})
    before = Cityscapes(root, "train", SIZE, CITYSCAPES).fingerprint
    assert re.fullmatch(r"3 frames, names \w{8}", before)
    assert re.fullmatch(re.escape(before) + r", labels \w{8}", partial(root).fingerprint)


# Check


def test_census_counts_frames_by_kind_of_label(root: Path) -> None:
    assert len(take_census(Cityscapes, root, "train", CITYSCAPES, 1).faults) == 3 + 3 + 3 + 2
    found = take_census(Cityscapes, root, "train", CITYSCAPES, 1, partial=True)
    assert found.faults == []
    assert found.files == {"image": 6, "class_ids": 4, "instance_ids": 3, "disparity": 3, "camera": 3}
    assert found.labels == {
        "class_ids + instance_ids + disparity": 1,
        "class_ids + instance_ids": 2,
        "class_ids + disparity": 1,
        "disparity": 1,
        "no labels": 1,
    }


def test_kept_counts_are_those_of_the_files(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_counts(root, {"train": dict(take_census(Cityscapes, root, "train", CITYSCAPES, 1, partial=True).files)})
    partial(root)
    assert caplog.messages == []
    remove(partial(root), disparity=(0,))
    partial(root)
    assert caplog.messages == [f"data.root={root}: split 'train' has lost files since it was checked: 2 of 3 disparity"]


# Tiny Cityscapes


def test_tiny_of_a_partial_source_is_partial(root: Path, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    with pytest.raises(ValueError, match="no such file, but"):
        shrink(root, tiny, (8, 16), CITYSCAPES, workers=1)
    assert shrink(root, tiny, (8, 16), CITYSCAPES, workers=1, partial=True) == {"train": 6, "val": 2}
    small_, large = Cityscapes(tiny, "train", (8, 16), CITYSCAPES, partial=True), partial(root)
    assert [small_.kinds_of(name) for name in small_.names] == [large.kinds_of(name) for name in large.names]
    times = {path: path.stat().st_mtime_ns for path in tiny.rglob("*.png")}
    shrink(root, tiny, (8, 16), CITYSCAPES, workers=1, partial=True)
    assert times == {path: path.stat().st_mtime_ns for path in tiny.rglob("*.png")}


def test_camvid_frame_without_classes_is_a_picture(tmp_path: Path) -> None:
    camvid = write_all(tmp_path)["camvid"]
    frames = FORMATS["camvid"](camvid, "val", SIZE, CAMVID)
    path = frames.path("class_ids", frames.names[0])
    assert read_png(path, "class_ids").shape
    path.unlink()
    assert FORMATS["camvid"](camvid, "val", SIZE, CAMVID, partial=True)[0].class_ids is None
