"""Check of the gradients of convolutions on this machine, which is made once before training."""

import torch
from torch import nn
from torch.nn import functional

from multitask.engine.compute import Compute
from multitask.errors import UserError
from multitask.models.convolutions import in_right_form

_CHANNELS, _SIZE, _DILATION = 16, (16, 40), 2
"""Size of the convolutions that are checked: the smallest on which a faulty library was seen to fail every time."""

_ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.05}
"""Allowed error of the weights' gradient, relative to its largest value: at least ten times the rounding error."""


def check_gradients(network: nn.Module, compute: Compute) -> None:
    """Refuses to train where the gradient of one of the network's kinds of convolution differs from float64's.

    The states of the random generators are left unchanged.

    Args:
        network: the network to train.
        compute: device, precision and memory format of the run.
    Raises:
        UserError: naming the key, torch's version and what is wrong.
    """
    kinds = {(m.groups > 1, max(m.dilation) > 1) for m in network.modules() if isinstance(m, nn.Conv2d)}
    for grouped, dilated in sorted(kinds):
        error = gradient_error(compute, _CHANNELS if grouped else 1, _DILATION if dilated else 1)
        if not error <= _ALLOWED[compute.dtype]:
            what = " ".join(["grouped"] * grouped + ["dilated"] * dilated + ["convolutions"])
            needed = "another version of torch" if compute.dtype == torch.float32 else "trainer.precision=fp32"
            raise UserError(
                f"trainer.precision: torch {torch.__version__} computes gradients of {what} wrongly in {compute}, off "
                f"by {error:.2g} of the largest; needed {needed}"
            )


def gradient_error(compute: Compute, groups: int, dilation: int) -> float:
    """Returns the error of a convolution's weight gradient against float64, relative to its largest value.

    The convolution has the form that networks give theirs, see `in_right_form`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=dilation, dilation=dilation, groups=groups, bias=False)
        features, gradient = torch.randn(2, 1, _CHANNELS, *_SIZE)
    exact = conv.weight.detach().double().requires_grad_()
    right = functional.conv2d(features.double(), exact, padding=dilation, dilation=dilation, groups=groups)
    (expected,) = torch.autograd.grad(right, exact, gradient.double())
    in_right_form(conv)
    conv.to(compute.device).to(memory_format=compute.memory_format)
    with compute.autocast():
        output = conv(features.to(compute.device).contiguous(memory_format=compute.memory_format))
    (found,) = torch.autograd.grad(output, conv.weight, gradient.to(output))
    return ((found.cpu().double() - expected).abs().max() / expected.abs().max()).item()
