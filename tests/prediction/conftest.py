"""A trained network of a second, which all tests of predictions share."""

from pathlib import Path

import pytest

from multitask.prediction import Predictor, load
from multitask.runs.run import LAST, Run
from tests.compose import small


@pytest.fixture(scope="session")
def trained(shared_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of all tasks, trained at 32 x 64 px."""
    folder = tmp_path_factory.mktemp("prediction") / "run"
    Run(small(shared_tree, folder)).train()
    return folder / LAST


@pytest.fixture(scope="session")
def predictor(trained: Path) -> Predictor:
    return load(trained, device="cpu", precision="fp32")
