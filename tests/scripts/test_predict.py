"""The command that predicts one's own pictures, as a user types it."""

import json
import os
import shlex
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from multitask.data.layout import read_png
from multitask.runs.run import LAST, Run
from tests.compose import ROOT, small
from tests.prediction.made import write_photo
from tests.scripts.called import call
from tests.sharing import once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint_path(shared_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = "model.encoder=resnet10", "trainer.max_steps=1"
    train = lambda folder: Run(small(shared_tree, folder / "run", *given)).train()  # noqa: E731
    return once(tmp_path_factory, "to-predict", train) / "run" / LAST


def test_predict_py_writes_panels_and_results(checkpoint_path: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "my photos/one.jpg", (60, 80))
    write_photo(tmp_path / "my photos/trip/two.png", (30, 40))
    given = [f"checkpoint={checkpoint_path}", "input=my photos", "output_dir=out/predictions"]
    result = call("predict.py", *given, cwd=tmp_path)
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


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "scripts/predict.py"), *map(str, arguments)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_predict_py_goes_on_after_a_signal(checkpoint_path: Path, tmp_path: Path, number: signal.Signals) -> None:
    for index in range(16):
        write_photo(tmp_path / f"in/{index:03d}.png", (60, 120), index)
    given = [f"checkpoint={checkpoint_path}", "input=in", "output_dir=out", "batch_size=1"]
    process = subprocess.Popen(command(*given), cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if "/16 pictures" in line:
            process.send_signal(number)
            break
    _, errors = process.communicate(timeout=60)
    killed = number == signal.SIGKILL
    assert process.returncode == (-number if killed else 128 + number)
    assert "Traceback" not in errors
    assert killed or "what is done is written; the same command goes on from there" in errors
    assert (tmp_path / "out/predictions.jsonl").exists() != killed
    if not killed:
        done = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
        assert 1 <= len(done) < 16
        assert len(list((tmp_path / "out").glob("*.png"))) == 4 * len(done)
    again = call("predict.py", *given, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("16 pictures predicted, ")
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [f"{index:03d}" for index in range(16)]
    assert len(list((tmp_path / "out").iterdir())) == 16 * 4 + 1
    assert not list((tmp_path / "out").glob(".*"))


def test_predict_py_that_is_ended_before_anything_is_done_says_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("multitask.prediction.command.load", ended)
    write_photo(tmp_path / "in/a.png")
    result = call("predict.py", "checkpoint=x.pt", "input=in", "output_dir=out", cwd=tmp_path)
    assert result.returncode == 130
    assert result.stderr == "stopped by SIGINT\n"
    assert not (tmp_path / "out").exists()


def test_predict_py_on_a_full_disk_names_the_file_and_goes_on(checkpoint_path: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    given = [f"checkpoint={checkpoint_path}", "input=in", "output_dir=out"]
    limited = f"ulimit -f 20; trap '' XFSZ; exec {shlex.join(command(*given))}"
    result = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: out/a_panel.png: could not be written (File too large)"
    assert not list((tmp_path / "out").glob("*.png"))
    assert not list((tmp_path / "out").glob(".*"))
    again = call("predict.py", *given, cwd=tmp_path)
    assert again.stdout == "1 picture predicted\nwritten to out\n"


def test_predict_py_takes_two_gigabytes_for_the_largest_picture(checkpoint_path: Path, tmp_path: Path) -> None:
    Image.new("L", (13_300, 13_300), 90).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 400_000
    given = [f"checkpoint={checkpoint_path}", "input=a.png", "output_dir=out", "device=cpu"]
    with subprocess.Popen(command(*given), cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss * 1024 < 2e9
    header = (tmp_path / "out/a_disparity.png").read_bytes()[16:24]
    assert struct.unpack(">II", header) == (13_300, 13_300)


def test_predict_py_never_waits_for_a_pipe(checkpoint_path: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    os.mkfifo(tmp_path / "in/b.png")
    (tmp_path / "in/notes.txt").touch()
    result = call("predict.py", f"checkpoint={checkpoint_path}", "input=in", "output_dir=out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    expected = "passed over 2 files that are no picture or video: b.png (a pipe), notes.txt"
    assert result.stdout.splitlines() == ["1 picture predicted", expected, "written to out"]


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
