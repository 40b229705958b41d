from pathlib import Path

import pytest

from multitask.comparison.experiments import EXPERIMENTS
from multitask.comparison.plan import Plan
from multitask.comparison.report import Report
from multitask.comparison.transfer import FRAMES, ROWS, STARTS
from multitask.reporting.plots import canvas
from multitask.runs.same_run import is_free
from tests.comparison.made import IOU, TASKS, result
from tests.comparison.test_report import CONFIG
from tests.compose import config

BASE = "experiment=kitti_transfer"


def plan() -> Plan:
    return Plan(EXPERIMENTS["transfer"], TASKS, [0, 1], "test", [0.5, 1.0, 2.0], 100)


def test_transfer_has_a_row_of_every_start_with_every_number_of_frames() -> None:
    found = set()
    for row in ROWS:
        made = config(BASE, "starts.scratch=no.pt", "starts.embedded=e.pt", "starts.imagenet=i.pth", *row.arguments)
        assert made["data"]["held_out"] == 0
        assert made["tasks"] == list(TASKS)
        assert (made["optimizer"]["encoder_lr_factor"] == 1) == row.name.startswith("scratch")
        found.add((made["model"]["pretrained"], made["data"]["draw"]))
    files = ["no.pt", "e.pt", "i.pth", "runs/drawn/seed0/checkpoints/last.pt"]
    assert found == {(file, frames) for file in files for frames in FRAMES}
    assert config(BASE, *ROWS[0].arguments)["model"]["pretrained"] is None


def test_transfer_chooses_a_learning_rate_for_each_start_on_frames_that_are_held_out() -> None:
    jobs = plan().jobs({})
    assert {job.row.name for job in jobs} == {f"{start}-rate" for start in STARTS}
    assert {(job.split, job.seed) for job in jobs} == {("held_out", 100)}
    assert len(jobs) == len(STARTS) * 3
    for job in jobs:
        data = config(BASE, *job.row.arguments)["data"]
        assert data["held_out"] > 0
        assert data["draw"] + data["held_out"] <= 144


def test_transfer_reports_each_start_at_its_own_rate() -> None:
    made = {}
    for job in plan().jobs({}):
        best = {"scratch": 1.0}.get(job.row.name.partition("-")[0], 0.5)
        figures = {"semantic/iou_class": 0.5 - 0.1 * abs(job.rate - best)}
        made[job.key] = result(job.row.name, figures, "held_out", job.rate, 100)
    for row in ROWS:
        rates = plan().rates_to_try(row, made)
        if row.name.startswith("scratch"):
            assert plan().rate(row, made) == 1.0
        else:  # an end of those that were given
            assert rates == [0.25, 0.5, 1.0, 2.0]


def test_transfer_claims_are_about_its_rows() -> None:
    names = {row.name for row in ROWS}
    claims = EXPERIMENTS["transfer"].orderings
    assert {claim.better for claim in claims} | {claim.worse for claim in claims} == names
    assert len(claims) == 3 * len(FRAMES) * 3
    assert all(claim.better.split("-")[1] == claim.worse.split("-")[1] for claim in claims)


def test_transfer_plots_each_start_over_the_number_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Plan(EXPERIMENTS["transfer"], TASKS, [0, 1], "test", [1.0], 100)
    assert {path.name for path in Report(given, {}, {}).write(tmp_path / "none")} == {"report.md"}
    done = {}
    for row in ROWS:
        start, _, frames = row.name.partition("-")
        for seed in (0, 1):
            figures = {IOU: int(frames) / 1000 + 0.1 * seed} if start != "embedded" or frames == "18" else {}
            done[f"{row.name}/test-rate1-seed{seed}"] = result(row.name, figures, seed=seed, config=CONFIG)
    plot = canvas(5, 4)
    monkeypatch.setattr("multitask.comparison.sweep.canvas", lambda *size: plot)
    assert "curves.png" in {path.name for path in Report(given, done, {}).write(tmp_path)}
    (axes,) = plot[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labelled frames", "IoU, %")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["18", "36", "72", "144"]
    curves = {container.get_label(): container for container in axes.containers}
    assert list(curves) == list(STARTS.values())
    points, _, (bars,) = curves["from ImageNet"]
    assert list(points.get_xdata()) == [18, 36, 72, 144]
    assert points.get_ydata() == pytest.approx([6.8, 8.6, 12.2, 19.4])
    assert bars.get_segments()[0][:, 1] == pytest.approx([6.8 - 10 / 2**0.5, 6.8 + 10 / 2**0.5])
    assert list(curves["from the embedded set"][0].get_xdata()) == [18]
    (legend,) = plot[0].legends
    assert [text.get_text() for text in legend.get_texts()] == list(STARTS.values())


@pytest.mark.parametrize("start", STARTS)
def test_what_other_rows_start_from_makes_no_run_another(start: str) -> None:
    assert is_free(f"starts.{start}")
    assert not is_free("model.pretrained")
