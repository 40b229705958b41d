import math
from dataclasses import replace

import pytest

from multitask.comparison.experiments import EXPERIMENTS
from multitask.comparison.plan import Job, Plan
from multitask.comparison.results import Result
from multitask.comparison.rows import Choices, fixed
from tests.comparison.made import CANDIDATES, DISPARITY, EQUAL, EXPERIMENT, IOU, LEARNED, SINGLE, TASKS, result


def plan(**arguments: object) -> Plan:
    given = {"seeds": [0, 1], "split": "test", "rates": [1.0], "search_seed": 9, "tasks": TASKS} | arguments
    return Plan(EXPERIMENT, **given)  # type: ignore[arg-type]


def searched(iou: dict[str, float], rate: float = 1) -> dict[str, Result]:
    found = {}
    for name, value in iou.items():
        row = next(row for row in (*CANDIDATES, LEARNED, EQUAL, SINGLE) if row.name == name)
        figures = {IOU: value, DISPARITY: 1.0}
        found[Job(row, "held_out", rate, 9).key] = result(name, figures, "held_out", rate, 9)
    return found


def keys(jobs: list[Job]) -> list[str]:
    return [job.key for job in jobs]


def test_weights_are_searched_on_held_out_frames_before_they_are_reported() -> None:
    first = keys(plan().jobs({}))
    assert first[:3] == [
        "three/held_out-rate1-seed9",
        "fixed0.25/held_out-rate1-seed9",
        "fixed0.75/held_out-rate1-seed9",
    ]
    assert [key for key in first if "seed1" in key] == [
        f"{name}/test-rate1-seed1" for name in ("semantic", "equal", "three")
    ]
    one = plan().jobs(searched({"fixed0.25": 0.3}))
    assert not any(job.row.key == "searched" for job in one)
    both = plan().jobs(searched({"fixed0.25": 0.3, "fixed0.75": 0.4}))
    chosen = [job for job in both if job.row.key == "searched"]
    assert [job.seed for job in chosen] == [0, 1]
    assert {job.row.name for job in chosen} == {"fixed0.75"}, "the run is that of the weights, whatever its role"
    assert "weighting.weights.semantic=0.75" in chosen[0].row.overrides


def test_nothing_is_chosen_before_everything_is_done() -> None:
    assert plan().choices(searched({"fixed0.25": 0.3, "three": 0.3})).weights is None
    rates = plan(rates=[0.5, 1.0])
    assert rates.rate(EQUAL, searched({"equal": 0.3}, 0.5)) is None


def test_what_diverged_is_never_chosen() -> None:
    results = searched({"fixed0.25": 0.3, "fixed0.75": 0.4})
    key = Job(CANDIDATES[1], "held_out", 1, 9).key
    results[key] = result("fixed0.75", {}, "held_out", 1, 9)
    choice = plan().choices(results).weights
    assert choice is not None
    assert choice.name == "fixed0.25"


def test_the_sum_of_learned_weights_is_that_of_the_search() -> None:
    weights = {"fixed0.25": 0.3, "fixed0.75": 0.4}
    assert plan().choices(searched(weights)).learned_sum is None
    assert plan().choices(searched(weights | {"three": 0.3})).learned_sum == pytest.approx(1.0)


def test_expected_runs_are_at_least_those_that_are_named() -> None:
    chosen = plan(rates=[0.5, 1.0])
    # Two candidates, and three rows that are known and the one to be found, of two searches and two seeds each.
    assert chosen.expected({}) == 2 + 4 * (2 + 2)
    assert chosen.expected({}) >= len(chosen.jobs({}))


def test_expected_runs_count_every_row_of_the_weights_that_are_yet_to_be_found() -> None:
    ablations = plan()
    ablations.experiment = EXPERIMENTS["ablations"]
    # Of sixteen candidates; five rows as they are and with four changes, and two more of learned weights; two seeds.
    assert ablations.expected({}) == 16 + (5 * (1 + 4) + 2) * 2


