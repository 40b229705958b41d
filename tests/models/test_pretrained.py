import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from multitask.errors import UserError
from multitask.models import pretrained
from multitask.models.backbones import make_backbone


@pytest.fixture(scope="module")
def original() -> nn.Module:
    """torchvision's ResNet-18 with weights and statistics that differ from a new one's."""
    torch.manual_seed(3)
    resnet = torchvision.models.resnet18()
    for name, buffer in resnet.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return resnet.eval()


@pytest.fixture(scope="module")
def weights_file(original: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(original.state_dict(), path)
    return path


def _features(resnet: Any, images: Tensor) -> list[Tensor]:
    """After each of the first two stages, which are as torchvision has them."""
    first = resnet.layer1(resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images)))))
    return [first, resnet.layer2(first)]


def test_resnet_pretrained_file_gives_the_same_features(original: nn.Module, weights_file: Path) -> None:
    resnet = make_backbone("resnet18", str(weights_file)).eval()
    images = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        for ours, theirs in zip(_features(resnet, images), _features(original, images), strict=True):
            assert torch.equal(ours, theirs)
    for key, value in resnet.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])


def test_resnet_without_pretrained_is_random(original: nn.Module) -> None:
    first, second = make_backbone("resnet18"), make_backbone("resnet18")
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
    assert not torch.equal(first.conv1.weight, original.conv1.weight)


def test_resnet_pretrained_without_classifier_or_counters(original: nn.Module, tmp_path: Path) -> None:
    # As torchvision's own files have it, which are older than batch norm's counters.
    state = {
        key: value
        for key, value in original.state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith("fc.")
    }
    torch.save(state, tmp_path / "old.pth")
    resnet = make_backbone("resnet18", str(tmp_path / "old.pth"))
    assert torch.equal(resnet.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_resnet_pretrained_by_name_is_downloaded_and_checked(
    original: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def get_state_dict(self: Any, **options: Any) -> dict[str, Tensor]:
        asked.append((self.name, options))
        return original.state_dict()

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", get_state_dict)
    resnet = make_backbone("resnet18", "IMAGENET1K_V1")
    assert asked == [("IMAGENET1K_V1", {"progress": False, "check_hash": True})]
    assert torch.equal(resnet.conv1.weight, original.conv1.weight)


class Digest:
    """The check sum in the name of torchvision's file, of a file that holds ``whole``."""

    def __init__(self) -> None:
        self._content = b""

    def update(self, piece: bytes) -> None:
        self._content += piece

    def hexdigest(self) -> str:
        return ("f37072fd" if self._content == b"whole" else "00000000") + "0" * 56


@pytest.mark.parametrize("damaged", [True, False])
def test_resnet_pretrained_of_the_cache_is_compared_with_its_check_sum(
    original: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: original.state_dict())
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    path.write_bytes(b"damaged" if damaged else b"whole")
    monkeypatch.setattr(pretrained.hashlib, "sha256", Digest)
    if not damaged:
        assert torch.equal(make_backbone("resnet18", "IMAGENET1K_V1").conv1.weight, original.conv1.weight)
        return
    message = rf"IMAGENET1K_V1: {path} is damaged: needed a SHA-256 that begins with f37072fd, found 00000000; once"
    with pytest.raises(UserError, match=message):
        make_backbone("resnet18", "IMAGENET1K_V1")


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_resnet_pretrained_download_impossible_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def get_state_dict(self: Any, **options: Any) -> dict[str, Tensor]:
        raise error

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(ValueError, match=r"model\.pretrained=IMAGENET1K_V1: .*https://.*resnet18.*file's path"):
        make_backbone("resnet18", "IMAGENET1K_V1")


@pytest.mark.parametrize("name", ["IMAGENET1K_V7", "no/such/file.pth", "."])
def test_resnet_pretrained_unknown_name_lists_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"model\.pretrained=.*existing file or one of .*IMAGENET1K_V1.* for resnet18"):
        make_backbone("resnet18", name)


def test_resnet_pretrained_name_of_an_architecture_that_nobody_published_weights_of() -> None:
    with pytest.raises(ValueError, match=r"model\.pretrained=IMAGENET1K_V1: needed an existing file for resnet10$"):
        make_backbone("resnet10", "IMAGENET1K_V1")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 neither"])
def test_resnet_pretrained_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pretrained=.*broken\.pth: not a file of tensors") as error:
        make_backbone("resnet18", str(path))
    assert "\n" not in str(error.value)


def test_resnet_pretrained_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "args": Namespace(lr=0.1)}, tmp_path / "training.pth")
    with pytest.raises(ValueError, match=r"training\.pth: not a file of tensors \(.*\)$"):
        make_backbone("resnet18", str(tmp_path / "training.pth"))


