import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from multitask.data.folder import Folder
from multitask.engine import checkpoint
from multitask.engine.history import read_history
from multitask.errors import UserError
from multitask.reporting.tables import weights_text
from multitask.reporting.tensorboard import Tracker
from multitask.runs.paths import BEST, LAST, METRICS
from multitask.runs.run import Run
from tests.compose import small
from tests.runs.stopping import assert_same_state, final_state
from tests.trees import write_tree


def test_run_writes_what_the_contract_names(whole: Path) -> None:
    figures = json.loads((whole / "metrics.json").read_text())
    assert {
        "semantic/iou_class",
        "semantic/iou_category",
        "semantic/iou/road",
        "instance/mean_error_px",
        "instance/rms_error_px",
        "depth/mean_error_px",
        "depth/rms_error_px",
        "semantic/iiou_class",
        "instance/ap",
        "panoptic/pq",
        "depth/abs_rel",
        "position_prior/instance/ap50",
        "position_prior/semantic/iou_class",
    } <= figures.keys()
    assert all(value == value for value in figures.values())
    assert (whole / BEST).is_file()
    assert (whole / "config.yaml").is_file()
    assert len(list(whole.glob("events.out.tfevents.*"))) == 1
    assert [entry["step"] for entry in read_history(whole) if "loss/total" in entry] == [1, 2, 3, 4, 5, 6]
    with Image.open(next((whole / "panels").glob("*.png"))) as panel:
        assert panel.width > 4 * 64
        assert panel.height > 2 * 32
    assert not list(whole.rglob(".*"))


def test_run_in_tensorboard_has_few_sections_and_no_figure_twice(shared_tree: Path, tmp_path: Path) -> None:
    run = Run(small(shared_tree, tmp_path, "tasks=[semantic,depth]", "trainer.num_panels=3"))
    figures = run.train()
    assert {path.stem for path in (tmp_path / "panels").iterdir()} == set(run.val_frames.names), "evenly spaced"
    events = EventAccumulator(str(tmp_path), {"scalars": 0}).Reload()
    tags = events.Tags()
    sections = {"log_variance", "loss", "run", "sigma2", "val", "val_classes", "weight"}
    assert {tag.split("/")[0] for tag in tags["scalars"]} == sections
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("val/semantic/iou_class")] == [3, 6]
    assert events.Scalars("val/semantic/iou_class")[-1].value == pytest.approx(figures["semantic/iou_class"])
    assert {tag.split("/")[0] for tag in tags["images"]} == {"val_panels"}
    (image,) = events.Images(tags["images"][0])[-1:]
    assert 2 * 512 <= image.width < 3 * 512
    assert "| position prior " in events.Tensors("results/text_summary")[0].tensor_proto.string_val[0].decode()
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    metrics = [info.name.tag for info in HParamsPluginData.FromString(content).experiment.metric_infos]
    assert metrics == [
        "val/semantic/iou_class",
        "val/instance/mean_error_px",
        "val/depth/mean_error_px",
        "val/panoptic/pq",
    ], "of the tasks that are off too, since other runs may have them"


def test_weights_text_gives_figure_7(whole: Path, shared_tree: Path, tmp_path: Path) -> None:
    tasks = Run(small(shared_tree, tmp_path / "new")).tasks
    first, last = weights_text(read_history(whole), tasks).splitlines()
    assert first.startswith("step 1: sigma^2 of semantic, instance, depth = (")
    assert last.startswith("step 6:")
    assert last.endswith(" : 1")
    assert weights_text([], tasks) == ""


def test_run_is_the_same_with_workers(whole: Path, shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "two", "trainer.num_workers=2")).train()
    assert_same_state(whole, tmp_path / "two")


def test_run_with_another_seed_differs(whole: Path, shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path, "seed=1")).train()
    one, other = final_state(whole), final_state(tmp_path)
    assert not torch.equal(one["network.encoder.backbone.conv1.weight"], other["network.encoder.backbone.conv1.weight"])


def test_run_that_is_finished_is_shown_again(finished: Path, shared_tree: Path) -> None:
    before = (finished / LAST).stat().st_mtime_ns
    assert Run(small(shared_tree, finished)).train() == json.loads((finished / METRICS).read_text())
    assert (finished / LAST).stat().st_mtime_ns == before


