import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import multitask
from multitask.config import factories as build
from multitask.data.classes import ClassTable
from multitask.data.loader import Batch, EncodedFrames, Loader, in_order
from multitask.data.sample import Sample, Target
from multitask.data.tables import FOLDER, built_in
from multitask.engine.compute import Compute
from multitask.engine.inference import network_predictor
from multitask.engine.objective import Objective
from multitask.evaluation.position_prior import fit_position_prior
from multitask.evaluation.scoring import PixelScorer, evaluate, score
from multitask.likelihoods import REGRESSION
from multitask.metrics import Metric, VectorError
from multitask.reporting.panels import panel
from multitask.reporting.tables import table
from multitask.tasks.base import Figure, Task
from multitask.tasks.labels import tasks_with_labels
from tests.cityscapes import CITYSCAPES

PACKAGE = Path(multitask.__file__).parent
TASK_NAMES = {"semantic", "instance", "depth"}
MODULES = sorted(PACKAGE.rglob("*.py"))

ORDER = {
    "errors": -2,
    "files": -1,
    "console": -1,
    "data": 0,
    "likelihoods": 1,
    "metrics": 1,
    "instances": 1,
    "models": 2,
    "tasks": 2,
    "weighting": 3,
    "engine": 4,
    "config": 5,
    "synthetic": 6,
    "reporting": 6,
    "evaluation": 6,
    "prediction": 7,
    "runs": 7,
    "comparison": 8,
}
"""The way of the data; what is not named here joins all of it and stands behind."""


class Brightness(Task):
    """A fourth task, which the package does not know: how bright a pixel is, from 0 to 1."""

    name = "brightness"
    channels = 1
    meaning = "brightness, 0 to 1"
    layers = ("image",)
    figures = (Figure("mean_error_px", "mean error", higher_is_better=False),)

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.likelihood = REGRESSION["laplace"]

    def encode(self, sample: Sample) -> Target:
        value = torch.from_numpy(sample.image.mean(-1, dtype=np.float32) / 255).unsqueeze(0)
        return Target(value, torch.ones(value.shape[1:], dtype=torch.bool))

    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        return (prediction - value).abs().sum(1)

    def ideal(self, value: Tensor) -> Tensor:
        return value

    def metric(self) -> Metric:
        return VectorError()

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        grey = (prediction[0].clamp(0, 1) * 255).round().to(torch.uint8)
        return grey.cpu().numpy()[..., None].repeat(3, -1)

    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        return [("dark", (0, 0, 0)), ("bright", (255, 255, 255))]


def _config(root: Path) -> build.Config:
    """As a file ``configs/task/brightness.yaml`` and ``tasks=[...]`` would make it."""
    return {
        "tasks": ["semantic", "instance", "depth", "brightness"],
        "seed": 0,
        "task": {
            "semantic": {"_target_": "multitask.tasks.semantic.Semantic"},
            "instance": {"_target_": "multitask.tasks.instance.Instance"},
            "depth": {"_target_": "multitask.tasks.depth.Depth"},
            "brightness": {"_target_": "tests.test_structure.Brightness"},
        },
        "model": {
            "encoder": "resnet18",
            "pretrained": None,
            "aspp_channels": 8,
            "aspp_rates": [1, 2],
            "decoder_channels": 8,
            "decoder_kernel": 3,
        },
        "weighting": {"_target_": "multitask.weighting.Uncertainty", "initial_log_variance": 0.5},
        "optimizer": {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "power": 0.9, "log_variance_lr": 0.1},
        "data": {"name": "any", "root": str(root), "image_size": [32, 64], "classes": "cityscapes"},
    }


COMPUTE = Compute(torch.device("cpu"), torch.float32, channels_last=False)


@pytest.fixture(scope="module")
def trained(shared_tree: Path) -> tuple[Objective, Batch, list[dict[str, float]]]:
    """All four tasks, one batch, and the losses of a few steps of training on it."""
    torch.manual_seed(0)
    config = _config(shared_tree)
    tasks = build.make_tasks(config, CITYSCAPES)
    frames = EncodedFrames(build.make_frames(config, "train"), tasks)
    (batch,) = Loader(frames, in_order(6, 3)[:1], 0, pin=False)
    objective = Objective(build.make_model(config, tasks), tasks, build.make_weighting(config, tasks)).train()
    optimizer = build.make_optimization(config).make(objective.network, objective.weighting)
    counts = {name: target.valid.sum() for name, target in batch.targets.items()}
    history = []
    for _ in range(8):
        total, losses = objective(batch, counts, COMPUTE)
        optimizer.zero_grad()
        total.backward()
        objective.weighting.bound_gradients()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return objective, batch, history


def test_fourth_task_is_learned_beside_the_others(
    trained: tuple[Objective, Batch, list[dict[str, float]]],
) -> None:
    objective, _, history = trained
    assert history[-1].keys() == {"semantic", "instance", "depth", "brightness"}
    assert history[-1]["brightness"] < 0.7 * history[0]["brightness"]
    assert "brightness" in objective.weighting.log_variances()
    assert objective.weighting.log_variances()["brightness"].item() != 0.5
    assert objective.weighting.weights()["brightness"] > 0


def test_fourth_task_is_evaluated_and_shown(trained: tuple[Objective, Batch, list[dict[str, float]]]) -> None:
    objective, batch, _ = trained
    predict = network_predictor(objective.network, COMPUTE)
    figures = evaluate(predict, [batch], [PixelScorer(objective.tasks)], COMPUTE.device)
    assert figures["brightness/mean_error_px"] > 0
    assert np.isfinite(score(figures, objective.tasks))
    shown = table("brightness", objective.tasks["brightness"].figures, {"network": figures})
    assert "| brightness | mean error |" in shown
    with_it = panel(batch, 0, predict(batch.images), objective.tasks)
    others = {name: task for name, task in objective.tasks.items() if name != "brightness"}
    assert with_it.shape[1] > panel(batch, 0, predict(batch.images), others).shape[1]


