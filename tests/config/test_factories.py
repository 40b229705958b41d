import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask.config import factories as build
from multitask.config.validation import check_config
from multitask.data.parallel import num_cpus
from multitask.engine.optimization import Optimization
from multitask.errors import UserError
from multitask.tasks.base import Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.labels import tasks_with_labels
from multitask.tasks.semantic import Semantic
from multitask.weighting import Fixed, Uncertainty
from tests.cityscapes import CITYSCAPES
from tests.compose import config as compose
from tests.compose import small
from tests.layouts import mixed_data
from tests.trees import write_tree

MODEL: dict[str, Any] = {
    "encoder": "resnet18",
    "pretrained": None,
    "aspp_channels": 4,
    "aspp_rates": [1, 2],
    "decoder_channels": 4,
    "decoder_kernel": 3,
}
OPTIMIZER: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "power": 0.9, "log_variance_lr": 0.1}
AUGMENTATION: dict[str, Any] = {"flip": 0.5, "scale": [0.7, 2.0], "crop": [16, 16], "jitter": 0.0}
TRAINER: dict[str, Any] = {
    "num_panels": 1,
    "compile": False,
    "resume": "auto",
    "max_steps": 10,
    "batch_size": 8,
    "accumulate": 2,
    "log_every": 1,
    "val_every": 5,
    "checkpoint_every": 5,
    "num_workers": 0,
}
SPECS: dict[str, dict[str, Any]] = {
    "semantic": {"_target_": "multitask.tasks.semantic.Semantic"},
    "instance": {"_target_": "multitask.tasks.instance.Instance", "likelihood": "laplace"},
    "depth": {"_target_": "multitask.tasks.depth.Depth", "likelihood": "gaussian"},
}


def _data(root: Path, height: int = 32) -> dict[str, Any]:
    data = {"name": "any", "root": str(root), "image_size": [height, 64], "classes": "cityscapes"}
    return {"data": data, "seed": 0}


def _tasks(names: Any, specs: Any = None) -> dict[str, Task]:
    return build.make_tasks({"tasks": names, "task": SPECS if specs is None else specs}, CITYSCAPES)


def test_make_tasks_keeps_the_order_and_the_likelihoods() -> None:
    tasks = _tasks(["depth", "semantic", "instance"])
    assert [type(task) for task in tasks.values()] == [Depth, Semantic, Instance]
    assert list(tasks) == ["depth", "semantic", "instance"]
    assert [task.likelihood.name for task in tasks.values()] == ["gaussian", "paper", "laplace"]


@pytest.mark.parametrize("names", [["semantic"], ["instance", "depth"]])
def test_make_tasks_makes_only_those_that_are_on(names: list[str]) -> None:
    assert list(_tasks(names, {**SPECS, "broken": {"_target_": "no.such.thing"}})) == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"tasks: needed at least one of \['depth', 'instance', 'semantic'\], found none"),
        (None, "tasks: needed a list such as"),
        (["normals"], r"tasks: needed some of .*found 'normals'"),
        (["depth", "normals"], r"tasks: needed some of .*found 'normals'"),
        (["depth", "depth"], r"tasks: needed each task once, found \['depth', 'depth'\]"),
        ("depth", "tasks: needed"),
    ],
)
def test_make_tasks_refuses_names_that_make_no_sense(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tasks(names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"likelihood": "cauchy"}, r"task\.depth\.likelihood: .*found 'cauchy'"),
        ({"likelihood": 3}, r"task\.depth\.likelihood: needed str, found 3"),
        ({"likelihod": "paper"}, r"task\.depth\.likelihod: unknown key, needed some of \['likelihood'\]"),
    ],
)
def test_make_tasks_wrong_arguments_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tasks(["depth"], {"depth": {**SPECS["depth"], **changes}})


