"""What the networks of a comparison start from: known by its contents, since a path says nothing of them."""

import os
import zlib
from functools import cache
from pathlib import Path

from multitask.config.factories import Config
from multitask.engine.warm_start import find_run
from multitask.errors import UserError

PRETRAINED = "model.pretrained"


def start_in_words(config: Config) -> dict[str, str | None]:
    """What results say that a run starts from, by its key: a name of weights, or the check sum of those in a file.

    Nothing where the file is not there: what it held is not known, and results that say so are taken at their word.

    Args:
        config: of the run.
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
    """Refuses a run that starts from a file which is not there.

    Args:
        config: of the run.
    Raises:
        UserError: naming the file.
    """
    given = config["model"].get("pretrained")
    if _is_missing(given):
        raise UserError(f"{PRETRAINED}={given}: no such file; needed weights, or a run that has ended")


def _is_missing(given: str | None) -> bool:
    """Whether it is the path of no file: with a folder or a suffix, which no name of weights has."""
    if given is None or Path(given).is_file():
        return False
    return len(Path(given).parts) > 1 or bool(Path(given).suffix)


@cache
def _check_sum(path: str, size: int, changed: int) -> int:
    """Of a run's network, which another run of the same configuration has, too; of other files as they are."""
    run = find_run(path)
    if run is None:
        return zlib.crc32(Path(path).read_bytes())
    total = 0
    for name, value in sorted(run["network"].items()):
        total = zlib.crc32(value.contiguous().numpy().tobytes(), zlib.crc32(name.encode(), total))
    return total
