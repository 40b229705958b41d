"""Miniatures of what the ready descriptions describe."""

from pathlib import Path

import pytest

from tests.described import WRITERS, Miniature, Write


@pytest.fixture(scope="module", params=list(WRITERS))
def miniature(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """One of each kind, which no test may change."""
    return WRITERS[request.param](tmp_path_factory.mktemp("ready") / request.param)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a miniature to damage."""
    return lambda name: WRITERS[name](tmp_path / name)
