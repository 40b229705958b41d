import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from multitask.comparison.experiments import EXPERIMENTS
from multitask.comparison.plan import Plan
from multitask.comparison.report import Report
from multitask.comparison.results import Result
from multitask.comparison.rows import Choices, Ordering
from multitask.reporting.plots import canvas
from tests.comparison.made import CANDIDATES, DISPARITY, EQUAL, EXPERIMENT, IOU, TASKS, result

CONFIG = {
    "data.name": "made",
    "data.image_size": [4, 8],
    "data.draw": 16,
    "model.encoder": "resnet18",
    "trainer.max_steps": 100,
    "trainer.batch_size": 8,
}


def results(values: dict[str, list[tuple[float, float]]]) -> dict[str, Result]:
    """Row -> (IoU, disparity error) by seed."""
    return {
        f"{row}/test-rate1-seed{seed}": result(row, {IOU: iou, DISPARITY: error}, seed=seed, config=CONFIG)
        for row, pairs in values.items()
        for seed, (iou, error) in enumerate(pairs)
    }


DONE = results(
    {
        "three": [(0.50, 0.5), (0.52, 0.6), (0.54, 0.4)],
        "equal": [(0.40, 0.45), (0.43, 0.65), (0.43, 0.41)],
        "semantic": [(0.30, 0.0)],
    }
)


def report(done: dict[str, Result] = DONE, **failed: str) -> Report:
    return Report(Plan(EXPERIMENT, TASKS, [0, 1, 2], "test", [1.0], 9), done, failed)


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_report_table_hand_worked() -> None:
    text = report().text()
    assert cells(text, "row")[1:] == [
        "IoU, %", "disparity error, px", "paper: IoU, %", "paper: disparity error, px", "lr x", "runs", "s / run",
    ]  # fmt: skip
    assert cells(text, "learned ")[1:3] == ["**52.0 ± 2.0**", "0.500 ± 0.100"]
    assert cells(text, "learned ")[3:] == ["63.4", "0.522", "1", "3", "60"]
    assert cells(text, "equal")[1:3] == ["42.0 ± 1.7", "0.503 ± 0.129"]
    assert cells(text, "semantic only")[1:] == ["30.0", "**0.000**", "-", "-", "1", "1", "60"]
    assert (
        "made, 4 x 8 px, 16 training images drawn by the seed, resnet18, 100 steps of 8, float32 on cpu; split test"
        in text
    )


def test_report_names_all_numbers_of_images_that_are_drawn() -> None:
    config = DONE[next(iter(DONE))].config
    done = {
        key: replace(one, config={**config, "data.draw": (4, 16, 8)[place % 3]})
        for place, (key, one) in enumerate(DONE.items())
    }
    assert " px, 4 or 8 or 16 training images drawn" in report(done).text()
    done = {key: replace(one, config={**config, "data.draw": None}) for key, one in DONE.items()}
    assert " px, all training images, resnet18" in report(done).text()
    some = {**done, "equal/test-rate1-seed0": DONE["equal/test-rate1-seed0"]}
    assert " px, 16 training images drawn by the seed or all training images, resnet18" in report(some).text()


def verdicts_of(text: str) -> list[list[str]]:
    """What stands behind the rows of each claim that the learned weights are better than equal ones."""
    lines = [line for line in text.splitlines() if line.startswith("| learned | better than | equal")]
    return [[cell.strip() for cell in line.strip("|").split("|")][3:] for line in lines]


def test_report_verdicts_hand_worked() -> None:
    # IoU: differences 0.10, 0.09, 0.11: mean 0.10, deviation 0.01, half width 4.303 * 0.01 / sqrt(3) = 0.0248. With two
    # degrees of freedom P(T > t) = (1 - t / sqrt(t^2 + 2)) / 2, here of t = 17.3, and the least of four p-values.
    # Errors: differences -0.05, 0.05, 0.01, for which t = 0.115, p = 0.46 and, corrected, 1.
    text = report().text()
    assert verdicts_of(text) == [
        ["IoU, %", "+10", "+7.52 to +12.5", "3", "0.0066", "holds"],
        ["disparity error, px", "+0.00333", "-0.122 to +0.128", "3", "1", "undecided"],
    ]
    (method,) = (line for line in text.splitlines() if line.startswith("2 claims, each by its paired difference"))
    assert "each of the 2 claims of 3 seeds or more is tested both ways" in method
    assert "all 4 p-values of this table are corrected together by Holm's step-down method" in method
    assert method.endswith("Verdicts: holds 1, undecided 1:")


