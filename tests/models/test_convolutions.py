import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from multitask.models.backbones import make_backbone
from multitask.models.convolutions import in_right_form, is_delicate

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _delicate() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)


def test_delicate_is_what_is_grouped_and_dilated() -> None:
    assert is_delicate(_delicate())
    assert not is_delicate(nn.Conv2d(8, 8, 3, dilation=2))
    assert not is_delicate(nn.Conv2d(8, 8, 3, groups=8))
    assert not is_delicate(nn.BatchNorm2d(8))


def test_right_form_is_float32_under_autocast_alone() -> None:
    plain = _delicate()
    right = copy.deepcopy(plain)
    in_right_form(nn.Sequential(right))
    in_right_form(right)  # a second time changes nothing
    assert isinstance(right, nn.Conv2d)
    assert right.state_dict().keys() == plain.state_dict().keys()
    features = torch.randn(2, 8, 9, 11)
    assert torch.equal(right(features), plain(features))
    half = features.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = right(half)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, plain(half.float()).bfloat16())
    assert torch.equal(copy.deepcopy(right)(features), plain(features))


def _convolutions(network: nn.Module, images: Tensor) -> dict[tuple[object, ...], tuple[nn.Conv2d, Tensor]]:
    """One convolution of each kind in a network, and what goes into it."""
    found: dict[tuple[object, ...], tuple[nn.Conv2d, Tensor]] = {}

    def keep(module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        kind = (type(module), module.kernel_size, module.stride, module.dilation, module.groups > 1)
        found.setdefault(kind, (module, inputs[0].detach()))

    hooks = [m.register_forward_pre_hook(keep) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def _gradients(conv: nn.Conv2d, features: Tensor, towards: Tensor, dtype: torch.dtype) -> list[Tensor]:
    features = features.detach().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype in DTYPES[1:]):
        output = conv(features)
    gradients = torch.autograd.grad(output, [conv.weight, features], towards.to(output.dtype))
    return [gradient.double() for gradient in gradients]


@pytest.mark.parametrize(("dtype", "channels_last"), list(itertools.product(DTYPES, (True, False))))
@pytest.mark.parametrize(
    ("library", "name", "size"),
    [
        ("torchvision", "resnet10", (48, 160)),
        ("torchvision", "mobilenet_v2", (96, 320)),  # of whose features, 12 x 40, a library got gradients wrong
        ("timm", "test_convnext", (96, 320)),
        ("timm", "test_byobnet", (96, 320)),
    ],
)
def test_gradients_of_every_encoder_are_those_of_float64(
    library: str, name: str, size: tuple[int, int], dtype: torch.dtype, channels_last: bool
) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    allowed = {torch.float32: 1e-5, torch.bfloat16: 0.03, torch.float16: 0.004}[dtype]
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    backbone = make_backbone(name, library=library)
    # Each layer by itself: what one does to another's error is not wanted.
    for conv, features in _convolutions(backbone, torch.randn(1, 3, *size)).values():
        features = features / features.std()
        towards = torch.randn_like(conv(features))
        exact = _gradients(copy.deepcopy(conv).double(), features.double(), towards.double(), torch.float64)
        found = _gradients(
            conv.to(memory_format=memory_format), features.contiguous(memory_format=memory_format), towards, dtype
        )
        for ours, theirs in zip(found, exact, strict=True):
            assert (ours - theirs).abs().max() <= allowed * theirs.abs().max(), conv


def test_every_delicate_convolution_of_an_encoder_is_in_its_right_form() -> None:
    backbone = make_backbone("mobilenet_v2")
    delicate = [type(module).__name__ for module in backbone.modules() if is_delicate(module)]
    assert delicate == ["Conv2dInFloat32"] * 10
