import pytest

from multitask.comparison import EXPERIMENTS, Plan
from multitask.comparison.transfer import FRAMES, ROWS, STARTS
from multitask.resume import is_free
from tests.comparison.made import TASKS, result
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
        found.add((made["model"]["pretrained"], made["data"]["draw"]))
    files = ["no.pt", "e.pt", "i.pth", "runs/imagenet_embedded/checkpoints/last.pt"]
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


@pytest.mark.parametrize("start", STARTS)
def test_what_other_rows_start_from_makes_no_run_another(start: str) -> None:
    assert is_free(f"starts.{start}")
    assert not is_free("model.pretrained")