def test_report_has_mean_weights_of_rows_with_several_tasks() -> None:
    found = [DONE[f"three/test-rate1-seed{seed}"] for seed in (0, 1)]
    weights: list[dict[str, float]] = [{"semantic": 1.0, "depth": 0.2}, {"semantic": 2.0, "depth": 0.4}]
    runs = {
        f"three/test-rate1-seed{run.seed}": replace(run, mean_weights=means)
        for run, means in zip(found, weights, strict=True)
    }
    diverged = {"three/test-rate1-seed2": replace(found[0], seed=2, figures={}, mean_weights={"semantic": math.nan})}
    text = report(DONE | runs | diverged).text()
    heading = ["mean weights", "semantic", "instance", "depth", "sum", "ratio"]
    assert cells(text, "mean weights") == heading
    table = text[text.index("| mean weights") :].split("\n\n")[0]
    assert cells(table, "learned")[1:] == ["1.5", "-", "0.3", "1.8", "5 : 1"]
    assert cells(table, "equal")[1:] == ["1", "-", "1", "2", "1 : 1"]
    assert "semantic only" not in table
    assert "mean weights" not in report(results({"semantic": [(0.3, 0.0)]})).text()


def test_report_half_way_says_what_is_missing() -> None:
    text = report(results({"equal": [(0.4, 0.5)]}), **{"three/test-rate1-seed0": "error: no luck"}).text()
    assert "* learned: no finished run" in text
    assert "* three/test-rate1-seed0 failed: error: no luck" in text
    assert "better than" not in text
    assert "No run is finished yet." in report({}).text()


AHEAD = [(0.50, 0.5), (0.52, 0.6), (0.54, 0.4), (0.55, 0.5)]
BEHIND = [(0.40, 0.5), (0.43, 0.6), (0.43, 0.4), (0.45, 0.5)]


def of_four(ahead: str, behind: str, diverged: str = "") -> str:
    """The report of two rows with four seeds, the first of which diverged where a row is named."""
    done = results({ahead: AHEAD, behind: BEHIND})
    if diverged:
        done[f"{diverged}/test-rate1-seed0"] = result(diverged, {}, seed=0, config=CONFIG)
    return Report(Plan(EXPERIMENT, TASKS, [0, 1, 2, 3], "test", [1.0], 9), done, {}).text()


def test_report_does_not_praise_a_row_that_diverged() -> None:
    text = of_four("three", "equal", diverged="three")
    row = cells(text, "learned ")
    assert row[1] == "53.7 ± 1.5", "of the three that are left, and not in bold"
    assert row[-2:] == ["4, 1 diverged", "60"]
    assert verdicts_of(text)[0][3:] == ["3", "0.0066", "undecided"], "0.09, 0.11 and 0.10 would have held"
    assert "* three/test-rate1-seed0: diverged" in text
    why = "No verdict praises a row with a seed that diverged"
    assert why in text
    assert why not in of_four("three", "equal")
    assert why not in of_four("three", "equal", diverged="equal")


def test_report_does_not_praise_the_other_row_if_that_diverged() -> None:
    assert verdicts_of(of_four("equal", "three"))[0][-1] == "does not hold"
    assert verdicts_of(of_four("equal", "three", diverged="equal"))[0][-1] == "undecided"


def test_report_blames_a_row_that_diverged_where_it_is_behind() -> None:
    assert verdicts_of(of_four("three", "equal", diverged="equal"))[0][-1] == "holds"


def test_claim_about_a_row_that_always_diverged_has_too_few_seeds() -> None:
    lost = {f"three/test-rate1-seed{seed}": result("three", {}, seed=seed, config=CONFIG) for seed in range(3)}
    text = report(DONE | lost).text()
    assert verdicts_of(text)[0] == ["IoU, %", "-", "-", "0", "-", "too few seeds"]
    assert "\n2 claims, each by" in text


def test_report_says_how_many_claims_it_has_runs_for() -> None:
    experiment = replace(EXPERIMENT, orderings=[*EXPERIMENT.orderings, Ordering("three", "semantic-depth", IOU, True)])
    text = Report(Plan(experiment, TASKS, [0, 1, 2], "test", [1.0], 9), DONE, {}).text()
    assert "\n2 of 3 claims, each by" in text


def test_report_says_what_the_weights_sum_to() -> None:
    def text(wanted: float | None) -> str:
        config = {**CONFIG, "weighting.sum": wanted}
        return report({"equal/test-rate1-seed0": result("equal", {IOU: 0.5}, config=config)}).text()

    assert "Weights have the sum that each row gives them, but where it says otherwise." in text(None)
    assert "Weights are scaled to the sum 1.0, but where a row says otherwise." in text(1.0)


