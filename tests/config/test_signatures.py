import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from multitask.config.signatures import call, is_dotted, make
from multitask.errors import UserError
from multitask.likelihoods import REGRESSION
from multitask.tasks.base import Task
from multitask.weighting import Weighting

LIKELIHOODS = {"a": REGRESSION["paper"], "b": REGRESSION["laplace"]}

BUILT: list[str] = []


class Stranger:
    """No task: it must not even be constructed."""

    def __init__(self, **_: Any) -> None:
        BUILT.append("Stranger")


def _forbidden(*_: Any, **__: Any) -> NoReturn:
    BUILT.append("function")
    raise AssertionError("called")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.object",
        "pathlib.Path",
        "tests.config.test_signatures.Stranger",
        "tests.config.test_signatures._forbidden",
        "tests.config.test_signatures.BUILT",
        "multitask.weighting.Equal",
        "multitask.tasks.depth",
        "multitask.tasks.depth.Nothing",
        "multitask.tasks.depth.Depth.encode",
        "multitask.no_such_module.Depth",
        "no_such_package.Depth",
        "Depth",
        ".Depth",
        ".depth.Depth",
        "multitask..Depth",
        "depth.",
        "",
        None,
        7,
        ["multitask.tasks.depth.Depth"],
    ],
)
def test_make_refuses_targets_that_are_no_task(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "system", _forbidden)
    BUILT.clear()
    with pytest.raises(ValueError, match=r"task\.depth\._target_: needed"):
        make("task.depth", {"_target_": target, "command": "true"}, Task)
    assert BUILT == []


@pytest.mark.parametrize("target", ["multitask.tasks.base.Task", "multitask.tasks.base.Regression"])
def test_make_refuses_a_class_that_is_abstract(target: str) -> None:
    with pytest.raises(ValueError, match=r"task\.depth\._target_: needed"):
        make("task.depth", {"_target_": target}, Task)


def test_make_refuses_a_part_without_target() -> None:
    with pytest.raises(ValueError, match=r"weighting\._target_: .*found None"):
        make("weighting", {"initial_log_variance": 0.0}, Weighting, LIKELIHOODS)


@pytest.mark.parametrize("spec", [None, "uncertainty", 3, ["uncertainty"]])
def test_make_refuses_a_part_that_is_no_mapping(spec: Any) -> None:
    with pytest.raises(ValueError, match=r"weighting\b.*: needed"):
        make("weighting", spec, Weighting, LIKELIHOODS)


def test_make_leaves_the_configuration_as_it_is() -> None:
    spec = {"_target_": "multitask.weighting.Uncertainty", "initial_log_variance": 1.0}
    make("weighting", spec, Weighting, LIKELIHOODS)
    assert spec == {"_target_": "multitask.weighting.Uncertainty", "initial_log_variance": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": {"a": 1.0}}, r"weighting\.weights\.b: needed a weight"),
        ({"weights": {"a": 1.0, "b": "much"}}, r"weighting\.weights: needed .*found \{'a': 1.0, 'b': 'much'\}"),
        ({"weights": {"a": 1.0, "b": True}}, r"weighting\.weights: needed"),
        ({"weights": [1.0, 2.0]}, r"weighting\.weights: needed .*found \[1.0, 2.0\]"),
        ({"weights": None}, r"weighting\.weights: needed .*found None"),
        ({}, r"weighting\.weights: needed a value, found none"),
        ({"weights": {"a": 1, "b": 1}, "likelihoods": {}}, r"weighting\.likelihoods: unknown key"),
    ],
)
def test_make_weighting_wrong_arguments_name_the_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("weighting", {"_target_": "multitask.weighting.Fixed", **arguments}, Weighting, LIKELIHOODS)


@pytest.mark.parametrize("start", ["0", None, True, [0.0], {}])
def test_make_weighting_wrong_start_names_the_key(start: Any) -> None:
    spec = {"_target_": "multitask.weighting.Uncertainty", "initial_log_variance": start}
    with pytest.raises(ValueError, match=r"weighting\.initial_log_variance: needed float, found"):
        make("weighting", spec, Weighting, LIKELIHOODS)


@pytest.mark.parametrize(
    ("target", "dotted"),
    [
        ("multitask.tasks.depth.Depth", True),
        ("größe.Tiefe", True),
        ("Depth", False),
        ("a..B", False),
        ("../../x.Depth", False),
        ("a\0b.C", False),
        ("a.B\n", False),
        (None, False),
        (["a.B"], False),
    ],
)
def test_is_dotted_of_names_of_classes_alone(target: object, dotted: bool) -> None:
    assert is_dotted(target) == dotted


def test_make_shows_an_error_of_the_module_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty.py").write_text("raise ValueError('a fault of this module')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="a fault of this module") as caught:
        make("task.depth", {"_target_": "faulty.Depth"}, Task)
    assert not isinstance(caught.value, UserError)


def test_call_shows_a_long_value_in_short() -> None:
    def takes(numbers: list[int]) -> None: ...

    with pytest.raises(UserError, match=r"a\.numbers: needed list\[int\], found \['x', ") as caught:
        call("a", takes, {"numbers": ["x"] * 20_000})
    assert len(str(caught.value)) < 300
