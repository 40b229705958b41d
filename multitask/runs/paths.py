"""The folder of a run: the names of its files, its figures, and what tells that another process has changed them."""

import json
from pathlib import Path

from multitask.errors import UserError

CONFIG, METRICS = Path("config.yaml"), Path("metrics.json")
LAST, BEST = Path("checkpoints/last.pt"), Path("checkpoints/best.pt")

PANELS = Path("panels")

PREVIOUS = Path("checkpoints/previous.pt")
"""What `LAST` was before it: a run goes on from there where the newest is damaged or missing."""


def identity(folder: Path) -> list[tuple[int, ...]]:
    """What tells whether another process has changed what a run in ``folder`` goes on from."""
    paths = (folder / path for path in (LAST, PREVIOUS, METRICS) if (folder / path).exists())
    return [(found.st_ino, found.st_size, found.st_mtime_ns) for found in (path.stat() for path in paths)]


def read_figures(path: Path) -> dict[str, float]:
    """The figures that a run left.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    try:
        return {str(key): float(value) for key, value in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the figures of a run ({error}); delete it to evaluate again") from error