def test_make_weighting_passes_the_likelihoods_of_the_tasks() -> None:
    spec = {"_target_": "multitask.weighting.Uncertainty", "initial_log_variance": 2}
    weighting = build.make_weighting({"tasks": list(SPECS), "weighting": spec}, _tasks(["depth", "semantic"]))
    assert isinstance(weighting, Uncertainty)
    assert {name: likelihood.name for name, likelihood in weighting.likelihoods.items()} == {
        "depth": "gaussian",
        "semantic": "paper",
    }
    assert [s.item() for s in weighting.parameters()] == [2, 2]


def test_make_weighting_fixed_with_null_for_tasks_that_are_off() -> None:
    spec = {"_target_": "multitask.weighting.Fixed", "weights": {"semantic": 1, "depth": None, "instance": None}}
    weighting = build.make_weighting({"tasks": list(SPECS), "weighting": spec}, _tasks(["semantic"]))
    assert isinstance(weighting, Fixed)
    assert weighting.weights()["semantic"].item() == 1


def test_make_model_has_a_decoder_for_each_task() -> None:
    tasks = _tasks(["depth", "semantic"])
    with torch.device("meta"):
        network = build.make_model({"model": MODEL}, tasks)
    assert {name: decoder.output.out_channels for name, decoder in network.decoders.items()} == {
        "depth": 1,
        "semantic": 19,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": 18}, r"model\.encoder: needed str, found 18"),
        ({"encoder": None}, r"model\.encoder: needed str, found None"),
        ({"encoder": "resnet9"}, r"model\.encoder: .*found 'resnet9'"),
        ({"library": "timn"}, r"model\.library: needed one of \['torchvision', 'timm'\], found 'timn'"),
        ({"pretrained": True}, r"model\.pretrained: needed str \| None, found True"),
        ({"aspp_rates": 12}, r"model\.aspp_rates: needed list\[int\], found 12"),
        ({"aspp_rates": [12, "24"]}, r"model\.aspp_rates: needed list\[int\], found \[12, '24'\]"),
        ({"aspp_rates": [12, 2.5]}, r"model\.aspp_rates: needed list\[int\]"),
        ({"aspp_rates": [True]}, r"model\.aspp_rates: needed list\[int\]"),
        ({"aspp_channels": 256.0}, r"model\.aspp_channels: needed int, found 256.0"),
        ({"aspp_channels": True}, r"model\.aspp_channels: needed int, found True"),
        ({"decoder_channels": "many"}, r"model\.decoder_channels: needed int, found 'many'"),
        ({"decoder_kernel": None}, r"model\.decoder_kernel: needed int, found None"),
        (
            {"depth": 3},
            r"model\.depth: unknown key, needed some of \['encoder', .*'freeze_batch_norm', 'library'\]",
        ),
        ({"channels": {"a": 1}}, r"model\.channels: unknown key"),
    ],
)
def test_make_model_wrong_values_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.make_model({"model": {**MODEL, **changes}}, _tasks(["depth"]))


@pytest.mark.parametrize("key", MODEL)
def test_make_model_missing_value_names_the_key(key: str) -> None:
    model = {name: value for name, value in MODEL.items() if name != key}
    with pytest.raises(ValueError, match=rf"model\.{key}: needed a value, found none"):
        build.make_model({"model": model}, _tasks(["depth"]))


def test_make_optimization_takes_whole_numbers_for_numbers() -> None:
    assert build.make_optimization({"optimizer": {**OPTIMIZER, "power": 1}}) == Optimization(0.01, 0.9, 1e-4, 1, 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "2.5e-3"}, r"optimizer\.lr: needed float, found '2.5e-3'"),
        ({"lr": 0}, r"optimizer\.lr: .*above zero, found 0"),
        ({"lr": float("nan")}, r"optimizer\.lr: .*found nan"),
        ({"log_variance_lr": -1.0}, r"optimizer\.log_variance_lr: .*found -1"),
        ({"momentum": 1.0}, r"optimizer\.momentum: .*found 1"),
        ({"weight_decay": -1e-4}, r"optimizer\.weight_decay: .*found -0\.0001"),
        ({"weight_decay": None}, r"optimizer\.weight_decay: needed float, found None"),
        ({"nesterov": True}, r"optimizer\.nesterov: unknown key"),
    ],
)
def test_make_optimization_wrong_values_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.make_optimization({"optimizer": {**OPTIMIZER, **changes}})


