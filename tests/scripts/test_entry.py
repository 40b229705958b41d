"""What is typed: paths, exit statuses, several jobs in one call."""

import errno
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from multitask.engine.finite import Diverged
from multitask.engine.interruption import Interrupted
from multitask.errors import UserError
from tests.compose import IN_A_PROCESS, ROOT
from tests.scripts.called import call


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("entry", ROOT / "scripts/_entry.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


entry = _load()
PARSER = OverridesParser.create()


@pytest.mark.parametrize(
    "key",
    [
        "input",
        "output_dir",
        "data.root",
        "checkpoint",
        "+data.source",
        "trainer.resume",
        "model.pretrained",
        "starts.imagenet",
    ],
)
@pytest.mark.parametrize(
    "typed",
    [
        "2011_09_26",  # KITTI's folders, which are the number 20110926 to Hydra
        "2024_01_15/run",
        "1e5",
        "0x10",
        "true",
        "~/data",
        "a b",
        "photos/*.jpg",
        "photos/[ab]?.jpg",
        "[1]/a.png",
        "{a}",
        "a,b",
        "a=b",
        "a:b",
        "it's",
        "a\\",
        "a\\'b",
        "a\\\\'b\\\\",
        "(1)",
        "$HOME",
        "ü/名.png",
        'a"b',
        "-",
        "#1",
        "nullable",
    ],
)
def test_path_is_the_text_that_was_typed(key: str, typed: str) -> None:
    (override,) = PARSER.parse_overrides([entry.quoted_path(f"{key}={typed}")])
    assert override.value() == typed


@pytest.mark.parametrize(
    "argument",
    [
        "input='2011_09_26'",
        'output_dir="a b"',
        "checkpoint=null",
        "trainer.resume=NULL",
        "output_dir=runs/${name}",
        "data.image_size=[96,192]",
        "seed=2011_09_26",
        "output_dir=",
        "--help",
        "experiment=quickstart",
        "names=2011_09_26",
    ],
)
def test_argument_that_is_no_plain_path_stays(argument: str) -> None:
    assert entry.quoted_path(argument) == argument


def test_paths_of_a_list_are_the_texts_that_were_typed() -> None:
    given = entry.quoted_path("data.roots=[2011_09_26, ~/b,'c d',e]")
    (override,) = PARSER.parse_overrides([given])
    assert override.value() == ["2011_09_26", "~/b", "c d", "e"]


def test_paths_of_several_jobs_are_the_texts_that_were_typed() -> None:
    (override,) = PARSER.parse_overrides([entry.quoted_path("input=2011_09_26,2011_09_28", several=True)])
    assert override.is_sweep_override()
    values = [PARSER.parse_overrides([f"input={text}"])[0].value() for text in override.sweep_string_iterator()]
    assert values == ["2011_09_26", "2011_09_28"]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("model.pretrained=null,IMAGENET1K_V1", [None, "IMAGENET1K_V1"]),
        ("trainer.resume=auto,null", ["auto", None]),
        ("output_dir='2011_09_26',2011_09_28,it's", ["2011_09_26", "2011_09_28", "it's"]),
        ("output_dir=runs/${seed},2011_09_28", ["runs/${seed}", "2011_09_28"]),
        ("data.roots=[2011_09_26,b],[c]", [["2011_09_26", "b"], ["c"]]),
        ("name=2024_01_15,1e3", ["2024_01_15", "1e3"]),
    ],
)
def test_each_job_s_value_is_read_by_itself(typed: str, values: list[object]) -> None:
    (override,) = PARSER.parse_overrides([entry.quoted_path(typed, several=True)])
    assert override.is_sweep_override()
    key = typed.partition("=")[0]
    jobs = [PARSER.parse_overrides([f"{key}={text}"])[0].value() for text in override.sweep_string_iterator()]
    assert jobs == values


@pytest.mark.parametrize(
    ("argument", "several"),
    [
        *(("-m", True), ("--multirun", True), ("--multi", True), ("+hydra.mode=MULTIRUN", True)),
        *(("hydra.mode=RUN", False), ("--mult1run", False), ("--", False), ("-mx", False), ("m", False)),
    ],
)
def test_what_asks_for_several_jobs(argument: str, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", argument, "output_dir=a,b"])
    with pytest.raises(SystemExit):
        entry.run(lambda: None)
    assert sys.argv[2] == ("output_dir='a','b'" if several else "output_dir='a,b'")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.image=images/{split}/{name}.jpg", "images/{split}/{name}.jpg"),
        ("data.image={split}/rgb/{name}.*", "{split}/rgb/{name}.*"),
        ("+data.class_ids.path={split}2017/{name}.png", "{split}2017/{name}.png"),
        ("data.class_ids.json=panoptic_{split}.json", "panoptic_{split}.json"),
        ("data.camera=null", None),
        (
            "data.instance_ids={path: a/{split}/{name}.png, coding: id*256+k,first:0}",
            {"path": "a/{split}/{name}.png", "coding": "id*256+k", "first": 0},
        ),
        ("data.class_ids={path: 'a, b/{name}.png', palette: true}", {"path": "a, b/{name}.png", "palette": True}),
        ('data.class_ids={labels: ids, path: "{name}.png"}', {"labels": "ids", "path": "{name}.png"}),
        (
            "data.depth={path: {split}/d/{name}.png, unit_m: 0.001}",
            {"path": "{split}/d/{name}.png", "unit_m": 0.001},
        ),
    ],
)
def test_patterns_of_files_are_the_texts_that_were_typed(typed: str, value: object) -> None:
    (override,) = PARSER.parse_overrides([entry.quoted_path(typed)])
    assert override.value() == value


