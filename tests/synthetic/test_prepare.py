import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multitask.data.layout import SUFFIX
from multitask.errors import UserError
from multitask.synthetic.prepare import prepare
from tests.compose import ROOT, config
from tests.holding import held
from tests.trees import write_tree

SYNTHETIC = ("data=synthetic", "data.image_size=[32,64]", "data.num_train=6", "data.num_val=2", "data.num_test=0")


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def prepared(root: Path, *overrides: str) -> dict[str, str]:
    """The files of a data set that this process has written, at ``root``."""
    prepare(config(*overrides, f"data.root={root}", "num_workers=1", name="prepare_data"))
    return digests(root)


def start(root: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "scripts/prepare_data.py"), *SYNTHETIC, f"data.root={root}", "num_workers=1"]
    return subprocess.Popen(command, cwd=root.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_prepared_folder_holds_the_data_set_alone(tmp_path: Path) -> None:
    found = prepared(tmp_path / "data", *SYNTHETIC)
    assert len(found) == 8 * len(SUFFIX) + 1


@pytest.mark.parametrize("data", ["synthetic", "tiny_cityscapes"])
def test_folder_that_another_process_writes_to_is_refused(tmp_path: Path, data: str) -> None:
    root = tmp_path / "data"
    overrides = SYNTHETIC
    if data == "tiny_cityscapes":
        source = write_tree(tmp_path / "source", {"train": 1})
        overrides = (f"data={data}", "data.image_size=[16,32]", f"data.source={source}")
    with held(root):
        with pytest.raises(
            UserError, match=rf"^data\.root={re.escape(str(root))}: another process is writing a data set"
        ):
            prepared(root, *overrides)
        assert [path.name for path in root.iterdir()] == [".lock"]
    assert prepared(root, *overrides) == prepared(tmp_path / "other", *overrides), "its holder was killed"


def test_refused_call_makes_no_folder(tmp_path: Path) -> None:
    for overrides in (
        ("data=tiny_cityscapes", "data.image_size=[16,32]", f"data.source={tmp_path / 'none'}"),
        (*SYNTHETIC, "data.seed=-1"),
        (*SYNTHETIC, "data.partial=true"),
    ):
        with pytest.raises(UserError, match=r"data\.(source|seed|partial: needed false)"):
            prepared(tmp_path / "new/data", *overrides)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_calls_at_once_write_what_one_writes(tmp_path: Path) -> None:
    alone = prepared(tmp_path / "alone", *SYNTHETIC)
    root = tmp_path / "pair"
    pair = [start(root), start(root)]
    ends = [(process.communicate()[1], process.returncode) for process in pair]
    assert sorted(status for _, status in ends) in ([0, 0], [0, 2]), ends  # some come one after the other
    for errors, status in ends:
        assert not status or errors == f"error: data.root={root}: another process is writing a data set here\n"
    assert digests(root) == alone


@pytest.mark.slow
def test_calls_that_are_killed_leave_nothing_that_a_later_one_keeps(tmp_path: Path) -> None:
    alone, root = prepared(tmp_path / "alone", *SYNTHETIC), tmp_path / "killed"
    for wanted in (5, 20):
        process = start(root)
        while process.poll() is None and sum(1 for _ in root.rglob("*.*")) < wanted:
            time.sleep(0.001)
        process.kill()
        process.communicate()
    assert prepared(root, *SYNTHETIC) == alone
