"""Initial weights of the runs of a comparison, identified by their content, since a path does not identify it."""

import os
import zlib
from functools import cache
from pathlib import Path

from multitask.config.factories import Config
from multitask.engine.warm_start import find_run
from multitask.errors import UserError

PRETRAINED = "model.pretrained"


def start_in_words(config: Config) -> dict[str, str | None]:
    """Identifies a run's initial weights for its result: {configuration key: name, or checksum of a file's weights}.

    Empty if the file is missing: its content is unknown, and results are accepted whatever weights they name.

    Args:
        config: configuration of the run.
    Raises:
        UserError: naming the file, if it is damaged.
    """
    given = config["model"].get("pretrained")
    if _is_missing(given):
        return {}
    if given is None or not Path(given).is_file():
        return {PRETRAINED: given}
    found = os.stat(given)
    return {PRETRAINED: f"weights {_check_sum(given, found.st_size, found.st_mtime_ns):08x}"}


def check_start(config: Config) -> None:
    """Refuses a run that starts from a missing file.

    Args:
        config: configuration of the run.
    Raises:
        UserError: naming the file.
    """
    given = config["model"].get("pretrained")
    if _is_missing(given):
        raise UserError(f"{PRETRAINED}={given}: no such file; needed weights, or a run that has ended")


def _is_missing(given: str | None) -> bool:
    """Whether a value is the path of a missing file: a path has a folder or a suffix, a name of weights neither."""
    if given is None or Path(given).is_file():
        return False
    return len(Path(given).parts) > 1 or bool(Path(given).suffix)


@cache
def _check_sum(path: str, size: int, changed: int) -> int:
    """Returns the checksum of a file: of a checkpoint only its network, which a repeated run reproduces.

    Size and time of change (ns) are part of the cache's key.
    """
    run = find_run(path)
    if run is None:
        return zlib.crc32(Path(path).read_bytes())
    total = 0
    for name, value in sorted(run["network"].items()):
        total = zlib.crc32(value.contiguous().numpy().tobytes(), zlib.crc32(name.encode(), total))
    return total