def test_the_learning_rate_is_chosen_for_each_row() -> None:
    chosen = plan(rates=[0.5, 1.0, 2.0])
    results = searched({"equal": 0.3}, 0.5) | searched({"equal": 0.5}, 1.0)
    assert chosen.rate(EQUAL, results) is None
    results |= searched({"equal": 0.4}, 2.0)
    assert chosen.rate(EQUAL, results) == 1.0
    assert chosen.rate(SINGLE, results) is None
    assert "equal/test-rate1-seed0" in keys(chosen.jobs(results))
    assert not any(key.startswith("semantic/test") for key in keys(chosen.jobs(results)))


def test_the_search_goes_on_where_the_best_learning_rate_is_at_an_end() -> None:
    chosen = plan(rates=[0.5, 1.0, 2.0])
    up = searched({"equal": 0.3}, 0.5) | searched({"equal": 0.4}, 1.0) | searched({"equal": 0.5}, 2.0)
    assert chosen.rates_to_try(EQUAL, up) == [0.5, 1.0, 2.0, 4.0]
    assert "equal/held_out-rate4-seed9" in keys(chosen.jobs(up))
    assert chosen.rate(EQUAL, up) is None
    assert chosen.rate(EQUAL, up | searched({"equal": 0.45}, 4.0)) == 2.0
    higher = up | searched({"equal": 0.6}, 4.0)
    assert chosen.rates_to_try(EQUAL, higher) == [0.5, 1.0, 2.0, 4.0, 8.0]
    highest = higher | searched({"equal": 0.7}, 8.0) | searched({"equal": 0.8}, 16.0)
    assert chosen.rate(EQUAL, highest) == 16.0, "three steps beyond the end, where it stops"
    down = searched({"equal": 0.5}, 0.5) | searched({"equal": 0.4}, 1.0) | searched({"equal": 0.3}, 2.0)
    assert chosen.rates_to_try(EQUAL, down) == [0.25, 0.5, 1.0, 2.0]
    assert chosen.rate(EQUAL, down | searched({"equal": 0.4}, 0.25)) == 0.5
    nothing = {key: result("equal", {}, "held_out", 1, 9) for key in down}
    assert chosen.rates_to_try(EQUAL, nothing) == [0.25, 0.5, 1.0, 2.0], "what diverges is tried with lower ones"


@pytest.mark.parametrize("rates", [[1.0, 3.0], [0.1, 0.3], [0.3, 1.0]])
def test_the_search_goes_three_steps_beyond_whatever_the_rounding(rates: list[float]) -> None:
    for better in (1, -1):
        chosen, found = plan(rates=rates), {}
        for _ in range(9):  # as often as one more rate is named, and beyond
            for rate in chosen.rates_to_try(EQUAL, found):
                figures = {IOU: 0.5 + better * math.log(rate) / 100, DISPARITY: 1.0}
                found[chosen.search(EQUAL, rate).key] = result("equal", figures, "held_out", rate, 9)
        assert len(chosen.rates_to_try(EQUAL, found)) == 2 + 3


def test_a_row_may_take_the_learning_rate_of_another() -> None:
    varied = replace(EQUAL, name="equal-longer", overrides=("weighting=equal", "trainer.max_steps=9"), rated_as=EQUAL)
    both = plan(rates=[0.5, 1.0])
    both.experiment = replace(EXPERIMENT, rows=lambda _: [varied], candidates=())
    first = both.jobs({})
    assert keys(first) == ["equal/held_out-rate0.5-seed9", "equal/held_out-rate1-seed9"], "the other's are searched"
    assert [job.row for job in first] == [EQUAL, EQUAL]
    assert both.expected({}) == 2 + len(both.seeds), "a search of the other, none of its own"
    tried = searched({"equal": 0.4}, 0.5) | searched({"equal": 0.3}, 1.0) | searched({"equal": 0.3}, 0.25)
    assert both.rate(varied, tried) == 0.5
    assert keys(both.jobs(tried))[-2:] == ["equal-longer/test-rate0.5-seed0", "equal-longer/test-rate0.5-seed1"]
    done = {"equal-longer/test-rate0.5-seed1": result("equal-longer", {IOU: 0.5}, rate=0.5, seed=1)}
    assert list(both.reported(varied, tried | done)) == [1]


