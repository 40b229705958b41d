"""The history of a run: the names of all logged scalars, and the file that holds them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from multitask.files import named_errors, write_text

HISTORY = "history.jsonl"

STEP = "step"
LOSS = "loss/"
TOTAL_LOSS = f"{LOSS}total"
WEIGHT = "weight/"
LOG_VARIANCE = "log_variance/"
VARIANCE = "sigma2/"
LEARNING_RATE = "lr"
GRADIENT_NORM = "gradient_norm"
IMAGES_PER_SECOND = "images_per_second"

VALIDATION = "val/"
"""Prefix of the names of validation metrics."""

POSITION_PRIOR = "position_prior/"
"""Prefix, in ``metrics.json``, of the metrics of the position prior, the predictor that knows only pixel positions."""

SECONDS = "run/seconds"
"""Name, in a finished run's history, of the time (s) that training and evaluation took over all its processes."""

Entry = TypeVar("Entry", bound=Mapping[str, float])

_PAPER_S_EARLY_STEP = 500
"""First step at which figure 7 of the paper shows what its run has learned."""


class History:
    """The file of one run's logged scalars, continued when the run is resumed.

    Args:
        folder: the run's folder.
        step: step at which the run resumes. Entries logged after it, before the run was stopped, are dropped.
        validated: last step with a complete validation. Validation entries after it are dropped, and so is the entry
            of the run's end, which is logged again.

    Attributes:
        kept: the entries that were kept from before, oldest first.
    """

    def __init__(self, folder: Path, step: int = 0, validated: int = 0) -> None:
        self._path = folder / HISTORY
        entries = [entry for entry in read_history(folder) if SECONDS not in entry] if step else []
        self.kept = [entry for entry in entries if entry[STEP] <= (validated if _is_validation(entry) else step)]
        write_text(self._path, "".join(json.dumps(entry) + "\n" for entry in self.kept))

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Appends named scalars at a step."""
        with named_errors(self._path), self._path.open("a") as file:
            file.write(json.dumps({STEP: step, **values}) + "\n")


def read_history(folder: Path) -> list[dict[str, float]]:
    """Returns all entries of a run, oldest first; damaged lines, such as one cut off by a kill, are dropped."""
    path = folder / HISTORY
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [entry for entry in map(_entry, lines) if entry]


def early_entry(entries: Sequence[Entry]) -> Entry:
    """Returns the entry nearest to step 500, where figure 7 begins, or to a tenth of the training if earlier."""
    step = min(_PAPER_S_EARLY_STEP, entries[-1][STEP] / 10)
    return min(entries, key=lambda entry: abs(entry[STEP] - step))


def _is_validation(entry: Mapping[str, float]) -> bool:
    return any(key.startswith(VALIDATION) for key in entry)


def _entry(line: bytes) -> dict[str, float] | None:
    """Parses a line of a history; None if it is damaged."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get(STEP), int)
    return entry if whole and all(isinstance(value, int | float) for value in entry.values()) else None
