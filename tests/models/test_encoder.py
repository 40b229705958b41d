import pytest
import torch
import torchvision
from torch import nn

from multitask.models.encoder import ASPP, STRIDE, DilatedResNet, Encoder, conv_bn_relu


@pytest.mark.parametrize(("name", "blocks"), [("resnet10", (1, 1)), ("resnet18", (2, 2)), ("resnet50", (6, 3))])
def test_resnet_every_block_of_the_last_two_stages_is_dilated(name: str, blocks: tuple[int, int]) -> None:
    resnet = DilatedResNet(name)
    for stage, dilation, number in ((resnet.layer3, 2, blocks[0]), (resnet.layer4, 4, blocks[1])):
        assert isinstance(stage, nn.Sequential)
        assert len(stage) == number
        for block in stage:
            convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
            assert all(conv.stride == (1, 1) for conv in convolutions)
            dilated = [conv for conv in convolutions if conv.kernel_size == (3, 3)]
            assert len(dilated) == (1 if name == "resnet50" else 2)
            assert all(conv.dilation == conv.padding == (dilation, dilation) for conv in dilated)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_first_stages_are_not_dilated(name: str) -> None:
    resnet = DilatedResNet(name)
    modules = [*resnet.layer1.modules(), *resnet.layer2.modules(), resnet.conv1]
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert all(conv.dilation == (1, 1) for conv in convolutions)
    assert resnet.layer2[0].downsample[0].stride == (2, 2)


@pytest.mark.parametrize("size", [(32, 64), (33, 65), (17, 31), (40, 47), (8, 9)])
def test_resnet_output_stride_is_eight(size: tuple[int, int]) -> None:
    resnet = DilatedResNet("resnet18").eval()
    with torch.no_grad():
        features = resnet(torch.randn(1, 3, *size))
    assert features.shape == (1, resnet.channels, -(-size[0] // 8), -(-size[1] // 8))
    assert STRIDE == 8


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048)])
def test_resnet_parameters_are_those_of_torchvision(name: str, channels: int) -> None:
    with torch.device("meta"):
        resnet, theirs = DilatedResNet(name), torchvision.models.get_model(name)
    shapes = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in resnet.state_dict().items()} == shapes
    assert resnet.channels == channels


def test_resnet10_is_a_resnet18_of_first_blocks() -> None:
    with torch.device("meta"):
        small, large = DilatedResNet("resnet10"), DilatedResNet("resnet18")
    first = {key: value.shape for key, value in large.state_dict().items() if ".1." not in key[:9]}
    assert {key: value.shape for key, value in small.state_dict().items()} == first
    assert small.channels == large.channels


def test_resnet_unknown_encoder_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"model\.encoder: .*resnet101.*found 'resnet34'"):
        DilatedResNet("resnet34")


def test_resnet_frozen_batch_norm_stays_as_it_is_in_training() -> None:
    resnet = DilatedResNet("resnet18", freeze_batch_norm=True)
    norms = [module for module in resnet.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = resnet.eval()(images)
    features = Encoder(resnet, ASPP(resnet.channels, 4, [1])).train().resnet(images)  # as a part of something larger
    assert resnet.training
    assert not any(norm.training for norm in norms)
    torch.testing.assert_close(features, expected)
    features.sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in resnet.state_dict().items())
    assert all(parameter.grad is None for norm in norms for parameter in norm.parameters())
    assert resnet.conv1.weight.grad is not None


def test_resnet_batch_norm_that_is_free_learns() -> None:
    resnet = DilatedResNet("resnet18").train()
    resnet(torch.randn(2, 3, 32, 32)).sum().backward()
    assert resnet.bn1.num_batches_tracked == 1
    assert resnet.bn1.weight.grad is not None


@pytest.mark.parametrize("rates", [[], [2], [12, 24, 36], [1, 2, 3, 4]])
def test_aspp_concatenates_every_branch(rates: list[int]) -> None:
    aspp = ASPP(6, 5, rates).eval()
    features = aspp(torch.randn(2, 6, 4, 7))
    assert features.shape == (2, 5 * (len(rates) + 2), 4, 7)
    assert aspp.channels == 5 * (len(rates) + 2)


def test_aspp_of_the_paper_shares_1280_channels() -> None:
    with torch.device("meta"):
        assert ASPP(2048, 256, [12, 24, 36]).channels == 1280


def test_aspp_branches_see_what_their_dilation_says() -> None:
    rates = [1, 2, 4]
    aspp = ASPP(3, 2, rates).eval()
    for module in aspp.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.1)
    features = torch.rand(1, 3, 11, 13, requires_grad=True)
    output = aspp(features)
    row, column = 5, 6
    for branch, rate in enumerate([0, *rates]):
        (gradient,) = torch.autograd.grad(output[0, 2 * branch, row, column], features, retain_graph=True)
        seen = {(int(y), int(x)) for y, x in gradient[0].abs().sum(0).nonzero()}
        steps = (-rate, 0, rate)
        assert seen == {(row + dy, column + dx) for dy in steps for dx in steps}
    (gradient,) = torch.autograd.grad(output[0, -1, row, column], features)
    # The mean over the picture sees every pixel alike.
    assert gradient.min() > 0
    torch.testing.assert_close(gradient, gradient[0, 0, 0, 0].expand_as(gradient))


def test_aspp_pool_is_the_same_everywhere() -> None:
    output = ASPP(3, 4, [2]).eval()(torch.randn(2, 3, 5, 6))
    pooled = output[:, -4:]
    assert torch.equal(pooled, pooled[..., :1, :1].expand_as(pooled))
    assert pooled.any()


def test_aspp_pool_works_for_one_frame_in_evaluation_mode() -> None:
    aspp = ASPP(3, 4, [2]).eval()
    features = torch.randn(3, 3, 5, 6)
    torch.testing.assert_close(aspp(features[:1]), aspp(features)[:1])


def test_aspp_ends_every_branch_in_batch_norm_and_relu() -> None:
    aspp = ASPP(3, 4, [2, 3])
    assert (aspp(torch.randn(4, 3, 6, 6)) >= 0).all()
    for branch in [*aspp.branches, aspp.pool]:
        assert isinstance(branch, nn.Sequential)
        assert [type(module) for module in branch] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 12), (5, 2)])
def test_conv_bn_relu_keeps_the_size(kernel: int, dilation: int) -> None:
    assert conv_bn_relu(3, 7, kernel, dilation).eval()(torch.randn(1, 3, 9, 5)).shape == (1, 7, 9, 5)


def test_encoder_is_the_resnet_then_the_pyramid() -> None:
    resnet = DilatedResNet("resnet18")
    encoder = Encoder(resnet, ASPP(resnet.channels, 4, [1, 2])).eval()
    images = torch.randn(1, 3, 20, 33)
    with torch.no_grad():
        features = encoder(images)
        assert torch.equal(features, encoder.aspp(encoder.resnet(images)))
    assert features.shape == (1, encoder.channels, 3, 5)
