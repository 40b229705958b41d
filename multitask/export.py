"""Export of a checkpoint's network to one file that runs without this package; called by ``scripts/export.py``."""

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
from multitask.files import atomic_writer
from multitask.models.archive import first_line
from multitask.models.network import MultiTaskNetwork
from multitask.tasks.base import Task

INPUT = "images"
"""Name of the exported network's input."""

METADATA = "metadata.json"
"""Name of the metadata inside a file of `torch.export`."""

TOLERANCE = 1e-4
"""Largest allowed difference from the network's predictions: absolute, or relative to the largest if it exceeds 1."""

_SMALLEST = {"onnx": 8, "torch": 9}  # px; torch.export treats a side of one feature as a constant
_OPSET = 18  # of ONNX
_TRACED = 2, 3, 64, 96
_CHECKED = (1, 3, 37, 53), (3, 3, 80, 56)
"""Sizes [B, 3, H, W] of the batches by which the exported file is compared with the network, unlike `_TRACED`."""

Runner = Callable[[Tensor], Mapping[str, Tensor]]
"""Runs an exported file: [B, 3, H, W] uint8 images -> {task: predictions}."""


class ExportedNetwork(nn.Module):
    """The module that is exported: normalisation, the network, and upsampling to the size of the input.

    Args:
        network: on the CPU, in float32.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] uint8 RGB -> {task: [B, channels, H, W] float32}."""
        rows, columns = (torch.arange(length, device=images.device) for length in images.shape[-2:])
        # Not a slice: torch.export cannot prove that the slice is never longer than the tensor.
        uncropped = self.network.uncropped(normalize(images))
        return {name: value.index_select(-2, rows).index_select(-1, columns) for name, value in uncropped.items()}


def export_checkpoint(source: str | None, format: str, output: str | None) -> dict[str, tuple[float, float]]:
    """Writes a checkpoint's network to a file and compares the file's predictions with the network's.

    The file appears only if the predictions agree.

    Args:
        source: path of the checkpoint.
        format: ``onnx``, or ``torch`` for `torch.export`.
        output: path of the file, which must not exist.
    Returns:
        For each task the largest absolute difference, and the largest absolute prediction of the batch where it was
        found. Both are over two batches whose sizes differ from the traced one.
    Raises:
        UserError: naming the key or file.
    """
    path = _check(source, format, output)
    network, tasks, metadata = _load(str(source))
    with atomic_writer(path) as file:
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
    """Returns a checkpoint's network in evaluation mode, its tasks, and the metadata that a user of the file needs."""
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
        # and does not need onnxscript; it warns that it is deprecated.
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
        network(_random_images(_TRACED))  # an error here is not torch.export's fault
    try:
        program = torch.export.export(network, (_random_images(_TRACED),), dynamic_shapes=shapes, strict=False)
        # Not directly to the file: on a full disk torch's writer throws in its destructor, which aborts the process.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
        path.write_bytes(content.getbuffer())
        with path.open("rb") as file:
            return torch.export.load(file).module()
    except OSError:
        raise
    except Exception as error:  # torch raises many types, and torch 2.6 cannot save this network
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