def test_make_augmentation_turns_lists_into_pairs() -> None:
    augmentation = build.make_augmentation({"data": {"augmentation": AUGMENTATION, "image_size": [32, 64]}})
    assert (augmentation.scale, augmentation.crop) == ((0.7, 2.0), (16, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": 1.5}, r"data\.augmentation\.flip: .*found 1.5"),
        ({"flip": "often"}, r"data\.augmentation\.flip: needed float, found 'often'"),
        ({"scale": [2.0, 0.7]}, r"data\.augmentation\.scale: .*found \[2.0, 0.7\]"),
        ({"scale": [0.7]}, r"data\.augmentation\.scale: needed"),
        ({"scale": [1, 2, 3]}, r"data\.augmentation\.scale: needed"),
        ({"scale": ["a", "b"]}, r"data\.augmentation\.scale: needed"),
        ({"scale": 1.5}, r"data\.augmentation\.scale: needed"),
        ({"scale": [1, 1e300]}, r"data\.augmentation\.scale: needed .*<= 64, found \[1, 1e\+300\]"),
        ({"crop": [0, 16]}, r"data\.augmentation\.crop: .*found \[0, 16\]"),
        ({"crop": [16]}, r"data\.augmentation\.crop: .*found \[16\]"),
        ({"crop": [16, 2.5]}, r"data\.augmentation\.crop: .*found \[16, 2.5\]"),
        ({"crop": 512}, r"data\.augmentation\.crop: needed"),
        ({"jitter": 1.0}, r"data\.augmentation\.jitter: .*found 1"),
        ({"blur": 3}, r"data\.augmentation\.blur: unknown key"),
    ],
)
def test_make_augmentation_wrong_values_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.make_augmentation({"data": {"augmentation": {**AUGMENTATION, **changes}, "image_size": [32, 64]}})


def test_make_schedule_ignores_what_is_not_of_the_schedule() -> None:
    schedule = build.make_schedule({"trainer": {**TRAINER, "device": "cpu"}})
    assert (schedule.max_steps, schedule.batch_size, schedule.accumulate, schedule.num_workers) == (10, 8, 2, 0)


def test_make_schedule_chooses_the_workers() -> None:
    workers = build.make_schedule({"trainer": {**TRAINER, "num_workers": "auto"}}).num_workers
    assert workers == max(1, min(16, num_cpus() - 1))
    assert 1 <= workers <= 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": -1}, r"trainer\.max_steps: .*found -1"),
        ({"max_steps": 10.0}, r"trainer\.max_steps: needed int, found 10.0"),
        ({"batch_size": 0}, r"trainer\.batch_size: .*found 0"),
        ({"batch_size": True}, r"trainer\.batch_size: needed int, found True"),
        ({"batch_size": 1, "accumulate": 1}, r"trainer\.batch_size=1: .*batch norm"),
        ({"accumulate": 3}, r"trainer\.accumulate: needed a divisor of trainer\.batch_size=8, found 3"),
        ({"num_workers": -1}, r"trainer\.num_workers: .*found -1"),
        ({"num_workers": "many"}, r"trainer\.num_workers: needed int, found 'many'"),
        ({"val_every": 0}, r"trainer\.val_every: .*found 0"),
        ({"batch_size": 10**9}, r"trainer\.batch_size: needed a whole number from 1 to 65536, found 1000000000"),
        ({"max_steps": 10**12}, r"trainer\.max_steps: needed a whole number from 1 to 1000000000, found"),
        ({"num_workers": 10**6}, r"trainer\.num_workers: needed auto or a number from 0 to 256, found 1000000"),
        ({"num_panels": 10**6}, r"trainer\.num_panels: needed a number from 0 to 10000, found 1000000"),
    ],
)
def test_make_schedule_wrong_values_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.make_schedule({"trainer": {**TRAINER, **changes}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("tpu", "fp32", False), r"trainer\.device: .*found 'tpu'"),
        (("cpu", "fp8", False), r"trainer\.precision: .*found 'fp8'"),
        (("cpu", "fp32", "yes"), r"trainer\.channels_last: needed bool, found 'yes'"),
        ((None, "fp32", True), r"trainer\.device: needed str, found None"),
    ],
)
def test_make_device_wrong_values_name_the_key(values: tuple[Any, ...], message: str) -> None:
    config = {"trainer": dict(zip(("device", "precision", "channels_last"), values, strict=True))}
    with pytest.raises(ValueError, match=message):
        build.make_device(config)


