from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from multitask.config import factories as build
from multitask.engine import checkpoint
from multitask.engine.warm_start import find_run
from multitask.errors import UserError
from multitask.models.network import MultiTaskNetwork
from tests.cityscapes import CITYSCAPES
from tests.compose import small
from tests.layouts import CAMVID
from tests.states import state as made

HEAD = "decoders.semantic.output."


def _network(*overrides: str) -> MultiTaskNetwork:
    config = small(Path("unused"), Path("unused"), *overrides)
    return build.make_model(config, build.make_tasks(config, CITYSCAPES))


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """A checkpoint of three tasks whose every parameter differs from a new network's."""
    torch.manual_seed(7)
    network = _network().state_dict()
    return made(network={name: torch.rand_like(value.float()).to(value) for name, value in network.items()})


def _save(path: Path, state: dict[str, Any], **changes: Any) -> Path:
    checkpoint.save(path, {**state, **changes})
    return path


def _loaded(network: MultiTaskNetwork, state: dict[str, Any]) -> dict[str, bool]:
    """Of each tensor, whether it is the checkpoint's."""
    found: dict[str, Tensor] = state["network"]
    return {
        key: key in found and found[key].shape == value.shape and torch.equal(value, found[key])
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _said(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = caplog.messages
    return line


def test_checkpoint_of_the_same_tasks_is_loaded_whole(
    tmp_path: Path, state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = _save(tmp_path / "last.pt", state)
    with caplog.at_level("INFO"):
        network = _network(f"model.pretrained={path}")
    assert all(_loaded(network, state).values())
    expected = f"model.pretrained={path}: encoder loaded; decoders loaded: semantic, instance, depth"
    assert _said(caplog) == expected


def test_checkpoint_of_an_older_version_is_loaded_whole(tmp_path: Path, state: dict[str, Any]) -> None:
    before = {key.replace("encoder.backbone.", "encoder.resnet."): value for key, value in state["network"].items()}
    assert before.keys() != state["network"].keys()
    path = _save(tmp_path / "last.pt", state, network=before, version=2)
    assert all(_loaded(_network(f"model.pretrained={path}"), state).values())


def test_checkpoint_of_another_class_table_has_its_last_layer_re_initialised(
    tmp_path: Path, state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    classes = CITYSCAPES.content()
    classes["classes"][7]["name"] = "tarmac"
    path = _save(tmp_path / "last.pt", state, classes=classes)
    with caplog.at_level("INFO"):
        network = _network(f"model.pretrained={path}")
    assert {key for key, same in _loaded(network, state).items() if not same} == {f"{HEAD}weight", f"{HEAD}bias"}
    assert _said(caplog).endswith("; decoders loaded: instance, depth; last layers re-initialised: semantic")


def test_checkpoint_of_fewer_classes_keeps_the_hidden_layer(
    tmp_path: Path, state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    fewer = {key: value[:11] if key.startswith(HEAD) else value for key, value in state["network"].items()}
    path = _save(tmp_path / "last.pt", state, network=fewer, classes=CAMVID.source.content())
    with caplog.at_level("INFO"):
        network = _network(f"model.pretrained={path}")
    assert {key for key, same in _loaded(network, state).items() if not same} == {f"{HEAD}weight", f"{HEAD}bias"}
    assert network.decoders["semantic"].output.weight.std() > 0
    assert _said(caplog).endswith("last layers re-initialised: semantic")


def test_checkpoint_of_other_decoders_and_tasks_gives_its_encoder(
    tmp_path: Path, state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    without = {key: value for key, value in state["network"].items() if not key.startswith("decoders.depth.")}
    path = _save(tmp_path / "last.pt", state, network=without)
    with caplog.at_level("INFO"):
        network = _network(f"model.pretrained={path}", "tasks=[depth,instance]")
    same = _loaded(network, state)
    assert all(value == (not key.startswith("decoders.depth.")) for key, value in same.items())
    assert _said(caplog).endswith("encoder loaded; decoders loaded: instance; decoders that start afresh: depth")
    caplog.clear()
    with caplog.at_level("INFO"):
        network = _network(f"model.pretrained={path}", "model.decoder_channels=5")
    assert _said(caplog).endswith("encoder loaded; decoders that start afresh: semantic, instance, depth")
    assert all(value for key, value in _loaded(network, state).items() if key.startswith("encoder."))


def test_what_starts_afresh_is_what_the_seed_says(tmp_path: Path, state: dict[str, Any]) -> None:
    path = _save(tmp_path / "last.pt", state, classes=CAMVID.source.content())
    networks = []
    for overrides in ((), (f"model.pretrained={path}",)):
        torch.manual_seed(3)
        networks.append(_network(*overrides).state_dict())
    assert torch.equal(networks[0][f"{HEAD}weight"], networks[1][f"{HEAD}weight"])
    assert not torch.equal(networks[0]["encoder.backbone.conv1.weight"], networks[1]["encoder.backbone.conv1.weight"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.aspp_channels=9", r"at 'encoder\.aspp\.branches\.0\.0\.weight' needed \(9, 16, 1, 1\), found \(8, "),
        ("model.aspp_rates=[1,2,3]", r"at 'encoder\.aspp\.branches\.3\.0\.weight' needed .*, found nothing"),
        ("model.encoder=resnet10", r"at 'encoder\.backbone\.conv1\.weight' needed \(64, 3, 7, 7\), found \(8, 3, "),
    ],
)
def test_checkpoint_of_another_encoder_is_refused(
    tmp_path: Path, state: dict[str, Any], override: str, message: str
) -> None:
    path = _save(tmp_path / "last.pt", state)
    with pytest.raises(ValueError, match=rf"model\.pretrained={path}: of another encoder: {message}"):
        _network(override, "model.aspp_channels=8", f"model.pretrained={path}", override)


def test_checkpoint_of_a_newer_version_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    path = tmp_path / "last.pt"
    torch.save({**state, "version": 99, "classes": []}, path)
    with pytest.raises(
        ValueError, match=rf"model\.pretrained={path}: needed version {checkpoint.VERSION} or older, found 99"
    ):
        _network(f"model.pretrained={path}")


def test_find_run_takes_nothing_else_for_one(tmp_path: Path, state: dict[str, Any]) -> None:
    others = {"tensors.pth": {"conv1.weight": torch.zeros(1)}, "list.pth": [torch.zeros(1)], "text.pth": None}
    for name, content in others.items():
        torch.save(content, tmp_path / name)
    for name in (*others, "missing.pth", "."):
        assert find_run(str(tmp_path / name)) is None
    _save(tmp_path / "last.pt", state)
    found = find_run(str(tmp_path / "last.pt"))
    assert found is not None
    assert found["network"].keys() == state["network"].keys()


def test_find_run_names_what_is_wrong_with_a_run(tmp_path: Path, state: dict[str, Any]) -> None:
    path = _save(tmp_path / "last.pt", state)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.pt").write_bytes(content)
    (tmp_path / "short.pt").write_bytes(path.read_bytes()[:-100])
    torch.save({"version": 1, "network": state["network"]}, tmp_path / "part.pt")
    _save(tmp_path / "other.pt", state, network={"w": 3})
    for name, message in {
        "flipped.pt": r"not a file of tensors \(damaged: the check sum of 'archive/data/",
        "short.pt": "not a file of tensors",
        "part.pt": r"not a checkpoint of this package, it lacks \['classes', 'config', ",
        "other.pt": "network: needed tensors by name, found a dict of 1",
    }.items():
        with pytest.raises(UserError, match=rf"model\.pretrained=.*{name}: {message}"):
            find_run(str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.long(), r"at 'encoder\.backbone\.conv1\.weight' needed torch\.float32, found torch\.int64"),
        (lambda w: w * float("inf"), r"spoilt: at 'encoder\.backbone\.conv1\.weight' needed finite numbers, found \d+"),
    ],
)
def test_checkpoint_of_other_numbers_is_refused(
    tmp_path: Path, state: dict[str, Any], change: Callable[[Tensor], Tensor], message: str
) -> None:
    key = "encoder.backbone.conv1.weight"
    path = _save(tmp_path / "last.pt", state, network={**state["network"], key: change(state["network"][key])})
    with pytest.raises(UserError, match=rf"model\.pretrained={path}: {message}"):
        _network(f"model.pretrained={path}")
