import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from multitask import export
from multitask.config import factories as build
from multitask.data.loader import normalize
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.export import METADATA, export_checkpoint
from multitask.models.network import MultiTaskNetwork
from multitask.tasks.depth import Depth
from tests.cityscapes import CITYSCAPES, CLASS_NAMES
from tests.compose import IN_A_PROCESS, ROOT, SMALL, config
from tests.fulldisk import full_disk
from tests.states import state

SHAPES = [(3, 3, 37, 53), (1, 3, 9, 200)]
CHANNELS = {"semantic": 19, "instance": 2, "depth": 1}
OLD = torch.__version__.startswith("2.6.")
WHY = "torch 2.6 cannot export this network"
FORMATS = ["onnx", pytest.param("torch", marks=pytest.mark.skipif(OLD, reason=WHY))]


@pytest.fixture(scope="module")
def network() -> MultiTaskNetwork:
    """With statistics and scales as training leaves them: vectors of tens of px."""
    torch.manual_seed(0)
    found = config(*IN_A_PROCESS)
    network = build.make_model(found, build.make_tasks(found, CITYSCAPES))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    network.decoders["instance"].output.weight.data *= 100
    return network.eval()


@pytest.fixture(scope="module")
def saved(network: MultiTaskNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "last.pt"
    checkpoint.save(
        path, state(network=network.state_dict(), config=config(*IN_A_PROCESS), tasks=list(network.decoders))
    )
    return path


@pytest.fixture(scope="module")
def onnx_file(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "deep/network.onnx"
    differences = export_checkpoint(str(saved), "onnx", str(path))
    assert differences.keys() == CHANNELS.keys()
    assert differences["instance"][1] > 10
    assert all(0 <= difference <= 1e-4 * max(1, largest) for difference, largest in differences.values())
    return path


@pytest.fixture(scope="module")
def torch_file(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if OLD:
        pytest.skip(WHY)
    path = tmp_path_factory.mktemp("exported") / "network.pt2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "find_spec", lambda _: None)  # the extra is not needed
        export_checkpoint(str(saved), "torch", str(path))
    return path


def _pictures(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@torch.no_grad()
def _expected(network: MultiTaskNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
    return network(normalize(images))


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 8, 8)])
def test_onnx_file_predicts_what_the_network_does(
    network: MultiTaskNetwork, onnx_file: Path, shape: tuple[int, ...]
) -> None:
    images = _pictures(shape)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    found = dict(zip(CHANNELS, session.run(list(CHANNELS), {"images": images.numpy()}), strict=True))
    for name, value in _expected(network, images).items():
        assert found[name].dtype == np.float32
        assert found[name].shape == (shape[0], CHANNELS[name], *shape[2:])
        torch.testing.assert_close(torch.from_numpy(found[name]), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_torch_file_predicts_what_the_network_does(
    network: MultiTaskNetwork, torch_file: Path, shape: tuple[int, ...]
) -> None:
    images = _pictures(shape)
    found = torch.export.load(torch_file).module()(images)
    expected = _expected(network, images)
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_onnx_file_says_what_goes_in_and_comes_out(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 3, "height", "width"])
    assert {found.name: found.shape for found in session.get_outputs()} == {
        name: ["batch", channels, "height", "width"] for name, channels in CHANNELS.items()
    }


def test_both_files_hold_classes_units_and_size(onnx_file: Path, torch_file: Path) -> None:
    held = {prop.key: prop.value for prop in onnx.load(onnx_file).metadata_props}
    extra = {METADATA: ""}
    torch.export.load(torch_file, extra_files=extra)
    for metadata in (
        {key: value if key == "images" else json.loads(value) for key, value in held.items()},
        json.loads(extra[METADATA]),
    ):
        assert metadata["classes"] == list(CLASS_NAMES)
        assert metadata["image_size"] == [32, 64]
        assert {name: said["channels"] for name, said in metadata["tasks"].items()} == CHANNELS
        assert "disparity, px" in metadata["tasks"]["depth"]["meaning"]
        assert metadata["images"] == "[B, 3, H, W] uint8 RGB, 0 to 255"


def test_export_of_a_task_that_does_not_say_what_it_means(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Depth, "meaning")
    export_checkpoint(str(saved), "onnx", str(tmp_path / "network.onnx"))
    held = {prop.key: prop.value for prop in onnx.load(tmp_path / "network.onnx").metadata_props}
    assert json.loads(held["tasks"])["depth"] == {"channels": 1, "meaning": ""}


def test_export_leaves_one_file(onnx_file: Path, torch_file: Path) -> None:
    assert [path.name for path in onnx_file.parent.iterdir()] == ["network.onnx"]
    assert [path.name for path in torch_file.parent.iterdir()] == ["network.pt2"]


def test_documented_code_runs_an_exported_network_without_this_package(onnx_file: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/export.md").read_text(), re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if "onnxruntime" in block]
    (tmp_path / "network.onnx").write_bytes(onnx_file.read_bytes())
    code += "\nimport sys\nassert not {'torch', 'multitask', 'onnx'} & set(sys.modules)\n"
    code += "assert (classes.shape, vectors.shape) == ((1, 128, 256), (1, 2, 128, 256))\n"
    command = [sys.executable, "-I", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert any(name in result.stdout for name in CLASS_NAMES)


@pytest.mark.parametrize(
    ("format", "output", "message"),
    [
        ("coreml", "new", r"format: needed one of \['onnx', 'torch'\], found 'coreml'"),
        ("onnx", None, "output: needed the path of the file to write, such as network.onnx, found none"),
    ],
)
def test_export_of_what_makes_no_sense_is_refused(saved: Path, format: str, output: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_checkpoint(str(saved), format, output)


def test_export_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint: needed the path of a checkpoint"):
        export_checkpoint(None, "onnx", str(tmp_path / "network.onnx"))


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_export_over_a_file_is_refused(saved: Path, tmp_path: Path, format: str) -> None:
    path = tmp_path / "network"
    path.write_text("precious")
    with pytest.raises(ValueError, match=r"output=.*network: needed a new file, found one that exists"):
        export_checkpoint(str(saved), format, str(path))
    assert path.read_text() == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["network"]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_export_without_the_extra_says_how_to_install_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(ValueError, match=rf"^format=onnx: needs {package}: pip install -e '\.\[export\]'$"):
        export_checkpoint(str(saved), "onnx", str(tmp_path / "network.onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_export_that_differs_from_the_network_leaves_no_file(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    forward, calls = export.ExportedNetwork.forward, []

    def wrong_where_it_is_traced(self: export.ExportedNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(images.shape)
        predictions = forward(self, images)
        error = 0.01 if len(calls) == {"onnx": 1, "torch": 2}[format] else 0
        return {name: value + error * (name == "depth") for name, value in predictions.items()}

    monkeypatch.setattr(export.ExportedNetwork, "forward", wrong_where_it_is_traced)
    with pytest.raises(
        ValueError, match=r"not written: depth of \[1, 3, 37, 53\] pictures differs .* by 0\.01, needed"
    ):
        export_checkpoint(str(saved), format, str(tmp_path / "network"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_export_onto_a_full_disk_names_the_file_and_leaves_none(saved: Path, tmp_path: Path, format: str) -> None:
    with full_disk(10_000), pytest.raises(UserError, match=r"/network: could not be written \(File too large\)$"):
        export_checkpoint(str(saved), format, str(tmp_path / "network"))
    assert list(tmp_path.iterdir()) == []


def test_export_that_torch_cannot_do_is_one_line(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a symbol is in the way\nand more")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(
        ValueError, match=r"^format=torch: torch .* cannot export this network \(a symbol is in the way\)$"
    ):
        export_checkpoint(str(saved), "torch", str(tmp_path / "network.pt2"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "format"),
    [
        (("model=mobilenet_v2",), "onnx"),
        (("model=timm", "model.encoder=test_convnext"), "onnx"),  # torch.export cannot follow how it pads
        pytest.param(
            ("model=timm", "model.encoder=test_efficientnet"), "torch", marks=pytest.mark.skipif(OLD, reason=WHY)
        ),
    ],
)
def test_other_encoders_are_exported(tmp_path: Path, model: tuple[str, ...], format: str) -> None:
    if "model=timm" in model:
        pytest.importorskip("timm")
    found = config(*(given for given in SMALL if not given.startswith(("model=", "model.encoder="))), *model)
    assert found["model"]["encoder"] != "tiny"
    network = build.make_model(found, build.make_tasks(found, CITYSCAPES))
    path = tmp_path / "last.pt"
    checkpoint.save(path, state(network=network.state_dict(), config=found, tasks=list(network.decoders)))
    differences = export_checkpoint(str(path), format, str(tmp_path / "network"))
    assert differences.keys() == CHANNELS.keys()
