import logging
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from multitask.config import factories as build
from multitask.data.cityscapes import Cityscapes
from multitask.data.formats import FORMATS, check_keys, format_of, open_split
from multitask.data.loader import EncodedFrames, Loader, StepSampler
from multitask.data.split import Split
from multitask.data.subset import HELD_OUT
from multitask.engine import checkpoint
from multitask.engine.history import read_history
from multitask.errors import UserError
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.runs.run import CONFIG, LAST, Run
from tests.cityscapes import CITYSCAPES
from tests.compose import SMALL, config
from tests.layouts import CAMVID, mixed_data, write_all
from tests.trees import write_tree

WHOLE = "data.augmentation.crop=null"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set in each layout, which no test may change."""
    return write_all(tmp_path_factory.mktemp("roots"))


def given(roots: dict[str, Path], layout: str) -> list[str]:
    """What the command line says of a data set."""
    if layout == "mixed":
        return ["data=mixed", f"data.roots=[{','.join(map(str, roots.values()))}]", WHOLE]
    return [f"data={layout}", f"data.root={roots[layout]}", WHOLE]


def evaluated(run: Path, *overrides: str) -> dict[str, float]:
    arguments = [f"checkpoint={run / LAST}", *overrides]
    return evaluate_checkpoint(config(*arguments, name="evaluate"), arguments)[0]


# Opening


def test_layout_is_known_by_its_folders(roots: dict[str, Path], tmp_path: Path) -> None:
    assert {name: format_of(root) for name, root in roots.items()} == {name: name for name in roots}
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}: needed one of the folders leftImg"):
        format_of(tmp_path)
    for folder in ("trainannot", "leftImg8bit"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ValueError, match=r"found \['cityscapes', 'camvid'\]"):
        format_of(tmp_path)
    with pytest.raises(ValueError, match=r"data\.roots: .*none: no such folder"):
        format_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"format": "voc", "root": "a"},
            r"data\.format: needed one of \['cityscapes', .*, 'mixed', 'folder'\]",
        ),
        ({"format": "kitti", "root": "a", "roots": ["b"]}, r"data\.roots: no key of data\.format=kitti, needed some"),
        ({"format": "camvid", "root": "a", "num_val": 3}, r"data\.num_val: no key of data\.format=camvid"),
        ({"format": "kitti", "root": "a", "source": None}, r"data\.source: no key of data\.format=kitti"),
        ({"format": "mixed", "roots": ["a"], "root": "b"}, r"data\.root: no key of data\.format=mixed, .*\['roots'\]"),
        ({"root": "a", "roots": ["b"]}, r"data\.roots: no key of data\.format=cityscapes"),
        ({"format": "kitti"}, r"data\.root: needed a folder, found None"),
        ({"root": 3}, r"data\.root: needed a folder, found 3"),
        ({"format": "mixed"}, r"data\.roots: needed folders of data sets, .*, found None"),
        ({"format": "mixed", "roots": []}, r"data\.roots: needed folders of data sets, .*, found \[\]"),
        ({"format": "mixed", "roots": "a"}, r"data\.roots: needed folders of data sets, .*, found 'a'"),
        ({"format": "mixed", "roots": [1]}, r"data\.roots: needed folders of data sets, .*, found \[1\]"),
        ({"format": "mixed", "roots": ["a", "./a"]}, r"data\.roots: needed each folder once, found \['a', './a'\]"),
    ],
)
def test_keys_of_another_format_are_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_keys(data)
    with pytest.raises(ValueError, match=message):
        open_split({"image_size": [8, 8], **data}, "train")


def test_configuration_without_a_format_is_of_the_cityscapes_layout(roots: dict[str, Path]) -> None:
    data = {
        "root": str(roots["cityscapes"]),
        "image_size": [32, 64],
        "classes": "cityscapes",
        "num_train": 3,
        "source": None,
    }
    assert isinstance(open_split(data, "val"), Cityscapes)


# Class tables


def opened(roots: dict[str, Path], layouts: tuple[str, ...], **changes: object) -> Split:
    """The training frames of these roots as ``data=mixed`` joins them."""
    data = mixed_data([str(roots[layout]) for layout in layouts], (32, 64))
    return open_split({key: value for key, value in (data | changes).items() if value != "-"}, "train")


NEEDED = (
    "data.mappings: needed a mapping from {}, the classes of data sets with the layout {}, to data.classes, {}; found "
)


@pytest.mark.parametrize(
    ("layouts", "changes", "message"),
    [
        (("cityscapes", "camvid"), {"mappings": []}, NEEDED.format("camvid", "camvid", "cityscapes") + "[]"),
        (("camvid",), {"mappings": "-"}, NEEDED.format("camvid", "camvid", "cityscapes") + "[]"),
        (("camvid", "kitti"), {"classes": "camvid", "mappings": []}, NEEDED.format("cityscapes", "kitti", "camvid")),
        (("cityscapes",), {"classes": "camvid", "mappings": []}, NEEDED.format("cityscapes", "cityscapes", "camvid")),
        (
            ("cityscapes", "camvid"),
            {"classes": "camvid"},
            "data.mappings: needed mappings to data.classes, camvid, found one to cityscapes",
        ),
        (
            ("cityscapes",),
            {"mappings": "camvid_to_cityscapes"},
            "data.mappings: needed a list of names or files, found",
        ),
        (("cityscapes",), {"mappings": ["voc_to_cityscapes"]}, "data.mappings: needed one of ['camvid_to_cityscapes']"),
        (("cityscapes",), {"mappings": [3]}, "data.mappings: needed a name or the path of a YAML file, found 3"),
        (
            ("cityscapes",),
            {"classes": "voc"},
            "data.classes: needed one of ['camvid', 'cityscapes', ",
        ),
        (("cityscapes",), {"classes": "-"}, "data.classes: needed a name or the path of a YAML file, found None"),
    ],
)
def test_mixed_tables_without_a_mapping_to_one_are_refused(
    roots: dict[str, Path], layouts: tuple[str, ...], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        opened(roots, layouts, **changes)
    assert "\n" not in str(caught.value)


def test_mixed_of_one_table_needs_no_mapping(roots: dict[str, Path]) -> None:
    assert opened(roots, ("cityscapes", "kitti"), mappings=[]).classes == CITYSCAPES
    assert opened(roots, ("camvid",), classes="camvid", mappings=[]).classes == CAMVID.source


def test_mixed_is_mapped_to_one_s_own_table_by_files(roots: dict[str, Path], tmp_path: Path) -> None:
    content = {"classes": [{"name": "moves", "id": 4, "instances": True}, {"name": "stays", "id": 9}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    given = []
    for source in (CITYSCAPES, CAMVID.source):
        moves = [label.name for label in source.labels if label.has_instances or label.name == "pedestrian"]
        names = {label.name: "moves" if label.name in moves else "stays" for label in source.labels}
        path = tmp_path / f"{source.name}.yaml"
        path.write_text(yaml.safe_dump({"from": source.name, "to": "mine.yaml", "classes": names}))
        given.append(str(path))
    frames = opened(roots, ("cityscapes", "camvid"), classes=str(tmp_path / "mine.yaml"), mappings=given)
    assert frames.classes.names == ("moves", "stays")
    moves, stays = (frames.classes.class_id[name] for name in frames.classes.names)
    parts = {number: frames[frames.parts.index(number)] for number in (1, 2)}
    for number, own in ((1, CITYSCAPES), (2, CAMVID.source)):
        layout, name = ("cityscapes", "camvid")[number - 1], parts[number].name[2:]
        before = FORMATS[layout](roots[layout], "train", (32, 64), own)
        class_ids = before[before.names.index(name)].class_ids
        assert class_ids is not None
        moving = own.has_instances[class_ids] | (class_ids == own.class_id.get("pedestrian", 255))
        np.testing.assert_array_equal(parts[number].class_ids, np.where(moving, moves, stays))
    ids = parts[1].instance_ids
    assert ids is not None
    # A car and a person with numbers, beside half a group of persons.
    assert {id // 1000 for id in np.unique(ids).tolist() if id >= 1000} == {moves}
    assert len([id for id in np.unique(ids).tolist() if id >= 1000]) == 2
    assert moves in ids


@pytest.mark.parametrize("number", [1, 2])
def test_one_root_has_one_mapping_at_most(roots: dict[str, Path], number: int) -> None:
    data = {"format": "camvid", "root": str(roots["camvid"]), "image_size": [24, 32], "classes": "cityscapes"}
    given = {**data, "name": "camvid", "mappings": ["camvid_to_cityscapes"] * number}
    if number == 1:
        assert open_split(given, "train").classes == CITYSCAPES
        return
    with pytest.raises(UserError, match=r"data\.mappings: needed one at most, since there is one root, found \["):
        open_split(given, "train")


# Training and evaluating


@pytest.mark.parametrize(
    ("layout", "tasks"),
    [
        ("kitti", ["semantic", "instance", "depth"]),
        ("camvid", ["semantic"]),
        ("mixed", ["semantic", "instance", "depth"]),
    ],
)
def test_every_data_set_is_trained_on_and_evaluated(
    roots: dict[str, Path], tmp_path: Path, layout: str, tasks: list[str]
) -> None:
    run = Run(config(*SMALL, *given(roots, layout), f"output_dir={tmp_path / 'run'}"))
    assert list(run.tasks) == tasks
    figures = run.train()
    assert {f"{name}/{task.figures[0].key}" for name, task in run.tasks.items()} <= figures.keys()
    assert {key.split("/")[1] for key in figures if key.startswith("position_prior/")} == {
        key.split("/")[0] for key in figures if not key.startswith("position_prior/")
    }
    assert evaluated(tmp_path / "run") == pytest.approx(figures)


@pytest.fixture(scope="module")
def mixed_run(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "run"
    Run(config(*SMALL, *given(roots, "mixed"), "trainer.max_steps=1", f"output_dir={folder}")).train()
    return folder


def test_checkpoint_is_evaluated_on_another_data_set(roots: dict[str, Path], mixed_run: Path) -> None:
    as_cityscapes = ["data.classes=cityscapes", "data.mappings=[camvid_to_cityscapes]"]
    figures = evaluated(mixed_run, *given(roots, "camvid"), *as_cityscapes, "data.image_size=[24,32]")
    assert {key.split("/")[0] for key in figures} == {"semantic", "position_prior"}
    with pytest.raises(ValueError, match=r"data\.root: no key of data\.format=mixed, needed some of \['roots'\]"):
        evaluated(mixed_run, f"data.root={roots['camvid']}")
    part = evaluated(mixed_run, "data=mixed", f"data.roots=[{roots['kitti']}]", "data.image_size=[32,64]")
    assert "depth/mean_error_px" in part


def test_mixed_run_of_before_there_were_tables_goes_on(roots: dict[str, Path], mixed_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixed_run, tmp_path / "run")
    state = checkpoint.load(folder / LAST)
    for key in ("classes", "mappings"):
        del state["config"]["data"][key]
    checkpoint.save(folder / LAST, {**state, "version": 3, "classes": list(CITYSCAPES.names)})
    (folder / CONFIG).write_text(yaml.safe_dump({**state["config"], "output_dir": str(folder)}))
    options = config(*SMALL, *given(roots, "mixed"), "trainer.max_steps=1", f"output_dir={folder}")
    assert Run(options).trainer.step == 1
    assert evaluated(folder) == pytest.approx(evaluated(mixed_run))


def test_results_of_mixed_frames_have_the_size_of_their_files(mixed_run: Path, tmp_path: Path) -> None:
    evaluated(mixed_run, f"results_dir={tmp_path / 'results'}")
    sizes = {}
    for path in (tmp_path / "results/pixel-level").iterdir():
        with Image.open(path) as image:
            sizes[path.name.removesuffix("_labelIds.png")] = image.size
    assert sizes == {
        "1-bad_val_000000_000019": (64, 32),
        "1-valville_000001_000019": (64, 32),
        "2-000004_10": (64, 32),
        "3-0001TP_000000": (32, 24),
        "3-0001TP_000001": (32, 24),
    }


def test_kitti_without_a_folder_of_labels_says_which_task_is_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_all(tmp_path)["kitti"]
    (root / "training/disp_occ_0").rename(root / "training/elsewhere")
    run = Run(config(*SMALL, "data=kitti", f"data.root={root}", WHOLE, f"output_dir={tmp_path / 'run'}"))
    assert list(run.tasks) == ["semantic", "instance"]
    assert [message for message in caplog.messages if "is off" in message] == [
        f"task 'depth' is off: data.root={root} has no disparity for split 'train'"
    ]


# Mixed labels


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A data set in two halves, of which the second has no disparity."""
    folder = tmp_path_factory.mktemp("halves")
    bare = ("image", "class_ids", "instance_ids", "camera")
    counts = {"train": 4, "val": 2}
    return [write_tree(folder / "a", counts), write_tree(folder / "b", counts, bare, seed=1)]


