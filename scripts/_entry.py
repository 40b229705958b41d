"""What the entry points share: paths as typed, Hydra at the edge, plain dicts inwards, errors in one line."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multitask.engine.interruption import Interrupted
from multitask.errors import UserError, is_machine_fault, reason

_TABLE = "data.classes"
_PATHS = (
    *("checkpoint", "input", "output", "output_dir", "results_dir", "camera"),
    *("data.root", "data.source", _TABLE, "model.pretrained", "trainer.resume"),
)
_LISTS_OF_PATHS = ("data.roots", "runs")
"""Keys whose values are paths, in all scripts."""

_TEXTS = ("name", "split", "data.train_split", "data.val_split")
"""Keys whose values are parts of paths."""

_PATTERNS = tuple(
    f"data.{kind}{part}"
    for kind in ("image", "class_ids", "instance_ids", "disparity", "depth", "camera")
    for part in ("", ".path", ".json")
)
"""Keys whose values are patterns of paths, such as ``{split}/{name}.jpg``, or groups of keys, which have a colon."""

_STARTS = r"starts\.\w+"
"""Keys of paths that users name themselves, as a pattern."""

_NAMES = "|".join([*map(re.escape, _PATHS + _LISTS_OF_PATHS + _TEXTS + _PATTERNS), _STARTS])
_TYPED = re.compile(rf"(\+{{0,2}}({_NAMES})=)(.+)", re.DOTALL)
_GROUP = re.compile(r"\{\s*\w+\s*:")
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort)\(.*\)", re.DOTALL)
_ITEM = re.compile(r"\[[^\]]*\]|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,]+", re.DOTALL)
"""What commas part: lists and what is quoted as a whole."""

_statuses: list[int] = []
"""Exit statuses of the jobs of this process that did not end well: several with Hydra's --multirun."""


def run(main: Callable[[], Any]) -> None:
    """Runs a script's decorated function on what was typed, and ends the process as its jobs say.

    Hydra reads ``2011_09_26`` as the number 20110926 and refuses ``~/data``; values that are paths reach it quoted.
    """
    _statuses.clear()
    threading.excepthook = _said_elsewhere
    several = any(map(_asks_for_several, sys.argv[1:]))
    sys.argv[1:] = [quoted_path(argument, several) for argument in sys.argv[1:]]
    main()
    sys.exit(max(_statuses, default=0))


def _said_elsewhere(failed: threading.ExceptHookArgs) -> None:
    """Keeps a thread of TensorBoard's from printing what the main thread is about to say: that the disk is full."""
    if not (isinstance(failed.exc_value, OSError) and is_machine_fault(failed.exc_value)):
        threading.__excepthook__(failed)


def end_with(status: int) -> None:
    """Notes what the process shall end with, at least, when all its jobs are done."""
    _statuses.append(status)


def _asks_for_several(argument: str) -> bool:
    """Whether an argument has Hydra run several jobs; it takes abbreviations."""
    if argument.lstrip("+") == "hydra.mode=MULTIRUN":
        return True
    return argument == "-m" or (argument.startswith("--m") and "--multirun".startswith(argument))


def quoted_path(argument: str, several: bool = False) -> str:
    """A command-line argument, in which Hydra takes the value for a text if its key is a path's or a part of one's.

    Args:
        argument: as typed, such as ``input=2011_09_26``.
        several: whether commas part the values of several jobs.
    """
    typed = _TYPED.fullmatch(argument)
    if not typed:
        return argument
    front, key, value = typed.groups()
    if several and _SWEEP.fullmatch(value):
        return argument
    if key in _PATTERNS and _GROUP.match(value):
        return front + _quoted_group(value)
    quoted = _quoted_list if key in _LISTS_OF_PATHS else _quoted
    return front + ",".join(map(quoted, _ITEM.findall(value) if several else [value]))


def _quoted_list(text: str) -> str:
    if not (text.startswith("[") and text.endswith("]")):
        return text
    return f"[{','.join(_quoted(item.strip()) for item in _ITEM.findall(text[1:-1]) if item.strip())}]"


def _quoted_group(text: str) -> str:
    """A group of keys, as in ``{path: a/{name}.png, labels: ids}``, in which patterns are quoted."""
    parts = []
    for part in text.strip()[1:-1].split(","):
        key, _, value = part.partition(":")
        parts.append(f"{key}: {_quoted(value.strip())}" if "{" in value else part)
    return f"{{{','.join(parts)}}}"


def _quoted(text: str) -> str:
    """A text as Hydra reads it back, whatever characters it has."""
    if text[:1] in ("", "'", '"') or "${" in text or text.lower() == "null":
        return text
    # Of its backslashes Hydra takes away those in front of a quote: each is doubled there, and at the end.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text) + "'"


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without anything of Hydra's; in its paths a leading ``~`` is the home folder.

    Raises:
        UserError: naming the key, if a path is none.
    """
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    for key in (*_PATHS, *_LISTS_OF_PATHS):
        *parents, last = key.split(".")
        group: Any = content
        for parent in parents:
            group = group.get(parent) if isinstance(group, dict) else None
        if not isinstance(group, dict) or group.get(last) is None:
            continue
        if key != _TABLE or not isinstance(group[last], dict):  # a class table may stand in the configuration itself
            group[last] = _expanded(key, group[last])
    return {str(key): value for key, value in content.items()}


def _expanded(key: str, value: Any) -> Any:
    if key in _LISTS_OF_PATHS and isinstance(value, list):
        return [_expanded(key, item) for item in value]
    if not isinstance(value, str):
        raise UserError(
            f"{key}: needed a path, found {value!r}; a path of digits needs quotes in a file of configuration"
        )
    try:
        return str(Path(value).expanduser()) if value.startswith("~") else value
    except RuntimeError as error:
        raise UserError(f"{key}={value}: needed a path, found no such user's home folder") from error


@contextmanager
def short_errors() -> Iterator[None]:
    """Notes with one line what the user can mend; with HYDRA_FULL_ERROR=1 it shows the traceback.

    Other jobs of the same call go on, but for a signal, which ends them all.
    """
    try:
        yield
    except Interrupted as stop:
        _say(str(stop))
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        _say("stopped by SIGINT")
        sys.exit(130)
    except (UserError, OmegaConfBaseException, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or (isinstance(error, OSError) and not is_machine_fault(error)):
            raise
        named = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) and error.filename else str(error)
        _say(f"error: {named}")
        end_with(error.status if isinstance(error, UserError) else 2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
