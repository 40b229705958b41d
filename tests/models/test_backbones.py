import pytest
import torch
import torchvision
from torch import nn

from multitask.models.backbones import make_backbone
from multitask.models.encoder import ASPP, Encoder
from multitask.models.stride import STRIDE


@pytest.mark.parametrize(("name", "blocks"), [("resnet10", (1, 1)), ("resnet18", (2, 2)), ("resnet50", (6, 3))])
def test_resnet_every_block_of_the_last_two_stages_is_dilated(name: str, blocks: tuple[int, int]) -> None:
    resnet = make_backbone(name)
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
    resnet = make_backbone(name)
    modules = [*resnet.layer1.modules(), *resnet.layer2.modules(), resnet.conv1]
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert all(conv.dilation == (1, 1) for conv in convolutions)
    assert resnet.layer2[0].downsample[0].stride == (2, 2)


@pytest.mark.parametrize("size", [(32, 64), (33, 65), (17, 31), (40, 47), (8, 9)])
def test_resnet_output_stride_is_eight(size: tuple[int, int]) -> None:
    resnet = make_backbone("resnet18").eval()
    with torch.no_grad():
        features = resnet(torch.randn(1, 3, *size))
    assert features.shape == (1, resnet.channels, -(-size[0] // 8), -(-size[1] // 8))
    assert STRIDE == 8


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048)])
def test_resnet_parameters_are_those_of_torchvision(name: str, channels: int) -> None:
    with torch.device("meta"):
        resnet, theirs = make_backbone(name), torchvision.models.get_model(name)
    shapes = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in resnet.state_dict().items()} == shapes
    assert resnet.channels == channels


def test_resnet10_is_a_resnet18_of_first_blocks() -> None:
    with torch.device("meta"):
        small, large = make_backbone("resnet10"), make_backbone("resnet18")
    first = {key: value.shape for key, value in large.state_dict().items() if ".1." not in key[:9]}
    assert {key: value.shape for key, value in small.state_dict().items()} == first
    assert small.channels == large.channels


def test_resnet_unknown_encoder_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"model\.encoder: .*mobilenet_v2.*resnet101.*timm.*found 'resnet34'"):
        make_backbone("resnet34")


def test_resnet_frozen_batch_norm_stays_as_it_is_in_training() -> None:
    resnet = make_backbone("resnet18", freeze_batch_norm=True)
    norms = [module for module in resnet.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = resnet.eval()(images)
    features = Encoder(resnet, ASPP(resnet.channels, 4, [1])).train().backbone(images)  # as a part of something larger
    assert resnet.training
    assert not any(norm.training for norm in norms)
    torch.testing.assert_close(features, expected)
    features.sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in resnet.state_dict().items())
    assert all(parameter.grad is None for norm in norms for parameter in norm.parameters())
    assert resnet.conv1.weight.grad is not None


def test_resnet_batch_norm_that_is_free_learns() -> None:
    resnet = make_backbone("resnet18").train()
    resnet(torch.randn(2, 3, 32, 32)).sum().backward()
    assert resnet.bn1.num_batches_tracked == 1
    assert resnet.bn1.weight.grad is not None


def test_mobilenet_computes_every_fourth_feature_of_torchvisions() -> None:
    backbone, original = make_backbone("mobilenet_v2").eval(), torchvision.models.mobilenet_v2().eval()
    state = backbone.state_dict()
    assert not original.load_state_dict(state, strict=False).unexpected_keys
    for size in ((64, 96), (37, 71)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            features, expected = backbone(images), original.features[:-1](images)
        assert features.shape == (1, 320, -(-size[0] // 8), -(-size[1] // 8))
        torch.testing.assert_close(features[..., ::4, ::4], expected)


def test_mobilenet_parameters_are_those_of_torchvision_but_the_last_layers() -> None:
    with torch.device("meta"):
        backbone, original = make_backbone("mobilenet_v2"), torchvision.models.mobilenet_v2()
    shapes = {key: value.shape for key, value in original.state_dict().items()}
    left_out = [key for key in shapes if key.startswith(("features.18.", "classifier."))]
    assert {key: value.shape for key, value in backbone.state_dict().items()} == {
        key: shape for key, shape in shapes.items() if key not in left_out
    }


def test_mobilenet_last_stages_are_dilated() -> None:
    backbone = make_backbone("mobilenet_v2")
    depthwise = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)][1:]
    assert [conv.dilation[0] for conv in depthwise] == [1] * 7 + [2] * 7 + [4] * 3
    assert all(conv.padding == conv.dilation for conv in depthwise)
    assert [place for place, conv in enumerate(depthwise) if conv.stride == (2, 2)] == [1, 3]


def test_mobilenet_frozen_batch_norm_stays_as_it_is_in_training() -> None:
    backbone = make_backbone("mobilenet_v2", freeze_batch_norm=True).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_backbone_unknown_library_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"model\.library: needed one of \['torchvision', 'timm'\], found 'jax'"):
        make_backbone("resnet18", library="jax")
