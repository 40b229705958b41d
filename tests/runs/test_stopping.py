"""What a run that was ended comes to: the bits that it would have had."""

import math
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multitask.data.loader import EncodedFrames, FrameKey, Loader
from multitask.engine import checkpoint
from multitask.engine.history import SECONDS, read_history
from multitask.engine.interruption import Interrupted
from multitask.evaluation import evaluator as evaluator_module
from multitask.runs import record
from multitask.runs.paths import BEST, LAST
from multitask.runs.run import Run
from tests.compose import small
from tests.runs.stopping import Killed, after_step, around_validation, assert_same_state, run_until, send
from tests.trees import write_tree


def die(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 1), (signal.SIGINT, 4), (signal.SIGHUP, 4)])
def test_run_stopped_by_a_signal_goes_on_bit_for_bit(
    whole: Path, shared_tree: Path, tmp_path: Path, number: signal.Signals, step: int
) -> None:
    run_until(small(shared_tree, tmp_path), step, number)
    assert checkpoint.load(tmp_path / LAST)["step"] == step
    resumed = Run(small(shared_tree, tmp_path))
    assert resumed.trainer.step == step
    resumed.train()
    assert_same_state(whole, tmp_path)
    histories = [read_history(folder) for folder in (whole, tmp_path)]
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
    shared_tree: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert_goes_on_bit_for_bit(shared_tree, tmp_path, 5, options)


def assert_goes_on_bit_for_bit(tree: Path, folder: Path, stop: int, options: tuple[str, ...]) -> None:
    """A run that a signal stops at a step ends as one that nothing stops."""
    Run(small(tree, folder / "whole", *options)).train()
    run_until(small(tree, folder / "stopped", *options), stop)
    Run(small(tree, folder / "stopped", *options)).train()
    assert_same_state(folder / "whole", folder / "stopped")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_run_in_another_precision_resumes_bit_for_bit(shared_tree: Path, tmp_path: Path, precision: str) -> None:
    options = (
        f"trainer.precision={precision}",
        "trainer.accumulate=2",
        "trainer.max_steps=2",
        "data.augmentation.scale=[0.7,2.0]",
        "data.augmentation.crop=[16,32]",  # a CPU takes seconds for steps of larger pictures
    )
    assert_goes_on_bit_for_bit(shared_tree, tmp_path, 1, options)


@pytest.mark.parametrize("factor", ["0", "0.1"])
def test_run_of_a_slow_encoder_goes_on_bit_for_bit(whole: Path, shared_tree: Path, tmp_path: Path, factor: str) -> None:
    options = (
        f"optimizer.encoder_lr_factor={factor}",
        "model.freeze_batch_norm=true",
        f"model.pretrained={whole / LAST}",
    )
    assert_goes_on_bit_for_bit(shared_tree, tmp_path, 4, options)


def test_run_killed_between_checkpoints_goes_on_bit_for_bit(
    whole: Path, shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(shared_tree, tmp_path, "trainer.checkpoint_every=2")
    with monkeypatch.context() as patch:
        after_step(patch, 6, die)
        with pytest.raises(Killed):
            Run(config).train()
    assert checkpoint.load(tmp_path / LAST)["step"] == 4
    Run(config).train()
    assert_same_state(whole, tmp_path)
    assert [entry["step"] for entry in read_history(tmp_path) if "lr" in entry] == [1, 2, 3, 4, 5, 6]


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


def test_run_that_waited_for_another_goes_on_from_what_that_left(shared_tree: Path, tmp_path: Path) -> None:
    config = small(shared_tree, tmp_path / "run", "trainer.checkpoint_every=2")
    waiting = Run(config)
    figures = Run(config).train()
    before = (tmp_path / "run" / LAST).stat().st_mtime_ns
    assert waiting.train() == figures
    assert (tmp_path / "run" / LAST).stat().st_mtime_ns == before, "it has nothing left to do"


def test_run_that_waited_for_one_that_was_stopped_ends_bit_for_bit(
    whole: Path, shared_tree: Path, tmp_path: Path
) -> None:
    waiting = Run(small(shared_tree, tmp_path))
    run_until(small(shared_tree, tmp_path), 4)
    waiting.train()
    assert_same_state(whole, tmp_path)
    assert [entry["step"] for entry in read_history(tmp_path) if "lr" in entry] == [1, 2, 3, 4, 5, 6]


def test_run_whose_network_predicts_no_numbers_for_once_goes_on(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        around_validation(patch, lambda figures: dict.fromkeys(figures(), math.nan))
        run_until(small(shared_tree, tmp_path), 4)
    assert checkpoint.load(tmp_path / LAST)["score"] == checkpoint.load(tmp_path / BEST)["score"] == -math.inf
    Run(small(shared_tree, tmp_path)).train()
    assert checkpoint.load(tmp_path / BEST)["step"] == 6, "a network with figures is better than one without"


def test_run_ends_at_once_while_it_waits_for_a_frame_of_validation(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, stop = Run(small(shared_tree, tmp_path)), send(signal.SIGTERM)

    class Hanging(Loader):
        def __iter__(self):
            stop()
            time.sleep(1000)
            yield from super().__iter__()

    monkeypatch.setattr(evaluator_module, "Loader", Hanging)
    with pytest.raises(Interrupted, match="after step 3"):
        run.train()


def test_run_killed_before_it_wrote_its_figures_shows_everything_once(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize("step", [3, 6])
def test_run_stopped_in_validation_validates_when_it_goes_on(
    whole: Path, shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    begun: list[int] = []

    def signal_first(figures: Callable[[], dict[str, float]]) -> dict[str, float]:
        begun.append(run.trainer.step)
        if run.trainer.step == step:
            send(signal.SIGTERM)()
        return figures()

    with monkeypatch.context() as patch:
        around_validation(patch, signal_first)
        for _ in range(2):  # also in the validation that the run begins with when it goes on
            run = Run(small(shared_tree, tmp_path))
            with pytest.raises(Interrupted, match=f"after step {step}"):
                run.train()
    assert begun[-2:] == [step, step]
    Run(small(shared_tree, tmp_path)).train()
    assert_same_state(whole, tmp_path)
    key = "val/depth/mean_error_px"
    validated = [
        [(entry["step"], entry[key]) for entry in read_history(folder) if key in entry] for folder in (whole, tmp_path)
    ]
    assert validated[0] == validated[1]
    assert len(validated[0]) == 2


def test_run_killed_while_it_wrote_its_first_file_starts_again(shared_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.multitask-0123456789abcdef").write_text("tasks:")
    assert Run(small(shared_tree, tmp_path / "run")).trainer.step == 0


def test_run_keeps_its_steps_when_validation_fails(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> dict[str, float]:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        around_validation(patch, fail)
        with pytest.raises(RuntimeError):
            Run(small(shared_tree, tmp_path)).train()
    assert Run(small(shared_tree, tmp_path)).trainer.step == 3


def test_run_adds_up_the_seconds_of_its_processes(shared_tree: Path, tmp_path: Path) -> None:
    run_until(small(shared_tree, tmp_path), 2)
    before = checkpoint.load(tmp_path / LAST)["seconds"]
    assert before > 0
    start = time.perf_counter()
    Run(small(shared_tree, tmp_path)).train()
    assert before < read_history(tmp_path)[-1][SECONDS] < before + time.perf_counter() - start
