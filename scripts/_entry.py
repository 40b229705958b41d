"""What the entry points share: Hydra at the edge, plain dicts inwards, errors in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multitask.data.parallel import own_message
from multitask.engine.interruption import Interrupted


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without anything of Hydra's."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@contextmanager
def short_errors() -> Iterator[None]:
    """Ends the program with one line where the user can mend it; with HYDRA_FULL_ERROR=1 by the traceback."""
    try:
        yield
    except Interrupted as stop:
        _exit(str(stop), 128 + stop.signum)
    except (ValueError, OSError, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _exit(f"error: {own_message(error)}", 2)


def _exit(text: str, code: int) -> None:
    print(text, file=sys.stderr, flush=True)
    sys.exit(code)