def test_report_has_the_paper_s_noise_beside_ours() -> None:
    lines = report().text().splitlines()
    assert "* step 10: sigma^2 of semantic, depth = (0.5, 0.5), inverse 1 : 1; weights 1 : 1" in lines
    assert "* the paper's, at the end: sigma^2 of semantic, depth = (0.075, 3.25), inverse 43.3 : 1" in lines


def test_report_says_which_rows_need_an_optional_library() -> None:
    text = Report(Plan(replace(EXPERIMENT, missing="rows of glass: left out"), TASKS, [0], "test", [1.0], 9), {}, {})
    assert "* rows of glass: left out" in text.text().splitlines()


def test_report_says_which_learning_rates() -> None:
    def setting(rates: list[float], name: str = "table1") -> str:
        # The text has this line only beside results, of which every experiment would need its own.
        return Report(Plan(EXPERIMENTS[name], TASKS, [0], "test", rates, 9), {}, {})._learning_rates()

    assert "Learning rates are the default (choices on" in report().text()
    chosen = "(choices on held-out training images, seed 9)"
    assert setting([1.0]) == f"the default {chosen}"
    assert setting([2.0]) == f"2 times the default {chosen}"
    beyond = "and beyond where the best is at an end, chosen for each row"
    assert setting([1.0, 2.0]) == f"1 or 2 times the default, {beyond} {chosen}"
    assert setting([1.0, 2.0], "figure7") == "the default"


