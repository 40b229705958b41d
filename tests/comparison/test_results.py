import json
from pathlib import Path

import pytest

from multitask.comparison.results import Result, load, make_result, save
from multitask.engine.history import early_entry

WEIGHTS = [
    {"step": 10.0, "loss/total": 3.0, "weight/semantic": 0.25, "weight/depth": 1.0, "images_per_second": 9.0},
    {"step": 20.0, "loss/total": 2.0, "weight/semantic": 0.75},
    {"step": 30.0, "loss/total": 1.0, "weight/semantic": 0.5, "weight/depth": 3.0},
    {"step": 30.0, "run/seconds": 7.0},
]


def made(history: list[dict[str, float]]) -> Result:
    return make_result("row", "test", 1, 0, {"seed": 0}, {"depth/mean_error_px": 2.0}, "float32 on cpu", history)


def test_weights_are_averaged_over_the_steps_that_have_them() -> None:
    assert made(WEIGHTS).mean_weights == {"semantic": 0.5, "depth": 2.0}
    assert made(WEIGHTS[-1:]).mean_weights == {}


def test_history_is_kept_of_runs_that_learn_their_weights() -> None:
    assert made(WEIGHTS).history == []
    learned = [entry | {"log_variance/semantic": 1.0} for entry in WEIGHTS[:3]] + WEIGHTS[3:]
    kept = made(learned).history
    assert [entry["step"] for entry in kept] == [10, 20, 30]
    assert kept[0] == {
        "step": 10,
        "loss/total": 3,
        "weight/semantic": 0.25,
        "weight/depth": 1,
        "log_variance/semantic": 1,
    }


@pytest.mark.parametrize("steps", [1, 59, 60, 61, 120, 121, 1000])
def test_a_long_history_is_thinned_and_keeps_its_ends(steps: int) -> None:
    history = [{"step": float(step), "log_variance/depth": 0.0, "weight/depth": float(step)} for step in range(steps)]
    kept = made(history)
    places = [entry["step"] for entry in kept.history]
    assert len(places) <= 62
    assert places[0] == 0
    assert places[-1] == steps - 1
    assert places == sorted(set(places))
    assert min(abs(place - (steps - 1) / 10) for place in places) <= 0.5, "the tenth, for figure 7"
    even = {*range(0, steps, -(-steps // 60)), steps - 1}
    assert kept.mean_weights["depth"] == pytest.approx(sum(even) / len(even))
    assert even <= set(places)


@pytest.mark.parametrize(("last", "step"), [(50_000, 500), (5_000, 500), (1_200, 120), (700, 60), (10, 10)])
def test_figure_7_begins_at_step_500_or_a_tenth_of_the_training(last: int, step: int) -> None:
    history = [{"step": float(at), "log_variance/depth": 1.0, "weight/depth": 1.0} for at in range(10, last + 1, 10)]
    assert early_entry(history)["step"] == pytest.approx(step, abs=10)
    assert early_entry(made(history).history) == early_entry(history)


def test_an_older_file_has_mean_weights_where_it_has_a_history(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    learned = [entry | {"log_variance/semantic": 1.0} for entry in WEIGHTS[:3]]
    for history in (learned, WEIGHTS):
        result = made(history)
        save(path, result)
        assert load(path) == result
        content = json.loads(path.read_text())
        del content["mean_weights"]
        path.write_text(json.dumps(content))
        assert load(path).mean_weights == (result.mean_weights if history is learned else {})


@pytest.mark.parametrize("key", ["config", "figures", "mean_weights", "history"])
@pytest.mark.parametrize("value", [None, [1], 3])
def test_values_of_another_kind_are_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "result.json"
    save(path, made(WEIGHTS))
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=rf"result\.json: not the result of a run \({key}: needed "):
        load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"row": "a", "history": []}', '{"history": 3}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"result\.json: not the result of a run .*; delete it to run this again"):
        load(path)
