import pytest
import torch
from torch import nn

from multitask.models.backbones import make_backbone
from multitask.models.encoder import ASPP, Encoder, conv_bn_relu


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


def test_encoder_is_the_backbone_then_the_pyramid() -> None:
    backbone = make_backbone("resnet18")
    encoder = Encoder(backbone, ASPP(backbone.channels, 4, [1, 2])).eval()
    images = torch.randn(1, 3, 20, 33)
    with torch.no_grad():
        features = encoder(images)
        assert torch.equal(features, encoder.aspp(encoder.backbone(images)))
    assert features.shape == (1, encoder.channels, 3, 5)