def test_fourth_task_has_a_position_prior(trained: tuple[Objective, Batch, list[dict[str, float]]]) -> None:
    objective, batch, _ = trained
    prior = fit_position_prior([batch], objective.tasks, COMPUTE.device)(batch.images)["brightness"]
    torch.testing.assert_close(prior, batch.targets["brightness"].value.mean(0, keepdim=True).expand_as(prior))


def test_fourth_task_that_reads_the_picture_alone_has_its_labels(shared_tree: Path) -> None:
    config = _config(shared_tree)
    on = tasks_with_labels(build.make_tasks(config, CITYSCAPES), build.make_frames(config, "train"))
    assert "brightness" in on


def _literals(source: str) -> list[tuple[int, str]]:
    """String literals with their lines; no docstrings, of attributes neither."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


def _imports(path: Path) -> set[str]:
    """Dotted names of all that a module imports, wherever in it the import stands."""
    module = ["multitask", *path.relative_to(PACKAGE).with_suffix("").parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module[: -node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return names


def _part(dotted: str) -> str:
    """Which part of the package a dotted name belongs to: ``multitask.<part>...``."""
    return [*dotted.split("."), ""][1]


def _parts_imported(path: Path) -> set[str]:
    """Parts of the package that a module imports; the package's own attributes are none."""
    parts = {_part(name) for name in _imports(path) if name.split(".")[0] == "multitask"}
    return {part for part in parts if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()} - {""}


def test_scan_finds_literals_but_not_docstrings() -> None:
    source = '"""depth"""\nx = 1\n"""depth"""\ndef f():\n    "depth"\n    return {"depth": f"{x}"}\n'
    assert [line for line, value in _literals(source) if value == "depth"] == [6]


def test_scan_sees_the_whole_package() -> None:
    found = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert {"data", "tasks", "models", "engine", "likelihoods.py", "weighting", "config"} <= found
    assert "torch" in {name.split(".")[0] for name in _imports(PACKAGE / "weighting/base.py")}
    assert _parts_imported(PACKAGE / "weighting/base.py") == {"errors", "likelihoods"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_outside_the_tasks_names_none_of_them(path: Path) -> None:
    if path.parent.name == "tasks":
        assert path.is_file()
        return
    # One's own files of metric depth are described under the key data.depth, whatever is learned from them.
    allowed = {"depth"} if path == PACKAGE / "data/description.py" else set()
    names = TASK_NAMES - allowed
    assert [f"{path.name}:{line} {value!r}" for line, value in _literals(path.read_text()) if value in names] == []


NAMES_A_TABLE = {
    "synthetic": "draws street scenes, whose classes are those of Cityscapes",
    "benchmark/official.py": "calls the official scripts, which know these classes alone",
    "evaluation/result_files.py": "writes the files of Cityscapes' server",
    "data/formats.py": "says which table each published layout's files have, by whose folders data=mixed knows them",
    "engine/checkpoint.py": "reads checkpoints of before there were tables",
    "runs/same_run.py": "goes on with runs of before there were tables",
}
"""Where a class table is named, and why; everything else gets the table of its data."""


def _tables_named(source: str) -> list[str]:
    """Where a module gets a table by its name, or has the name of a table or mapping in a literal."""
    tables = {path.stem for path in FOLDER.glob("*.yaml")}
    lines = [line for line, value in _literals(source) if value.removesuffix(".yaml").rpartition("/")[2] in tables]
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else []
        lines += [node.lineno for name in names if name == built_in.__name__]
    return [source.splitlines()[line - 1].strip() for line in sorted(set(lines))]


def test_only_where_there_is_a_reason_a_class_table_is_named() -> None:
    named = {
        path.relative_to(PACKAGE).as_posix(): found for path in MODULES if (found := _tables_named(path.read_text()))
    }
    by_place = {name: next((place for place in NAMES_A_TABLE if name.startswith(place)), None) for name in named}
    assert {name: named[name] for name, place in by_place.items() if place is None} == {}
    assert set(by_place.values()) == NAMES_A_TABLE.keys(), "a place that names no table needs no reason"


@pytest.mark.parametrize(
    "line",
    [
        "from multitask.data.tables import built_in, read_table",
        "CLASSES = tables.built_in(name)",
        "CLASSES = read_table('camvid')",
        "CLASSES = read_table(f'{folder}/configs/classes/cityscapes.yaml')",
        "MAPPINGS = ['camvid_to_cityscapes']",
    ],
)
def test_scan_would_find_a_new_module_that_names_a_table(line: str) -> None:
    assert _tables_named(f'"""cityscapes"""\n\nOTHER = "cityscapes of mine"\n{line}\n') == [line]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_what_stands_before_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    rank = ORDER.get(own, len(ORDER))
    later = {part for part in _parts_imported(path) if ORDER.get(part, len(ORDER)) > rank}
    assert later == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_no_hydra(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(path)} & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=lambda path: path.name)
def test_models_import_neither_tasks_nor_data(path: Path) -> None:
    assert _parts_imported(path) <= {"models", "errors"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "tasks").glob("*.py")), ids=lambda path: path.name)
def test_tasks_do_not_know_the_models(path: Path) -> None:
    assert "models" not in _parts_imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_but_the_package_s_own_load_needs_predictions(path: Path) -> None:
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert part in ("prediction", "__init__") or "prediction" not in _parts_imported(path)
