from pathlib import Path
from typing import Any

import pytest
import torch

from multitask.comparison.starts import check_start, start_in_words
from multitask.engine import checkpoint
from multitask.errors import UserError
from tests.states import state


def of(pretrained: object) -> dict[str, Any]:
    return {"model": {"pretrained": pretrained}}


def saved(path: Path, **changes: Any) -> Path:
    checkpoint.save(path, state(**changes))
    return path


@pytest.mark.parametrize("name", [None, "IMAGENET1K_V1", "fb_in22k_ft_in1k"])
def test_start_of_a_name_is_the_name(name: str | None) -> None:
    assert start_in_words(of(name)) == {"model.pretrained": name}
    check_start(of(name))


def test_start_of_a_run_is_its_network_wherever_and_whenever_it_was_saved(tmp_path: Path) -> None:
    one = start_in_words(of(str(saved(tmp_path / "one.pt", seconds=1.0))))
    assert one["model.pretrained"]
    assert str(tmp_path) not in one["model.pretrained"]
    assert start_in_words(of(str(saved(tmp_path / "other.pt", seconds=2.0, score=0.5)))) == one
    for network in ({"w": torch.arange(4.0) + 1}, {"v": torch.arange(4.0)}):
        assert start_in_words(of(str(saved(tmp_path / "other.pt", network=network)))) != one, "also where it was before"


def test_start_of_another_file_is_its_contents(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.pth", "two.pth", "three.pth")]
    for path, value in zip(paths, (1.0, 1.0, 2.0), strict=True):
        torch.save({"conv.weight": torch.tensor(value)}, path)
    found = [start_in_words(of(str(path))) for path in paths]
    assert found[0]["model.pretrained"] != found[2]["model.pretrained"]


@pytest.mark.parametrize("path", ["nowhere.pt", "runs/nowhere"])
def test_start_that_is_not_there_is_refused_and_nothing_is_said_of_it(path: str) -> None:
    assert start_in_words(of(path)) == {}
    with pytest.raises(UserError, match=f"model.pretrained={path}: no such file"):
        check_start(of(path))