def test_resnet_pretrained_truncated_file_is_named(weights_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(weights_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.pretrained=.*short\.pth: not a file of tensors"):
        make_backbone("resnet18", str(path))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (torch.zeros(3), "found Tensor"),
        ([torch.zeros(3)], "found list"),
        ({"step": 7, "network": {"conv1.weight": torch.zeros(1)}}, "found int at 'step'"),
        ({"weights": {"conv1.weight": torch.zeros(1)}}, "found dict at 'weights'"),
        ({"state_dict": {"step": 7}}, "found int at 'step'"),
        ({"model": [torch.zeros(1)]}, "found list at 'model'"),
        ({0: torch.zeros(1)}, "at 0"),
    ],
)
def test_resnet_pretrained_of_another_kind_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"model\.pretrained=.*other\.pth: needed a state dict, .*{found}"):
        make_backbone("resnet18", str(tmp_path / "other.pth"))


def test_resnet_pretrained_of_another_architecture_names_the_place(weights_file: Path) -> None:
    with pytest.raises(ValueError, match=r"not a resnet50: at 'layer1.0.conv1.weight' needed \(64, 64, 1, 1\), found"):
        make_backbone("resnet50", str(weights_file))


@pytest.mark.parametrize("key", ["layer4.1.conv2.weight", "bn1.running_var"])
def test_resnet_pretrained_lacking_a_tensor_names_it(original: nn.Module, tmp_path: Path, key: str) -> None:
    state = {name: value for name, value in original.state_dict().items() if name != key}
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=rf"not a resnet18: at '{key}' needed .*, found nothing"):
        make_backbone("resnet18", str(tmp_path / "partial.pth"))


def test_resnet_pretrained_with_a_tensor_too_many_names_it(original: nn.Module, tmp_path: Path) -> None:
    torch.save({**original.state_dict(), "layer5.weight": torch.zeros(2)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"not a resnet18: at 'layer5.weight' needed nothing, found \(2,\)"):
        make_backbone("resnet18", str(tmp_path / "more.pth"))


def _wrap(state: dict[str, Tensor], how: str) -> Any:
    """A state dict as other programs keep it."""
    prefixed = {f"{how}.{key}": value for key, value in state.items()}
    return {
        "plain": state,
        "state_dict": {"epoch": 90, "arch": "resnet18", "state_dict": state, "optimizer": {}},
        "model": {"model": state, "epoch": 3},
        "model_state": {"model_state": {"state_dict": state}},
    }.get(how, prefixed)


@pytest.mark.parametrize(
    ("how", "with_head"),
    [
        *(("plain", True), ("state_dict", True), ("model", False), ("model_state", True), ("module", True)),
        *(("backbone", False), ("encoder", True), ("model.backbone", False), ("net.resnet", True)),
    ],
)
def test_resnet_pretrained_in_other_programs_files(
    original: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, with_head: bool
) -> None:
    state = {key: value for key, value in original.state_dict().items() if with_head or not key.startswith("fc.")}
    path = tmp_path / "weights.pth"
    torch.save(_wrap(state, how), path)
    with caplog.at_level("INFO"):
        resnet = make_backbone("resnet18", str(path))
    for key, value in resnet.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])
    said = [f"model.pretrained={path}: resnet18 is taken, left out: fc"] if with_head else []
    assert caplog.messages == said


@pytest.mark.parametrize("head", ["fc", "classifier", "head", "head.fc"])
def test_resnet_pretrained_on_other_classes_leaves_their_layer_out(
    original: nn.Module, tmp_path: Path, head: str
) -> None:
    state = {key: value for key, value in original.state_dict().items() if not key.startswith("fc.")}
    torch.save({**state, f"{head}.weight": torch.zeros(365, 512)}, tmp_path / "places.pth")
    assert torch.equal(make_backbone("resnet18", str(tmp_path / "places.pth")).conv1.weight, state["conv1.weight"])


