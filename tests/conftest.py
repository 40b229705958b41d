"""Fixtures that several parts of the tests use."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.trees import write_tree


def pytest_configure() -> None:
    """Takes SIGINT and SIGHUP back: what runs in the background or under nohup ignores them, and tests send them."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _tiny_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny.make_known(monkeypatch)
        yield


@pytest.fixture(scope="session")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 6 + 3 frames of 32 x 64 px with all kinds of labels, which no test may change."""
    return write_tree(tmp_path_factory.mktemp("tree"), {"train": 6, "val": 3})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A data set of 3 + 2 frames of 32 x 64 px, to damage."""
    return write_tree(tmp_path / "tree", {"train": 3, "val": 2})
