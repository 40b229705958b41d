from pathlib import Path

import pytest
import torch

from multitask.engine import compute
from multitask.engine.compute import make_compute


def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(compute, "_CPUINFO", tmp_path / "cpuinfo")
    for maker, capabilities, dtype in (
        ("GenuineIntel", {}, torch.float32),
        ("GenuineIntel", {"avx512_bf16": True}, torch.float32),
        ("GenuineIntel", {"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ("GenuineIntel", {"amx_bf16": True}, torch.bfloat16),
        ("AuthenticAMD", {"avx512_bf16": True}, torch.bfloat16),
        (None, {"avx512_bf16": True}, torch.bfloat16),
        ("AuthenticAMD", {"avx512_f": True}, torch.float32),
    ):
        (tmp_path / "cpuinfo").unlink(missing_ok=True)
        if maker:
            (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {maker}\n")
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        chosen = make_compute("auto", "auto", True)
        assert (chosen.device.type, chosen.dtype) == ("cpu", dtype)


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert make_compute("auto", "auto", True).device.type == "cuda"
    assert make_compute("auto", "auto", True).dtype == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert make_compute("cuda", "auto", True).dtype == torch.bfloat16
    assert make_compute("cpu", "fp32", True).device.type == "cpu"


def test_older_torch_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(compute, "_older_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_compute("cpu", "auto", True).dtype == torch.bfloat16


def test_cuda_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"trainer\.device=cuda: needed a CUDA device, found none"):
        make_compute("cuda", "auto", True)


def test_float32_is_not_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    make_compute("cpu", "fp32", True)
    assert not torch.backends.cudnn.allow_tf32


def test_only_float16_scales_its_loss() -> None:
    assert [make_compute("cpu", name, True).scaler().is_enabled() for name in ("fp32", "bf16", "fp16")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("channels_last", "stride"), [(True, (192, 1, 24, 3)), (False, (192, 64, 8, 1))])
def test_network_input_lies_in_the_memory_format(channels_last: bool, stride: tuple[int, ...]) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert make_compute("cpu", "fp32", channels_last).network_input(images).stride() == stride
