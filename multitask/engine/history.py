"""What a run logs: the names of its numbers, each of which stands here once, and the file that keeps them."""

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
"""What the names of a validation's figures begin with."""

POSITION_PRIOR = "position_prior/"
"""What the names of the figures of the predictor that knows only where a pixel is begin with, in ``metrics.json``."""

SECONDS = "run/seconds"
"""In the history of a finished run: how long its training and evaluation took, in all its processes."""

Entry = TypeVar("Entry", bound=Mapping[str, float])

_PAPER_S_EARLY_STEP = 500
"""After which figure 7 of the paper says what its run has learned."""


class History:
    """The file of one run's numbers, which goes on where the run does.

    Args:
        folder: the run's folder.
        step: where the run goes on: what was logged after it, before the run was killed, is dropped.
        validated: the last step whose validation is done; what a later one logged is dropped likewise. So is what the
            end of the run logged, to be logged again.

    Attributes:
        kept: the entries that there are already, oldest first.
    """

    def __init__(self, folder: Path, step: int = 0, validated: int = 0) -> None:
        self._path = folder / HISTORY
        entries = [entry for entry in read_history(folder) if SECONDS not in entry] if step else []
        self.kept = [entry for entry in entries if entry[STEP] <= (validated if _is_validation(entry) else step)]
        write_text(self._path, "".join(json.dumps(entry) + "\n" for entry in self.kept))

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Adds named numbers at a step."""
        with named_errors(self._path), self._path.open("a") as file:
            file.write(json.dumps({STEP: step, **values}) + "\n")


def read_history(folder: Path) -> list[dict[str, float]]:
    """Every logged step of a run, oldest first; lines that are damaged, such as one cut off by a kill, are dropped."""
    path = folder / HISTORY
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [entry for entry in map(_entry, lines) if entry]


def early_entry(entries: Sequence[Entry]) -> Entry:
    """The entry nearest to step 500, or to a tenth of the training where that is earlier: where figure 7 begins."""
    step = min(_PAPER_S_EARLY_STEP, entries[-1][STEP] / 10)
    return min(entries, key=lambda entry: abs(entry[STEP] - step))


def _is_validation(entry: Mapping[str, float]) -> bool:
    return any(key.startswith(VALIDATION) for key in entry)


def _entry(line: bytes) -> dict[str, float] | None:
    """What a line of a history holds, if it is whole."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get(STEP), int)
    return entry if whole and all(isinstance(value, int | float) for value in entry.values()) else None
