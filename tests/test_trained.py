from pathlib import Path

import pytest
import torch

from multitask.engine import checkpoint
from multitask.run import LAST, Run
from multitask.trained import load_trained
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
    assert trained.config == state["config"]
    for key, value in trained.network.state_dict().items():
        torch.testing.assert_close(value, state["network"][key])


def test_load_trained_builds_by_the_changed_configuration(saved: Path) -> None:
    with pytest.raises(ValueError, match="of another architecture"):
        load_trained(saved, lambda config: {**config, "model": {**config["model"], "aspp_channels": 16}})


def test_load_trained_fetches_no_pretrained_weights(saved: Path, tmp_path: Path) -> None:
    config = checkpoint.load(saved)["config"]
    config["model"]["pretrained"] = str(tmp_path / "gone.pth")
    assert load_trained(changed(saved, tmp_path / "a.pt", config=config)).network


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"config": 3}, r"a\.pt: needed a configuration, found int"),
        ({"config": {}}, r"a\.pt: needed the whole configuration of a run \(KeyError\('task'\)\)"),
        ({"config": {"task": {}, "model": 3}, "tasks": []}, "tasks: needed at least one"),
        ({"tasks": "depth"}, "tasks: needed a list"),
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