def test_batches_mix_both_halves_and_depth_sees_one(halves: list[Path]) -> None:
    found = config(*SMALL, "data=mixed", f"data.roots=[{','.join(map(str, halves))}]")
    frames, tasks = build.make_frames(found, "train"), build.make_tasks(found, CITYSCAPES)
    encoded = EncodedFrames(frames, tasks, build.make_augmentation(found))
    valid: dict[str, Counter[str]] = {name: Counter() for name in tasks}
    for batch in Loader(encoded, StepSampler(len(encoded), 4, 0, 0, 10, encoded.parts), 0, pin=False):
        halves_of = [name[0] for name in batch.names]
        assert sorted(halves_of) == ["1", "1", "2", "2"]
        for name, target in batch.targets.items():
            for half, frame in zip(halves_of, target.valid, strict=True):
                valid[name][half] += int(frame.sum())
    assert valid["depth"]["1"] > 0
    assert valid["depth"]["2"] == 0
    assert all(valid[name][half] > 0 for name in ("semantic", "instance") for half in "12")


def test_mixed_halves_teach_all_three_tasks(
    halves: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    roots = f"data.roots=[{','.join(map(str, halves))}]"
    run = Run(config(*SMALL, "trainer.max_steps=2", "data=mixed", roots, f"output_dir={tmp_path / 'run'}"))
    network = run.trainer.objective.network
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    figures = run.train()
    assert [message for message in caplog.messages if "without" in message] == [
        f"task 'depth' without data.root={halves[1]}: no disparity for split {split!r}" for split in ("train", "val")
    ]
    assert [name for name, value in network.named_parameters() if torch.equal(value, before[name])] == []
    history = [entry for entry in read_history(tmp_path / "run") if "loss/total" in entry]
    assert all(entry[f"loss/{name}"] > 0 for entry in history for name in ("semantic", "instance", "depth"))
    assert {"depth/abs_rel", "instance/ap", "panoptic/pq", "semantic/iiou_class"} <= figures.keys()


def test_run_of_other_roots_is_another_run_unless_they_hold_the_same_frames(halves: list[Path], tmp_path: Path) -> None:
    given = "data=mixed", f"output_dir={tmp_path / 'run'}", "trainer.max_steps=1"
    Run(config(*SMALL, *given, f"data.roots=[{halves[0]},{halves[1]}]")).train()
    with pytest.raises(ValueError, match=r"last\.pt: was trained on 8 frames, .*; data\.roots=.* has 4 frames"):
        Run(config(*SMALL, *given, f"data.roots=[{halves[0]}]"))
    moved = shutil.copytree(halves[1], tmp_path / "moved")
    Run(config(*SMALL, *given, f"data.roots=[{halves[0]},{moved}]"))


def test_held_out_and_drawn_frames_are_of_both_halves(halves: list[Path]) -> None:
    roots = f"data.roots=[{','.join(map(str, halves))}]"
    found = config(*SMALL, "data=mixed", roots, "data.held_out=2", "data.draw=5")
    held_out, train = build.make_frames(found, HELD_OUT), build.make_frames(found, "train")
    assert sorted(held_out.parts) == [1, 2]
    assert len(train) == len(train.parts) == 5
    assert not set(held_out.names) & set(train.names)
