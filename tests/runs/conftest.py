"""One run of six steps, which most tests of runs need."""

import shutil
from pathlib import Path

import pytest

from multitask.runs.run import Run
from tests.compose import small


@pytest.fixture(scope="session")
def whole(shared_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `small` on `shared_tree`, which no test may change."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    Run(small(shared_tree, folder)).train()
    return folder


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return shutil.copytree(whole, tmp_path / "run")
