import copy
from typing import Any

import pytest
import torch

from multitask.engine.state import KEYS, check_kinds, check_resumable
from multitask.errors import UserError
from tests.states import state

WHOLE = {"version": 1, **state(), "seconds": 1.5, "frames": "3 frames"}

DEEP: list[Any] = []
for _ in range(50):
    DEEP = [DEEP]

BOMB: list[Any] = ["a"] * 10
for _ in range(12):
    BOMB = [BOMB] * 10

CIRCLE: dict[str, Any] = {}
CIRCLE["circle"] = CIRCLE


def test_kinds_of_a_whole_checkpoint_are_right() -> None:
    assert WHOLE.keys() - {"seconds", "frames"} == KEYS
    check_kinds({key: value for key, value in WHOLE.items() if key in KEYS}, "x")
    check_kinds({**WHOLE, "score": float("-inf"), "config": {"a": [1, 2.5, None, "x", True, {"b": 2**64 - 1}]}}, "x")


@pytest.mark.parametrize("value", [None, "text", -1, 2**70, 1.5, True, [3], {3: 4}, {"a": "b"}, torch.ones(2), b"x"])
@pytest.mark.parametrize("key", sorted(WHOLE))
def test_kinds_that_are_wrong_name_the_key(key: str, value: Any) -> None:
    right = {("precision", str), ("frames", str), ("score", float), ("seconds", float)}
    right |= {("optimizer", dict), ("scaler", dict)}
    if (key, type(value)) in right or (key, value) == ("config", {"a": "b"}):
        return
    with pytest.raises(UserError, match=rf"^checkpoint=a\.pt: {key}[:.]") as caught:
        check_kinds({**WHOLE, key: value}, "checkpoint=a.pt")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("key", "value"),
    [("score", float("nan")), ("score", float("inf")), ("seconds", -1.0), ("frames", "a\nb"), ("precision", "a\x1bb")],
)
def test_kinds_refuse_values_that_no_run_leaves(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^x: {key}: needed "):
        check_kinds({**WHOLE, key: value}, "x")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": DEEP}, r"config\.a(\.0)*: needed at most 10000 values in 16 levels, found more"),
        (CIRCLE, r"config(\.circle)*: needed at most 10000 values in 16 levels, found more"),
        ({"a": BOMB}, "needed at most 10000 values in 16 levels, found more"),
        ({"a": list(range(20_000))}, r"config\.a: needed at most 10000 values"),
        ({"a": {"b": torch.zeros(3)}}, r"config\.a\.b: needed a text, a number, .*found a tensor \(3,\) of float32"),
        ({"a": 2**64}, r"config\.a: needed a text, a number"),
        ({"a": 10**5000}, r"config\.a: needed a text, a number"),
        ({"a": "b\x1b[2J"}, r"config\.a: needed .*found 'b\\x1b\[2J'"),
        ({"a": "b\nc"}, r"config\.a: needed .*found 'b\\nc'"),
        ({"a": "b" * 5000}, r"config\.a: needed .*found 'bbb.*\.\.\.bbb"),
        ({"a": (1, 2)}, r"config\.a: needed .*found a tuple of 2"),
        ({"a": {1.5: 2}}, r"config\.a: needed the name of a key, found 1\.5"),
        ({"a\n": 2}, r"config: needed the name of a key, found 'a\\n'"),
    ],
)
def test_configuration_that_is_not_plain_names_the_place(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_kinds({**WHOLE, "config": config}, "x")
    assert len(str(caught.value)) < 400


def _trained(momentum: float = 0.9) -> tuple[torch.optim.SGD, dict[str, Any]]:
    """An optimiser of two groups, as new, and the state of one like it after a step."""
    groups: list[list[torch.nn.Parameter]] = []
    optimizers = []
    for _ in range(2):
        groups = [[torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))]]
        groups += [[torch.nn.Parameter(torch.ones(()))]]
        parts = [{"params": group, "momentum": momentum, "initial_lr": 0.1} for group in groups]
        optimizers.append(torch.optim.SGD(parts, lr=0.1))
    for parameter in (parameter for group in groups for parameter in group):
        parameter.grad = torch.ones_like(parameter)
    optimizers[1].step()
    optimizers[1].param_groups[0]["lr"] = 0.03
    return optimizers[0], optimizers[1].state_dict()