def test_ablations_change_one_thing_of_single_tasks_and_of_three() -> None:
    found = fixed("fixed-a", "fixed a", {"semantic": 0.7, "instance": 0.1, "depth": 0.2})
    rows = {row.name: row for row in EXPERIMENTS["ablations"].rows(Choices(found))}
    assert rows["depth-draw125"].arguments == ("tasks=[depth]", "weighting=equal", "data.draw=125")
    assert rows["three-resnet18"].rated_as == rows["three"]
    claims = {(claim.better, claim.worse) for claim in EXPERIMENTS["ablations"].orderings}
    assert ("three-draw125", "depth-draw125") in claims
    assert ("three-slow-s", "depth") in claims
    assert ("three-draw125", "depth") not in claims
    searched = rows["fixed-a-draw125"]
    assert searched.overrides == (*found.overrides, "data.draw=125")
    assert searched.rated_as == rows["fixed-a"]
    assert ("three-draw125", searched.key) in claims
    assert ("three-slow-s", rows["fixed-a"].key) in claims
    undecided = {row.name for row in EXPERIMENTS["ablations"].rows(Choices())}
    assert undecided == {name for name in rows if not name.startswith("fixed-a")}


def test_a_single_factor_is_every_experiment_s() -> None:
    figure = EXPERIMENTS["figure7"]
    assert Plan(figure, TASKS, [0], "test", [2.0], 9).rates == [2.0]
    assert Plan(figure, TASKS, [0], "test", [0.5, 1.0, 2.0], 9).rates == [1.0]


def test_no_run_is_named_twice() -> None:
    jobs = keys(plan(rates=[0.5, 1.0]).jobs(searched({"fixed0.25": 0.3, "fixed0.75": 0.4})))
    assert len(jobs) == len(set(jobs))


def test_rows_whose_task_has_no_labels_are_left_out() -> None:
    without = plan(tasks={"semantic": TASKS["semantic"]})
    assert {job.row.name for job in without.jobs({})} == {"semantic"}
    assert [row.name for row in without.left_out()] == ["equal", "three"]


def test_reported_are_the_seeds_that_are_done() -> None:
    results = {"equal/test-rate1-seed1": result("equal", {IOU: 0.5}, seed=1)}
    assert list(plan().reported(EQUAL, results)) == [1]
    assert plan().reported(LEARNED, results) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [0, 1, 0]}, "seeds: needed each seed once"),
        ({"seeds": []}, "seeds: needed each seed once, and one at least"),
        ({"seeds": 3}, "seeds: needed a list of whole numbers from 0 to 18446744073709551615, found 3"),
        ({"seeds": ["a"]}, "seeds: needed a list of whole numbers"),
        ({"rates": 1.0}, "rates: needed a list of numbers"),
        ({"split": "train"}, "split=train: needed one that nothing is trained on"),
        ({"split": "held_out"}, "split=held_out: needed one that nothing is trained on"),
        ({"search_seed": 1}, r"search_seed=1: needed a seed that is not reported, seeds=\[0, 1\]"),
        ({"seeds": [2**64]}, "seeds: needed a list of whole numbers from 0 to 18446744073709551615, found"),
        ({"search_seed": -1}, "search_seed: needed a whole number from 0 to 18446744073709551615, found -1"),
        ({"search_seed": "a"}, "search_seed: needed a whole number from 0 to 18446744073709551615, found 'a'"),
        ({"rates": [float("inf")]}, "rates: needed positive factors"),
        ({"seeds": [True]}, "seeds: needed a list of whole numbers"),
        ({"rates": []}, "rates: needed positive factors"),
        ({"rates": [1.0, 0.0]}, "rates: needed positive factors"),
        ({"rates": [1.0, 1.0]}, "rates: needed positive factors, each once"),
    ],
)
def test_plan_refuses_what_makes_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**arguments)
