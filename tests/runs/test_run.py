import json
import math
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from multitask.data.folder import Folder
from multitask.data.loader import EncodedFrames, FrameKey, Loader
from multitask.engine import checkpoint
from multitask.engine.history import SECONDS, read_history
from multitask.engine.interruption import Interrupted, Waiting
from multitask.engine.trainer import Trainer
from multitask.errors import UserError
from multitask.evaluation import evaluator as evaluator_module
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.models.backbones import _RESNETS
from multitask.reporting.tables import weights_text
from multitask.reporting.tensorboard import Tracker
from multitask.runs import record
from multitask.runs.paths import BEST, LAST, METRICS, PREVIOUS
from multitask.runs.run import Run
from multitask.synthetic import write_dataset
from tests.compose import config, small
from tests.holding import held
from tests.trees import write_tree


@pytest.fixture(autouse=True)
def _one_block_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of less than half the parameters: what a run does with them is the same."""
    monkeypatch.setitem(_RESNETS, "resnet18", _RESNETS["resnet10"])


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder / LAST)
    tensors = {f"network.{key}": value for key, value in state["network"].items()}
    tensors |= {f"weighting.{key}": value for key, value in state["weighting"].items()}
    for number, entry in state["optimizer"]["state"].items():
        tensors |= {f"momentum.{number}": entry["momentum_buffer"]} if entry.get("momentum_buffer") is not None else {}
    assert state["step"] == state["config"]["trainer"]["max_steps"]
    return tensors


def assert_same_state(one: Path, other: Path) -> None:
    first, second = final_state(one), final_state(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def assert_goes_on_bit_for_bit(
    tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int, options: tuple[str, ...]
) -> None:
    """A run that a signal stops at a step ends as one that nothing stops."""
    Run(small(tree, folder / "whole", *options)).train()
    with monkeypatch.context() as patch:
        stop_at(patch, stop, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(tree, folder / "stopped", *options)).train()
    Run(small(tree, folder / "stopped", *options)).train()
    assert_same_state(folder / "whole", folder / "stopped")


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """Sends this process a signal while the given step is computed."""
    train_step = Trainer._train_step

    def train_and_signal(self: Trainer, batch) -> None:
        train_step(self, batch)
        if self.step == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "_train_step", train_and_signal)


def test_run_writes_what_the_contract_names(shared_tree: Path, tmp_path: Path) -> None:
    run = Run(small(shared_tree, tmp_path / "run"))
    figures = run.train()
    folder = tmp_path / "run"
    assert json.loads((folder / "metrics.json").read_text()) == figures
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
    assert (folder / BEST).is_file()
    assert (folder / "config.yaml").is_file()
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    assert [entry["step"] for entry in read_history(folder) if "loss/total" in entry] == [1, 2, 3, 4, 5, 6]
    with Image.open(next((folder / "panels").glob("*.png"))) as panel:
        assert panel.width > 4 * 64
        assert panel.height > 2 * 32
    assert not list(folder.rglob(".*"))


def test_run_in_tensorboard_has_few_sections_and_no_figure_twice(shared_tree: Path, tmp_path: Path) -> None:
    figures = Run(small(shared_tree, tmp_path, "tasks=[semantic,depth]")).train()
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


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, 1), (signal.SIGTERM, 4), (signal.SIGINT, 4), (signal.SIGHUP, 1)]
)
def test_run_stopped_by_a_signal_goes_on_bit_for_bit(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, step: int
) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    with monkeypatch.context() as patch:
        stop_at(patch, step, number)
        with pytest.raises(Interrupted, match=f"after step {step}"):
            Run(small(shared_tree, tmp_path / "stopped")).train()
    assert checkpoint.load(tmp_path / "stopped" / LAST)["step"] == step
    resumed = Run(small(shared_tree, tmp_path / "stopped"))
    assert resumed.trainer.step == step
    resumed.train()
    assert_same_state(tmp_path / "whole", tmp_path / "stopped")
    histories = [read_history(tmp_path / name) for name in ("whole", "stopped")]
    assert [entry["step"] for entry in histories[0]] == [entry["step"] for entry in histories[1]]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    "options",
    [
        ("weighting=dwa", "weighting.period=2"),
        ("weighting=famo",),
        ("weighting=rlw",),
        ("weighting=imtl_l",),
        pytest.param(
            ("weighting=jacobian", "weighting.aggregator=nash_mtl"),
            marks=pytest.mark.skipif(not find_spec("torchjd"), reason="needs torchjd"),
        ),
    ],
    ids=lambda options: options[0],
)
def test_run_of_every_kind_of_weighting_goes_on_bit_for_bit(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    assert_goes_on_bit_for_bit(shared_tree, tmp_path, monkeypatch, 5, options)


def test_run_killed_between_checkpoints_goes_on_bit_for_bit(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    Run(small(shared_tree, tmp_path / "whole")).train()
    train_step = Trainer._train_step

    def die_in_step_6(self: Trainer, batch) -> None:
        train_step(self, batch)
        if self.step == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", die_in_step_6)
        with pytest.raises(Killed):
            Run(small(shared_tree, tmp_path / "killed", "trainer.checkpoint_every=2")).train()
    assert checkpoint.load(tmp_path / "killed" / LAST)["step"] == 4
    Run(small(shared_tree, tmp_path / "killed", "trainer.checkpoint_every=2")).train()
    assert_same_state(tmp_path / "whole", tmp_path / "killed")
    assert [entry["step"] for entry in read_history(tmp_path / "killed") if "lr" in entry] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_run_in_another_precision_resumes_bit_for_bit(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    options = (
        f"trainer.precision={precision}",
        "trainer.accumulate=2",
        "trainer.max_steps=2",
        "data.augmentation.scale=[0.7,2.0]",
        "data.augmentation.crop=[16,32]",  # a CPU takes seconds for steps of larger pictures
    )
    Run(small(shared_tree, tmp_path / "whole", *options)).train()
    with monkeypatch.context() as patch:
        stop_at(patch, 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(shared_tree, tmp_path / "stopped", *options)).train()
    Run(small(shared_tree, tmp_path / "stopped", *options)).train()
    assert_same_state(tmp_path / "whole", tmp_path / "stopped")


def test_run_is_the_same_with_workers(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "none")).train()
    Run(small(shared_tree, tmp_path / "two", "trainer.num_workers=2")).train()
    assert_same_state(tmp_path / "none", tmp_path / "two")


def test_run_with_another_seed_differs(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "0")).train()
    Run(small(shared_tree, tmp_path / "1", "seed=1")).train()
    with pytest.raises(AssertionError):
        assert_same_state(tmp_path / "0", tmp_path / "1")


def test_run_that_is_finished_is_shown_again(shared_tree: Path, tmp_path: Path) -> None:
    first = Run(small(shared_tree, tmp_path / "run"))
    figures = first.train()
    before = (tmp_path / "run" / LAST).stat().st_mtime_ns
    again = Run(small(shared_tree, tmp_path / "run"))
    assert again.train() == figures
    assert (tmp_path / "run" / LAST).stat().st_mtime_ns == before


def test_run_of_another_configuration_in_the_same_folder_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    with pytest.raises(ValueError, match=r"another configuration: optimizer\.lr was 0\.02, is 0\.5"):
        Run(small(shared_tree, tmp_path / "run", "optimizer.lr=0.5"))
    Run(small(shared_tree, tmp_path / "run", "trainer.log_every=3"))


def test_run_without_resume_in_a_used_folder_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    with pytest.raises(ValueError, match=r"trainer\.resume=null: output_dir=.*holds a run"):
        Run(small(shared_tree, tmp_path / "run", "trainer.resume=null"))


def test_run_into_a_folder_of_other_files_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="found other files"):
        Run(small(shared_tree, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_run_of_another_run_s_checkpoint_goes_on_from_its_own(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    options = f"trainer.resume={tmp_path / 'whole' / BEST}", "trainer.max_steps=9"
    with monkeypatch.context() as patch:
        stop_at(patch, 8, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(shared_tree, tmp_path / "more", *options)).train()
    assert Run(small(shared_tree, tmp_path / "more", *options)).trainer.step == 8
    with pytest.raises(ValueError, match=r"trainer\.max_steps=2: checkpoint=.* is at step \d already"):
        Run(small(shared_tree, tmp_path / "less", options[0], "trainer.max_steps=2"))


def test_run_of_another_precision_or_weighting_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    with pytest.raises(ValueError, match=r"trainer\.precision: checkpoint=.* was trained in torch\.float32"):
        Run(small(shared_tree, tmp_path / "run", "trainer.precision=bf16"))
    given = f"trainer.resume={tmp_path / 'run' / LAST}"
    message = r"trainer\.resume=.*last\.pt: of another configuration: {}; model\.pretrained=.* starts a new run"
    with pytest.raises(ValueError, match=message.format(r"weighting\._target_ was .*Uncertainty', is .*Equal'")):
        Run(small(shared_tree, tmp_path / "other", given, "weighting=equal"))
    with pytest.raises(ValueError, match=message.format(r"optimizer\.lr was 0\.02, is 0\.5")):
        Run(small(shared_tree, tmp_path / "other", given, "optimizer.lr=0.5"))
    with pytest.raises(ValueError, match=message.format(r"tasks was .*, is \['depth', 'semantic'\]")):
        Run(small(shared_tree, tmp_path / "other", given, "tasks=[depth,semantic]"))
    state = checkpoint.load(tmp_path / "run" / LAST)
    checkpoint.save(tmp_path / "run" / LAST, {**state, "weighting": {}})
    with pytest.raises(ValueError, match=r"last\.pt: of another weighting or optimiser"):
        Run(small(shared_tree, tmp_path / "other", given))


def test_run_that_had_nothing_to_keep_may_start_again_otherwise(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", lambda *_: (_ for _ in ()).throw(ValueError("too large")))
        with pytest.raises(ValueError, match="too large"):
            Run(small(shared_tree, tmp_path / "run")).train()
    assert (tmp_path / "run/config.yaml").exists()
    Run(small(shared_tree, tmp_path / "run", "optimizer.lr=0.01")).train()
    Run(small(shared_tree, tmp_path / "new", "optimizer.lr=0.01")).train()
    assert_same_state(tmp_path / "run", tmp_path / "new")
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["optimizer"]["lr"] == 0.01


def test_run_on_other_frames_is_refused(tmp_path: Path) -> None:
    few, more = (write_tree(tmp_path / str(number), {"train": number, "val": 2}) for number in (4, 5))
    Run(small(few, tmp_path / "run")).train()
    moved = few.rename(tmp_path / "moved")
    Run(small(moved, tmp_path / "run"))
    with pytest.raises(ValueError, match=r"last\.pt: was trained on 4 frames, names .*; data\.root=.* has 5 frames"):
        Run(small(more, tmp_path / "run"))


def test_run_keeps_its_steps_when_a_frame_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_tree(tmp_path / "tree", {"train": 4, "val": 2})
    Run(small(tree, tmp_path / "whole")).train()
    read, reads = EncodedFrames.__getitem__, []

    def once_broken(self: EncodedFrames, key: FrameKey) -> object:
        reads.extend([key] if key.stream else [])  # those of training
        if len(reads) == 18:
            raise ValueError("the network disk is away")
        return read(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(EncodedFrames, "__getitem__", once_broken)
        with pytest.raises(ValueError, match="the network disk is away"):
            Run(small(tree, tmp_path / "run", "trainer.num_workers=0")).train()
    assert checkpoint.load(tmp_path / "run" / LAST)["step"] == 4
    Run(small(tree, tmp_path / "run")).train()
    assert_same_state(tmp_path / "whole", tmp_path / "run")


def test_a_second_run_in_the_same_folder_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    with (
        held(tmp_path / "run"),
        pytest.raises(ValueError, match=r"output_dir=.*run: another process is training here"),
    ):
        Run(small(shared_tree, tmp_path / "run")).train()
    Run(small(shared_tree, tmp_path / "run")).train()


def test_run_that_waited_for_another_goes_on_from_what_that_left(shared_tree: Path, tmp_path: Path) -> None:
    config = small(shared_tree, tmp_path / "run", "trainer.checkpoint_every=2")
    waiting = Run(config)
    figures = Run(config).train()
    before = (tmp_path / "run" / LAST).stat().st_mtime_ns
    assert waiting.train() == figures
    assert (tmp_path / "run" / LAST).stat().st_mtime_ns == before, "it has nothing left to do"


def test_run_that_waited_for_one_that_was_stopped_ends_bit_for_bit(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    waiting = Run(small(shared_tree, tmp_path / "run"))
    with monkeypatch.context() as patch:
        stop_at(patch, 4, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(shared_tree, tmp_path / "run")).train()
    waiting.train()
    assert_same_state(tmp_path / "whole", tmp_path / "run")
    assert [entry["step"] for entry in read_history(tmp_path / "run") if "lr" in entry] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("what", ["truncated", "missing"])
def test_run_whose_newest_checkpoint_is_lost_goes_on_from_the_one_before(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    options = (shared_tree, tmp_path / "run", "trainer.checkpoint_every=2")
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(*options)).train()
    last, previous = tmp_path / "run" / LAST, tmp_path / "run" / PREVIOUS
    assert [checkpoint.load(path)["step"] for path in (last, previous)] == [5, 4]
    if what == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:1000])
    caplog.clear()
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(*options)).train()
    (said,) = (message for message in caplog.messages if "last.pt" in message and "going on from" in message)
    assert said.endswith(f"; going on from {previous}")
    assert [checkpoint.load(path)["step"] for path in (last, previous)] == [5, 4], "what is damaged is not kept"
    Run(small(*options)).train()
    assert_same_state(tmp_path / "whole", tmp_path / "run")


def test_run_of_a_newer_version_is_refused_and_not_gone_on_with_from_before(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=2")).train()
    torch.save({**checkpoint.load(tmp_path / LAST), "version": checkpoint.VERSION + 1}, tmp_path / LAST)
    with pytest.raises(UserError, match=r"last\.pt: needed version \d or older, found \d"):
        Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=2"))


def test_run_whose_network_predicts_no_numbers_for_once_goes_on(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        evaluate = Run._evaluate
        patch.setattr(Run, "_evaluate", lambda *given: dict.fromkeys(evaluate(*given), math.nan))
        stop_at(patch, 4, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(shared_tree, tmp_path)).train()
    assert checkpoint.load(tmp_path / LAST)["score"] == checkpoint.load(tmp_path / BEST)["score"] == -math.inf
    Run(small(shared_tree, tmp_path)).train()
    assert checkpoint.load(tmp_path / BEST)["step"] == 6, "a network with figures is better than one without"


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


def test_run_ends_at_once_while_it_waits_for_a_frame_of_validation(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, main = Run(small(shared_tree, tmp_path)), os.getpid()

    class Hanging(Loader):
        def __iter__(self):
            os.kill(main, signal.SIGTERM)
            time.sleep(1000)
            yield from super().__iter__()

    monkeypatch.setattr(evaluator_module, "Loader", Hanging)
    with pytest.raises(Interrupted, match="after step 3"):
        run.train()


def test_run_whose_checkpoints_are_all_damaged_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=2")).train()
    for path in (LAST, PREVIOUS):
        (tmp_path / path).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"previous.pt: not a readable checkpoint"):
        Run(small(shared_tree, tmp_path))


def test_run_killed_before_it_wrote_its_figures_shows_everything_once(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(record, "write_json", die)
        with pytest.raises(Killed):
            Run(small(shared_tree, tmp_path)).train()
    time.sleep(1.1)  # names of event files, which are read in their order, begin with the second
    Run(small(shared_tree, tmp_path)).train()
    events = EventAccumulator(str(tmp_path), {"scalars": 0, "images": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
    assert [event.step for event in events.Scalars("val/depth/mean_error_px")] == [3, 6]
    assert [len(events.Images(tag)) for tag in events.Tags()["images"]] == [2, 2]
    assert sum(SECONDS in entry for entry in read_history(tmp_path)) == 1


@pytest.mark.parametrize(
    ("likelihood", "weighting", "refused"),
    [
        ("laplace", "uncertainty", True),
        ("gaussian", "liebel_koerner", True),
        ("paper", "uncertainty", False),
        ("laplace", "equal", False),
    ],
)
def test_run_of_a_version_with_another_likelihood_does_not_go_on(
    shared_tree: Path, tmp_path: Path, likelihood: str, weighting: str, refused: bool
) -> None:
    changed = f"task.instance.likelihood={likelihood}", f"weighting={weighting}", "trainer.max_steps=2"
    options = (shared_tree, tmp_path, *changed)
    Run(small(*options)).train()
    checkpoint.save(tmp_path / LAST, {**checkpoint.load(tmp_path / LAST), "version": 1})
    if refused:
        with pytest.raises(UserError, match=r"was trained with another likelihood of task 'instance'"):
            Run(small(*options))
    else:
        assert Run(small(*options)).trainer.step == 2


@pytest.mark.parametrize("step", [3, 6])
def test_run_stopped_in_validation_validates_when_it_goes_on(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    evaluate = Run._evaluate

    def signal_first(self: Run, *waiting: Waiting) -> dict[str, float]:
        if self.trainer.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, *waiting)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", signal_first)
        for _ in range(2):  # also in the validation that the run begins with when it goes on
            with pytest.raises(Interrupted, match=f"after step {step}"):
                Run(small(shared_tree, tmp_path / "stopped")).train()
    Run(small(shared_tree, tmp_path / "stopped")).train()
    assert_same_state(tmp_path / "whole", tmp_path / "stopped")
    validated = [
        [
            (entry["step"], entry["val/depth/mean_error_px"])
            for entry in read_history(tmp_path / name)
            if "val/depth/mean_error_px" in entry
        ]
        for name in ("whole", "stopped")
    ]
    assert validated[0] == validated[1]
    assert len(validated[0]) == 2


def _as_an_older_version_left_it(folder: Path) -> None:
    """Takes the keys that came later out of a run's files."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["optimizer"]["encoder_lr_factor"], config["optimizer"]["warmup_steps"]
    del config["model"]["freeze_batch_norm"], config["data"]["held_out"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    state = checkpoint.load(folder / LAST)
    checkpoint.save(folder / LAST, {**state, "config": config})


def test_run_of_an_older_version_goes_on_and_is_evaluated(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    with monkeypatch.context() as patch:
        stop_at(patch, 4, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(shared_tree, tmp_path / "old")).train()
    _as_an_older_version_left_it(tmp_path / "old")
    message = r"holds a run of another configuration: optimizer\.encoder_lr_factor was 1\.0, is 0\.1"
    with pytest.raises(ValueError, match=message):
        Run(small(shared_tree, tmp_path / "old", "optimizer.encoder_lr_factor=0.1"))
    run = Run(small(shared_tree, tmp_path / "old"))
    assert run.trainer.step == 4
    run.train()
    assert_same_state(tmp_path / "whole", tmp_path / "old")
    _as_an_older_version_left_it(tmp_path / "old")
    given = config(f"checkpoint={tmp_path / 'old' / LAST}", name="evaluate")
    figures, _, _ = evaluate_checkpoint(given, [])
    assert figures["depth/mean_error_px"] == run.train()["depth/mean_error_px"]


@pytest.mark.parametrize("factor", ["0", "0.1"])
def test_run_of_a_slow_encoder_goes_on_bit_for_bit(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: str
) -> None:
    Run(small(shared_tree, tmp_path / "first", "trainer.max_steps=1")).train()
    options = (
        f"optimizer.encoder_lr_factor={factor}",
        "model.freeze_batch_norm=true",
        f"model.pretrained={tmp_path / 'first' / LAST}",
    )
    assert_goes_on_bit_for_bit(shared_tree, tmp_path, monkeypatch, 4, options)


@pytest.mark.parametrize("key", ["optimizer.encoder_lr_factor=0", "model.freeze_batch_norm=true"])
def test_run_that_freezes_a_random_encoder_is_refused(shared_tree: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: needed model\.pretrained, .* found null$"):
        Run(small(shared_tree, tmp_path / "run", key))
    assert not (tmp_path / "run").exists()


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


def test_run_killed_while_it_wrote_its_first_file_starts_again(shared_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.multitask-0123456789abcdef").write_text("tasks:")
    assert Run(small(shared_tree, tmp_path / "run")).trainer.step == 0


def test_run_with_weights_for_a_task_without_labels_goes_on_without_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"train": 4, "val": 2}, kinds=("image", "class_ids", "instance_ids"))
    weights = (f"weighting.weights.{name}=0.5" for name in ("semantic", "instance", "depth"))
    run = Run(small(root, tmp_path / "run", "weighting=fixed", *weights))
    assert list(run.trainer.objective.weighting.weights()) == ["semantic", "instance"]


def test_run_validates_on_the_split_that_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"train": 4})
    with pytest.raises(ValueError, match=r"needed split 'val', found \['train'\]"):
        Run(small(root, tmp_path / "run"))
    assert len(Run(small(root, tmp_path / "run", "data.val_split=train")).val_frames) == 4


