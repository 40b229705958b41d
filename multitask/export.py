"""A checkpoint's network as one file that runs without this package: what ``scripts/export.py`` calls."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multitask.config.factories import Config
from multitask.config.trained import load_trained
from multitask.data.loader import normalize
from multitask.errors import UserError
from multitask.files import whole
from multitask.models.archive import first_line
from multitask.models.network import MultiTaskNetwork
from multitask.tasks.base import Task

INPUT = "images"
"""Name of the exported network's input."""

METADATA = "metadata.json"
"""Name of the metadata inside a file of `torch.export`."""

TOLERANCE = 1e-4
"""How far the file's predictions may be from the network's: absolute, or of the largest where that is above 1."""

_SMALLEST = {"onnx": 8, "torch": 9}  # px; torch.export takes a side of one feature for a constant
_OPSET = 18
_TRACED = 2, 3, 64, 96
_CHECKED = (1, 3, 37, 53), (3, 3, 80, 56)

Runner = Callable[[Tensor], Mapping[str, Tensor]]


class ExportedNetwork(nn.Module):
    """What is exported: normalisation, the network, and its upsampling to the size of the input.

    Args:
        network: on the CPU, in float32.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] uint8 RGB -> {task: [B, channels, H, W] float32}."""
        rows, columns = (torch.arange(length, device=images.device) for length in images.shape[-2:])
        # Not a slice, of which torch.export cannot show that it is never longer than what it is of.
        whole = self.network.uncropped(normalize(images))
        return {name: value.index_select(-2, rows).index_select(-1, columns) for name, value in whole.items()}


def export_checkpoint(source: str | None, format: str, output: str | None) -> dict[str, tuple[float, float]]:
    """Writes a checkpoint's network to a file and compares the file's predictions with the network's.

    The file appears only if it is right.

    Args:
        source: path of the checkpoint.
        format: ``onnx``, or ``torch`` for `torch.export`.
        output: path of the file, which must not exist.
    Returns:
        For each task the largest absolute difference, and the largest prediction where it was found, over two sizes
        and numbers of pictures that were not traced.
    Raises:
        UserError: naming the key or file.
    """
    path = _check(source, format, output)
    network, tasks, metadata = _load(str(source))
    with whole(path) as file:
        run = (_write_onnx if format == "onnx" else _write_torch)(network, tasks, metadata, Path(file.name))
        return _differences(network, run, path)


def _check(source: str | None, format: str, output: str | None) -> Path:
    if not source:
        raise UserError("checkpoint: needed the path of a checkpoint, e.g. runs/quickstart/seed0/checkpoints/last.pt")
    if format not in _SMALLEST:
        raise UserError(f"format: needed one of {list(_SMALLEST)}, found {format!r}")
    if not output:
        raise UserError("output: needed the path of the file to write, such as network.onnx, found none")
    if Path(output).exists():
        raise UserError(f"output={output}: needed a new file, found one that exists")
    for package in ("onnx", "onnxruntime") if format == "onnx" else ():
        if find_spec(package) is None:
            raise UserError(f"format=onnx: needs {package}: pip install -e '.[export]'")
    return Path(output)


def _load(source: str) -> tuple[ExportedNetwork, dict[str, Task], dict[str, Any]]:
    """The network of a checkpoint, ready to predict, its tasks, and what a user of it must know."""
    trained = load_trained(source)
    meanings = {name: {"channels": task.channels, "meaning": task.meaning} for name, task in trained.tasks.items()}
    metadata = {
        INPUT: "[B, 3, H, W] uint8 RGB, 0 to 255",
        "image_size": trained.config["data"]["image_size"],
        "tasks": meanings,
        "classes": list(trained.classes.names),
    }
    return ExportedNetwork(trained.network).eval(), trained.tasks, metadata


def _write_onnx(network: ExportedNetwork, tasks: Mapping[str, Task], metadata: Config, path: Path) -> Runner:
    import onnx
    import onnxruntime

    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        # Both of torch's exporters are exact here. The older one also works in torch 2.6, where the newer one fails,
        # and needs no onnxscript; it warns that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (_random_images(_TRACED),),
            str(path),
            input_names=[INPUT],
            output_names=list(tasks),
            dynamic_axes=dict.fromkeys([INPUT, *tasks], axes),
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = tasks[output.name].channels
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> dict[str, Tensor]:
        predictions = session.run(list(tasks), {INPUT: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(tasks, predictions, strict=True)}

    return run


def _write_torch(network: ExportedNetwork, _: Mapping[str, Task], metadata: Config, path: Path) -> Runner:
    batch = torch.export.Dim("batch")
    height, width = (torch.export.Dim(name, min=_SMALLEST["torch"]) for name in ("height", "width"))
    shapes = ({0: batch, 2: height, 3: width},)
    with torch.no_grad():
        network(_random_images(_TRACED))  # what fails here is no fault of torch's
    try:
        program = torch.export.export(network, (_random_images(_TRACED),), dynamic_shapes=shapes, strict=False)
        # Not into the file itself: where it cannot grow, torch's writer throws while it is torn down, which ends the
        # process.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
        path.write_bytes(content.getbuffer())
        with path.open("rb") as file:
            return torch.export.load(file).module()
    except OSError:
        raise
    except Exception as error:  # torch raises many kinds, and torch 2.6 cannot save this network
        raise UserError(
            f"format=torch: torch {torch.__version__} cannot export this network ({first_line(error)})"
        ) from error


def _differences(network: ExportedNetwork, run: Runner, path: Path) -> dict[str, tuple[float, float]]:
    found_at: dict[str, tuple[float, float]] = {}
    for shape in _CHECKED:
        images = _random_images(shape)
        with torch.no_grad():
            expected, found = network(images), run(images)
        for name, value in expected.items():
            largest = value.abs().max().item()
            allowed = TOLERANCE * max(1.0, largest)
            difference = (found[name] - value).abs().max().item()
            if not difference <= allowed:
                raise UserError(
                    f"output={path}: not written: {name} of {list(shape)} pictures differs from the network's by "
                    f"{difference:.2g}, needed at most {allowed:.2g}"
                )
            found_at[name] = max(found_at.get(name, (0.0, 0.0)), (difference, largest))
    return found_at


def _random_images(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
