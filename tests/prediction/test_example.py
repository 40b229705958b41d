"""The documentation's example of predicting from Python, run as it stands there."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from tests.compose import ROOT
from tests.prediction.made import write_photo


def test_documented_example_runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/prediction.md").read_text(), re.DOTALL | re.MULTILINE)
    (example,) = [block for block in blocks if "multitask.load(" in block]
    (last,) = re.findall(r'multitask\.load\("(.*?)"', example)
    (picture,) = re.findall(r'\.predict\("(.*?)"', example)
    (tmp_path / last).parent.mkdir(parents=True)
    shutil.copy(trained, tmp_path / last)
    write_photo(tmp_path / picture, (60, 80))
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, "prediction.md", "exec"), found)
    assert printed.getvalue().startswith("(60, 80) ")
    assert {"predictor", "scene"} <= found.keys()