def _check(changed: dict[str, Any], momentum: float = 0.9) -> None:
    optimizer, kept = _trained(momentum)
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    weighting = torch.nn.Linear(2, 1)
    own = {"weighting": weighting.state_dict(), "optimizer": kept, "scaler": scaler.state_dict()}
    whole = {**WHOLE, **own, "seen_pixels": {"depth": 3}}
    check_resumable({**whole, **changed}, weighting, optimizer, scaler, ["depth"], "x.pt")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_resumable_is_what_the_optimiser_left(momentum: float) -> None:
    _check({}, momentum)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seen_pixels": {}}, r"seen_pixels: needed the tasks \['depth'\], found otherwise \['depth'\]"),
        ({"seen_pixels": {"depth": 3, "x": 1}}, r"seen_pixels: .*found otherwise \['x'\]"),
        ({"rng": {"torch": torch.zeros(9, dtype=torch.uint8), "cuda": []}}, r"rng: .*found a tensor \(9,\) of uint8"),
        ({"rng": {"torch": torch.get_rng_state() * 0, "cuda": []}}, "rng: needed a state of torch's generator"),
        ({"weighting": {}}, r"of another weighting or optimiser: at 'weight' needed \(1, 2\), found nothing"),
        ({"weighting": torch.nn.Linear(3, 1).state_dict()}, r"at 'weight' needed \(1, 2\), found \(1, 3\)"),
        ({"weighting": torch.nn.Linear(2, 1).double().state_dict()}, r"needed torch\.float32, found torch\.float64"),
        (
            {"weighting": {"weight": torch.zeros(1, 2), "bias": torch.tensor([float("nan")])}},
            "weighting: spoilt: at 'bias' needed finite numbers, found 1 that are not",
        ),
        ({"scaler": {}}, "scaler: scale: needed a number, found None"),
        ({"scaler": {"scale": "x"}}, "scaler: scale: needed a number, found 'x'"),
        ({"optimizer": {}}, "optimizer: needed 2 groups of parameters, found None"),
    ],
)
def test_resumable_refuses_parts_of_another_run(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^x\.pt: .*{message}"):
        _check(changed)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["param_groups"], [], "needed 2 groups of parameters, found a list of 0"),
        (["param_groups", 0], 3, "needed a group of parameters, found 3"),
        (["param_groups", 0, "params"], None, "needed a group of parameters, found a dict"),
        (["param_groups", 0, "params"], [0], "needed 2 parameters, found 1"),
        (["param_groups", 0, "params"], [0, 0], r"needed parameters numbered from 0, found \[0, 0, 2\]"),
        (["param_groups", 1, "momentum"], 0.5, r"momentum: needed 0\.9, found 0\.5"),
        (["param_groups", 1, "initial_lr"], "x", r"initial_lr: needed 0\.1, found 'x'"),
        (["param_groups", 1, "nesterov"], True, "nesterov: needed False, found True"),
        (["param_groups", 1, "foreach"], "x", "foreach: needed None, found 'x'"),
        (["state"], 3, "needed what is kept of each parameter, found 3"),
        (["state", 7], {}, "needed what is kept of each parameter, found a dict of 4"),
        (["state", 1], {"other": 3}, r"parameter 1: needed a finite momentum \(4,\), found a dict of 1"),
        (
            ["state", 1, "momentum_buffer"],
            torch.ones(5),
            r"needed a finite momentum \(4,\), found a tensor \(5,\) of float32",
        ),
        (["state", 1, "momentum_buffer"], torch.ones(4).long(), r"found a tensor \(4,\) of int64"),
        (["state", 1, "momentum_buffer"], torch.ones(4) / 0, r"needed a finite momentum \(4,\), found a tensor"),
        (["state", 1, "momentum_buffer"], {"a": 1}, r"parameter 1: needed a finite momentum \(4,\), found a dict of 1"),
    ],
)
def test_resumable_refuses_another_optimiser_s_state(path: list[Any], value: Any, message: str) -> None:
    kept = copy.deepcopy(_trained()[1])
    *parents, last = path
    place: Any = kept
    for key in parents:
        place = place[key]
    place[last] = value
    with pytest.raises(UserError, match=rf"^x\.pt: optimizer: .*{message}"):
        _check({"optimizer": kept})


def test_resumable_takes_what_older_versions_lack() -> None:
    kept = copy.deepcopy(_trained()[1])
    for group in kept["param_groups"]:
        del group["nesterov"]
    _check({"optimizer": kept})
