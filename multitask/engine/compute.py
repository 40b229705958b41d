"""Where and in which arithmetic the network runs."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from multitask.data.loader import normalize
from multitask.errors import UserError

_CPUINFO = Path("/proc/cpuinfo")

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Device, type of the autocast and memory format.

    Attributes:
        device: cpu or cuda.
        dtype: of the convolutions; losses, targets and log-variances are float32 in any case.
        channels_last: whether pictures lie in memory pixel by pixel.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} on {self.device}"

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which convolutions run in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only float16 needs; otherwise it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def network_input(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 on the device -> normalised float32 in the memory format."""
        return normalize(images).contiguous(memory_format=self.memory_format)


def make_compute(device: str, precision: str, channels_last: bool, group: str = "trainer.") -> Compute:
    """Resolves ``auto``: CUDA if there is one, in bfloat16 or else float16; a CPU in what is faster there.

    It switches TF32 off in this process. ``group`` is what the keys' names begin with, for errors.

    Raises:
        UserError: naming the key, for an unknown value or a device that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"{group}device: needed auto, cpu or cuda, found {device!r}")
    if precision not in ("auto", *_PRECISIONS):
        raise UserError(f"{group}precision: needed one of {['auto', *_PRECISIONS]}, found {precision!r}")
    has_cuda = torch.cuda.is_available()
    # Else float32 convolutions would have the 10 bit mantissa of TF32, those of the last layers among them.
    torch.backends.cudnn.allow_tf32 = False
    if device == "cuda" and not has_cuda:
        raise UserError(f"{group}device=cuda: needed a CUDA device, found none")
    kind = ("cuda" if has_cuda else "cpu") if device == "auto" else device
    if precision == "auto":
        precision = _best_precision(kind)
    return Compute(torch.device(kind), _PRECISIONS[precision], channels_last)


def _best_precision(device: str) -> str:
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _older_capabilities()
    if capabilities.get("amx_bf16"):
        return "bf16"
    # AVX-512's products of bfloat16 gain more than the conversions around them cost on AMD's processors (an EPYC), but
    # not on Intel's (a Xeon without AMX): there steps of ResNets, MobileNetV2 and ConvNeXt take longer.
    return "bf16" if capabilities.get("avx512_bf16") and not _is_intels() else "fp32"


def _older_capabilities() -> dict[str, bool]:
    """What `torch.cpu.get_capabilities` says, from torch releases that lack it."""
    return {
        "avx512_bf16": bool(torch.cpu._is_avx512_bf16_supported()),
        "amx_bf16": bool(torch.cpu._is_amx_tile_supported()),
    }


def _is_intels() -> bool:
    """Whether the processor is one of Intel's."""
    with suppress(OSError):
        return "GenuineIntel" in _CPUINFO.read_text()
    return False
