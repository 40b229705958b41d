from typing import Any

import pytest
import torch
from torch import nn

from multitask.models.network import Decoder, MultiTaskNetwork, make_network

ARGUMENTS: dict[str, Any] = {
    "encoder": "resnet18",
    "pretrained": None,
    "aspp_channels": 8,
    "aspp_rates": [1, 2],
    "decoder_channels": 6,
    "decoder_kernel": 3,
}
CHANNELS = {"classes": 5, "vectors": 2}


def _network(**changes: Any) -> MultiTaskNetwork:
    return make_network(CHANNELS, **{**ARGUMENTS, **changes})


@pytest.fixture(scope="module")
def network() -> MultiTaskNetwork:
    """In evaluation mode; not to be changed."""
    torch.manual_seed(0)
    return _network().eval()


@pytest.mark.parametrize("size", [(32, 64), (33, 47), (8, 8)])
@torch.no_grad()
def test_network_predicts_every_task_at_the_size_of_the_input(network: MultiTaskNetwork, size: tuple[int, int]) -> None:
    predictions = network(torch.randn(2, 3, *size))
    assert {name: prediction.shape for name, prediction in predictions.items()} == {
        "classes": (2, 5, *size),
        "vectors": (2, 2, *size),
    }


def test_network_decoders_are_independent() -> None:
    network = _network().train()
    network(torch.randn(2, 3, 24, 32))["vectors"].square().sum().backward()
    own, other, shared = (
        [parameter.grad for parameter in module.parameters()]
        for module in (network.decoders["vectors"], network.decoders["classes"], network.encoder)
    )
    assert all(gradient is not None and gradient.any() for gradient in own)
    assert all(gradient is None or not gradient.any() for gradient in other)
    assert all(gradient is not None and gradient.any() for gradient in shared)


def test_network_decoders_share_no_parameter(network: MultiTaskNetwork) -> None:
    first, second = ({id(p) for p in decoder.parameters()} for decoder in network.decoders.values())
    assert not first & second
    assert not torch.equal(network.decoders["classes"].hidden[0].weight, network.decoders["vectors"].hidden[0].weight)


@torch.no_grad()
def test_network_predictions_are_float32_under_autocast(network: MultiTaskNetwork) -> None:
    images = torch.randn(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        predictions = network(images)
        features = network.encoder(images)
    assert features.dtype == torch.bfloat16
    assert all(prediction.dtype == torch.float32 for prediction in predictions.values())


@torch.no_grad()
def test_decoder_says_large_distances_exactly_under_autocast() -> None:
    decoder = Decoder(4, 3, 2, 3).eval()
    nn.init.zeros_(decoder.output.weight)
    assert decoder.output.bias is not None
    decoder.output.bias.copy_(torch.tensor([100.3, -77.7]))
    with torch.autocast("cpu", torch.bfloat16):
        output = decoder(torch.randn(1, 4, 2, 3))
    torch.testing.assert_close(output[0, :, 3, 5], torch.tensor([100.3, -77.7]), atol=1e-4, rtol=0)


def test_network_trains_under_autocast() -> None:
    network = _network().train()
    with torch.autocast("cpu", torch.bfloat16):
        predictions = network(torch.randn(2, 3, 16, 16))
    sum(prediction.square().mean() for prediction in predictions.values()).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())
    assert all(p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
def test_network_one_frame_in_evaluation_mode_is_as_in_a_batch(network: MultiTaskNetwork) -> None:
    images = torch.randn(3, 3, 16, 24)
    together, alone = network(images), network(images[1:2])
    for name in CHANNELS:
        torch.testing.assert_close(alone[name], together[name][1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_decoder_layers_follow_the_paper(kernel: int) -> None:
    decoder = _network(decoder_kernel=kernel).decoders["classes"]
    hidden = decoder.hidden[0]
    assert hidden.kernel_size == (kernel, kernel)
    assert hidden.weight.shape[:2] == (6, 8 * 4)
    assert decoder.output.weight.shape == (5, 6, 1, 1)
    assert decoder.output.bias is not None


@torch.no_grad()
def test_decoder_upsamples_bilinearly() -> None:
    decoder = Decoder(1, 1, 1, 1).eval()
    for weight, value in ((decoder.hidden[0].weight, 1.0), (decoder.output.weight, 1.0), (decoder.output.bias, 0.0)):
        weight.fill_(value)
    row = decoder(torch.tensor([0.0, 8.0]).view(1, 1, 1, 2))[0, 0, 0]
    # Half a cell at each end is constant, and between the two centres one step is a unit.
    expected = torch.tensor([0.0] * 4 + [0.5 + i for i in range(8)] + [8.0] * 4)
    torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_network_keeps_features_where_they_are_whatever_the_size(network: MultiTaskNetwork) -> None:
    features = network.encoder(torch.randn(1, 3, 24, 40))
    for decoder in network.decoders.values():
        assert decoder(features).shape[-2:] == (24, 40)
    for height, width in ((24, 33), (17, 40), (19, 39), (23, 34), (24, 40)):
        images = torch.randn(1, 3, height, width)
        whole = {name: decoder(network.encoder(images)) for name, decoder in network.decoders.items()}
        for name, prediction in network(images).items():
            assert torch.equal(prediction, whole[name][..., :height, :width])


def test_network_of_one_task() -> None:
    network = make_network({"lonely": 3}, **ARGUMENTS).eval()
    assert network(torch.randn(1, 3, 8, 8)).keys() == {"lonely"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "vgg16"}, r"model\.encoder: .*found 'vgg16'"),
        ({"pretrained": "IMAGENET"}, r"model\.pretrained=IMAGENET: "),
        ({"aspp_channels": 0}, r"model\.aspp_channels: .*found 0"),
        ({"decoder_channels": -3}, r"model\.decoder_channels: .*found -3"),
        ({"decoder_kernel": 2}, r"model\.decoder_kernel: .*odd.*found 2"),
        ({"decoder_kernel": 0}, r"model\.decoder_kernel: .*found 0"),
        ({"decoder_kernel": -1}, r"model\.decoder_kernel: .*found -1"),
        ({"aspp_rates": [12, 0]}, r"model\.aspp_rates: .*found \[12, 0\]"),
        ({"aspp_rates": [-6]}, r"model\.aspp_rates: .*found \[-6\]"),
        ({"aspp_rates": [10**9]}, r"model\.aspp_rates: .*up to 1023, found \[1000000000\]"),
        ({"aspp_rates": [1] * 20_000}, r"model\.aspp_rates: needed at most 64 .*found \[1, 1, .*\.\.\.\]$"),
        ({"aspp_channels": 10**9}, r"model\.aspp_channels: needed a number from 1 to 8192, found 1000000000"),
        ({"decoder_channels": 10**9}, r"model\.decoder_channels: needed .*found 1000000000"),
        ({"decoder_kernel": 10**9 + 1}, r"model\.decoder_kernel: needed a positive odd number up to 1023, found"),
    ],
)
def test_make_network_refuses_what_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _network(**changes)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a\nb", "../a"])
def test_make_network_refuses_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="tasks: needed names of letters, digits, - and _, found"):
        make_network({name: 1}, **ARGUMENTS)


@pytest.mark.parametrize("name", ["keys", "forward", "values"])
def test_make_network_refuses_names_that_torch_has_itself(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"tasks: needed another name than '{name}', which is an attribute of torch's ModuleDict"
    ):
        make_network({name: 1}, **ARGUMENTS)
