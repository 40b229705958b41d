import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multitask.data.loader import normalize
from multitask.models.backbones import make_backbone
from multitask.models.from_timm import MEAN, STD, TimmEncoder

timm = pytest.importorskip("timm")

SMALL = ("test_convnext", "test_efficientnet", "test_byobnet", "test_resnet")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(32, 64), (33, 65), (17, 31), (40, 47)])
def test_timm_encoder_has_stride_eight_and_the_channels_it_says(name: str, size: tuple[int, int]) -> None:
    encoder = TimmEncoder(name).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, *size))
    assert features.shape == (1, encoder.channels, -(-size[0] // 8), -(-size[1] // 8))
    assert encoder.channels == {"test_resnet": 96, "test_byobnet": 256}.get(name, 64)


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet"])
def test_timm_encoder_computes_what_timm_does(name: str) -> None:
    encoder = TimmEncoder(name).eval()
    theirs = timm.create_model(name, features_only=True, output_stride=8).eval()
    theirs.load_state_dict(encoder.body.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(images * encoder.scale + encoder.shift)[-1]
        torch.testing.assert_close(encoder(images), expected)


def test_timm_encoder_of_other_statistics_gets_its_own_pictures() -> None:
    seen: list[Tensor] = []
    encoder = TimmEncoder("test_convnext").eval()
    encoder.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    encoder(normalize(pixels))
    torch.testing.assert_close(seen[0], pixels / 255 * 2 - 1)
    assert {"scale", "shift"} <= encoder.state_dict().keys()
    ours = TimmEncoder("test_efficientnet")
    assert torch.equal(ours.scale, torch.ones(3, 1, 1))
    assert not ours.shift.any()
    expected = (torch.tensor([[0.0], [1.0]]) - torch.tensor(MEAN)) / torch.tensor(STD)
    for value, normalised in zip((0, 255), expected, strict=True):
        found = normalize(torch.full((1, 3, 1, 1), value, dtype=torch.uint8))
        torch.testing.assert_close(found.flatten(), normalised)


def test_timm_encoder_keeps_every_buffer_in_its_state() -> None:
    encoder = TimmEncoder("resnetblur18" if timm.is_model("resnetblur18") else "resnetblur50")
    assert {name for name, _ in encoder.named_buffers()} <= encoder.state_dict().keys()
    assert any(name.endswith(".filt") for name in encoder.state_dict())


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_timm_pretrained_file_in_timms_names(
    name: str, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = timm.create_model(name).state_dict()
    torch.save({f"{prefix}{key}": value for key, value in whole.items()}, tmp_path / "a.pth")
    with caplog.at_level("INFO"):
        encoder = make_backbone(name, str(tmp_path / "a.pth"), library="timm")
    first, last = {
        "test_convnext": ("stem_0.weight", "stages_3.blocks.0.mlp.fc2.weight"),
        "test_efficientnet": ("conv_stem.weight", "blocks.4.0.conv_pwl.weight"),
    }[name]
    body = encoder.get_submodule("body").state_dict()
    assert torch.equal(body[first], whole[first.replace("stem_0", "stem.0")])
    assert last not in body or torch.equal(body[last], whole[last.replace("stages_3", "stages.3")])
    assert f"{name} is taken, left out: " in caplog.messages[0]


def test_timm_pretrained_tag_is_downloaded_with_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def created(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            asked.append(name)
        return create(name.partition(".")[0], **options)

    monkeypatch.setattr(timm, "create_model", created)
    encoder = TimmEncoder("test_convnext", "r160_in1k")
    assert asked == ["test_convnext.r160_in1k"]
    torch.testing.assert_close(encoder.scale.flatten(), torch.tensor(STD) / 0.5)

    def offline(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    message = r"model\.pretrained=r160_in1k: .*no route to host.*timm/test_convnext\.r160_in1k elsewhere"
    with pytest.raises(ValueError, match=message):
        TimmEncoder("test_convnext", "r160_in1k")


def test_timm_pretrained_unknown_tag_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"model\.pretrained=foo: .*existing file or one of .*'r160_in1k'.* for test"):
        TimmEncoder("test_convnext", "foo")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {}, r"not a test_convnext: at 'stem\.0\.weight' needed .*, found nothing"),
        (
            lambda state: {**state, "stages.9.w": torch.zeros(1)},
            r"at 'stages\.9\.w' needed nothing, found \(1,\)",
        ),
        (lambda state: {**state, "stem.0.weight": torch.zeros(1)}, r"at 'stem\.0\.weight' needed .*, found \(1,\)"),
        (lambda state: {**state, "stem.0.weight": state["stem.0.weight"] / 0}, "spoilt: at 'stem"),
    ],
)
def test_timm_pretrained_of_another_encoder_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(timm.create_model("test_convnext").state_dict()), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"model\.pretrained=.*a\.pth: .*{message}"):
        TimmEncoder("test_convnext", str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tyny", r"model\.encoder: .* such as convnext_tiny, .*, found 'convnext_tyny'"),
        (
            "convnext_tiny.in12k",
            r"model\.encoder: needed the name of one of timm's networks.* found 'convnext_tiny\.",
        ),
        ("vgg11", r"model\.encoder=vgg11: needed one that can have stride 8 \("),
        ("test_vit", r"model\.encoder=test_vit: needed one that can have stride 8 \(.*output_stride"),
    ],
)
def test_timm_encoder_that_will_not_do_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmEncoder(name)


def test_timm_encoder_of_another_stride_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **{**options, "output_stride": 16}))
    with pytest.raises(ValueError, match=r"model\.encoder=test_resnet: needed one that can have stride 8, found 16"):
        TimmEncoder("test_resnet")


def test_timm_encoder_without_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"model\.encoder=convnext_tiny: needs timm: pip install -e '\.\[timm\]'"):
        make_backbone("convnext_tiny", library="timm")


def test_timm_batch_norms_are_frozen_where_there_are_any() -> None:
    encoder = make_backbone("test_efficientnet", freeze_batch_norm=True, library="timm").train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    with pytest.raises(ValueError, match=r"freeze_batch_norm=true: needed false for test_convnext, which has no batch"):
        make_backbone("test_convnext", freeze_batch_norm=True, library="timm")