def test_class_table_is_a_path_or_stands_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given, expected in (("~/mine.yaml", "/home/me/mine.yaml"), ({"classes": []}, {"classes": []})):
        assert entry.plain(OmegaConf.create({"data": {"classes": given}})) == {"data": {"classes": expected}}


@pytest.mark.parametrize("key", ["name", "split", "data.val_split", "data.train_split"])
def test_names_of_folders_are_the_texts_that_were_typed(key: str) -> None:
    (override,) = PARSER.parse_overrides([entry.quoted_path(f"{key}=2024_01_15")])
    assert override.value() == "2024_01_15"


def test_choice_of_several_jobs_stays_hydra_s() -> None:
    assert entry.quoted_path("output_dir=choice(a,b)", several=True) == "output_dir=choice(a,b)"


def test_home_folder_is_expanded_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = {"output_dir": "~/runs", "data": {"root": "~", "roots": ["~/a", "b"]}, "name": "~/x", "input": "a~"}
    assert entry.plain(OmegaConf.create(given)) == {
        "output_dir": "/home/me/runs",
        "data": {"root": "/home/me", "roots": ["/home/me/a", "b"]},
        "name": "~/x",
        "input": "a~",
    }


@pytest.mark.parametrize("value", [20110926, 1.5, True, ["a"], {"a": 1}])
def test_path_that_a_file_of_configuration_gives_as_something_else_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^data.root: needed a path, found "):
        entry.plain(OmegaConf.create({"data": {"root": value}}))


def test_home_folder_of_nobody_is_refused() -> None:
    with pytest.raises(UserError, match=r"^input=~nobody-at-all/x: needed a path, found no such user's home folder$"):
        entry.plain(OmegaConf.create({"input": "~nobody-at-all/x"}))


def _ends(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The status with which a script ends whose job raises an error, and what it prints."""
    capsys.readouterr()

    def main() -> None:
        with entry.short_errors():
            raise error

    with pytest.raises(SystemExit) as end:
        entry.run(main)
    return end.value.code, capsys.readouterr().err


def test_user_s_error_is_one_line_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])
    assert _ends(UserError("a: needed b, found c"), capsys) == (2, "error: a: needed b, found c\n")
    full = OSError(errno.ENOSPC, "No space left on device", "runs/a")
    assert _ends(full, capsys) == (2, "error: runs/a: No space left on device\n")
    diverged = Diverged("step 3: loss 'total' is nan")
    assert _ends(diverged, capsys) == (3, "error: step 3: loss 'total' is nan\n"), "another try would do it again"
    assert _ends(KeyboardInterrupt(), capsys) == (130, "stopped by SIGINT\n")
    assert _ends(Interrupted(signal.SIGTERM, "step 3"), capsys)[0] == 143


def test_traceback_that_is_asked_for_changes_no_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for error, status in ((Diverged("step 3"), 3), (UserError("a: needed b"), 2)):
        code, said = _ends(error, capsys)
        assert code == status
        assert said.startswith("Traceback")
        assert said.endswith(f"error: {error}\n")


@pytest.mark.parametrize("error", [ValueError("a fault"), FileNotFoundError(2, "No such file", "a"), KeyError("a")])
def test_fault_of_the_program_is_no_user_s_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])

    def main() -> None:
        with entry.short_errors():
            raise error

    with pytest.raises(type(error)):
        entry.run(main)


def test_script_ends_with_the_worst_of_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script"])
    for statuses, worst in (((), 0), ((1,), 1), ((1, 2, 1), 2)):
        with pytest.raises(SystemExit) as end:
            entry.run(lambda noted=statuses: [entry.end_with(status) for status in noted])
        assert end.value.code == worst


def test_job_that_fails_keeps_no_other_from_its_turn(shared_tree: Path, tmp_path: Path) -> None:
    given = [*IN_A_PROCESS, f"data.root={shared_tree}", "trainer.max_steps=1", "output_dir=run_${optimizer.lr}"]
    result = call("train.py", "-m", *given, "optimizer.lr=-1,0.02", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: optimizer.lr: needed a number above zero, found -1\n"
    assert (tmp_path / "run_0.02/metrics.json").exists()


@pytest.mark.slow
def test_signal_ends_all_jobs(shared_tree: Path, tmp_path: Path) -> None:
    given = [*IN_A_PROCESS, f"data.root={shared_tree}", "trainer.max_steps=100000", "output_dir=run_${optimizer.lr}"]
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *given, "optimizer.lr=0.01,0.02"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("step"):
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.startswith("stopped by SIGINT after step ")
    assert not (tmp_path / "run_0.02").exists()


@pytest.mark.slow
def test_evaluation_that_is_interrupted_ends_with_its_processes(shared_tree: Path, tmp_path: Path) -> None:
    given = [*IN_A_PROCESS, f"data.root={shared_tree}", "trainer.max_steps=1", "output_dir=run"]
    assert call("train.py", *given, cwd=tmp_path).returncode == 0
    command = [sys.executable, str(ROOT / "scripts/evaluate.py"), "checkpoint=run/checkpoints/last.pt"]
    command += ["split=train", "trainer.num_workers=2"]
    (tmp_path / "slow.py").write_text(
        "import runpy, sys, time\n"
        "from multitask.data.loader import EncodedFrames\n"
        "read = EncodedFrames.__getitem__\n"
        "def slow(self, key):\n"
        "    print('reading', flush=True)\n"
        "    time.sleep(3)\n"
        "    return read(self, key)\n"
        "EncodedFrames.__getitem__ = slow\n"
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "slow.py", *command[1:]],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("reading"):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.endswith("stopped by SIGINT\n")
    with pytest.raises(ProcessLookupError):  # nobody of the group lives
        os.killpg(process.pid, 0)
