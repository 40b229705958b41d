"""The folder of a run: paths of its files, its metrics, and a fingerprint to detect changes by other processes."""

import json
from pathlib import Path

from multitask.errors import UserError

CONFIG, METRICS = Path("config.yaml"), Path("metrics.json")
LAST, BEST = Path("checkpoints/last.pt"), Path("checkpoints/best.pt")

PANELS = Path("panels")

PREVIOUS = Path("checkpoints/previous.pt")
"""The checkpoint before `LAST`: a run resumes from it if the newest one is damaged or missing."""


def identity(folder: Path) -> list[tuple[int, ...]]:
    """Returns a fingerprint of the files that a run in ``folder`` resumes from, to detect writes by another process."""
    paths = (folder / path for path in (LAST, PREVIOUS, METRICS) if (folder / path).exists())
    return [(found.st_ino, found.st_size, found.st_mtime_ns) for found in (path.stat() for path in paths)]


def read_figures(path: Path) -> dict[str, float]:
    """Reads the final metrics of a run.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    try:
        return {str(key): float(value) for key, value in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the figures of a run ({error}); delete it to evaluate again") from error
