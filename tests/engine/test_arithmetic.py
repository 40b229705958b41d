import itertools

import pytest
import torch
from torch import nn

from multitask.engine import arithmetic
from multitask.engine.arithmetic import check_gradients, gradient_error
from multitask.engine.compute import Compute

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CPU = torch.device("cpu")


def _network(groups: int = 1, dilation: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3, groups=groups, dilation=dilation))


@pytest.mark.parametrize(("dtype", "channels_last"), list(itertools.product(DTYPES, (True, False))))
@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (1, 2), (16, 1), (16, 2)])
def test_gradient_of_each_convolution_is_right_here(
    dtype: torch.dtype, channels_last: bool, groups: int, dilation: int
) -> None:
    error = gradient_error(Compute(CPU, dtype, channels_last), groups, dilation)
    assert 0 <= error < {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.003}[dtype]


def test_check_draws_no_random_numbers() -> None:
    network, before = _network(4, 2), torch.get_rng_state()
    check_gradients(network, Compute(CPU, torch.float32, True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("error", [0.5, 1e29, float("inf"), float("nan")])
def test_check_of_a_wrong_gradient_names_version_and_remedy(monkeypatch: pytest.MonkeyPatch, error: float) -> None:
    monkeypatch.setattr(
        arithmetic, "gradient_error", lambda _, groups, dilation: error if groups > 1 and dilation > 1 else 0.0
    )
    compute = Compute(CPU, torch.bfloat16, True)
    check_gradients(nn.Sequential(_network(4, 1), _network(1, 2)), compute)
    message = (
        rf"trainer\.precision: torch {torch.__version__.replace('+', '.')} computes gradients of grouped dilated "
        r"convolutions wrongly in bfloat16 on cpu, off by .* of the largest; needed trainer\.precision=fp32"
    )
    with pytest.raises(ValueError, match=message):
        check_gradients(_network(4, 2), compute)
    with pytest.raises(ValueError, match=r"wrongly in float32 on cpu, .*; needed another version of torch"):
        check_gradients(_network(4, 2), Compute(CPU, torch.float32, True))


@pytest.mark.parametrize("factor", [1e29, float("nan"), 1.5])
def test_gradient_that_is_spoilt_is_seen(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    def spoil(conv: nn.Conv2d) -> None:
        conv.weight.register_hook(lambda gradient: gradient * factor)

    monkeypatch.setattr(arithmetic, "in_right_form", spoil)
    error = gradient_error(Compute(CPU, torch.float32, True), 16, 2)
    assert not error < 0.4
    with pytest.raises(ValueError, match=r"gradients of grouped dilated convolutions wrongly in float32"):
        check_gradients(_network(4, 2), Compute(CPU, torch.float32, True))
