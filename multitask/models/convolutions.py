"""Workaround for wrong gradients of grouped, dilated convolutions in bfloat16 on CPUs.

On processors with bfloat16, torch 2.14 computes garbage for the weights' gradient of grouped convolutions with dilation
in bfloat16 in channels-last memory format: uninitialised memory, which batch norm hides from the losses.
"""

import torch
from torch import Tensor, nn


class _InFloat32(nn.Module):
    """Mixin that `in_right_form` adds to a convolution: under the CPU's autocast it computes in float32."""

    def forward(self, features: Tensor) -> Tensor:
        """Applies the convolution; the result has the dtype of ``features``."""
        if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.float()).to(features.dtype)


def is_delicate(module: nn.Module) -> bool:
    """Whether a module is a convolution whose gradients may be wrong, that is, grouped and dilated."""
    return isinstance(module, nn.Conv2d) and module.groups > 1 and max(module.dilation) > 1


def in_right_form(module: nn.Module) -> None:
    """Makes the grouped and dilated convolutions in ``module`` compute in float32 under the CPU's autocast.

    Names and values of parameters are unchanged.
    """
    for part in module.modules():
        if is_delicate(part) and not isinstance(part, _InFloat32):
            kind = type(part)
            part.__class__ = type(f"{kind.__name__}InFloat32", (_InFloat32, kind), {})
