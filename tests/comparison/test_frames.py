import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from multitask.comparison.frames import FramesOfRuns, folds_in_words
from multitask.comparison.plan import Job, Plan
from multitask.comparison.report import Report
from multitask.comparison.runner import Runner
from multitask.config import factories as build
from multitask.errors import UserError
from tests.cityscapes import CITYSCAPES
from tests.comparison.made import EXPERIMENT, IOU, LEARNED, TASKS, result
from tests.compose import config
from tests.layouts import write_kitti

FOLDS = ("data.folds=5", "data.fold=seed")


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames, which no test may change."""
    return write_kitti(tmp_path_factory.mktemp("kitti"), range(10))


def of(root: Path, *overrides: str) -> dict[str, Any]:
    return config("data=kitti", f"data.root={root}", "data.partial=true", "data.held_out=2", *overrides)


def test_frames_differ_by_seed_where_the_fold_is_the_seed_s(kitti: Path) -> None:
    frames, given = FramesOfRuns(), of(kitti, *FOLDS)
    # The last two training images are held out: 8 and 9, but 6 and 7 where those are tested. Then fold 3 and fold 4,
    # of which each tests what the other holds out, train on the same ones.
    for split, different in {"train": 4, "test": 5, "held_out": 2}.items():
        described = [frames.describe(split, {**given, "seed": seed}) for seed in (0, 1, 2, 3, 4, 100)]
        assert len(set(described)) == different
        assert described[5] == described[0], "seed 100 is of fold 0"
    assert frames.describe("test", given).startswith("2 frames, names ")
    assert frames.describe("train", given).startswith("6 frames, names ")


def test_frames_are_those_that_a_row_leaves_itself(kitti: Path) -> None:
    frames = FramesOfRuns()
    held, all_of_them = of(kitti, *FOLDS), of(kitti, *FOLDS, "data.held_out=0")
    assert frames.describe("train", held).startswith("6 frames, ")
    assert frames.describe("train", all_of_them).startswith("8 frames, ")
    assert frames.describe("test", held) == frames.describe("test", all_of_them)


def test_frames_are_the_same_for_all_seeds_otherwise(kitti: Path) -> None:
    for overrides in ((), ("data.folds=5", "data.fold=2"), ("data.draw=2",)):
        frames, given = FramesOfRuns(), of(kitti, *overrides)
        for split in ("train", "val", "held_out"):
            assert len({frames.describe(split, {**given, "seed": seed}) for seed in range(5)}) == 1
    assert frames.describe("train", given).startswith("6 frames, "), "what is drawn is the seed's"


def test_task_needs_labels_in_every_fold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_kitti(tmp_path, range(10))
    for number in (4, 5):  # fold 2
        (root / f"training/disp_occ_0/{number:06}_10.png").unlink()
    caplog.set_level(logging.WARNING)
    given = of(root, *FOLDS)
    frames, tasks = FramesOfRuns(), build.make_tasks(given, CITYSCAPES)
    assert list(frames.tasks_with_labels(tasks, given, ["train", "test"], [0, 1, 3])) == list(tasks)
    assert caplog.messages == []
    assert list(frames.tasks_with_labels(tasks, given, ["train", "test"], range(5))) == ["semantic", "instance"]
    assert caplog.messages == [
        f"task 'depth' is off: data.root={root} data.folds=5 data.fold=2 has no disparity for split 'test'"
    ]
    with pytest.raises(UserError, match=r"data\.fold=2: split 'test' has no labels for any of tasks=\['depth'\]"):
        frames.tasks_with_labels({"depth": tasks["depth"]}, given, ["train", "test"], range(5))


def test_results_of_a_seed_are_compared_with_its_own_frames(kitti: Path, tmp_path: Path) -> None:
    def compose(arguments: Sequence[str]) -> dict[str, Any]:
        return of(kitti, *FOLDS, *arguments)

    plan = Plan(EXPERIMENT, TASKS, [0, 1], "test", [1.0], 9)
    frames = FramesOfRuns()
    runner = Runner(plan, tmp_path, tmp_path / "results", compose, [], [{}], "cpu", frames.describe, tmp_path)
    # What a result is checked against, before there is one.
    found = [runner._config(Job(LEARNED, "test", 1.0, seed)) for seed in (0, 1)]
    of_seeds = [compose([f"seed={seed}"]) for seed in (0, 1)]
    assert [one["data.frames"] for one in found] == [frames.describe("test", given) for given in of_seeds]
    assert found[0]["data.frames"] != found[1]["data.frames"]
    assert found[0]["data.train_frames"] != found[1]["data.train_frames"]
    assert {(one["data.folds"], one["data.fold"], one["data.partial"]) for one in found} == {(5, "seed", True)}


@pytest.mark.parametrize(
    ("fold", "seeds", "words"),
    [
        (
            "seed",
            [0, 1, 2, 3, 4],
            "Seed s is tested on fold s mod 5 of 5, contiguous blocks of frames, and trained on the others: "
            "every frame is tested, and deviations over seeds are over frames, too. "
            "Choices are those of fold 4, on training images that other folds test. ",
        ),
        (
            "seed",
            [0, 1, 5],
            "Seed s is tested on fold s mod 5 of 5, contiguous blocks of frames, and trained on the others: "
            "the frames of 2 of 5 folds are tested, and deviations over seeds are over frames, too. "
            "Choices are those of fold 4, on training images that other folds test. ",
        ),
        (2, [0, 1], "Of 5 contiguous blocks of frames number 2 is tested and the others are trained on. "),
    ],
)
def test_report_says_which_fold_a_seed_is_tested_on(fold: object, seeds: list[int], words: str) -> None:
    plan = Plan(EXPERIMENT, TASKS, seeds, "test", [1.0], 9)
    given = {"data.folds": 5, "data.fold": fold}
    assert folds_in_words(given, plan) == words
    flat = {"data.name": "kitti", "data.image_size": [4, 8], "model.encoder": "none", **given}
    flat |= {"trainer.max_steps": 10, "trainer.batch_size": 2}
    done = {"three/test-rate1-seed0": result("three", {IOU: 0.5}, config=flat)}
    assert words in Report(plan, done, {}).text()


def test_report_without_folds_says_nothing_of_them() -> None:
    plan = Plan(EXPERIMENT, TASKS, [0], "test", [1.0], 9)
    assert folds_in_words({"data.folds": None, "data.fold": None}, plan) == ""
    assert folds_in_words({}, plan) == ""
