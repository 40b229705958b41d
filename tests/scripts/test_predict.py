"""The command that predicts one's own pictures, as a user types it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from multitask.data.layout import read_png
from multitask.run import LAST, Run
from tests.compose import small
from tests.prediction.made import write_photo
from tests.scripts.called import call
from tests.scripts.test_scripts import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint_path(shared_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    Run(small(shared_tree, folder / "run")).train()
    return folder / "run" / LAST


def test_predict_py_writes_panels_and_results(checkpoint_path: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "my photos/one.jpg", (60, 80))
    write_photo(tmp_path / "my photos/trip/two.png", (30, 40))
    given = [f"checkpoint={checkpoint_path}", "input=my photos", "output_dir=out/predictions"]
    result = run("predict.py", *given, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "2 pictures predicted\nwritten to out/predictions\n"
    assert "2/2 pictures" in result.stderr
    with Image.open(tmp_path / "out/predictions/trip/two_panel.png") as panel:
        assert panel.width > 600
    assert read_png(tmp_path / "out/predictions/one_instance_ids.png", "instance_ids").shape == (60, 80)
    lines = (tmp_path / "out/predictions/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["one", "trip/two"]
    again = call("predict.py", *given, cwd=tmp_path)
    assert again.returncode == 2
    assert "error: output_dir=out/predictions: needed a new or empty folder, found one_class_ids.png, " in again.stderr


def test_predict_py_with_a_pattern_names_what_it_could_not_read(checkpoint_path: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("a picture")
    result = call("predict.py", f"checkpoint={checkpoint_path}", "input=*.png", "output_dir=out", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout.startswith("1 picture predicted, 1 not:\n  b.png: not a readable picture, 9 bytes")
    assert (tmp_path / "out/a_panel.png").exists()


WRONG = [
    (["checkpoint=nowhere.pt", "input=a.png", "output_dir=out"], "error: checkpoint=nowhere.pt: no such file"),
    (
        ["checkpoint=x.pt", "input=a.png", "output_dir=."],
        "error: output_dir=.: needed a new or empty folder, found a.p",
    ),
    (["checkpoint=x.pt", "input=a.png", "output_dir=out", "sizes=3"], "sizes"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_predict_py_on_wrong_use_is_one_clear_error(tmp_path: Path, arguments: list[str], message: str) -> None:
    write_photo(tmp_path / "a.png")
    result = call("predict.py", *arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
