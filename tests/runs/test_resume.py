"""What a run goes on from: its own checkpoints, another run's, and those of older versions."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.runs.paths import BEST, LAST, PREVIOUS
from multitask.runs.run import Run
from tests.compose import config, small
from tests.runs.stopping import assert_same_state, run_until


def test_run_of_another_run_s_checkpoint_goes_on_from_its_own(whole: Path, shared_tree: Path, tmp_path: Path) -> None:
    options = f"trainer.resume={whole / BEST}", "trainer.max_steps=9"
    run_until(small(shared_tree, tmp_path / "more", *options), 8)
    assert Run(small(shared_tree, tmp_path / "more", *options)).trainer.step == 8
    with pytest.raises(ValueError, match=r"trainer\.max_steps=2: checkpoint=.* is at step \d already"):
        Run(small(shared_tree, tmp_path / "less", options[0], "trainer.max_steps=2"))


def test_run_resumes_from_a_given_path(whole: Path, shared_tree: Path, tmp_path: Path) -> None:
    step = checkpoint.load(whole / BEST)["step"]
    run = Run(small(shared_tree, tmp_path, f"trainer.resume={whole / BEST}"))
    assert run.trainer.step == step
    run.train()
    assert_same_state(whole, tmp_path)


@pytest.mark.parametrize("what", ["truncated", "missing"])
def test_run_whose_newest_checkpoint_is_lost_goes_on_from_the_one_before(
    whole: Path, shared_tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    given = small(shared_tree, tmp_path, "trainer.checkpoint_every=2")
    run_until(given, 5)
    last, previous = tmp_path / LAST, tmp_path / PREVIOUS
    assert [checkpoint.load(path)["step"] for path in (last, previous)] == [5, 4]
    if what == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:1000])
    caplog.clear()
    run_until(given, 5)
    (said,) = (message for message in caplog.messages if "last.pt" in message and "going on from" in message)
    assert said.endswith(f"; going on from {previous}")
    assert [checkpoint.load(path)["step"] for path in (last, previous)] == [5, 4], "what is damaged is not kept"
    Run(given).train()
    assert_same_state(whole, tmp_path)


def test_run_of_a_newer_version_is_refused_and_not_gone_on_with_from_before(finished: Path, shared_tree: Path) -> None:
    assert (finished / PREVIOUS).exists()
    torch.save({**checkpoint.load(finished / LAST), "version": checkpoint.VERSION + 1}, finished / LAST)
    with pytest.raises(UserError, match=r"last\.pt: needed version \d or older, found \d"):
        Run(small(shared_tree, finished))


def test_run_whose_checkpoints_are_all_damaged_is_refused(finished: Path, shared_tree: Path) -> None:
    for path in (LAST, PREVIOUS):
        assert (finished / path).exists()
        (finished / path).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"previous.pt: not a readable checkpoint"):
        Run(small(shared_tree, finished))


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
    changed = f"task.instance.likelihood={likelihood}", f"weighting={weighting}", "trainer.max_steps=1"
    options = (shared_tree, tmp_path, *changed)
    Run(small(*options)).train()
    checkpoint.save(tmp_path / LAST, {**checkpoint.load(tmp_path / LAST), "version": 1})
    if refused:
        with pytest.raises(UserError, match=r"was trained with another likelihood of task 'instance'"):
            Run(small(*options))
    else:
        assert Run(small(*options)).trainer.step == 1


def _as_an_older_version_left_it(folder: Path) -> None:
    """Takes the keys that came later out of a run's files."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["optimizer"]["encoder_lr_factor"], config["optimizer"]["warmup_steps"]
    del config["model"]["freeze_batch_norm"], config["data"]["held_out"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    state = checkpoint.load(folder / LAST)
    checkpoint.save(folder / LAST, {**state, "config": config})


def test_run_of_an_older_version_goes_on_and_is_evaluated(whole: Path, shared_tree: Path, tmp_path: Path) -> None:
    run_until(small(shared_tree, tmp_path), 4)
    _as_an_older_version_left_it(tmp_path)
    message = r"holds a run of another configuration: optimizer\.encoder_lr_factor was 1\.0, is 0\.1"
    with pytest.raises(ValueError, match=message):
        Run(small(shared_tree, tmp_path, "optimizer.encoder_lr_factor=0.1"))
    run = Run(small(shared_tree, tmp_path))
    assert run.trainer.step == 4
    run.train()
    assert_same_state(whole, tmp_path)
    _as_an_older_version_left_it(tmp_path)
    figures, _, _ = evaluate_checkpoint(config(f"checkpoint={tmp_path / LAST}", name="evaluate"), [])
    assert figures["depth/mean_error_px"] == run.train()["depth/mean_error_px"]


def test_how_votes_are_grouped_may_change_when_a_run_goes_on(whole: Path, shared_tree: Path) -> None:
    assert Run(small(shared_tree, whole, "instances.level=all")).trainer.step == 6


def test_resumed_run_keeps_no_copy_of_its_checkpoint(
    whole: Path, shared_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = checkpoint.load, []

    def noted(path: Path) -> dict[str, Any]:
        state = load(path)
        loaded.extend(map(weakref.ref, state["network"].values()))
        return state

    monkeypatch.setattr(checkpoint, "load", noted)
    run = Run(small(shared_tree, whole))
    gc.collect()
    assert len(loaded) == len(run.trainer.objective.network.state_dict())
    assert all(tensor() is None for tensor in loaded)
