"""The device, the precision and the memory format in which the network runs."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from multitask.data.loader import normalize
from multitask.errors import UserError

_CPUINFO = Path("/proc/cpuinfo")
"""Description of the processor, on Linux."""

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """The device, the autocast type and the memory format of a network.

    Attributes:
        device: cpu or cuda.
        dtype: type of the convolutions; losses, targets and log-variances are always float32.
        channels_last: whether tensors of images are stored in the channels-last format.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} on {self.device}"

    def autocast(self) -> AbstractContextManager[None]:
        """Returns a context in which convolutions run in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Returns a gradient scaler, which is enabled for float16 only."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    @property
    def memory_format(self) -> torch.memory_format:
        """The format of the network's parameters and inputs, as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def network_input(self, images: Tensor) -> Tensor:
        """Normalises [B, 3, H, W] uint8 images on the device: float32 in the memory format."""
        return normalize(images).contiguous(memory_format=self.memory_format)


def make_compute(device: str, precision: str, channels_last: bool, group: str = "trainer.") -> Compute:
    """Resolves ``auto``: CUDA if available, in bfloat16 or else float16; otherwise the CPU in its faster precision.

    Switches TF32 off in this process.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        channels_last: see `Compute`.
        group: prefix of the configuration keys in errors.
    Raises:
        UserError: naming the key, for an unknown value or a device that is not available.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"{group}device: needed auto, cpu or cuda, found {device!r}")
    if precision not in ("auto", *_PRECISIONS):
        raise UserError(f"{group}precision: needed one of {['auto', *_PRECISIONS]}, found {precision!r}")
    has_cuda = torch.cuda.is_available()
    # With TF32, float32 convolutions, among them the output layers, would have a mantissa of 10 bits only.
    torch.backends.cudnn.allow_tf32 = False
    if device == "cuda" and not has_cuda:
        raise UserError(f"{group}device=cuda: needed a CUDA device, found none")
    kind = ("cuda" if has_cuda else "cpu") if device == "auto" else device
    if precision == "auto":
        precision = _best_precision(kind)
    return Compute(torch.device(kind), _PRECISIONS[precision], channels_last)


def _best_precision(device: str) -> str:
    """Returns the precision that ``auto`` stands for on ``cpu`` or ``cuda``."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _older_capabilities()
    if capabilities.get("amx_bf16"):
        return "bf16"
    # The bfloat16 products of AVX-512 save more time than the conversions around them cost on AMD processors (measured
    # on an EPYC), but not on Intel's (a Xeon without AMX): there steps of ResNets, MobileNetV2 and ConvNeXt get slower.
    return "bf16" if capabilities.get("avx512_bf16") and not _is_intels() else "fp32"


def _older_capabilities() -> dict[str, bool]:
    """Returns the needed part of `torch.cpu.get_capabilities`, for torch releases that lack it."""
    return {
        "avx512_bf16": bool(torch.cpu._is_avx512_bf16_supported()),
        "amx_bf16": bool(torch.cpu._is_amx_tile_supported()),
    }


def _is_intels() -> bool:
    """Whether the processor is made by Intel."""
    with suppress(OSError):
        return "GenuineIntel" in _CPUINFO.read_text()
    return False