def test_resnet_pretrained_inside_a_segmentation_network(
    original: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {f"backbone.{key}": value for key, value in original.state_dict().items() if not key.startswith("fc.")}
    others = {"classifier.4.weight": torch.zeros(21, 256, 1, 1), "aux_classifier.0.weight": torch.zeros(3)}
    torch.save({**state, **others}, tmp_path / "deeplab.pth")
    with caplog.at_level("INFO"):
        resnet = make_backbone("resnet18", str(tmp_path / "deeplab.pth"))
    assert torch.equal(resnet.layer4[1].conv2.weight, state["backbone.layer4.1.conv2.weight"])
    assert caplog.messages[0].endswith("left out: aux_classifier, classifier")


def test_resnet_pretrained_as_safetensors(original: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = str(tmp_path / "model.safetensors")
    safetensors.save_file(original.state_dict(), path)
    assert torch.equal(make_backbone("resnet18", path).conv1.weight, original.state_dict()["conv1.weight"])
    Path(path).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.pretrained=.*model\.safetensors: not a file of tensors"):
        make_backbone("resnet18", path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(
        ValueError, match=r"model\.safetensors: .*needs safetensors: pip install -e '\.\[safetensors\]'"
    ):
        make_backbone("resnet18", path)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_resnet_pretrained_with_a_deep_stem_is_refused(original: nn.Module, tmp_path: Path, prefix: str) -> None:
    # timm's names of a stem of three convolutions.
    stem = {f"conv1.{place}.weight": torch.zeros(32, 3, 3, 3) for place in (0, 3, 6)}
    state = {key: value for key, value in original.state_dict().items() if key != "conv1.weight"} | stem
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "resnet18d.pth")
    message = rf"model\.pretrained=.*resnet18d\.pth: needed .*'{prefix}conv1\.weight', .* at '{prefix}conv1\.0\.weight'"
    with pytest.raises(ValueError, match=message):
        make_backbone("resnet18", str(tmp_path / "resnet18d.pth"))


def test_resnet_pretrained_of_two_networks_is_refused(original: nn.Module, tmp_path: Path) -> None:
    state = {f"{name}.{key}": value for name in ("query", "key") for key, value in original.state_dict().items()}
    torch.save(state, tmp_path / "pair.pth")
    with pytest.raises(ValueError, match=r"pair\.pth: needed one resnet18, found 2, below \['query\.', 'key\.'\]"):
        make_backbone("resnet18", str(tmp_path / "pair.pth"))


def test_resnet_pretrained_that_a_disk_has_changed_is_refused(original: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(original.state_dict(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth: not a file of tensors \(damaged: the check sum of 'w"):
        make_backbone("resnet18", str(path))


def test_resnet_pretrained_of_safetensors_that_promise_more_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    header = b'{"w":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(UserError, match=r"a\.safetensors: not a file of tensors"):
        make_backbone("resnet18", str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.long(), r"not a resnet18: at 'conv1\.weight' needed torch\.float32, found torch\.int64"),
        (lambda w: w.to(torch.complex64), r"needed torch\.float32, found torch\.complex64"),
        (lambda w: w / 0, r"spoilt: at 'conv1\.weight' needed finite numbers, found 9408 that are not"),
        (lambda w: None, r"needed a state dict, found NoneType at 'conv1\.weight'"),
    ],
)
def test_resnet_pretrained_of_other_numbers_is_refused(
    original: nn.Module, tmp_path: Path, change: Callable[[Tensor], Any], message: str
) -> None:
    state = original.state_dict()
    torch.save({**state, "conv1.weight": change(state["conv1.weight"])}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        make_backbone("resnet18", str(tmp_path / "a.pth"))


def test_resnet_pretrained_in_half_precision_and_with_averaged_counters_is_taken(
    original: nn.Module, tmp_path: Path
) -> None:
    torch.save({key: value.half() for key, value in original.state_dict().items()}, tmp_path / "a.pth")
    resnet = make_backbone("resnet18", str(tmp_path / "a.pth"))
    assert torch.equal(resnet.conv1.weight, original.conv1.weight.half().float())


def test_resnet_pretrained_of_a_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="needed a state dict, found dict at 'model'"):
        make_backbone("resnet18", str(tmp_path / "a.pth"))


def test_resnet_pretrained_names_what_is_left_out_on_one_line(
    original: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {f"net.{key}": value for key, value in original.state_dict().items()}
    others = {f"other{index:03d}.weight": torch.zeros(1) for index in range(100)} | {"a\nb.weight": torch.zeros(1)}
    torch.save(state | others, tmp_path / "a.pth")
    with caplog.at_level("INFO"):
        make_backbone("resnet18", str(tmp_path / "a.pth"))
    (line,) = caplog.messages
    assert "left out: 'a\\nb', fc, other000, " in line
    assert line.endswith("other017 and 82 more")


def test_mobilenet_pretrained_file_with_or_without_classifier(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    original = torchvision.models.mobilenet_v2()
    state = original.state_dict()
    features = {key: value for key, value in state.items() if key.startswith("features.")}
    for name, content, left_out in (
        ("whole", state, "classifier, features.18"),
        ("features", features, "features.18"),
        (
            "wrapped",
            {"state_dict": {f"module.{key}": value for key, value in state.items()}},
            "classifier, features.18",
        ),
    ):
        torch.save(content, tmp_path / f"{name}.pth")
        caplog.clear()
        with caplog.at_level("INFO"):
            backbone = make_backbone("mobilenet_v2", str(tmp_path / f"{name}.pth"))
        assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
        assert caplog.messages[0].endswith(f"{name}.pth: mobilenet_v2 is taken, left out: {left_out}")


def test_mobilenet_pretrained_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.mobilenet_v2().state_dict()
    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, "get_state_dict", lambda *_, **__: state)
    found = make_backbone("mobilenet_v2", "IMAGENET1K_V2").state_dict()
    assert torch.equal(found["features.17.conv.3.weight"], state["features.17.conv.3.weight"])
    with pytest.raises(ValueError, match=r"file or one of .*'IMAGENET1K_V1', 'IMAGENET1K_V2'\] for mobilenet_v2"):
        make_backbone("mobilenet_v2", "V1")


def test_pretrained_of_another_encoder_is_refused(original: nn.Module, weights_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a mobilenet_v2: at 'features\.0\.0\.weight' needed .*, found nothing"):
        make_backbone("mobilenet_v2", str(weights_file))
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "mobile.pth")
    with pytest.raises(UserError, match=r"not a resnet18: at 'conv1\.weight' needed \(64, 3, 7, 7\), found nothing"):
        make_backbone("resnet18", str(tmp_path / "mobile.pth"))
