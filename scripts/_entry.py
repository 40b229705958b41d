"""Shared code of the scripts: paths on the command line, conversion of Hydra's configuration, one-line errors."""

import os
import re
import sys
import threading
import traceback
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
"""Keys, like `_PATHS`, of all scripts; their values are lists of paths."""

_TEXTS = ("name", "split", "data.train_split", "data.val_split")
"""Keys whose values are parts of paths."""

_PATTERNS = tuple(
    f"data.{kind}{part}"
    for kind in ("image", "class_ids", "instance_ids", "disparity", "depth", "camera")
    for part in ("", ".path", ".json")
)
"""Keys whose values are patterns of paths, such as ``{split}/{name}.jpg``, or groups of keys with a colon."""

_STARTS = r"starts\.\w+"
"""Regular expression for keys of paths that users name themselves."""

_NAMES = "|".join([*map(re.escape, _PATHS + _LISTS_OF_PATHS + _TEXTS + _PATTERNS), _STARTS])
_TYPED = re.compile(rf"(\+{{0,2}}({_NAMES})=)(.+)", re.DOTALL)
_GROUP = re.compile(r"\{\s*\w+\s*:")
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort)\(.*\)", re.DOTALL)
_ITEM = re.compile(r"\[[^\]]*\]|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,]+", re.DOTALL)
"""One item of a comma-separated list: a list in brackets, a quoted text, or anything without a comma."""

_statuses: list[int] = []
"""Exit statuses of the jobs in this process, several with Hydra's --multirun; successful ones may be missing."""


def run(main: Callable[[], Any]) -> None:
    """Runs a script's decorated function on the command line, and exits with the highest status of its jobs.

    Paths are quoted first: Hydra would read ``2011_09_26`` as the number 20110926, and refuse ``~/data``.
    """
    _statuses.clear()
    threading.excepthook = _said_elsewhere
    several = any(map(_asks_for_several, sys.argv[1:]))
    sys.argv[1:] = [quoted_path(argument, several) for argument in sys.argv[1:]]
    main()
    sys.exit(max(_statuses, default=0))


def _said_elsewhere(failed: threading.ExceptHookArgs) -> None:
    """Hides an error of TensorBoard's thread, such as a full disk, which the main thread reports as well."""
    if not (isinstance(failed.exc_value, OSError) and is_machine_fault(failed.exc_value)):
        threading.__excepthook__(failed)


def end_with(status: int) -> None:
    """Records a lower bound of the exit status of this process, once all its jobs are done."""
    _statuses.append(status)


def _asks_for_several(argument: str) -> bool:
    """Whether an argument makes Hydra run several jobs; abbreviations count."""
    if argument.lstrip("+") == "hydra.mode=MULTIRUN":
        return True
    return argument == "-m" or (argument.startswith("--m") and "--multirun".startswith(argument))


def quoted_path(argument: str, several: bool = False) -> str:
    """Quotes the value of a command-line argument for Hydra if it is a path or a part of one.

    Args:
        argument: the argument as typed, such as ``input=2011_09_26``.
        several: whether commas separate the values of several jobs.
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
    """Quotes the patterns in a group of keys, such as ``{path: a/{name}.png, labels: ids}``."""
    parts = []
    for part in text.strip()[1:-1].split(","):
        key, _, value = part.partition(":")
        parts.append(f"{key}: {_quoted(value.strip())}" if "{" in value else part)
    return f"{{{','.join(parts)}}}"


def _quoted(text: str) -> str:
    """Quotes a text so that Hydra reads it back unchanged, whatever characters it contains."""
    if text[:1] in ("", "'", '"') or "${" in text or text.lower() == "null":
        return text
    # Hydra unescapes only backslashes in front of a quote: they are doubled there, and at the end.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text) + "'"


def plain(config: DictConfig) -> dict[str, Any]:
    """Returns the resolved configuration as plain containers, with a leading ``~`` in paths expanded.

    Raises:
        UserError: naming the key, if the value of a path is not a path.
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
        if key != _TABLE or not isinstance(group[last], dict):  # a class table may be given in the configuration itself
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
    """Prints errors that the user can correct in one line; with HYDRA_FULL_ERROR=1 it shows the traceback.

    Further jobs of the same command still run, except after a signal, which ends them all.
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
        if isinstance(error, OSError) and not is_machine_fault(error):
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        named = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) and error.filename else str(error)
        _say(f"error: {named}")
        end_with(error.status if isinstance(error, UserError) else 2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
