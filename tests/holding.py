"""A lock that another process holds."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CODE = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.lockf(f, 2); print(flush=True); time.sleep(60)"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within ``with``, another process holds the folder, which is made, as `multitask.files.exclusive` would."""
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", _CODE, str(folder / ".lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield
        holder.kill()