def test_run_on_a_truncated_picture_is_refused_before_training(tree: Path, tmp_path: Path) -> None:
    path = next((tree / "leftImg8bit/train").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"{path.name}: not a readable PNG, .*it has no end"):
        Run(small(tree, tmp_path / "run"))


def test_run_on_synthetic_frames_of_another_seed_or_number_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "frames", {"train": 2, "val": 1}, size=(32, 64), seed=3, workers=1)
    given = "data.num_train=2", "data.num_val=1", "data.seed=3"
    assert Run(small(tmp_path / "frames", tmp_path / "run", *given)).trainer.step == 0
    with pytest.raises(ValueError, match=r"data\.seed=0: data\.root=.* was written with 3"):
        Run(small(tmp_path / "frames", tmp_path / "run", *given[:2]))
    with pytest.raises(ValueError, match=r"data\.num_train=5: data\.root=.* was written with 2"):
        Run(small(tmp_path / "frames", tmp_path / "run", *given, "data.num_train=5"))


def test_run_resumes_from_a_given_path(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "whole")).train()
    source = tmp_path / "whole" / BEST
    step = checkpoint.load(source)["step"]
    run = Run(small(shared_tree, tmp_path / "copy", f"trainer.resume={source}"))
    assert run.trainer.step == step
    run.train()
    assert_same_state(tmp_path / "whole", tmp_path / "copy")


