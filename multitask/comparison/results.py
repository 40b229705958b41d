"""The result of a finished run, kept as one small JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multitask.data.split import Split
from multitask.engine.history import LOG_VARIANCE, LOSS, POSITION_PRIOR, SECONDS, STEP, VARIANCE, WEIGHT, early_entry
from multitask.errors import UserError
from multitask.files import write_text
from multitask.runs.same_run import SINCE

Figures = dict[str, float]
"""Metrics or logged scalars by name."""

_MAX_POINTS = 60
"""Number of logged steps to keep of a history; the last one and that of figure 7 may come in addition."""

_KEPT = (STEP, LOSS, WEIGHT, LOG_VARIANCE, VARIANCE)
"""Prefixes of the scalars to keep."""


@dataclass(frozen=True)
class Result:
    """The result of one run.

    Attributes:
        row: name of the row.
        split: split that it was evaluated on.
        rate: factor of the learning rate.
        seed: seed of the run.
        config: flat configuration, without keys that may differ between machines.
        figures: metrics of the network after the last step, without those of single classes; empty if it diverged.
        seconds: duration of training and evaluation.
        compute: precision and device, such as ``bfloat16 on cpu``.
        history: evenly spaced entries of step, losses, weights and log-variances; empty unless these are learned.
        mean_weights: task -> weight of its loss for the encoder, mean over evenly spaced logged steps.
    """

    row: str
    split: str
    rate: float
    seed: int
    config: dict[str, Any]
    figures: Figures
    seconds: float
    compute: str
    history: list[Figures]
    mean_weights: dict[str, float] = field(default_factory=dict)


def make_result(
    row: str,
    split: str,
    rate: float,
    seed: int,
    config: Mapping[str, Any],
    figures: Mapping[str, float],
    compute: str,
    history: list[Figures],
) -> Result:
    """Reduces a run to what reports need; arguments as in `Result`, but ``figures`` and ``history`` are complete."""
    entries = [
        {key: float(f"{value:.5g}") for key, value in entry.items() if key.startswith(_KEPT)}
        for entry in history
        if any(key.startswith(WEIGHT) for key in entry)
    ]
    stride = max(1, -(-len(entries) // _MAX_POINTS))  # rounded up
    spaced = {*range(0, len(entries), stride), *range(len(entries))[-1:]}
    learned = []
    if any(key.startswith(LOG_VARIANCE) for entry in entries for key in entry):
        learned = [entries[place] for place in sorted(spaced | {entries.index(early_entry(entries))})]
    # <task>/<metric> without <task>/<metric>/<class>; the position prior's have a prefix before them.
    kept = {key: value for key, value in figures.items() if key.count("/") == 1}
    kept |= {key: value for key, value in figures.items() if key.startswith(POSITION_PRIOR) and key.count("/") == 2}
    seconds = next((entry[SECONDS] for entry in reversed(history) if SECONDS in entry), 0.0)
    means = _mean_weights([entries[place] for place in sorted(spaced)])
    return Result(row, split, rate, seed, dict(config), kept, seconds, compute, learned, means)


def _mean_weights(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns each task's mean weight over the entries that contain it."""
    keys = dict.fromkeys(key for entry in history for key in entry if key.startswith(WEIGHT))
    values = {key: [entry[key] for entry in history if key in entry] for key in keys}
    return {key.removeprefix(WEIGHT): sum(found) / len(found) for key, found in values.items()}


def describe(frames: Split) -> str:
    """Identifies a split's frames by their number, their names and the size of the first one."""
    height, width = frames.source_size(frames.names[0])
    return f"{frames.fingerprint}, first of {height} x {width} px"


def save(path: Path, result: Result) -> None:
    """Writes a result file atomically."""
    write_text(path, json.dumps(asdict(result)) + "\n")


def load(path: Path) -> Result:
    """Reads a result file.

    Raises:
        UserError: naming the file, if it is damaged.
    """
    try:
        content = json.loads(path.read_text())
        for name in ("config", "figures", "mean_weights"):
            if not isinstance(content.get(name, {}), dict):
                raise UserError(f"{name}: needed names with values, found {content[name]!r}")
        history = content["history"]
        if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
            raise UserError(f"history: needed a list of entries, found {history!r}")
        # Older files lack mean weights: they are computed from the history, if there is one.
        result = Result(**{"mean_weights": _mean_weights(history)} | content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not the result of a run ({error}); delete it to run this again") from error
    return result


def check_config(path: Path, result: Result, config: Mapping[str, Any]) -> None:
    """Checks that a result belongs to this configuration.

    A key that the result lacks did not exist yet: it is compared only if older versions behaved differently, see
    `multitask.runs.same_run.SINCE`.

    Raises:
        UserError: naming the file and the first key that differs.
    """
    previous = SINCE | result.config
    for key in (key for key in config if key in previous):
        if previous[key] != config[key]:
            raise UserError(
                f"{path}: of another configuration: {key} was {previous[key]!r}, is {config[key]!r}; "
                "choose another output_dir, or delete the file and the run's folder to run this again"
            )
