import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from multitask.config import factories as build
from multitask.instances import Grouping
from multitask.synthetic import write_dataset
from tests.cityscapes import CITYSCAPES
from tests.compose import ROOT, config
from tests.layouts import write_kitti

GROUPS = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in (ROOT / "configs").iterdir()
    if group.is_dir() and group.name not in ("classes", "shared")  # class tables, and what other files build on
}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_every_entry_composes(name: str) -> None:
    if name != "hydra_defaults":
        assert config(name=name)


@pytest.mark.parametrize(
    "override",
    [f"{group}={choice}" for group, choices in GROUPS.items() if group != "task" for choice in choices],
)
def test_every_choice_builds(override: str) -> None:
    given = [override]
    if override == "weighting=fixed":
        given += [f"weighting.weights.{name}=1" for name in GROUPS["task"]]
    if override == "weighting=jacobian":
        pytest.importorskip("torchjd")
    # What pretrained weights need is a network connection, which no test may have.
    found = config(*given, "model.pretrained=null")
    tasks = build.make_tasks(found, CITYSCAPES)
    assert sorted(tasks) == GROUPS["task"]
    assert list(build.make_weighting(found, tasks).weights()) == list(tasks)
    with torch.device("meta"):  # to initialise ResNet-101 takes a second
        network = build.make_model(found, tasks)
    assert set(network.decoders) == set(tasks)
    optimizer = build.make_optimization(found)
    assert optimizer.momentum == 0.9
    assert build.make_schedule(found).max_steps > 0
    assert 0 <= build.make_augmentation(found).flip <= 1
    assert build.make_device(found)


def test_paper_experiments_say_the_paper_s_numbers() -> None:
    for name, steps, batch, size, crop, scale in (
        ("paper_tiny", 50_000, 8, [128, 256], None, [1.0, 1.0]),
        ("paper_full", 100_000, 16, [1024, 2048], [512, 512], [0.7, 2.0]),
    ):
        found = config(f"experiment={name}")
        assert (found["trainer"]["max_steps"], found["trainer"]["batch_size"]) == (steps, batch)
        assert found["data"]["image_size"] == size
        assert found["data"]["augmentation"] == {"flip": 0.5, "scale": scale, "crop": crop, "jitter": 0.0}
        optimizer = {key: found["optimizer"][key] for key in ("lr", "momentum", "weight_decay", "power")}
        assert optimizer == {"lr": 2.5e-3, "momentum": 0.9, "weight_decay": 1e-4, "power": 0.9}
        model = found["model"]
        assert (model["encoder"], model["aspp_channels"], model["aspp_rates"]) == ("resnet101", 256, [12, 24, 36])
        assert (model["decoder_channels"], model["decoder_kernel"]) == (256, 3)
        assert model["pretrained"] == "IMAGENET1K_V1"
        assert found["tasks"] == ["semantic", "instance", "depth"]
        assert found["weighting"]["_target_"] == "multitask.weighting.Uncertainty"


def test_two_overrides_reach_the_paper_s_configuration(tmp_path: Path) -> None:
    write_dataset(tmp_path / "frames", {"train": 2}, size=(64, 128), seed=0, workers=1)
    found = config("experiment=paper_full", f"data.root={tmp_path / 'frames'}")
    frames = build.make_frames(found, "train")
    sample = build.make_augmentation(found)(frames[0], np.random.default_rng(0))
    assert sample.image.shape == (512, 512, 3)


def test_every_way_to_group_votes_is_in_the_configuration() -> None:
    given = config()["instances"]
    assert given.keys() == {field.name for field in dataclasses.fields(Grouping)}
    assert Grouping(**given) == Grouping()


@pytest.mark.parametrize(
    ("overrides", "base"),
    [
        (["experiment=table1"], "comparison"),
        (["experiment=transfer"], "kitti_transfer"),
        (["experiment=transfer", "base=another"], "another"),
        (["experiment=table1", "base=kitti_comparison"], "kitti_comparison"),
    ],
)
def test_an_experiment_may_have_a_base_of_its_own(overrides: list[str], base: str) -> None:
    found = config(*overrides, name="compare")
    assert (found["base"], found["output_dir"]) == (base, f"runs/{base}")
    assert found["results_dir"] == f"runs/{base}/results"


@pytest.mark.parametrize("name", ["kitti", "kitti_comparison", "kitti_transfer"])
def test_seeds_of_kitti_s_experiments_test_every_frame_once(name: str, tmp_path: Path) -> None:
    root = write_kitti(tmp_path, range(11))
    tested: list[str] = []
    for seed in range(5):
        found = config(f"experiment={name}", f"data.root={root}", f"seed={seed}", "data.held_out=0")
        names = build.make_frames(found, "test").names
        assert not set(names) & set(build.make_frames(found, "train").names)
        tested += names
    assert tested == [f"{number:06}_10" for number in range(11)]


def test_no_folder_of_configurations_is_named_like_a_key() -> None:
    """Hydra would take ``base=x`` for a choice of a file in ``configs/base``, not for the value of a key."""
    folders = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    keys = {key for path in (ROOT / "configs").glob("*.yaml") for key in yaml.safe_load(path.read_text())}
    assert folders & (keys - {"defaults"}) <= {"experiment"}
