"""Figures that the documentation quotes, against the stored runs and reports that they are from.

Not stored, and so not compared: figures of quickstart, of speed, of KITTI and CamVid, of grouping, of regressions with
older likelihoods, and of weights held fixed at the learned mean. Where two pages show the same figure they must agree.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from multitask.comparison.columns import HIGHER_IS_BETTER, TABLE1
from multitask.comparison.results import Result, load
from multitask.comparison.statistics import mean_and_deviation, mean_relative_improvement
from tests.compose import ROOT
from tests.documents import Table, by_name, named, numbers, same, table, tables

README, DOCS = ROOT / "README.md", ROOT / "docs"
TABLE1_PAGE, WEIGHTINGS_PAGE = DOCS / "results/table1.md", DOCS / "results/weightings.md"
EMBEDDED, NO_WARMUP = ROOT / "results/embedded", ROOT / "results/embedded_without_warmup"
SEARCHED = "fixed 0.67 : 0.03 : 0.3, searched"
FIXED = "fixed-semantic0.67-instance0.03-depth0.3"
COLUMNS = ("IoU, %", "instance error, px", "disparity error, px", "Delta m, %", "lr x", "s / run")


def report(name: str, folder: Path = EMBEDDED) -> Path:
    return folder / "reports" / name / "report.md"


def stored(name: str, folder: Path = EMBEDDED) -> dict[str, dict[str, str]]:
    """The rows of a report's main table."""
    return by_name(table(report(name, folder), "row", "lr x"))


def runs(row: str, rate: float, seeds: Iterable[int], folder: Path = EMBEDDED) -> list[Result]:
    return [load(folder / f"runs/{row}/test-rate{rate:g}-seed{seed}.json") for seed in seeds]


def spread(values: Sequence[float], digits: int) -> str:
    mean, deviation = mean_and_deviation(values)
    assert deviation is not None
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def in_seeds(row: str, rate: float, seeds: Sequence[int]) -> dict[str, str]:
    """What a report would say of a row in these seeds."""
    found = runs(row, rate, seeds)
    single = {"semantic": 4, "instance": 1, "depth": 2}
    alone = {task: runs(task, factor, seeds) for task, factor in single.items()}
    gains = []
    for place, run in enumerate(found):
        others = {key: alone[key.split("/")[0]][place].figures[key] for key in TABLE1}
        gain = mean_relative_improvement(run.figures, others, HIGHER_IS_BETTER)
        assert gain is not None
        gains.append(100 * gain)
    cells = {
        column.title: spread([column.scale * run.figures[key] for run in found], 3 if column.scale == 1 else 1)
        for key, column in TABLE1.items()
    }
    seconds = sum(run.seconds for run in found) / len(found)
    return cells | {"Delta m, %": spread(gains, 1), "lr x": f"{rate:g}", "s / run": f"{seconds:.0f}"}


def compare(shown: dict[str, str], kept: dict[str, str], columns: Iterable[str] | None = None) -> list[str]:
    """Columns in which a row of a page differs from a stored one; all that both have, by default."""
    both = [column for column in columns or shown if column in shown and column in kept]
    assert both
    return [
        f"{column}: {shown[column]}, stored: {kept[column]}" for column in both if not same(shown[column], kept[column])
    ]


@pytest.mark.parametrize(
    ("page", "title", "name", "folder", "renamed"),
    [
        (
            TABLE1_PAGE, "row", "table1", EMBEDDED,
            {"fixed 0.67 : 0.03 : 0.3, the best of sixteen": SEARCHED,
             "the same, rescaled to the learned sum, 1.9": "fixed 0.67 : 0.03 : 0.3, rescaled to sum 1.9"},
        ),
        (
            TABLE1_PAGE, "row, without warm-up", "table1", NO_WARMUP,
            {"fixed 0.8 : 0.1 : 0.1, the best of sixteen": "fixed 0.8 : 0.1 : 0.1, searched"},
        ),
        (
            README, "three tasks in one network", "table1", EMBEDDED,
            {"fixed weights, the best of sixteen": SEARCHED, "learned weights": "three tasks, learned"},
        ),
        (DOCS / "method.md", "start", "figure6", EMBEDDED, {"0 (default, and in table 1)": "0"}),
        (
            DOCS / "results/likelihoods.md", "likelihood", "likelihoods", EMBEDDED,
            {"the paper's form (default, and in table 1)": "three tasks, learned"},
        ),
        (
            WEIGHTINGS_PAGE, "weighting", "weightings", EMBEDDED,
            {"uncertainty, the paper's": "uncertainty", "fixed, the best of sixteen": ""},
        ),
    ],
)  # fmt: skip
def test_table_says_what_its_report_says(
    page: Path, title: str, name: str, folder: Path, renamed: dict[str, str]
) -> None:
    kept = {row.removeprefix("start "): cells for row, cells in stored(name, folder).items()}
    weights = by_name(next((t for t in tables(report(name, folder)) if "ratio" in t[0]), []))
    kept |= {"": in_seeds(FIXED, 4, range(3)), "each task alone, in three networks": alone(stored("table1"))}
    wrong = []
    for row, shown in by_name(table(page, title)).items():
        key = renamed.get(row, re.sub(r"^([\w-]+) \(`jacobian`\)$", r"Jacobian, \1", row))
        wrong += [f"{row}: {text}" for text in compare(shown, kept[key], COLUMNS)]
        if "weights" in shown and key in weights and not same(shown["weights"], weights[key]["ratio"]):
            wrong.append(f"{row}: weights {shown['weights']}, stored: {weights[key]['ratio']}")
    assert wrong == []


