from pathlib import Path

import pytest
import torch

from multitask.config.trained import load_trained
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.runs.run import LAST, Run
from tests.cityscapes import CITYSCAPES
from tests.compose import small


@pytest.fixture(scope="module")
def saved(shared_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    Run(small(shared_tree, folder, "tasks=[depth,semantic]", "trainer.max_steps=1")).train()
    return folder / LAST


def changed(saved: Path, path: Path, **values: object) -> Path:
    torch.save({**torch.load(saved, weights_only=True), **values}, path)
    return path


def test_load_trained_has_the_tasks_and_parameters_of_the_run(saved: Path) -> None:
    trained = load_trained(saved)
    assert list(trained.tasks) == ["depth", "semantic"]
    state = checkpoint.load(saved)
    data = {**state["config"]["data"], "classes": CITYSCAPES.content()}
    assert trained.config == {**state["config"], "data": data}
    assert trained.classes == CITYSCAPES
    for key, value in trained.network.state_dict().items():
        torch.testing.assert_close(value, state["network"][key])


def test_load_trained_builds_by_the_changed_configuration(saved: Path) -> None:
    with pytest.raises(ValueError, match="of another architecture"):
        load_trained(saved, {"model": {"aspp_channels": 16}}, ["model.aspp_channels=16"])


def test_load_trained_fetches_no_pretrained_weights(saved: Path, tmp_path: Path) -> None:
    config = checkpoint.load(saved)["config"]
    config["model"]["pretrained"] = str(tmp_path / "gone.pth")
    assert load_trained(changed(saved, tmp_path / "a.pt", config=config)).network


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"config": 3}, r"a\.pt: config: needed a configuration, found 3"),
        ({"config": {}}, r"a\.pt: data: needed a group of keys, found None"),
        ({"tasks": []}, r"a\.pt: tasks: needed at least one"),
        ({"tasks": ["normals"]}, r"a\.pt: tasks: needed some of \['depth', 'instance', 'semantic'\], found 'normals'"),
        ({"tasks": "depth"}, r"a\.pt: tasks: needed a list of names, found 'depth'"),
        ({"network": {}}, r"a\.pt: of another architecture"),
        ({"version": checkpoint.VERSION + 1}, "or older, found"),
    ],
)
def test_load_trained_of_a_checkpoint_that_is_not_whole_names_it(
    saved: Path, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_trained(changed(saved, tmp_path / "a.pt", **values))


def test_load_trained_imports_no_module_that_a_checkpoint_names(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payload.py").write_text(
        "from pathlib import Path\nfrom multitask.tasks.depth import Depth\nPath(__file__).with_name('ran').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # as the folder is from which one types `python -c`
    config = checkpoint.load(saved)["config"]
    config["task"]["depth"]["_target_"] = "payload.Depth"
    path = changed(saved, tmp_path / "a.pt", config=config)
    with pytest.raises(ValueError, match=r"a\.pt: task\.depth\._target_: needed a class of this package, .*'payload\."):
        load_trained(path)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert list(load_trained(path).tasks) == ["depth", "semantic"]
    assert (tmp_path / "ran").exists()


ABSURD = {
    "data": None,
    "data.augmentation": 3,
    "data.augmentation.crop": [10**6, 10**6],
    "data.image_size": [10**6, 10**6],
    "data.name": ["a"],
    "tasks": None,
    "task": "abc",
    "task.depth": None,
    "task.depth._target_": "../../x.Depth",
    "task.depth.likelihood": [[1]],
    "trainer": "abc",
    "trainer.batch_size": 10**9,
    "trainer.num_workers": 10**6,
    "trainer.accumulate": {"a": 1},
    "model": [1, 2],
    "model.encoder": {"a": 1},
    "model.aspp_rates": [1] * 5000,
    "model.aspp_channels": 10**9,
    "model.decoder_kernel": "abc",
    "instances": 7,
    "instances.cell": float("nan"),
    "instances.confidence": [["probability"]],
    "weighting": None,
    "optimizer": [],
}


@pytest.mark.parametrize("key", ABSURD)
def test_load_trained_of_an_absurd_configuration_names_the_key(saved: Path, tmp_path: Path, key: str) -> None:
    config = checkpoint.load(saved)["config"]
    group = config
    *parents, last = key.split(".")
    for parent in parents:
        group = group[parent]
    group[last] = ABSURD[key]
    with pytest.raises(UserError, match=rf"^checkpoint=.*a\.pt: {key}: needed ") as caught:
        load_trained(changed(saved, tmp_path / "a.pt", config=config))
    assert len(str(caught.value)) < 600


def test_load_trained_makes_no_room_for_a_network_that_the_file_does_not_hold(saved: Path, tmp_path: Path) -> None:
    config = checkpoint.load(saved)["config"]
    config["model"] |= {"aspp_channels": 8192, "decoder_channels": 8192, "decoder_kernel": 1023}
    config["model"]["aspp_rates"] = [1] * 64  # 2e17 bytes of weights
    with pytest.raises(UserError, match=r"of another architecture: at 'encoder\.aspp\.branches\.0\.0\.weight' needed"):
        load_trained(changed(saved, tmp_path / "a.pt", config=config))


def test_load_trained_blames_no_checkpoint_for_what_the_user_changes(saved: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.batch_size: needed "):
        load_trained(saved, {"trainer": {"batch_size": 0}}, ["trainer.batch_size=0"])


@pytest.mark.parametrize("name", ["a.b", "", "../x"])
def test_load_trained_of_tasks_of_strange_names_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    config = checkpoint.load(saved)["config"]
    config["task"][name] = config["task"]["depth"]
    with pytest.raises(UserError, match="tasks: needed names of letters, digits, - and _, found"):
        load_trained(changed(saved, tmp_path / "a.pt", config=config, tasks=[name]))