def test_run_that_had_nothing_to_keep_may_start_again_otherwise(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "scalars", lambda *_: (_ for _ in ()).throw(ValueError("too large")))
        with pytest.raises(ValueError, match="too large"):
            Run(small(shared_tree, tmp_path / "run")).train()
    assert (tmp_path / "run/config.yaml").exists()
    Run(small(shared_tree, tmp_path / "run", "optimizer.lr=0.01")).train()
    Run(small(shared_tree, tmp_path / "new", "optimizer.lr=0.01")).train()
    assert_same_state(tmp_path / "run", tmp_path / "new")
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["optimizer"]["lr"] == 0.01


def test_run_saves_its_steps_where_tensorboard_s_file_cannot_be_written(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Tracker) -> None:
        raise UserError("events: could not be written")

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "flush", fail)
        patch.setattr(Tracker, "close", lambda _: (_ for _ in ()).throw(UserError("and once more")))
        with pytest.raises(UserError, match=r"^events: could not be written$"):
            Run(small(shared_tree, tmp_path)).train()
    assert checkpoint.load(tmp_path / LAST)["step"] == 3


def test_run_starts_from_another_run(shared_tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Run(small(shared_tree, tmp_path / "first", "tasks=[semantic,depth]")).train()
    source = tmp_path / "first" / LAST
    options = f"model.pretrained={source}", "seed=1", "weighting=equal"
    with caplog.at_level("INFO"):
        run = Run(small(shared_tree, tmp_path / "second", *options))
    line = f"model.pretrained={source}: encoder loaded; decoders loaded: semantic, depth; "
    assert f"{line}decoders that start afresh: instance" in caplog.messages
    assert run.trainer.step == 0
    first, second = checkpoint.load(source)["network"], run.trainer.objective.network.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    run.train()
    source.unlink()  # a run that goes on needs it no more
    assert Run(small(shared_tree, tmp_path / "second", *options)).trainer.step == 6


def test_run_with_weights_for_a_task_without_labels_goes_on_without_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"train": 4, "val": 2}, kinds=("image", "class_ids", "instance_ids"))
    weights = (f"weighting.weights.{name}=0.5" for name in ("semantic", "instance", "depth"))
    run = Run(small(root, tmp_path / "run", "weighting=fixed", *weights))
    assert list(run.trainer.objective.weighting.weights()) == ["semantic", "instance"]


def test_run_on_data_without_disparity_leaves_depth_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path / "tree", {"train": 4, "val": 2}, kinds=("image", "class_ids", "instance_ids"))
    with caplog.at_level("WARNING"):
        figures = Run(small(root, tmp_path / "run")).train()
    assert [record.getMessage() for record in caplog.records] == [
        f"task 'depth' is off: data.root={root} has no disparity for split 'train'"
    ]
    assert "semantic/iou_class" in figures
    assert not any("depth" in key for key in figures)


def test_run_ends_although_a_task_that_is_off_cannot_be_built(shared_tree: Path, tmp_path: Path) -> None:
    config = small(shared_tree, tmp_path / "run", "tasks=[semantic]", "trainer.max_steps=1")
    config["task"]["depth"]["_target_"] = "of.no.module.Here"
    assert "semantic/iou_class" in Run(config).train()
    assert (tmp_path / "run" / METRICS).exists()


def test_run_of_one_task_says_that_uncertainty_only_rescales(
    shared_tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        Run(small(shared_tree, tmp_path / "run", "tasks=[depth]"))
    assert "one task: learning its uncertainty only rescales the step" in caplog.messages


def test_run_whose_loss_is_not_finite_stops_before_the_update(shared_tree: Path, tmp_path: Path) -> None:
    run = Run(small(shared_tree, tmp_path / "run", "tasks=[depth,semantic]"))
    torch.nn.init.constant_(run.trainer.objective.network.decoders["depth"].output.bias, float("nan"))
    before = run.trainer.objective.network.encoder.backbone.conv1.weight.clone()
    with pytest.raises(
        ValueError,
        match=r"step 1: loss 'depth' is nan; the run has diverged, no update is made; frames of this step: \w+",
    ):
        run.train()
    assert torch.equal(before, run.trainer.objective.network.encoder.backbone.conv1.weight)
    assert not (tmp_path / "run" / LAST).exists()


def test_training_frames_that_fit_into_memory_are_read_once(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = Folder.__getitem__
    run = Run(small(shared_tree, tmp_path))
    monkeypatch.setattr(Folder, "__getitem__", lambda self, index: reads.append(index) or read(self, index))
    run.trainer.run(lambda *_: None, lambda _: None, lambda: None)
    assert run.trainer.step * run.trainer.schedule.batch_size == 4 * len(run.trainer.frames)
    assert sorted(reads) == list(range(len(run.trainer.frames)))