def alone(kept: dict[str, dict[str, str]]) -> dict[str, str]:
    """Three rows of a single task as one."""
    titles = {"semantic only": COLUMNS[0], "instance only": COLUMNS[1], "depth only": COLUMNS[2]}
    return {title: kept[row][title] for row, title in titles.items()}


@pytest.mark.parametrize(
    ("first", "name", "ends", "learned"),
    [
        ("2a: semantic : depth", "figure2a", ("semantic only", "depth only"), "semantic + depth, learned"),
        ("2b: instance : depth", "figure2b", ("instance only", "depth only"), "instance + depth, learned"),
    ],
)
def test_figure_2_says_what_its_reports_say(first: str, name: str, ends: tuple[str, str], learned: str) -> None:
    kept, wrong = stored(name), []
    for row, shown in by_name(table(DOCS / "results/figure2.md", first.partition(": ")[2])).items():
        if row.endswith("alone"):
            cells = {title: text for end in ends for title, text in kept[end].items() if any(numbers(text))}
        elif row.startswith("learned"):
            cells = kept[f"{learned}, sum 1" if "sum 1" in row else learned]
        else:
            cells = kept[f"fixed {row.split(',')[0]}"]
        wrong += [f"{row}: {text}" for text in compare(shown, cells) if text]
    assert wrong == []


def test_ablations_are_those_of_the_report() -> None:
    kept, wrong = stored("ablations"), []
    single = ("semantic only", "instance only", "depth only")
    groups = {
        "single tasks": single,
        "searched weights": (SEARCHED,) * 3,
        "learned weights": ("three tasks, learned",) * 3,
    }
    for row, shown in by_name(table(DOCS / "results/ablations.md", "single tasks")).items():
        ending = "" if row.startswith("as in table 1") else f", {row}"
        for column, names in groups.items():
            if not shown[column]:
                continue
            means = [kept[one + ending][title].partition("±")[0] for one, title in zip(names, COLUMNS, strict=False)]
            if not same(shown[column], " / ".join(means)):
                wrong.append(f"{row}, {column}: {shown[column]}, stored: {means}")
    assert wrong == []


def test_learning_rates_tried_are_those_of_the_report() -> None:
    tried = by_name(table(report("table1"), "0.5", "16"))
    names = {"learned": "three tasks, learned", "searched": SEARCHED}
    shown = by_name(table(TABLE1_PAGE, "lr x 4"))
    wrong = [
        f"{row}, {rate}: {shown[row][f'lr x {rate}']}"
        for row, name in names.items()
        for rate in ("2", "4")
        if not same(shown[row][f"lr x {rate}"].replace("%", "").replace("px", ""), tried[name][rate].strip("*"))
    ]
    assert wrong == []


def test_noise_is_that_of_figure_7() -> None:
    lines = re.findall(r"= \((.*?)\), inverse (.*?)(?:;|$)", report("figure7").read_text(), re.MULTILINE)
    here = [row for row in table(DOCS / "method.md", "figure 7", "1 / sigma^2") if "here" in row["figure 7"]]
    paper = [row for row in table(DOCS / "method.md", "figure 7", "1 / sigma^2") if "paper" in row["figure 7"]]
    for row, (noise, inverse) in zip([*here, *paper], lines, strict=True):
        assert same(row["sigma^2 of semantic, instance, depth"], noise)
        assert same(row["1 / sigma^2"], inverse)


def test_starts_without_warm_up_are_those_of_their_report() -> None:
    kept = stored("figure6", NO_WARMUP)
    shown = table(DOCS / "method.md", "start")
    assert len(shown) == 8
    for row in shown:
        found = kept[f"start {row['start'].split()[0]}"]["IoU, %"]
        assert same(row["IoU, % without warm-up"], found)


def claims(name: str, folder: Path = EMBEDDED) -> Table:
    return table(report(name, folder), "claim", "95 % interval")