def test_make_frames_wrong_size_names_the_key(shared_tree: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.image_size: .*found \[0, 64\]"):
        build.make_frames(_data(shared_tree, 0), "val")


def test_tasks_with_labels_turns_off_what_the_data_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path, {"train": 1}, kinds=("image", "class_ids"))
    frames = build.make_frames(_data(root), "train")
    with caplog.at_level(logging.WARNING):
        on = tasks_with_labels(_tasks(["depth", "semantic", "instance"]), frames)
    assert list(on) == ["semantic"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "'depth' is off" in lines[0]
    assert "disparity" in lines[0]
    assert "'instance' is off" in lines[1]
    assert "instance_ids" in lines[1]


def test_tasks_with_labels_needs_frames_with_all_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Both(Semantic):
        layers = ("class_ids", "disparity")

    roots = [
        str(write_tree(tmp_path / kind, {"train": 1}, kinds=("image", kind))) for kind in ("class_ids", "disparity")
    ]
    frames = build.make_frames(
        {"data": mixed_data(roots, (32, 64)), "seed": 0},
        "train",
    )
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="no labels for any of"):
        tasks_with_labels({"both": Both(CITYSCAPES)}, frames)
    assert any(
        "'both' is off" in message and "no frames with both class_ids and disparity for split 'train'" in message
        for message in caplog.messages
    )


def test_tasks_with_labels_says_nothing_of_a_complete_data_set(
    shared_tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = build.make_frames(_data(shared_tree), "val")
    tasks = _tasks(["depth", "semantic", "instance"])
    assert tasks_with_labels(tasks, frames) == tasks
    assert not caplog.records


def test_tasks_with_labels_none_left_is_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"train": 1}, kinds=("image", "class_ids"))
    frames = build.make_frames(_data(root), "train")
    with pytest.raises(ValueError, match=r"data\.root=.*'train' has no labels for any of tasks=\['depth'\]"):
        tasks_with_labels(_tasks(["depth"]), frames)


def test_frames_are_held_out_and_drawn_by_the_seed(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"train": 10})

    def names(split: str, *overrides: str) -> list[str]:
        return build.make_frames(small(root, tmp_path / "run", *overrides), split).names

    everything = names("train")
    assert len(everything) == 10
    given = ["data.held_out=3", "data.draw=4"]
    assert names("held_out", *given) == everything[7:]
    assert names("train", "data.held_out=3") == everything[:7]
    drawn = [names("train", *given, f"seed={seed}") for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(part) for part in drawn}) > 1
    for part in drawn:
        assert len(part) == 4
        assert part == sorted(part)
        assert set(part) <= set(everything[:7])


