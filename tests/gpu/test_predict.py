"""Predictions on a CUDA device; skipped without one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from multitask.prediction import load
from multitask.runs.run import LAST, Run
from tests.compose import small
from tests.prediction.made import photo

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_predict_on_cuda_is_nearly_predict_on_the_cpu(shared_tree: Path, tmp_path: Path, precision: str) -> None:
    Run(small(shared_tree, tmp_path / "run", "model.encoder=resnet18")).train()
    expected = load(tmp_path / "run" / LAST, device="cpu", precision="fp32").predict(photo())
    scene = load(tmp_path / "run" / LAST, device="cuda", precision=precision).predict(photo())
    assert (scene.class_ids == expected.class_ids).mean() > 0.9
    assert expected.disparity is not None
    np.testing.assert_allclose(scene.disparity, expected.disparity, atol=0.1 * expected.disparity.max())
