import ast
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

import multitask
from multitask.engine import checkpoint
from multitask.engine.history import read_history
from multitask.synthetic import write_dataset
from normals import WITHIN, Normals
from tests.compose import IN_A_PROCESS, ROOT
from tests.scripts.called import call
from tests.sharing import once

EXAMPLE = ROOT / "examples/normals"


def test_package_does_not_know_the_example() -> None:
    for path in Path(multitask.__file__).parent.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not any(isinstance(node, ast.Constant) and node.value == Normals.name for node in nodes), path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four tasks trained on synthetic frames by the command."""
    return once(tmp_path_factory, "normals", _train) / "run"


def _train(folder: Path) -> None:
    counts = {"train": 8, "val": 3, "test": 2}
    write_dataset(folder / "frames", counts, size=(64, 128), seed=0, workers=1)
    given = [
        *IN_A_PROCESS,
        *(f"data.num_{split}={count}" for split, count in counts.items()),
        f"data.root={folder}/frames",
    ]
    given += ["data.image_size=[64,128]", "trainer.max_steps=8", "trainer.val_every=8", f"output_dir={folder}/run"]
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config-dir", str(EXAMPLE), "experiment=normals"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE)])}
    result = subprocess.run(
        [*command, *given], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "| normals " in result.stdout
    assert "sigma^2 of semantic, instance, depth, normals = (" in result.stdout


@pytest.mark.slow
def test_command_trains_four_tasks_and_learns_the_fourth_sigma(run: Path) -> None:
    history = [entry for entry in read_history(run) if "loss/normals" in entry]
    assert len(history) == 8
    assert {key.split("/")[1] for key in history[-1] if key.startswith("log_variance/")} == {
        "semantic", "instance", "depth", "normals",
    }  # fmt: skip
    s = 0.0
    for step, entry in enumerate(history):
        kappa = math.exp(-s)
        slope = 1 - 2 * kappa / math.expm1(2 * kappa) - kappa * entry["loss/normals"]
        s -= 0.115 * (1 - step / 8) ** 0.9 * max(slope, -1)
        assert entry["log_variance/normals"] == pytest.approx(s, abs=1e-4)
    assert abs(s) > 0.01
    for entry in history:
        assert entry["weight/normals"] == pytest.approx(math.exp(-entry["log_variance/normals"]), rel=1e-4)
    figures = json.loads((run / "metrics.json").read_text())
    assert 0 < figures["normals/mean_error_deg"] < 180
    assert {f"position_prior/normals/within_{angle:g}" for angle in WITHIN} <= figures.keys()
    assert "semantic/iou_class" in figures


@pytest.mark.slow
def test_command_shows_the_fourth_task_in_its_panels(run: Path) -> None:
    with Image.open(next((run / "panels").glob("*.png"))) as panel:
        assert panel.width == 5 * (512 + 4) - 4


def test_checkpoint_of_the_fourth_task_is_evaluated(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE))
    given = f"checkpoint={run / 'checkpoints/last.pt'}", f"output_dir={tmp_path / 'out'}"
    result = call("evaluate.py", *given, "split=test", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "within 11.25 degrees, %" in result.stdout
    figures = json.loads((tmp_path / "out/metrics.json").read_text())
    assert 0 < figures["normals/mean_error_deg"] < 180


def test_checkpoint_without_the_example_says_what_is_missing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(EXAMPLE)])
    monkeypatch.delitem(sys.modules, "normals")
    result = call("evaluate.py", f"checkpoint={run / 'checkpoints/last.pt'}", cwd=tmp_path)
    assert result.returncode == 2
    assert "task.normals._target_: needed a class of this package, or of a module that is" in result.stderr
    assert "in a folder of PYTHONPATH, found 'normals.Normals'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_checkpoint_of_four_tasks_has_all_their_parameters(run: Path) -> None:
    state = checkpoint.load(run / "checkpoints/last.pt")
    output: Tensor = state["network"]["decoders.normals.output.weight"]
    assert output.shape[0] == Normals.channels
    assert state["tasks"] == ["semantic", "instance", "depth", "normals"]
    assert state["config"]["task"]["normals"] == {"_target_": "normals.Normals", "radius": 4}