@pytest.mark.parametrize(
    ("overrides", "split", "message"),
    [
        (["data.held_out=10"], "train", r"data\.held_out: needed 0 to 9 frames, found 10"),
        (["data.held_out=-1"], "train", r"data\.held_out: needed 0 to 9 frames, found -1"),
        ([], "held_out", r"split 'held_out': needed data\.held_out above zero, found 0"),
        (["data.held_out=4", "data.draw=7"], "train", r"data\.draw: needed null or 1 to 6 frames, found 7"),
        (["data.draw=0"], "train", r"data\.draw: needed null or 1 to 10 frames, found 0"),
    ],
)
def test_frames_that_cannot_be_held_out_or_drawn(
    tmp_path: Path, overrides: list[str], split: str, message: str
) -> None:
    root = write_tree(tmp_path, {"train": 10})
    with pytest.raises(ValueError, match=message):
        build.make_frames(small(root, tmp_path / "run", *overrides), split)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_make_seed_takes_what_torch_takes(seed: int) -> None:
    assert build.make_seed({"seed": seed}) == seed
    torch.manual_seed(seed)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, None, "1"])
def test_make_seed_refuses_other_values(seed: Any) -> None:
    with pytest.raises(UserError, match=r"seed: needed a whole number from 0 to 18446744073709551615, found"):
        build.make_seed({"seed": seed})


GROUPS = ("data", "data.augmentation", "task", "model", "weighting", "optimizer", "trainer")


@pytest.mark.parametrize("value", [None, "abc", 3, [1]])
@pytest.mark.parametrize("key", GROUPS)
def test_group_that_is_none_is_named_by_whatever_needs_it(tmp_path: Path, key: str, value: Any) -> None:
    config = small(tmp_path, tmp_path)
    tasks = build.make_tasks(config, CITYSCAPES)
    *parents, last = key.split(".")
    place = config["data"] if parents else config
    place[last] = value
    makers: dict[str, Callable[[], object]] = {
        "data": lambda: build.make_frames(config, "train"),
        "data.augmentation": lambda: build.make_augmentation(config),
        "task": lambda: build.make_tasks(config, CITYSCAPES),
        "model": lambda: build.make_model(config, tasks),
        "weighting": lambda: build.make_weighting(config, tasks),
        "optimizer": lambda: build.make_optimization(config),
        "trainer": lambda: build.make_device(config),
    }
    for maker in (makers[key], lambda: check_config(config)):
        with pytest.raises(UserError, match=rf"^{key}: needed a group of keys, found "):
            maker()


def test_check_config_takes_every_run_s(tmp_path: Path) -> None:
    for overrides in ((), ("experiment=paper_full",), ("data=mixed", "data.roots=[a,b]"), ("weighting=fixed",)):
        check_config(compose(*overrides))
    config = small(tmp_path, tmp_path)
    del config["instances"]  # which runs of older versions lack
    check_config(config)


@pytest.mark.parametrize("size", [[10**6, 10**6], [1, 2**20], [0, 5], [True, 5], [5], "55", {5: 5}, None])
def test_check_config_refuses_sizes_that_make_no_sense(tmp_path: Path, size: Any) -> None:
    config = small(tmp_path, tmp_path)
    config["data"]["image_size"] = size
    with pytest.raises(UserError, match=r"^data\.image_size: needed"):
        check_config(config)


def test_pixels_at_once_are_no_more_than_are_of_use(tmp_path: Path) -> None:
    overrides = ["trainer.batch_size=1000", "data.augmentation.crop=[500,500]"]
    assert build.pixels_at_once(small(tmp_path, tmp_path, *overrides)) == 2**22
    assert build.pixels_at_once(small(tmp_path, tmp_path)) == 4 * 32 * 64


@pytest.mark.parametrize("task", ["depth", ["depth"]])
def test_make_tasks_refuses_names_that_are_no_texts(task: Any) -> None:
    with pytest.raises(UserError, match="tasks: needed a list such as"):
        _tasks([[task], "depth"])


def test_make_frames_of_a_root_that_is_no_text_names_the_key(tmp_path: Path) -> None:
    config = small(tmp_path, tmp_path)
    for root in (None, 3, ["a"]):
        config["data"]["root"] = root
        with pytest.raises(UserError, match=r"data\.root: needed a folder, found"):
            build.make_frames(config, "train")
    config["data"]["format"] = ["cityscapes"]
    with pytest.raises(UserError, match=r"data\.format: needed one of"):
        build.make_frames(config, "train")