BAD = [
    ("trainer.max_steps=-5", r"trainer\.max_steps: needed a whole number from 1 to 1000000000, found -5"),
    ("trainer.max_steps=many", r"trainer\.max_steps: needed int, found 'many'"),
    ("trainer.batch_size=0", r"trainer\.batch_size: needed .* found 0"),
    ("trainer.batch_size=1", r"trainer\.batch_size=1: needed two frames or more .* global pooling"),
    ("trainer.accumulate=3", r"trainer\.accumulate: needed a divisor of trainer\.batch_size=4, found 3"),
    ("trainer.accumulate=4", r"trainer\.batch_size=4: needed two frames or more in each of trainer\.accumulate=4"),
    ("trainer.device=tpu", r"trainer\.device: needed auto, cpu or cuda, found 'tpu'"),
    ("trainer.precision=int8", r"trainer\.precision: needed one of .*found 'int8'"),
    ("trainer.num_workers=-1", r"trainer\.num_workers: needed .* found -1"),
    ("trainer.resume=nowhere.pt", r"trainer\.resume=nowhere\.pt: needed auto, null or an existing checkpoint"),
    ("optimizer.lr=0", r"optimizer\.lr: needed a number above zero, found 0"),
    ("optimizer.momentum=1.5", r"optimizer\.momentum: needed a number from 0 to below 1, found 1\.5"),
    ("optimizer.encoder_lr_factor=-1", r"optimizer\.encoder_lr_factor: needed a number >= 0, found -1"),
    ("optimizer.warmup_steps=-1", r"optimizer\.warmup_steps: needed a whole number >= 0, found -1"),
    ("optimizer.warmup_steps=0.5", r"optimizer\.warmup_steps: needed int, found 0\.5"),
    ("model.freeze_batch_norm=1", r"model\.freeze_batch_norm: needed bool, found 1"),
    ("optimizer.weight_decay=-1", r"optimizer\.weight_decay: needed a number >= 0, found -1"),
    ("tasks=[semantic,smell]", r"tasks: needed some of .* found 'smell'"),
    ("tasks=[]", r"tasks: needed at least one"),
    ("model.encoder=vgg16", r"model\.encoder: needed one of .* found 'vgg16'"),
    ("task.depth.likelihood=poisson", r"task\.depth\.likelihood: needed one of .* found 'poisson'"),
    ("weighting=fixed", r"weighting\.weights\.semantic: needed a weight"),
    ("weighting.sum=0", r"weighting\.sum: needed null or a number above zero, found 0"),
    ("weighting.sum=one", r"weighting\.sum: needed .*found 'one'"),
    ("+weighting.temperature=1", r"weighting\.temperature: unknown key"),
    ("data.image_size=[32]", r"data\.image_size: needed two positive whole numbers \[H, W\], found \[32\]"),
    ("data.augmentation.scale=[2,1]", r"data\.augmentation\.scale: needed 0 < smallest <= .*64, found \[2, 1\]"),
    ("data.augmentation.crop=[0,8]", r"data\.augmentation\.crop: needed two positive whole numbers"),
    ("data.root=/nonexistent", r"data\.root=/nonexistent: no such folder"),
    ("data.augmentation.crop=[64,64]", r"data\.augmentation\.crop: needed at most \[32, 64\]"),
    ("seed=-1", r"seed: needed a whole number from 0 to 18446744073709551615, found -1"),
    ("seed=abc", r"seed: needed a whole number from 0 to 18446744073709551615, found 'abc'"),
    ("trainer.num_panels=two", r"trainer\.num_panels: needed int, found 'two'"),
    ("trainer.compile=nope", r"trainer\.compile: needed bool, found 'nope'"),
    ("trainer.resume=5", r"trainer\.resume: needed .*, found 5"),
    ("+trainer.max_step=5", r"trainer\.max_step: unknown key"),
    ("+weighting.speed=1", r"weighting\.speed: unknown key"),
    ("weighting._target_=os.system", r"weighting\._target_: needed a Weighting, found 'os\.system'"),
]


