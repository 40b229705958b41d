import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask.comparison import results
from multitask.comparison.plan import Job, Plan
from multitask.comparison.report import Report
from multitask.comparison.runner import Runner
from multitask.engine.interruption import Interrupted
from multitask.errors import UserError
from tests.comparison.made import EQUAL, EXPERIMENT, LEARNED, TASKS
from tests.holding import held

SCRIPT = """
import json, os, pathlib, signal, sys, time
given = dict(text.split("=", 1) for text in sys.argv[1:])
folder = pathlib.Path(given["output_dir"].strip("'"))
place = os.environ.get("CUDA_VISIBLE_DEVICES")
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent.parent / "calls", "a") as file:
    file.write(f"{folder.parent.name}/{folder.name} {place}\\n")
with open(folder.parent.parent / "places", "a") as file:
    file.write(f"{place} begins\\n")
if given.get("fail") == folder.parent.name and not pathlib.Path("mended").exists():
    sys.exit("error: it had to fail")
if given.get("diverge") == folder.parent.name:
    print("error: step 3: loss 'total' is nan; no update is made; frames of this step: a", file=sys.stderr)
    sys.exit(3)
if given.get("lie") == folder.parent.name:
    sys.exit("error: the run has diverged, say words, but not the exit status")
for step in range(int(given.get("wait", 0))):
    time.sleep(0.1)
    (folder / "started").touch()
state = folder / "state"
for step in range(int(state.read_text()) if state.exists() else 0, int(given.get("steps", 0))):
    time.sleep(0.05)
    (folder / "state.tmp").write_text(str(step + 1))
    os.replace(folder / "state.tmp", state)
    with open(folder.parent.parent / "steps", "a") as file:
        file.write(f"{folder.parent.name}/{folder.name}\\n")
learned = given["weighting"] == "uncertainty"
entry = {"step": 10, "loss/total": 1.0}
if learned:
    entry |= {f"{k}/{t}": 0.5 for k in ("weight", "sigma2", "log_variance") for t in ("semantic", "depth")}
(folder / "history.jsonl").write_text(json.dumps(entry) + "\\n" + json.dumps({"step": 10, "run/seconds": 2.0}))
(folder / "checkpoints").mkdir(exist_ok=True)
value = 0.4 + 0.1 * learned + 0.01 * int(given["seed"])
error = float("nan") if given.get("break") == folder.parent.name else 1 - value
figures = {"semantic/iou_class": value, "semantic/iou/car": 0.1, "depth/mean_error_px": error}
with open(folder.parent.parent / "places", "a") as file:
    file.write(f"{place} ends\\n")
(folder / "metrics.json").write_text("{" if given.get("damage") else json.dumps(figures))
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask.comparison.runner._POLL", 0.02)


def compose(arguments: Sequence[str]) -> dict[str, Any]:
    """Flat overrides as a configuration."""
    config: dict[str, Any] = {"optimizer": {"lr": 0.1}, "data": {"name": "made", "image_size": [4, 8]}}
    config |= {"model": {"encoder": "none"}, "trainer": {"max_steps": 10, "batch_size": 2}}
    for text in arguments:
        *parents, key = text.partition("=")[0].split(".")
        target = config
        for parent in parents:
            target = target.setdefault(parent, {}) if not isinstance(target.get(parent), str) else {}
        target[key] = text.partition("=")[2]
    config["optimizer"]["lr"] = float(config["optimizer"]["lr"])
    return config


def make(
    folder: Path,
    *base: str,
    seeds: Sequence[int] = (0, 1),
    places: Sequence[Mapping[str, str]] = ({},),
    frames: str = "8 of 4 x 8 px",
    train_frames: str = "16 of 4 x 8 px",
    split: str = "test",
) -> Runner:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    plan = Plan(EXPERIMENT, TASKS, seeds, split, [1.0], 9)
    of = {"train": train_frames, "held_out": "4 of 4 x 8 px", split: frames}
    return Runner(
        plan, folder, folder / "results", compose, base, places, "float32 on cpu", lambda split, _: of[split], script
    )


def calls(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "calls").read_text().splitlines()]


def test_runner_runs_everything_once(tmp_path: Path) -> None:
    runner = make(tmp_path / "out")
    runner.load()
    runner.run()
    assert sorted(calls(tmp_path / "out")) == sorted(runner.results)
    assert len(runner.results) == 3 + 4 * 2
    assert "fixed0.25/test-rate1-seed0" in runner.results, "the first of equally good weights"
    assert runner.results["three/test-rate1-seed1"].figures == {
        "semantic/iou_class": 0.51,
        "depth/mean_error_px": 0.49,
    }
    assert runner.results["three/test-rate1-seed1"].seconds == 2.0
    assert not (tmp_path / "out/three/test-rate1-seed1/checkpoints").exists()
    again = make(tmp_path / "out")
    again.load()
    assert again.results == runner.results
    again.run()
    assert len(calls(tmp_path / "out")) == len(runner.results), "nothing runs twice"
    more = make(tmp_path / "out", seeds=(0, 1, 2))
    more.load()
    more.run()
    assert len(calls(tmp_path / "out")) == len(runner.results) + 4, "only the new seed"


def test_a_run_that_fails_is_reported_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make(tmp_path / "out", "fail=equal")
    runner.run()
    assert set(runner.failed) == {"equal/test-rate1-seed0", "equal/test-rate1-seed1"}
    assert set(runner.failed.values()) == {"error: it had to fail"}
    assert "three/test-rate1-seed1" in runner.results
    (tmp_path / "mended").touch()
    monkeypatch.chdir(tmp_path)
    again = make(tmp_path / "out", "fail=equal")
    again.load()
    again.run()
    assert not again.failed
    assert "equal/test-rate1-seed0" in again.results
    text = Report(runner.plan, runner.results, runner.failed).text()
    assert "* equal/test-rate1-seed0 failed: error: it had to fail" in text
    assert "* equal weights: no finished run" in text


def test_a_search_that_fails_decides_nothing(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", "fail=fixed0.25", seeds=[0])
    runner.run()
    assert not any(key.startswith("fixed0.75/test") for key in runner.results)
    assert "* fixed weights, searched: not decided yet" in Report(runner.plan, runner.results, runner.failed).text()


def test_to_diverge_is_an_answer(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", "diverge=fixed0.25", seeds=[0])
    runner.run()
    assert not runner.failed
    assert runner.results["fixed0.25/held_out-rate1-seed9"].figures == {}
    assert "fixed0.75/test-rate1-seed0" in runner.results
    text = Report(runner.plan, runner.results, runner.failed).text()
    assert "* fixed0.25/held_out-rate1-seed9: diverged" in text
    again = make(tmp_path / "out", "diverge=fixed0.25", seeds=[0])
    again.load()
    again.run()
    assert len(calls(tmp_path / "out")) == len(runner.results), "nothing runs twice"


def test_that_a_run_diverged_is_told_by_its_exit_status_not_by_words(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", "lie=fixed0.25", seeds=[0])
    runner.run()
    assert "fixed0.25/held_out-rate1-seed9" in runner.failed
    assert "fixed0.25/held_out-rate1-seed9" not in runner.results


def test_figures_that_are_no_numbers_are_those_of_a_run_that_diverged(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", "break=fixed0.25", seeds=[0])
    runner.run()
    assert runner.results["fixed0.25/held_out-rate1-seed9"].figures == {}
    assert "fixed0.75/test-rate1-seed0" in runner.results


def test_folders_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b(1),=it's[a]$"
    folder.mkdir()
    runner = make(folder / "out", seeds=[0])
    runner.run()
    assert len(runner.results) == 3 + 4


def test_learning_rates_are_factors_of_the_row_s_own(tmp_path: Path) -> None:
    runner = make(tmp_path / "out")
    job = Job(LEARNED, "test", 0.5, 3)
    assert {"optimizer.lr=0.05", "seed=3", "data.val_split=test"} <= set(runner.arguments(job))
    base = make(tmp_path / "out", "optimizer.lr=0.4")
    assert "optimizer.lr=0.2" in base.arguments(job)


def test_damaged_figures_of_a_run_are_named(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", "damage=yes", seeds=[0])
    runner.run()
    assert not runner.results
    assert all("metrics.json: not the figures of a run" in why for why in runner.failed.values())


def test_damaged_result_is_named(tmp_path: Path) -> None:
    make(tmp_path / "out", seeds=[0]).run()
    path = tmp_path / "out/results/three/test-rate1-seed0.json"
    for content in ("{", "[]", '{"row": "three"}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"test-rate1-seed0\.json: not the result of a run .*; delete it"):
            make(tmp_path / "out", seeds=[0]).load()


def test_a_damaged_result_that_is_named_late_keeps_no_other_from_running(tmp_path: Path) -> None:
    late = tmp_path / "out/results/fixed0.25/test-rate1-seed0.json"  # named when the search is over
    late.parent.mkdir(parents=True)
    late.write_text("{")
    runner = make(tmp_path / "out", seeds=[0])
    runner.run()
    assert set(runner.failed) == {"fixed0.25/test-rate1-seed0"}
    assert "test-rate1-seed0.json: not the result of a run" in runner.failed["fixed0.25/test-rate1-seed0"]
    assert len(runner.results) == 3 + 3
    assert late.read_text() == "{"


def test_what_another_runner_did_in_between_is_not_done_again(tmp_path: Path) -> None:
    early = make(tmp_path / "out", seeds=[0])
    early.load()
    make(tmp_path / "out", seeds=[0]).run()
    done = len(calls(tmp_path / "out"))
    early.run()
    assert len(early.results) == len(calls(tmp_path / "out")) == done


def test_rows_that_two_experiments_share_are_run_once(tmp_path: Path) -> None:
    first = make(tmp_path / "out", seeds=[0])
    first.run()
    other = make(tmp_path / "out", seeds=[0])
    only = replace(EXPERIMENT, candidates=(), rows=lambda _: [LEARNED, EQUAL, replace(EQUAL, name="new")])
    other.plan = Plan(only, TASKS, [0], "test", [1.0], 9)
    other.run()
    assert len(other.results) == 3
    assert calls(tmp_path / "out")[len(first.results) :] == ["new/test-rate1-seed0"]


def test_results_of_another_configuration_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "out", "trainer.max_steps=10", seeds=[0]).run()
    with pytest.raises(ValueError, match=r"\.json: of another configuration: trainer\.max_steps was '10', is '20'"):
        make(tmp_path / "out", "trainer.max_steps=20", seeds=[0]).load()
    make(tmp_path / "out", "trainer.max_steps=10", "data.root=elsewhere", seeds=[0]).load()
    message = r"data\.frames was '8 of 4 x 8 px', is '9 of 4 x 8 px'; .* or delete the file and the run's folder"
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "out", "trainer.max_steps=10", seeds=[0], frames="9 of 4 x 8 px").load()
    with pytest.raises(ValueError, match=r"held_out-.*data\.train_frames was '16 of 4 x 8 px', is '17 of 4 x 8 px'"):
        make(tmp_path / "out", "trainer.max_steps=10", seeds=[0], train_frames="17 of 4 x 8 px").load()


def test_results_of_an_older_version_are_refused_where_it_did_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "out/results/three/test-rate1-seed0.json"
    make(tmp_path / "out", seeds=[0]).run()
    result = results.load(path)
    assert "optimizer.warmup_steps" not in result.config
    results.check_config(path, result, {**result.config, "optimizer.warmup_steps": 0, "later.key": 1})
    with pytest.raises(ValueError, match=r"another configuration: optimizer\.warmup_steps was 0, is 100"):
        results.check_config(path, result, {**result.config, "optimizer.warmup_steps": 100})


def test_choices_on_held_out_frames_are_the_same_for_every_split(tmp_path: Path) -> None:
    make(tmp_path / "out", seeds=[0]).run()
    other = make(tmp_path / "out", seeds=[0], split="val", frames="5 of 4 x 8 px")
    other.load()
    assert set(other.results) == {f"{name}/held_out-rate1-seed9" for name in ("three", "fixed0.25", "fixed0.75")}


def test_a_row_that_cannot_be_configured_keeps_no_other_from_running(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", seeds=[0])

    def refusing(arguments: Sequence[str]) -> dict[str, Any]:
        if "weighting=uncertainty" in arguments:
            raise UserError("Could not override 'weighting.sum'")
        return compose(arguments)

    runner.compose = refusing
    runner.run()
    assert set(runner.failed) == {"three/held_out-rate1-seed9", "three/test-rate1-seed0"}
    assert set(runner.failed.values()) == {"Could not override 'weighting.sum'"}
    assert {"equal/test-rate1-seed0", "fixed0.25/test-rate1-seed0"} <= runner.results.keys()


def test_each_place_takes_one_run_at_a_time(tmp_path: Path) -> None:
    places = [{"CUDA_VISIBLE_DEVICES": name} for name in "01"]
    make(tmp_path / "out", "wait=2", places=places, seeds=[0]).run()
    lines = (tmp_path / "out/calls").read_text().splitlines()
    assert {line.split()[1] for line in lines} == {"0", "1"}
    assert len(lines) == 3 + 4
    log = (tmp_path / "out/places").read_text().splitlines()
    for place in "01":
        own = [line for line in log if line.startswith(place)]
        assert own == [f"{place} begins", f"{place} ends"] * (len(own) // 2)
    assert any(first.endswith("begins") and second.endswith("begins") for first, second in itertools.pairwise(log))


def test_a_run_goes_to_the_gpu_that_has_fewest(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", places=[{"CUDA_VISIBLE_DEVICES": name} for name in "010101"])

    # Which place a run gets while others run is seen from outside only by racing real processes.
    def free(*busy: int) -> int | None:
        return runner._free_place(dict.fromkeys(busy))  # type: ignore[arg-type]

    assert [free(), free(0), free(1), free(0, 1), free(0, 2), free(1, 3), free(0, 1, 3)] == [0, 1, 0, 2, 1, 0, 2]
    assert free(0, 2, 4) == 1
    assert free(*range(6)) is None


def test_a_row_whose_start_is_not_there_is_said_to_fail_before_anything_runs(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", f"model.pretrained={tmp_path}/nowhere.pt")
    runner.load()
    runner.run()
    assert not (tmp_path / "out/calls").exists()
    assert set(runner.failed.values()) == {
        f"model.pretrained={tmp_path}/nowhere.pt: no such file; needed weights, or a run that has ended"
    }


def test_results_are_of_what_the_file_holds_that_a_run_starts_from(tmp_path: Path) -> None:
    start = tmp_path / "start.pth"
    torch.save({"w": torch.zeros(1)}, start)
    given = f"model.pretrained={start}"
    make(tmp_path / "out", given, seeds=[0]).run()
    again = make(tmp_path / "out", given, seeds=[0])
    again.load()
    assert again.results
    torch.save({"w": torch.ones(1)}, start)
    other = r"configuration: model\.pretrained was 'weights \w{8}', is 'weights \w{8}'"
    with pytest.raises(UserError, match=other):
        make(tmp_path / "out", given, seeds=[0]).load()
    start.unlink()
    gone = make(tmp_path / "out", given, seeds=[0])
    gone.load()
    assert gone.results.keys() == again.results.keys(), "they can still be shown"


def test_a_signal_ends_the_runs_and_the_next_call_goes_on(tmp_path: Path) -> None:
    runner = make(tmp_path / "out", "wait=100", seeds=[0])

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "out").glob("*/*/started")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    with pytest.raises(Interrupted, match="stopped by SIGTERM after 0 runs; the same command goes on"):
        runner.run()
    thread.join()
    assert not runner.failed
    assert len(calls(tmp_path / "out")) == 1
    again = make(tmp_path / "out", seeds=[0])
    again.load()
    again.run()
    assert len(again.results) == 3 + 4


def test_a_second_runner_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        held(tmp_path / "out"),
        pytest.raises(ValueError, match=r"output_dir=.*: another process is running comparisons here"),
    ):
        make(tmp_path / "out").run()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_killed_again_and_again_it_ends_with_the_same_report(tmp_path: Path) -> None:
    steps = 4
    undisturbed = make(tmp_path / "undisturbed", f"steps={steps}")
    undisturbed.run()
    folder, rng = tmp_path / "killed", random.Random(0)
    for _ in range(6):
        if not (runner := os.fork()):  # not a new interpreter, which would take longer to start than to run
            make(folder, f"steps={steps}").run()
            os._exit(0)
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(runner, signal.SIGKILL)
        os.waitpid(runner, 0)
    assert len(list((folder / "results").glob("*/*.json"))) < len(undisturbed.results), "it was killed before its end"
    last = make(folder, f"steps={steps}")
    last.run()
    assert last.results == undisturbed.results
    reports = [Report(runner.plan, runner.results, runner.failed).text() for runner in (last, undisturbed)]
    assert reports[0] == reports[1]
    done = Counter((folder / "steps").read_text().splitlines())
    assert done.keys() == last.results.keys()
    assert all(count <= steps for count in done.values()), "what was done before a kill is not done again"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_runs_die_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    make(tmp_path / "out")  # writes the script
    code = (
        "from pathlib import Path; from tests.comparison.test_runner import make; import sys;"
        "make(Path(sys.argv[1]), 'wait=600', seeds=[0]).run()"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], cwd=root)
    while not (started := list((tmp_path / "out").glob("*/*/started"))):
        time.sleep(0.05)
        assert process.poll() is None
    process.kill()
    process.wait()
    time.sleep(0.5)
    before = started[0].stat().st_mtime_ns
    time.sleep(0.5)
    assert started[0].stat().st_mtime_ns == before


def test_history_is_kept_of_learned_weights_alone(tmp_path: Path) -> None:
    make(tmp_path / "out", seeds=[0]).run()
    kept = {
        path.parent.name: json.loads(path.read_text())["history"]
        for path in (tmp_path / "out/results").glob("*/test-*.json")
    }
    assert len(kept["three"]) == 1
    assert kept["equal"] == []