def test_report_says_where_the_best_learning_rate_was_the_last_one_tried() -> None:
    def rate(best: float) -> str:
        done = {
            f"equal/held_out-rate{rate:g}-seed9": result(
                "equal", {IOU: 0.5 - abs(rate - best) / 100, DISPARITY: 1.0}, "held_out", rate, 9
            )
            for rate in (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
        }
        plan = Plan(EXPERIMENT, TASKS, [0], "test", [0.5, 1.0, 2.0], 9)
        return cells(Report(plan, done, {}).text(), "equal")[-3]

    assert rate(1.0) == "1"
    assert rate(8.0) == "8"
    assert rate(16.0) == "16, an end"
    assert rate(0.0) == "0.0625, an end"


def test_report_shows_what_was_tried() -> None:
    tried = {
        f"{name}/held_out-rate{rate:g}-seed9": result(name, figures, "held_out", rate, 9)
        for name, rate, figures in (
            ("equal", 1.0, {IOU: 0.3, DISPARITY: 1.0}),
            ("equal", 2.0, {IOU: 0.2, DISPARITY: 1.0}),
            ("equal", 0.5, {}),
            ("semantic", 1.0, {IOU: 0.4}),
            ("fixed0.25", 1.0, {IOU: 0.1, DISPARITY: 2.0}),
            ("fixed0.75", 1.0, {IOU: 0.2, DISPARITY: 1.5}),
        )
    }
    text = Report(Plan(EXPERIMENT, TASKS, [0], "test", [0.5, 1.0, 2.0], 9), tried, {}).text()
    assert "Learning rates tried, on held-out training images with seed 9" in text
    rates = text[text.index("Learning rates tried") :]
    assert cells(rates, "lr x") == ["lr x", "0.5", "1", "2"]
    assert cells(rates, "equal") == ["equal weights", "diverged", "**30.0 / 1.000**", "20.0 / 1.000"]
    assert cells(rates, "semantic only") == ["semantic only", "", "40.0", ""]
    weights = text[text.index("Fixed weights tried") :]
    assert cells(weights, "fixed 0.25") == ["fixed 0.25", "10.0 / 2.000"]
    assert cells(weights, "fixed 0.75") == ["fixed 0.75", "**20.0 / 1.500**"]
    assert "tried" not in report().text()


def test_a_row_that_takes_another_s_learning_rate_is_not_among_those_tried() -> None:
    longer = replace(EQUAL, name="equal-longer", title="longer", rated_as=EQUAL)
    experiment = replace(EXPERIMENT, rows=lambda _: [longer], candidates=())
    tried = {
        f"equal/held_out-rate{rate:g}-seed9": result("equal", {IOU: iou, DISPARITY: 1.0}, "held_out", rate, 9)
        for rate, iou in ((0.5, 0.3), (1.0, 0.4), (2.0, 0.3))
    }
    done = {"equal-longer/test-rate1-seed0": result("equal-longer", {IOU: 0.5, DISPARITY: 1.0}, config=CONFIG)}
    text = Report(Plan(experiment, TASKS, [0], "test", [0.5, 1.0, 2.0], 9), tried | done, {}).text()
    assert cells(text, "longer")[-3:] == ["1", "1", "60"]
    rates = text[text.index("Learning rates tried") :]
    assert "**40.0 / 1.000**" in cells(rates, EQUAL.title)
    assert "longer" not in rates


def test_report_leaves_out_rows_without_labels() -> None:
    plan = Plan(EXPERIMENT, {"semantic": TASKS["semantic"]}, [0], "test", [1.0], 9)
    text = Report(plan, DONE, {}).text()
    left_out = [line for line in text.splitlines() if "no labels" in line]
    assert left_out == [
        "* left out, no labels: equal weights; learned",
        "* fixed weights, searched: left out, no labels",
    ]
    assert plan.expected(DONE) == 1
    assert "| learned" not in text


def test_report_writes_figures(tmp_path: Path) -> None:
    paths = report().write(tmp_path)
    assert [path.name for path in paths] == ["report.md", "weights.png", "training.png"]
    for path in paths[1:]:
        with Image.open(path) as picture:
            assert picture.width > 400


def test_report_of_a_sweep_plots_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = EXPERIMENTS["figure2a"]
    learned = ["semantic + depth, learned", "semantic + depth, learned, sum 1"]
    plan = Plan(experiment, TASKS, [0, 1], "test", [1.0], 9)
    done = {}
    for row in plan.rows({}):
        for seed in (0, 1):
            values = {IOU: 0.5, DISPARITY: 0.5 + seed / 10}
            figures = {key: value for key, value in values.items() if key.partition("/")[0] in row.tasks}
            made = result(row.name, figures, seed=seed, config=CONFIG)
            done[f"{row.name}/test-rate1-seed{seed}"] = made
    sweep = Report(plan, done, {})
    assert sum("sum 1" in line for line in sweep.text().splitlines() if line.startswith("| semantic + depth")) > 1
    plot = canvas(10, 4)
    monkeypatch.setattr("multitask.comparison.sweep.canvas", lambda *size: plot)
    assert "sweep.png" in {path.name for path in sweep.write(tmp_path)}
    swept = {float(x) for axes in plot[0].axes[:2] for x in axes.lines[0].get_xdata()}
    assert sorted(swept) == [*(0, 0.1, 0.2, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1)]
    iou, disparity = plot[0].axes
    assert [axes.get_ylabel() for axes in (iou, disparity)] == ["IoU, %", "disparity error, px"]
    (points, _, (bars,)) = disparity.containers[0]
    assert list(points.get_xdata()) == [0, 0.1, 0.2, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975], "without semantic only"
    assert points.get_ydata() == pytest.approx([0.55] * 10)
    assert bars.get_segments()[0][:, 1] == pytest.approx([0.55 - 0.1 / 2**0.5, 0.55 + 0.1 / 2**0.5])
    assert list(iou.containers[0][0].get_xdata())[-1] == 1, "semantic only"
    (legend,) = plot[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [*learned, "fixed"]
    assert [line.get_ydata()[0] for line in disparity.get_lines() if line.get_label() in learned] == [0.55, 0.55]


def test_report_of_a_sweep_without_the_other_task_s_labels(tmp_path: Path) -> None:
    plan = Plan(EXPERIMENTS["figure2a"], {"semantic": TASKS["semantic"]}, [0], "test", [1.0], 9)
    done = {"semantic/test-rate1-seed0": result("semantic", {IOU: 0.5}, config=CONFIG)}
    assert "sweep.png" in {path.name for path in Report(plan, done, {}).write(tmp_path)}


@pytest.mark.parametrize("name", ["figure2a", "transfer"])
def test_report_of_runs_that_all_diverged_plots_nothing(name: str, tmp_path: Path) -> None:
    plan = Plan(EXPERIMENTS[name], TASKS, [0], "test", [1.0], 9)
    row = plan.rows({})[0]
    lost = {f"{row.name}/test-rate1-seed0": result(row.name, {}, config=CONFIG)}
    assert [path.name for path in Report(plan, lost, {}).write(tmp_path)] == ["report.md"]


@pytest.mark.parametrize(
    ("name", "row", "title", "other"),
    [("weightings", "dwa", "DWA", "RLW"), ("table1", "three", "three tasks, learned ", "three tasks, learned, sum 1")],
)
def test_mean_improvement_is_against_the_single_tasks(name: str, row: str, title: str, other: str) -> None:
    plan = Plan(EXPERIMENTS[name], TASKS, [0], "test", [1.0], 9)
    vector = "instance/mean_error_px"
    done = {
        "semantic/test-rate1-seed0": result("semantic", {IOU: 0.5}, config=CONFIG),
        "instance/test-rate1-seed0": result("instance", {vector: 10.0}, config=CONFIG),
        "depth/test-rate1-seed0": result("depth", {DISPARITY: 2.0}, config=CONFIG),
        f"{row}/test-rate1-seed0": result(row, {IOU: 0.6, vector: 9.0, DISPARITY: 2.0}, config=CONFIG),
    }
    text = Report(plan, done, {}).text()
    assert "Delta m is the mean relative improvement" in text
    assert cells(text, title)[4] == "10.0"
    assert cells(text, other)[4] == "-"


def test_mean_improvement_is_claimed_and_marked_like_other_columns() -> None:
    experiment = EXPERIMENTS["weightings"]
    plan = Plan(replace(experiment, rows=lambda _: experiment.rows(Choices())[:5]), TASKS, [0, 1, 2], "test", [1.0], 9)
    done = {}
    for seed, (learned, equal) in enumerate([(0.60, 0.50), (0.66, 0.55), (0.63, 0.54)]):
        for row in plan.rows({}):
            values = {"three": learned, "equal": equal}
            figures = {IOU: values.get(row.name, 0.5), "instance/mean_error_px": 10.0, DISPARITY: 2.0}
            of_tasks = {key: value for key, value in figures.items() if key.partition("/")[0] in row.tasks}
            made = result(row.name, of_tasks, seed=seed, config=CONFIG)
            done[f"{row.name}/test-rate1-seed{seed}"] = made
    text = Report(plan, done, {}).text()
    # A third of 20, 32 and 26 %, and of 0, 10 and 8 %.
    assert cells(text, "uncertainty ")[4] == "**8.7 ± 2.0**"
    assert cells(text, "equal weights")[4] == "2.0 ± 1.8"
    (claim,) = (line for line in text.splitlines() if "| uncertainty | better than |" in line and "Delta m, %" in line)
    # Differences 20/3, 22/3, 18/3: mean 6.67, deviation 0.667, half width 4.303 * 0.667 / sqrt(3) = 1.66; t = 17.3.
    assert [cell.strip() for cell in claim.split("|")][4:8] == ["Delta m, %", "+6.67", "+5.01 to +8.32", "3"]


def test_every_experiment_names_its_rows_once() -> None:
    for experiment in EXPERIMENTS.values():
        rows = experiment.rows(Choices(CANDIDATES[0], learned_sum=1.9))
        arguments = [tuple(sorted(row.arguments)) for row in rows]
        for names in ([row.name for row in rows], [row.key for row in rows], arguments):
            assert len(names) == len(set(names))
        keys = {row.key for row in rows}
        assert {name for claim in experiment.orderings for name in (claim.better, claim.worse)} <= keys
        assert {row.key for row in experiment.rows(Choices())} <= keys


def test_report_puts_searched_and_learned_weights_side_by_side() -> None:
    found = {
        f"{row.name}/held_out-rate1-seed9": result(row.name, {IOU: iou, DISPARITY: 1.0}, "held_out", 1, 9)
        for row, iou in zip(CANDIDATES, (0.3, 0.4), strict=True)
    }
    reported = results({"fixed0.75": [(0.4, 1.0)], "three": [(0.5, 0.5)]})  # whose cost is not that of the search
    rate = {"fixed0.75/held_out-rate0.5-seed9": result("fixed0.75", {IOU: 0.1, DISPARITY: 1.0}, "held_out", 0.5, 9)}
    rates = Plan(EXPERIMENT, TASKS, [0, 1, 2], "test", [0.5, 1.0], 9)
    assert "weights took 2 runs and 120 s" in Report(rates, found | reported | rate, {}).text()
    text = report(found | reported).text()
    assert "The search for fixed weights took 2 runs and 120 s, against 60 s of one run that learns them:" in text
    assert cells(text, "weights") == ["weights", "semantic", "depth", "sum", "semantic : depth"]
    assert cells(text, "fixed weights, searched") == ["fixed weights, searched", "0.75", "0.25", "1", "3 : 1"]
    assert cells(text, "learned, mean over training")[1:] == ["0.5", "0.5", "1", "1 : 1"]
    assert cells(text, "learned, at the end")[1:] == ["0.5", "0.5", "1", "1 : 1"]
