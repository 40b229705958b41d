"""The commands, as a user types them."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from multitask.data.layout import write_png
from multitask.data.parallel import num_cpus, num_loaders
from multitask.engine import checkpoint
from tests.compose import IN_A_PROCESS, ROOT
from tests.layouts import write_kitti
from tests.scripts.called import call
from tests.sharing import once

pytestmark = pytest.mark.slow

COUNTS = "data.num_train=8", "data.num_val=3", "data.num_test=2"
TINY = [*IN_A_PROCESS, *COUNTS, "trainer.max_steps=4", "trainer.val_every=4"]


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set, written by the command."""
    return once(tmp_path_factory, "frames", _write_frames) / "data/synthetic"


def _write_frames(folder: Path) -> None:
    given = "data=synthetic", "data.image_size=[32,64]", *COUNTS, "num_workers=1"
    result = run("prepare_data.py", *given, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "data/synthetic: 32 x 64 px, 8 train, 3 val, 2 test" in result.stdout
    assert "13/13 frames" in result.stderr


@pytest.fixture(scope="session")
def trained(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, trained by the command."""

    def train(folder: Path) -> None:
        result = run("train.py", *TINY, f"data.root={frames}", "output_dir=run", cwd=folder)
        assert result.returncode == 0, result.stderr
        assert "| position prior " in result.stdout
        assert "weights " in result.stdout
        assert [path.name for path in folder.iterdir()] == ["run"], "nothing is written but into output_dir"

    return once(tmp_path_factory, "trained", train) / "run"


def test_train_py_leaves_a_whole_run(trained: Path) -> None:
    assert {path.name.split(".")[0] for path in trained.iterdir()} == {
        "checkpoints",
        "config",
        "events",
        "history",
        "metrics",
        "panels",
    }


def test_train_py_again_shows_the_results(trained: Path, frames: Path) -> None:
    before = (trained / "metrics.json").read_text()
    result = call("train.py", *TINY, f"data.root={frames}", "output_dir=run", cwd=trained.parent)
    assert result.returncode == 0, result.stderr
    assert "step 4/4" not in result.stdout
    assert "| position prior " in result.stdout
    assert (trained / "metrics.json").read_text() == before


def test_train_py_ended_and_killed_ends_with_the_same_weights(trained: Path, frames: Path, tmp_path: Path) -> None:
    given = [*TINY, f"data.root={frames}", "trainer.checkpoint_every=1", "output_dir=run"]
    command = [sys.executable, str(ROOT / "scripts/train.py"), *given]
    for step, number, code in ((1, signal.SIGTERM, 128 + signal.SIGTERM), (2, signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout
        for line in process.stdout:
            if line.startswith(f"step {step}/4"):
                process.send_signal(number)
                break
        process.communicate(timeout=60)
        assert process.returncode == code
    assert call("train.py", *given, cwd=tmp_path).returncode == 0
    whole, again = (checkpoint.load(folder / "checkpoints/last.pt") for folder in (trained, tmp_path / "run"))
    assert again["step"] == 4
    assert all(torch.equal(value, again["network"][key]) for key, value in whole["network"].items())
    assert all(torch.equal(value, again["weighting"][key]) for key, value in whole["weighting"].items())


def test_evaluate_py_prints_tables_and_writes_figures(trained: Path, tmp_path: Path) -> None:
    last = trained / "checkpoints/last.pt"
    result = call("evaluate.py", f"checkpoint={last}", "split=test", f"output_dir={tmp_path / 'out'}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| network / position prior" in result.stdout
    assert "| semantic/iou |" in result.stdout
    assert "| road " in result.stdout
    figures = json.loads((tmp_path / "out/metrics.json").read_text())
    assert 0 <= figures["semantic/iou_class"] <= 1


def test_evaluate_py_refuses_a_results_dir_that_is_in_use(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("precious")
    result = call("evaluate.py", f"checkpoint={trained / 'checkpoints/last.pt'}", "results_dir=mine", cwd=tmp_path)
    assert result.returncode == 2
    assert "error: results_dir=mine: needed an empty or a new folder, found 1 entries in it" in result.stderr
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["precious"]


def test_export_py_writes_a_file_once_and_says_how_exact_it_is(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"checkpoint={trained / 'checkpoints/last.pt'}", "output=network.onnx"]
    result = call("export.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == capfd.readouterr().err == "", "nor do the libraries that are no Python say anything"
    first, *differences = result.stdout.splitlines()
    assert first.startswith("written to network.onnx; largest difference from the network's predictions")
    found = [line.split() for line in differences]
    assert [words[0] for words in found] == ["semantic", "instance", "depth"]
    assert all(0 <= float(words[1]) <= 1e-4 * max(1, float(words[3])) for words in found)
    written = (tmp_path / "network.onnx").read_bytes()
    again = call("export.py", *arguments, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == "error: output=network.onnx: needed a new file, found one that exists\n"
    assert (tmp_path / "network.onnx").read_bytes() == written


def test_figures_py_writes_a_picture(tmp_path: Path) -> None:
    result = call("figures.py", "output_dir=docs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "docs/figure4.png").stat().st_size > 10_000
    refused = call("figures.py", "output_dir=docs/figure4.png", cwd=tmp_path)
    assert refused.returncode == 2
    assert re.fullmatch(r"error: docs/figure4\.png: needed a folder .*\n", refused.stderr)


COMPARE = [*TINY, "data.held_out=2", "data.draw=6", "seeds=[0]", "output_dir=compared"]


def test_compare_py_runs_what_is_missing_and_reports(frames: Path, tmp_path: Path) -> None:
    arguments = ["experiment=figure7", *COMPARE, f"data.root={frames}"]
    empty = call("compare.py", *arguments, "report=true", cwd=tmp_path)
    assert empty.returncode == 0, empty.stderr
    assert "* three tasks, learned: no finished run" in empty.stdout
    several = ["parallel=2", "trainer.num_workers=auto"] if num_cpus() > 1 else []
    first = call("compare.py", *arguments, *several, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "running three/test-rate1-seed0" in first.stdout
    assert "What three tasks learned (seed 0)" in first.stdout
    assert (tmp_path / "compared/results/three/test-rate1-seed0.json").stat().st_size < 50_000
    assert {path.name for path in (tmp_path / "compared/figure7").iterdir()} == {
        "report.md",
        "training.png",
        "weights.png",
    }
    if several:
        kept = yaml.safe_load((tmp_path / "compared/three/test-rate1-seed0/config.yaml").read_text())
        assert kept["trainer"]["num_workers"] == num_loaders(num_cpus() // 2)
    again = call("compare.py", *arguments, cwd=tmp_path)
    assert "running" not in again.stdout
    assert "What three tasks learned (seed 0)" in again.stdout
    other = call("compare.py", *arguments, "trainer.max_steps=3", cwd=tmp_path)
    assert other.returncode == 2
    assert "of another configuration: trainer.max_steps was 4, is 3" in other.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "error: experiment: needed one of ['ablations', "),
        (["experiment=table7"], "Could not find 'experiment/table7'"),
        (["experiment=table1", "seeds=[1,1]"], "error: seeds: needed each seed once"),
        (["experiment=table1", "base=nothing"], "nothing"),
        (["experiment=table1", "split=tset"], "tset: no such folder; needed split 'tset', found"),
        (["experiment=table1", "parallel=0"], "error: parallel: needed 1 to "),
    ],
)
def test_compare_py_refuses_what_makes_no_sense(frames: Path, tmp_path: Path, given: list[str], message: str) -> None:
    result = call("compare.py", *COMPARE, f"data.root={frames}", *given, cwd=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_compare_py_exits_with_1_where_a_run_failed(frames: Path, tmp_path: Path) -> None:
    given = [*COMPARE, f"data.root={frames}", "experiment=figure7", "seeds=[0]", "model.pretrained=nowhere.pt"]
    result = call("compare.py", *given, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "three/test-rate1-seed0 failed: model.pretrained=nowhere.pt: no such file" in result.stdout


def test_compare_py_says_what_an_experiment_needs_of_its_base(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti", range(10))
    given = [
        *IN_A_PROCESS,
        "data.augmentation.crop=null",
        "data.held_out=2",
        f"data.root={root}",
        "output_dir=compared",
    ]
    given += ["experiment=transfer", "base=kitti_comparison", "seeds=[0]"]
    result = call("compare.py", *given, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "Interpolation key 'starts.scratch' not found" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_plot_py_writes_a_picture(trained: Path, tmp_path: Path) -> None:
    result = call("plot.py", f"runs=[{trained}]", "output=weights.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "weights.png").stat().st_size > 10_000


WRONG = [
    ("train.py", ["data.root=nowhere"], "error: data.root=nowhere: no such folder"),
    ("train.py", ["trainer.stepz=3"], "trainer.stepz"),
    ("train.py", ["model=vgg16"], "vgg16"),
    ("train.py", ["weighting=guess"], "guess"),
    ("benchmark.py", ["parts=[speed]"], "error: parts: needed some of ['training', 'instances', 'metrics']"),
    ("evaluate.py", [], "error: checkpoint: needed the path of a checkpoint"),
    ("export.py", ["output=x.onnx"], "error: checkpoint: needed the path of a checkpoint"),
    ("export.py", ["checkpoint=nowhere.pt", "output=x.onnx"], "error: checkpoint=nowhere.pt: no such file"),
    ("prepare_data.py", ["data=cityscapes"], "error: data=cityscapes: needed synthetic or tiny_cityscapes"),
    ("prepare_data.py", ["data=kitti"], "error: data=kitti: needed synthetic or tiny_cityscapes"),
    ("prepare_data.py", ["check=true", "data=camvid"], "error: data.root=data/camvid: no such folder"),
    ("train.py", ["data=mixed"], "error: data.roots: needed folders of data sets, such as [data/a,data/b], found []"),
    ("train.py", ["data=kitti", "data.roots=[a,b]"], "Key 'roots' is not in struct"),
    ("plot.py", ["runs=nowhere", "output=x.png"], "error: runs: needed a list of folders"),
    ("plot.py", ["runs=[nowhere]", "output=x.png"], "error: runs: needed folders of runs, found no history in nowhere"),
    ("benchmark.py", ["repeats=0"], "error: repeats: needed a whole number above zero, found 0"),
]


@pytest.mark.parametrize(("script", "arguments", "message"), WRONG, ids=[f"{s} {' '.join(a)}" for s, a, _ in WRONG])
def test_wrong_use_is_one_clear_error(script: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    result = call(script, *arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_train_py_on_a_damaged_picture_names_it_in_one_line(
    frames: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(frames, tmp_path / "frames")
    for path in (copy / "gtFine/train").rglob("*_labelIds.png"):
        write_png(path, np.full((32, 64), 77, dtype=np.uint8))
    result = call("train.py", *TINY, "trainer.num_workers=1", f"data.root={copy}", "output_dir=run", cwd=tmp_path)
    assert result.returncode == 2
    said = result.stderr + capfd.readouterr().err  # of the loader's process
    assert [line for line in said.splitlines() if "labelIds.png: needed ids" in line] == [
        result.stderr.strip().splitlines()[-1]
    ]
    assert "Traceback" not in said


def test_train_py_on_a_full_disk_says_so(frames: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), *TINY, f"data.root={frames}", "output_dir=run"]
    limited = f"ulimit -f 2000; trap '' XFSZ; exec {shlex.join(command)}"
    result = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines == ["error: run/checkpoints/last.pt: could not be written (File too large); there was none before it"]
    assert not list((tmp_path / "run").rglob(".*"))


def test_prepare_data_py_checks_what_it_wrote_and_names_a_spoilt_file(frames: Path, tmp_path: Path) -> None:
    result = call("prepare_data.py", "check=true", f"data.root={frames}", "num_workers=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("faults: 0") == 3
    assert "| road " in result.stdout
    assert "8/8 frames of train" in result.stderr
    copy = shutil.copytree(frames, tmp_path / "copy")
    path = next((copy / "disparity/val").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-100])
    result = call("prepare_data.py", "check=true", f"data.root={copy}", "num_workers=1", cwd=tmp_path)
    assert result.returncode == 2
    assert f"\n{path}: not a readable PNG" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        f"error: {copy}: needed files without a fault, found 1 faults, listed above"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_prepare_data_py_into_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = call("prepare_data.py", "data=synthetic", "data.root=.", "data.num_train=1", cwd=tmp_path)
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
