import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitask.benchmark import official
from multitask.config import factories as build
from multitask.config.overrides import merge
from multitask.data.layout import file_path
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.evaluation import checkpoint_evaluation as evaluation_module
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.evaluation.evaluator import Evaluator
from multitask.runs.run import LAST, Run
from tests.cityscapes import CITYSCAPES
from tests.compose import config, small
from tests.trees import random_layers, write_frame, write_tree


def evaluation(checkpoint_path: Path, *overrides: str) -> tuple[dict[str, float], Path]:
    given = [f"checkpoint={checkpoint_path}", *overrides]
    figures, _, path = evaluate_checkpoint(config(*given, name="evaluate"), given)
    return figures, path


def test_evaluate_checkpoint_repeats_the_run_s_figures(shared_tree: Path, tmp_path: Path) -> None:
    figures = Run(small(shared_tree, tmp_path / "run")).train()
    again, path = evaluation(tmp_path / "run" / LAST)
    assert again == pytest.approx(figures)
    assert path == tmp_path / "run/evaluation/synthetic-val-last/metrics.json"
    assert json.loads(path.read_text()) == again


def test_evaluate_checkpoint_with_overrides_uses_them(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    other = write_tree(tmp_path / "other", {"val": 2}, kinds=("image", "class_ids"), size=(40, 48), seed=9)
    figures, path = evaluation(
        tmp_path / "run" / LAST, "data=tiny_cityscapes", f"data.root={other}", "data.image_size=[40,48]"
    )
    assert path.parent.name == "tiny_cityscapes-val-last"
    assert {key.split("/")[0] for key in figures} == {"semantic"}


def test_evaluate_checkpoint_on_fewer_tasks_and_more(
    shared_tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Run(small(shared_tree, tmp_path / "run", "tasks=[semantic,depth]")).train()
    figures, _ = evaluation(tmp_path / "run" / LAST, "tasks=[depth]")
    assert {key.removeprefix("position_prior/").split("/")[0] for key in figures} == {"depth"}
    figures, _ = evaluation(tmp_path / "run" / LAST, "tasks=[depth,instance]")
    assert not any("instance" in key for key in figures)
    assert any("'instance' is off: checkpoint=" in message for message in caplog.messages)


def evaluator(found: dict[str, Any]) -> Evaluator:
    settings = build.make_evaluation_settings(found)
    return Evaluator(build.make_frames(found, "val"), build.make_tasks(found, CITYSCAPES), settings)


@pytest.mark.parametrize(("accumulate", "frames_at_once"), [(1, 2), (4, 1)])
def test_whole_frames_are_evaluated_in_the_memory_of_training(
    tmp_path: Path, accumulate: int, frames_at_once: int
) -> None:
    root = write_tree(tmp_path, {"val": 3})
    found = config("experiment=paper_full", f"data.root={root}", f"trainer.accumulate={accumulate}")
    batches = evaluator(found).batches()
    assert len(batches) == -(-3 // frames_at_once)
    assert len(next(iter(batches)).names) == frames_at_once


@pytest.mark.parametrize(("given", "number"), [((), 16), (("trainer.num_workers=20",), 20)])
def test_processes_that_only_a_checkpoint_asks_for_are_few(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], number: int
) -> None:
    run = Run(small(shared_tree, tmp_path, "tasks=[depth]", "trainer.max_steps=1"))
    run.train()
    state = checkpoint.load(tmp_path / LAST)
    state["config"]["trainer"]["num_workers"] = 250
    checkpoint.save(tmp_path / "many.pt", {key: value for key, value in state.items() if key != "version"})
    asked = []
    monkeypatch.setattr(Evaluator, "all_figures", lambda self, *_, **__: asked.append(self.settings.num_workers) or {})
    monkeypatch.setattr(evaluation_module, "position_prior_figures", lambda *_: {})
    evaluation(tmp_path / "many.pt", *given)
    assert asked == [number]


def test_evaluate_checkpoint_into_a_run_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    before = (tmp_path / "run/metrics.json").read_text()
    with pytest.raises(ValueError, match=r"holds a run, whose metrics\.json would be lost"):
        evaluation(tmp_path / "run" / LAST, f"output_dir={tmp_path / 'run'}")
    assert (tmp_path / "run/metrics.json").read_text() == before


def test_evaluate_checkpoint_of_another_architecture_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    with pytest.raises(ValueError, match=r"of another architecture: at '.*' needed \(.*\), found"):
        evaluation(tmp_path / "run" / LAST, "model.aspp_channels=16")


def test_evaluate_checkpoint_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="checkpoint: needed the path of a checkpoint"):
        evaluate_checkpoint(config(name="evaluate"), [])


def test_merge_takes_named_keys_and_groups_only() -> None:
    saved = {"seed": 1, "data": {"root": "a", "name": "x"}, "trainer": {"device": "cuda", "batch_size": 4}}
    given = {"seed": 0, "data": {"root": "b", "name": "y"}, "trainer": {"device": "cpu", "batch_size": 8}}
    assert merge(saved, given, ["trainer.device=cpu"]) == {**saved, "trainer": {"device": "cpu", "batch_size": 4}}
    assert merge(saved, given, ["data=y"])["data"] == given["data"]
    assert saved["trainer"]["device"] == "cuda"
    with pytest.raises(ValueError, match="~data: needed key=value"):
        merge(saved, given, ["~data"])


def test_evaluate_checkpoint_writes_results_that_the_official_scripts_read(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    results = tmp_path / "results"
    figures, _ = evaluation(tmp_path / "run" / LAST, f"results_dir={results}")
    data = build.make_frames(small(shared_tree, tmp_path), "val")
    names = [data[index].name for index in range(len(data))]
    truths = [file_path(shared_tree, "class_ids", "val", name) for name in names]
    classes = [results / "pixel-level" / f"{name}_labelIds.png" for name in names]
    expected = official.pixel_level(truths, classes)
    assert {f"semantic/{key}": value for key, value in expected.items()}.items() <= figures.items()
    lists = [results / "instance-level" / f"{name}.txt" for name in names]
    assert all(path.is_file() for path in lists)
    with pytest.raises(ValueError, match=r"results_dir=.*: needed an empty or a new folder, found 2 entries"):
        evaluation(tmp_path / "run" / LAST, f"results_dir={results}")


def test_results_do_not_appear_where_the_figures_cannot_be_written(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: object) -> None:
        raise UserError(f"{path}: could not be written (No space left on device)")

    given = f"results_dir={tmp_path / 'results'}", f"output_dir={tmp_path / 'figures'}"
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_module, "write_json", full)
        with pytest.raises(UserError, match=r"metrics\.json: could not be written"):
            evaluation(saved, *given)
    assert list(tmp_path.iterdir()) == []
    evaluation(saved, *given)  # the same call is not refused
    assert (tmp_path / "results/pixel-level").is_dir()


def test_evaluate_checkpoint_writes_results_of_frames_without_labels(
    shared_tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    root = write_tree(tmp_path / "bare", {"test": 2}, kinds=("image",))
    given = ["data=tiny_cityscapes", f"data.root={root}", "data.image_size=[32,64]", "split=test"]
    with pytest.raises(ValueError, match="has no labels for any of tasks"):
        evaluation(tmp_path / "run" / LAST, *given)
    caplog.clear()
    figures, _ = evaluation(tmp_path / "run" / LAST, *given, f"results_dir={tmp_path / 'results'}")
    assert figures == {}
    assert "prior" not in caplog.text, "nothing is said of training frames that nobody needs"
    assert len(list((tmp_path / "results/pixel-level").iterdir())) == 2
    assert len(list((tmp_path / "results/instance-level").glob("*.txt"))) == 2


def test_evaluate_checkpoint_with_other_ways_to_group(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    figures, _ = evaluation(tmp_path / "run" / LAST, "instances.level=all", "instances.min_area=1e9")
    assert figures["instance/ap"] == 0
    with pytest.raises(ValueError, match=r"instances\.separation: needed a number above 1"):
        evaluation(tmp_path / "run" / LAST, "instances.separation=0.5")


def test_results_have_the_size_of_the_frames(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    root = write_tree(tmp_path / "large", {"test": 1}, kinds=("image",), size=(64, 128))
    given = ["data=tiny_cityscapes", f"data.root={root}", "data.image_size=[32,64]", "split=test"]
    evaluation(tmp_path / "run" / LAST, *given, f"results_dir={tmp_path / 'results'}")
    (path,) = (tmp_path / "results/pixel-level").iterdir()
    with Image.open(path) as picture:
        assert picture.size == (128, 64)


def test_folder_that_cannot_be_written_to_is_refused_before_anything_is_evaluated(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(small(shared_tree, tmp_path / "run", "tasks=[depth]")).train()
    monkeypatch.setattr(Evaluator, "all_figures", lambda *_, **__: pytest.fail("evaluated"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"output_dir=.*file/x: needed a folder, found that .*file is a file"):
        evaluation(tmp_path / "run" / LAST, f"output_dir={tmp_path}/file/x")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(
        ValueError, match=r"output_dir=.*last: needed a folder that can be written to, found that .*run"
    ):
        evaluation(tmp_path / "run" / LAST)


def test_figures_are_kept_where_the_position_prior_cannot_be_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_tree(tmp_path / "data", {"train": 4, "val": 2})
    Run(small(root, tmp_path / "run", "tasks=[depth]")).train()
    path = next((root / "disparity/train").glob("*/*.png"))
    path.write_bytes(path.read_bytes()[:-20])
    figures, written = evaluation(tmp_path / "run" / LAST)
    assert {key.split("/")[0] for key in figures} == {"depth"}
    assert json.loads(written.read_text()) == figures
    assert any(f"no position prior: ValueError: {path}" in text or str(path) in text for text in caplog.messages)


def test_frames_smaller_than_the_crop_of_training_are_evaluated(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"val": 2})
    found = config("experiment=paper_full", f"data.root={root}", "data.image_size=[32,64]")
    assert len(evaluator(found).batches()) == 1


@pytest.mark.parametrize("task", ["depth", "instance"])
def test_results_of_a_network_without_classes_are_refused(shared_tree: Path, tmp_path: Path, task: str) -> None:
    Run(small(shared_tree, tmp_path / "run", f"tasks=[{task}]")).train()
    with pytest.raises(ValueError, match=rf"needed a network of classes, found \['{task}'\]"):
        evaluation(tmp_path / "run" / LAST, f"results_dir={tmp_path / 'results'}")
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def saved(shared_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, which no test may change."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    Run(small(shared_tree, folder, "trainer.max_steps=1")).train()
    return folder / LAST


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("../../../escape/x", "_.._.._escape_x"),
        ("/etc/x", "_etc_x"),
        ("..", "data"),
        ("", "data"),
        ("a b:c", "a_b_c"),
        ("größe-1.2", "größe-1.2"),
        ("x" * 300, "x" * 64),
    ],
)
def test_figures_go_nowhere_else_whatever_a_checkpoint_calls_its_data(
    saved: Path, tmp_path: Path, name: str, part: str
) -> None:
    state = checkpoint.load(saved)
    state["config"]["data"]["name"] = name
    checkpoint.save(tmp_path / "a/b/run/checkpoints/last.pt", state)
    _, path = evaluation(tmp_path / "a/b/run/checkpoints/last.pt")
    assert path == tmp_path / f"a/b/run/evaluation/{part}-val-last/metrics.json"
    assert files_below(tmp_path) == {
        "a/b/run/checkpoints/last.pt",
        f"a/b/run/evaluation/{part}-val-last/metrics.json",
    }


def test_figures_of_a_checkpoint_without_a_run_lie_beside_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/street.pt").write_bytes(saved.read_bytes())
    _, path = evaluation(tmp_path / "models/street.pt")
    assert path == tmp_path / "models/evaluation/synthetic-val-street/metrics.json"
    monkeypatch.chdir(tmp_path / "models")
    assert evaluation(Path("street.pt"))[1].resolve() == path
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved.parent, tmp_path / "run/checkpoints")
    monkeypatch.chdir(tmp_path / "run/checkpoints")
    expected = tmp_path / "run/evaluation/synthetic-val-last/metrics.json"
    assert evaluation(Path("last.pt"))[1].resolve() == expected


def test_labels_that_are_all_void_are_said_to_be(saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layers = random_layers(np.random.default_rng(0))
    void = {"class_ids": layers["class_ids"] * 0, "instance_ids": layers["instance_ids"] * 0}
    for split in ("train", "val"):
        write_frame(tmp_path / "void", split, "town_000000_000019", {"image": layers["image"], **void})
    given = ["data=tiny_cityscapes", f"data.root={tmp_path / 'void'}", "data.image_size=[32,64]"]
    with caplog.at_level("WARNING"):
        figures, path = evaluation(saved, *given)
    assert figures == json.loads(path.read_text()) == {}
    said = f"data.root={tmp_path / 'void'}: split 'val' has no labelled pixel of semantic, instance: "
    assert [text for text in caplog.messages if "labelled pixel" in text] == [f"{said}their figures are left out"]


def test_merge_into_what_is_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.root=b: needed a group data in the checkpoint's .*, found 'abc'"):
        merge({"data": "abc"}, {"data": {"root": "b"}}, ["data.root=b"])