@pytest.mark.parametrize(("page", "name"), [(TABLE1_PAGE, "table1"), (WEIGHTINGS_PAGE, "weightings")])
def test_differences_and_intervals_are_those_of_claims(page: Path, name: str) -> None:
    kept = [(claim["by"], claim["95 % interval"].replace("to", " ").replace("+", "")) for claim in claims(name)]
    text = " ".join(page.read_text().split())
    quoted = list(re.finditer(r"([^()]*)\((-?[\d.]+) to (-?[\d.]+)(?: px)?\)", text))
    assert len(quoted) > 3
    unknown = []
    for match in quoted:
        by = re.findall(r"(?<![\w.])\d+\.\d+", match[1])[-1:]
        low, high = match[2], match[3]
        both = (f"{low} {high}", f"{_minus(high)} {_minus(low)}")
        found = [kept_by for kept_by, interval in kept if any(same(one, interval) for one in both)]
        if not any(not by or same(by[0], kept_by.lstrip("+-")) for kept_by in found):
            unknown.append(match[0][-60:])
    assert unknown == []


def _minus(number: str) -> str:
    return number[1:] if number.startswith("-") else f"-{number}"


def test_numbers_of_verdicts_are_those_of_the_reports() -> None:
    ordered, words = claims("table1")[:45], " ".join(TABLE1_PAGE.read_text().split())
    intervals = [[number for number, _ in numbers(claim["95 % interval"].replace("to", " "))] for claim in ordered]
    verdicts = [claim["verdict"] for claim in ordered]
    assert (verdicts.count("holds"), verdicts.count("does not hold"), verdicts.count("undecided")) == (9, 1, 35)
    assert "Of the paper's 45 orderings 9 hold, one does not, and 35 are undecided" in words
    assert (sum(low > 0 for low, _ in intervals), sum(high < 0 for _, high in intervals)) == (25, 8)
    assert "speak for 25 of the orderings and against 8" in words
    assert len(claims("table1")) == 68
    assert "all 68 claims" in words
    assert "all 68 claims" in " ".join(README.read_text().split())
    found = claims("weightings")
    of_all = [[number for number, _ in numbers(claim["95 % interval"].replace("to", " "))] for claim in found]
    assert (len(found), sum(low > 0 for low, _ in of_all), sum(high < 0 for _, high in of_all)) == (52, 24, 4)
    assert [claim["verdict"] for claim in found].count("holds") == 1
    assert "24 of which are above zero and 4 below" in " ".join(WEIGHTINGS_PAGE.read_text().split())


def test_searched_weights_in_the_seeds_of_the_likelihoods() -> None:
    kept = in_seeds(FIXED, 4, range(3))
    text = (DOCS / "results/likelihoods.md").read_text()
    (shown,) = re.findall(r"reach ([\d.]+) % / ([\d.]+) px / ([\d.]+) px", text)
    assert all(same(one, kept[title].partition("±")[0]) for one, title in zip(shown, COLUMNS, strict=False))


def test_readme_s_first_table_says_what_the_pages_say() -> None:
    titles = COLUMNS[:3]
    quickstart, table1, streets, paper = table(README, "network", "data")
    shown = {
        name: [by_name(found)[name] for found in tables(DOCS / "results/quickstart.md")]
        for name in ("network", "position prior")
    }
    columns = ("IoU class, %", "vector error L1, px", "disparity error L1, px")
    for title, column, network, prior in zip(titles, columns, shown["network"], shown["position prior"], strict=True):
        assert same(quickstart[title], f"{network[column]} ({prior[column]})")
    found = runs("three", 2, range(5))
    for title, (key, column) in zip(titles, TABLE1.items(), strict=True):
        prior = sum(run.figures[f"position_prior/{key}"] for run in found) / len(found)
        assert same(table1[title], f"{stored('table1')['three tasks, learned'][title]} ({column.scale * prior:.4f})")
        assert same(paper[title], stored("table1")["three tasks, learned"][f"paper: {title}"])
    means = by_name(table(DOCS / "photographs.md", "block"))["mean"]
    for title, column in zip(titles, ("IoU, %", "vectors, px", "disparity, px"), strict=True):
        assert same(streets[title], means[column])


def test_means_of_the_blocks_of_kitti_are_means() -> None:
    *blocks, mean = table(DOCS / "photographs.md", "block")
    for column in mean.keys() - {"block"}:
        values = [[number for number, _ in numbers(row[column])] for row in blocks]
        for place, (shown, half) in enumerate(numbers(mean[column])):
            assert shown == pytest.approx(sum(value[place] for value in values) / 5, abs=2.01 * half), column


def test_a_wrong_figure_would_be_found() -> None:
    assert same("8.29 ± 0.35", "8.285 ± 0.347")
    assert same("59.0", "59")
    assert not same("8.31 ± 0.35", "8.285 ± 0.347")
    assert not same("8.29", "8.285 ± 0.347")
    assert named(report("table1")) == "results/embedded/reports/table1/report.md"
    assert json.loads((EMBEDDED / "runs/three/test-rate2-seed0.json").read_text())["row"] == "three"
