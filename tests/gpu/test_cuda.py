"""What only a CUDA device can show; skipped without one."""

from pathlib import Path

import pytest
import torch

from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.runs.run import LAST, Run
from tests.compose import config, small
from tests.runs.stopping import run_until

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

RESNET = "model.encoder=resnet18"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_training_on_cuda_ends_with_finite_figures(
    shared_tree: Path, tmp_path: Path, precision: str, compiled: bool
) -> None:
    options = (
        RESNET,
        "trainer.device=cuda",
        f"trainer.precision={precision}",
        f"trainer.compile={str(compiled).lower()}",
    )
    run = Run(small(shared_tree, tmp_path / "run", *options))
    figures = run.train()
    assert next(run.trainer.objective.parameters()).is_cuda
    assert {"semantic/iou_class", "instance/mean_error_px", "depth/mean_error_px"} <= figures.keys()
    assert all(parameter.isfinite().all() for parameter in run.trainer.objective.parameters())


def test_run_on_cuda_stopped_by_a_signal_goes_on(shared_tree: Path, tmp_path: Path) -> None:
    options = RESNET, "trainer.device=cuda", "trainer.precision=bf16"
    run_until(small(shared_tree, tmp_path / "run", *options), 3)
    run = Run(small(shared_tree, tmp_path / "run", *options))
    assert run.trainer.step == 3
    assert run.train()["semantic/iou_class"] >= 0


def test_checkpoint_of_cuda_evaluates_alike_on_the_cpu(shared_tree: Path, tmp_path: Path) -> None:
    figures = Run(small(shared_tree, tmp_path / "run", RESNET, "trainer.device=cuda")).train()
    given = [f"checkpoint={tmp_path / 'run' / LAST}", "trainer.device=cpu"]
    again, _, _ = evaluate_checkpoint(config(*given, name="evaluate"), given)
    assert again["depth/mean_error_px"] == pytest.approx(figures["depth/mean_error_px"], rel=1e-3)


@pytest.mark.parametrize(
    "weighting", ["equal", "liebel_koerner", "uw_so", "dwa", "rlw", "gls", "imtl_l", "famo", "jacobian"]
)
def test_every_weighting_goes_on_on_cuda(shared_tree: Path, tmp_path: Path, weighting: str) -> None:
    if weighting == "jacobian":
        pytest.importorskip("torchjd")
    options = RESNET, f"weighting={weighting}", "trainer.device=cuda", "trainer.precision=bf16"
    run_until(small(shared_tree, tmp_path / "run", *options), 3)
    run = Run(small(shared_tree, tmp_path / "run", *options))
    assert run.train()["semantic/iou_class"] >= 0
    assert all(weight.is_cuda and weight > 0 for weight in run.trainer.objective.weighting.weights().values())