BAD_TOGETHER = [
    (["weighting=uw_so", "weighting.temperature=0"], r"weighting\.temperature: needed a number above zero, found 0"),
    (["weighting=dwa", "weighting.temperature=-1"], r"weighting\.temperature: needed a number above zero, found -1"),
    (["weighting=dwa", "weighting.period=0"], r"weighting\.period: needed a whole number above zero, found 0"),
    (["weighting=famo", "weighting.lr=0"], r"weighting\.lr: needed a number above zero, found 0"),
    (["weighting=jacobian", "weighting.aggregator=sum"], r"weighting\.aggregator: needed one of .* found 'sum'"),
    *(
        (
            [f"weighting={name}", "trainer.accumulate=2"],
            rf"trainer\.accumulate=2: needed 1 for weighting={kind}, which needs the losses of the whole step",
        )
        for name, kind in {
            "uw_so": "SoftOptimal",
            "gls": "GeometricMean",
            "famo": "Famo",
            "jacobian": "Jacobian",
        }.items()
    ),
    (["weighting=jacobian", "trainer.precision=fp16"], r"trainer\.precision: needed fp32 or bf16 for weighting=Jac"),
    (["weighting=jacobian", "trainer.compile=true"], r"trainer\.compile=true: needed false for weighting=Jacobian"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD_TOGETHER, ids=[" ".join(given) for given, _ in BAD_TOGETHER])
def test_run_with_what_does_not_go_together_is_refused(
    shared_tree: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    if "jacobian" in overrides[0]:
        pytest.importorskip("torchjd")
    with pytest.raises(ValueError, match=message):
        Run(small(shared_tree, tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("override", "message"), BAD, ids=[override for override, _ in BAD])
def test_run_with_nonsense_is_refused_before_anything_is_written(
    shared_tree: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Run(small(shared_tree, tmp_path / "run", override))
    assert not (tmp_path / "run").exists()


def test_run_with_a_weight_for_a_task_that_is_off_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    options = "tasks=[semantic]", "weighting=fixed", "weighting.weights.semantic=1", "weighting.weights.depth=1"
    with pytest.raises(ValueError, match=r"weighting\.weights\.depth=1: the task is off"):
        Run(small(shared_tree, tmp_path / "run", *options))


def test_run_with_all_weights_zero_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    options = "tasks=[semantic]", "weighting=fixed", "weighting.weights.semantic=0"
    with pytest.raises(ValueError, match=r"weighting\.weights: needed one weight above zero"):
        Run(small(shared_tree, tmp_path / "run", *options))


def test_run_with_a_damaged_header_is_refused_before_training(tree: Path, tmp_path: Path) -> None:
    path = next((tree / "disparity/val").rglob("*.png"))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{path.name}: not a readable PNG, found 0 bytes"):
        Run(small(tree, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_run_on_data_without_disparity_leaves_depth_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path / "tree", {"train": 4, "val": 2}, kinds=("image", "class_ids", "instance_ids"))
    with caplog.at_level("WARNING"):
        figures = Run(small(root, tmp_path / "run")).train()
    assert [record.getMessage() for record in caplog.records] == [
        f"task 'depth' is off: data.root={root} has no disparity for split 'train'"
    ]
    assert "semantic/iou_class" in figures
    assert not any("depth" in key for key in figures)


def test_run_on_data_without_any_label_is_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"train": 2, "val": 2}, kinds=("image",))
    with pytest.raises(ValueError, match="has no labels for any of tasks"):
        Run(small(root, tmp_path / "run"))


def test_run_on_disparity_that_is_all_invalid_stops_with_the_task_named(tree: Path, tmp_path: Path) -> None:
    for path in (tree / "disparity").rglob("*.png"):
        Image.new("I;16", (64, 32)).save(path)
    with pytest.raises(ValueError, match=r"task 'depth': not one valid pixel in the 3 frames of the training split"):
        Run(small(tree, tmp_path / "run")).train()


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


def test_weights_text_gives_figure_7(shared_tree: Path, tmp_path: Path) -> None:
    run = Run(small(shared_tree, tmp_path / "run"))
    run.train()
    first, last = weights_text(read_history(tmp_path / "run"), run.tasks).splitlines()
    assert first.startswith("step 1: sigma^2 of semantic, instance, depth = (")
    assert last.startswith("step 6:")
    assert last.endswith(" : 1")
    assert weights_text([], run.tasks) == ""


def test_run_keeps_its_steps_when_validation_fails(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Run, *_: Waiting) -> dict[str, float]:
        raise RuntimeError("no memory")

    run = Run(small(shared_tree, tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", fail)
        with pytest.raises(RuntimeError):
            run.train()
    assert Run(small(shared_tree, tmp_path / "run")).trainer.step == 3


def test_run_adds_up_the_seconds_of_its_processes(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 2, signal.SIGTERM)
        with pytest.raises(Interrupted):
            Run(small(shared_tree, tmp_path / "run")).train()
    again = Run(small(shared_tree, tmp_path / "run"))
    before = again._seconds
    assert before > 0
    again.train()
    assert read_history(tmp_path / "run")[-1][SECONDS] > before


def test_how_votes_are_grouped_may_change_when_a_run_goes_on(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run")).train()
    assert Run(small(shared_tree, tmp_path / "run", "instances.level=all")).trainer.step == 6


def test_run_ends_although_a_task_that_is_off_cannot_be_built(shared_tree: Path, tmp_path: Path) -> None:
    config = small(shared_tree, tmp_path / "run", "tasks=[semantic]", "trainer.max_steps=1")
    config["task"]["depth"]["_target_"] = "of.no.module.Here"
    assert "semantic/iou_class" in Run(config).train()
    assert (tmp_path / "run" / METRICS).exists()


def test_training_frames_that_fit_into_memory_are_read_once(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = Folder.__getitem__
    monkeypatch.setattr(Folder, "__getitem__", lambda self, index: reads.append(index) or read(self, index))
    numbers = []
    for memory in (None, 0):
        if memory is not None:
            monkeypatch.setattr("multitask.runs.preparation._MEMORY", memory)
        run = Run(small(shared_tree, tmp_path / f"run{memory}"))
        run.train()
        numbers.append(len(reads))
        reads.clear()
    trainer = run.trainer
    assert numbers[1] - numbers[0] == trainer.step * trainer.schedule.batch_size - len(trainer.frames) > 0
