from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from multitask.models.encoder import ASPP, STRIDE, DilatedResNet, Encoder, conv_bn_relu


@pytest.fixture(scope="module")
def original() -> nn.Module:
    """torchvision's ResNet-18 with weights and statistics that differ from a new one's."""
    torch.manual_seed(3)
    resnet = torchvision.models.resnet18()
    for name, buffer in resnet.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return resnet.eval()


@pytest.fixture(scope="module")
def weights_file(original: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(original.state_dict(), path)
    return path


def _features(resnet: Any, images: Tensor) -> list[Tensor]:
    """After each of the first two stages, which are as torchvision has them."""
    first = resnet.layer1(resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images)))))
    return [first, resnet.layer2(first)]


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", (2, 2)), ("resnet50", (6, 3))])
def test_resnet_every_block_of_the_last_two_stages_is_dilated(name: str, blocks: tuple[int, int]) -> None:
    resnet = DilatedResNet(name)
    for stage, dilation, number in ((resnet.layer3, 2, blocks[0]), (resnet.layer4, 4, blocks[1])):
        assert isinstance(stage, nn.Sequential)
        assert len(stage) == number
        for block in stage:
            convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
            assert all(conv.stride == (1, 1) for conv in convolutions)
            dilated = [conv for conv in convolutions if conv.kernel_size == (3, 3)]
            assert len(dilated) == (2 if name == "resnet18" else 1)
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


def test_resnet_pretrained_file_gives_the_same_features(original: nn.Module, weights_file: Path) -> None:
    resnet = DilatedResNet("resnet18", str(weights_file)).eval()
    images = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        for ours, theirs in zip(_features(resnet, images), _features(original, images), strict=True):
            assert torch.equal(ours, theirs)
    for key, value in resnet.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])


def test_resnet_without_pretrained_is_random(original: nn.Module) -> None:
    first, second = DilatedResNet("resnet18"), DilatedResNet("resnet18")
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
    assert not torch.equal(first.conv1.weight, original.conv1.weight)


def test_resnet_pretrained_without_classifier_or_counters(original: nn.Module, tmp_path: Path) -> None:
    # As torchvision's own files have it, which are older than batch norm's counters.
    state = {
        key: value
        for key, value in original.state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith("fc.")
    }
    torch.save(state, tmp_path / "old.pth")
    resnet = DilatedResNet("resnet18", str(tmp_path / "old.pth"))
    assert torch.equal(resnet.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_resnet_pretrained_by_name_is_downloaded_and_checked(
    original: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def get_state_dict(self: Any, **options: Any) -> dict[str, Tensor]:
        asked.append((self.name, options))
        return original.state_dict()

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", get_state_dict)
    resnet = DilatedResNet("resnet18", "IMAGENET1K_V1")
    assert asked == [("IMAGENET1K_V1", {"progress": False, "check_hash": True})]
    assert torch.equal(resnet.conv1.weight, original.conv1.weight)


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_resnet_pretrained_download_impossible_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def get_state_dict(self: Any, **options: Any) -> dict[str, Tensor]:
        raise error

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(ValueError, match=r"model\.pretrained=IMAGENET1K_V1: .*https://.*resnet18.*file's path"):
        DilatedResNet("resnet18", "IMAGENET1K_V1")


def test_resnet_unknown_encoder_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"model\.encoder: .*resnet101.*found 'resnet34'"):
        DilatedResNet("resnet34")


@pytest.mark.parametrize("name", ["IMAGENET1K_V7", "no/such/file.pth", "."])
def test_resnet_pretrained_unknown_name_lists_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"model\.pretrained=.*existing file or one of .*IMAGENET1K_V1.* for resnet18"):
        DilatedResNet("resnet18", name)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 neither"])
def test_resnet_pretrained_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pretrained=.*broken\.pth: not a file of tensors"):
        DilatedResNet("resnet18", str(path))


def test_resnet_pretrained_truncated_file_is_named(weights_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(weights_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.pretrained=.*short\.pth: not a file of tensors"):
        DilatedResNet("resnet18", str(path))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (torch.zeros(3), "found Tensor"),
        ([torch.zeros(3)], "found list"),
        ({"step": 7, "network": {"conv1.weight": torch.zeros(1)}}, "found int at 'step'"),
        ({"state_dict": {"conv1.weight": torch.zeros(1)}}, "found dict at 'state_dict'"),
        ({0: torch.zeros(1)}, "at 0"),
    ],
)
def test_resnet_pretrained_of_another_kind_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"model\.pretrained=.*other\.pth: needed a state dict, .*{found}"):
        DilatedResNet("resnet18", str(tmp_path / "other.pth"))


def test_resnet_pretrained_of_another_architecture_names_the_place(weights_file: Path) -> None:
    with pytest.raises(ValueError, match=r"not a resnet50: at 'layer1.0.conv1.weight' needed \(64, 64, 1, 1\), found"):
        DilatedResNet("resnet50", str(weights_file))


@pytest.mark.parametrize("key", ["layer4.1.conv2.weight", "bn1.running_var"])
def test_resnet_pretrained_lacking_a_tensor_names_it(original: nn.Module, tmp_path: Path, key: str) -> None:
    state = {name: value for name, value in original.state_dict().items() if name != key}
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=rf"not a resnet18: at '{key}' needed .*, found nothing"):
        DilatedResNet("resnet18", str(tmp_path / "partial.pth"))


def test_resnet_pretrained_with_a_tensor_too_many_names_it(original: nn.Module, tmp_path: Path) -> None:
    torch.save({**original.state_dict(), "layer5.weight": torch.zeros(2)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"not a resnet18: at 'layer5.weight' needed nothing, found \(2,\)"):
        DilatedResNet("resnet18", str(tmp_path / "more.pth"))


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
