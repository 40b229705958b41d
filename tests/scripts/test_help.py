"""``--help``, which must not rot: every key that it names and every example is tried."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from multitask.runs.same_run import flatten
from tests.compose import ROOT, config
from tests.scripts.called import call

SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if not path.stem.startswith("_"))
GROUPS = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}


def called(script: str, *arguments: str) -> str:
    result = call(f"{script}.py", *arguments, cwd=ROOT)
    assert result.returncode == 0
    return result.stdout


@pytest.fixture(scope="module", params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shown(script: str) -> list[str]:
    """The lines of a script's help."""
    return called(script, "--help").splitlines()


def test_help_is_short(shown: list[str]) -> None:
    assert len(shown) <= 30
    assert max(map(len, shown)) <= 100
    assert shown[0].endswith(".")
    assert shown[1] == ""
    assert not any("Hydra" in line or "${" in line for line in shown)


def test_help_s_examples_compose_and_its_keys_exist(script: str, shown: list[str]) -> None:
    examples = [shlex.split(line)[2:] for line in shown if line.startswith(f"  python scripts/{script}.py")]
    assert len(examples) == 3
    composed = [config(*arguments, name=script) for arguments in ([], *examples)]
    named = set(re.findall(r"(?<![\w.])([a-z][\w.]*)=", "\n".join(shown)))
    assert named
    assert named - {key for found in composed for key in flatten(found)} - GROUPS == set()


@pytest.mark.slow
def test_help_as_a_user_asks_for_it_names_the_script_s_keys(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "  trainer.max_steps=" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_still_shows_the_configuration() -> None:
    shown = called("evaluate", "split=test", "--cfg", "job")
    assert "split: test" in shown
    assert "help" not in shown
