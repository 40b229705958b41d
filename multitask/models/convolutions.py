"""Convolutions in a form whose gradients are right.

On processors with bfloat16, torch 2.14 computes garbage for the weights' gradient of grouped convolutions with dilation
in bfloat16 where pictures lie in memory pixel by pixel: uninitialised memory, which batch norm hides from the losses.
"""

import torch
from torch import Tensor, nn


class _InFloat32(nn.Module):
    """What `in_right_form` makes of a convolution: under the CPU's autocast it computes in float32."""

    def forward(self, features: Tensor) -> Tensor:
        """As the convolution has it; the type of the result is that of ``features``."""
        if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.float()).to(features.dtype)


def is_delicate(module: nn.Module) -> bool:
    """Whether a module is a convolution whose gradients may be wrong: in groups and with dilation."""
    return isinstance(module, nn.Conv2d) and module.groups > 1 and max(module.dilation) > 1


def in_right_form(module: nn.Module) -> None:
    """Makes the grouped and dilated convolutions in ``module`` compute in float32 under the CPU's autocast.

    Names and values of parameters stay as they are.
    """
    for part in module.modules():
        if is_delicate(part) and not isinstance(part, _InFloat32):
            kind = type(part)
            part.__class__ = type(f"{kind.__name__}InFloat32", (_InFloat32, kind), {})
