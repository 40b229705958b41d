"""Journal of a prediction's progress, by which the same call resumes after a signal, a kill or a full disk."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from multitask.errors import UserError, reason
from multitask.files import LOCK, atomic_writer, exclusive, is_leftover, remove_leftovers
from multitask.prediction.kinds import open_file, special

LINES = "predictions.jsonl"
UNFINISHED = "unfinished.jsonl"
"""Name of the journal file, which exists until all pictures are done: the call, then an entry for each picture done."""

_CALL = "call"

Call = Mapping[str, Any]
"""Settings that determine the predictions: JSON values by key; files are described by `state`."""


class Origin(NamedTuple):
    """Source of a picture, from which a later call can tell whether it has changed.

    Attributes:
        path: the file.
        frame: index of the frame, for a video.
        state: state of the file, from `state`.
    """

    path: Path
    frame: int | None
    state: Mapping[str, Any]

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"{self.path} frame {self.frame}"


class Entry(NamedTuple):
    """Journal entry of a picture that an earlier call has done.

    Attributes:
        frame, state: as in its `Origin`.
        kinds: kinds of its files, which are the suffixes of their names.
        size: (H, W) px.
    """

    frame: int | None
    state: Mapping[str, Any]
    kinds: Sequence[str]
    size: tuple[int, int]


def state(path: str | Path) -> dict[str, Any]:
    """Returns a file's path, size and modification time, which show changes; for a missing file the path alone."""
    known: dict[str, Any] = {"path": os.path.abspath(path)}
    with suppress(OSError, ValueError):  # reading the file reports them
        found = os.stat(path)
        known |= {"bytes": found.st_size, "time": found.st_mtime_ns}
    return known


def check_output_dir(folder: Path, call: Call) -> None:
    """Checks that a folder is new or empty, or holds an unfinished prediction of the same call.

    Raises:
        UserError: if it is a file, or has other content, such as another prediction.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir={folder}: needed a folder, found a file")
    if not folder.is_dir():
        return
    found = sorted(item.name for item in folder.iterdir() if not is_leftover(item) and item.name != LOCK)
    if UNFINISHED in found and (earlier := _call_of(folder / UNFINISHED)) is not None:
        _check_same(folder, earlier, call)
    elif found and not (found == [UNFINISHED] and _is_torn(folder / UNFINISHED)):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(f"output_dir={folder}: needed a new or empty folder, found {', '.join(found[:3])}{more}")


def has_begun(folder: Path) -> bool:
    """Whether a folder holds an unfinished prediction, which the same call resumes."""
    return (folder / UNFINISHED).exists()


def _check_same(folder: Path, earlier: Call, call: Call) -> None:
    """Checks that an unfinished prediction was begun by the same call, and that the call's files are unchanged."""
    for key in {**earlier, **call}:
        before, now = earlier.get(key), call.get(key)
        if before == now:
            continue
        needed = f"output_dir={folder}: needed a new or empty folder, or"
        if isinstance(before, dict) and isinstance(now, dict) and before.get("path") == now.get("path"):
            raise UserError(
                f"{needed} {key}={now.get('path')} as it was when the unfinished prediction that it holds was begun; "
                f"found that it has changed since"
            )
        raise UserError(
            f"{needed} {key}={_typed(before)} as in the unfinished prediction that it holds; found {key}={_typed(now)}"
        )


def _typed(value: Any) -> str:
    """Returns the value of a key as users type it."""
    value = value.get("path") if isinstance(value, dict) else value
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


class Journal:
    """Entries of the pictures that are done, each written to a file at once; created by `journal`.

    Attributes:
        earlier: entries of pictures that an earlier call has done, by name.
        begun: whether the folder may contain files of pictures.
    """

    def __init__(self, descriptor: int, path: Path, call: Call) -> None:
        self.earlier: dict[str, Entry] = {}
        self._descriptor = descriptor
        self._path = path
        self._spans: dict[str, tuple[int, int]] = {}
        self._order: dict[str, None] = {}
        self._end = 0
        found = self._read()
        os.ftruncate(descriptor, self._end)
        if not found:
            self._append({_CALL: dict(call)})
        self.begun = bool(self.earlier)

    def add(self, origin: Origin, kinds: Sequence[str], line: Mapping[str, Any]) -> None:
        """Records that a picture's files are complete.

        Args:
            origin: source of the picture.
            kinds: kinds of its files, which are the suffixes of their names.
            line: its line in `LINES`.
        """
        start, name = self._end, line["name"]
        self._append({"frame": origin.frame, "state": dict(origin.state), "kinds": list(kinds), "line": dict(line)})
        self._spans[name] = start, self._end
        self._order[name] = None

    def keep(self, name: str) -> None:
        """Puts the line of a picture that an earlier call has done next in the order of lines."""
        self._order[name] = None

    def drop(self, name: str) -> None:
        """Removes the line of a picture, if there is one, whose files are about to be deleted or replaced."""
        self._spans.pop(name, None)
        self._order.pop(name, None)

    def unmade(self, paths: Iterable[Path]) -> list[str]:
        """Returns the names of pictures from these files that only an earlier call has predicted."""
        given = {os.path.abspath(path) for path in paths}
        left = [name for name in self._spans if name not in self._order]
        return [name for name in left if self.earlier[name].state["path"] in given]

    def write_lines(self, path: Path) -> None:
        """Writes the lines in the order of `add` and `keep`; without lines, no file is written."""
        if not self._spans:
            return
        with atomic_writer(path) as file:
            for name in {**self._order, **dict.fromkeys(self._spans)}:
                start, end = self._spans[name]
                entry = json.loads(os.pread(self._descriptor, end - start, start))
                file.write((json.dumps(entry["line"]) + "\n").encode())

    def _append(self, line: Mapping[str, Any]) -> None:
        content = (json.dumps(line) + "\n").encode()
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], self._end + written)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise UserError(f"{self._path}: could not be written ({reason(error)})") from error
        self._end += len(content)

    def _read(self) -> bool:
        """Reads the entries of an earlier call, except an incomplete last line; returns whether there are any."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            for number, content in enumerate(file):
                found = _parsed(content)
                if found is None:
                    break
                if number:
                    name, line = found["line"]["name"], found["line"]
                    size = line["height"], line["width"]
                    self.earlier[name] = Entry(found["frame"], found["state"], found["kinds"], size)
                    self._spans[name] = self._end, self._end + len(content)
                self._end += len(content)
        return self._end > 0


@contextmanager
def journal(folder: Path, call: Call) -> Iterator[Journal]:
    """Locks a folder for one prediction within ``with``, and writes the lines of all pictures at its end.

    If an error or a signal ends it early, the lines of the pictures done are written, and the same call can resume. If
    nothing was done, the folder is left empty, so that it can be used again.

    Args:
        folder: folder that passes `check_output_dir`.
        call: settings that determine the predictions.
    Raises:
        UserError: if another process predicts into the folder or has just done so, or if the disk is full.
    """
    path = folder / UNFINISHED
    with exclusive(folder, "predicting"):
        check_output_dir(folder, call)  # again, since another process may have finished meanwhile
        descriptor, notes = _open(path), None
        try:
            for place, _, _ in os.walk(folder):
                remove_leftovers(Path(place))
            notes = Journal(descriptor, path, call)
            yield notes
        except BaseException:
            if notes:
                with suppress(UserError):  # the disk may be full
                    notes.write_lines(folder / LINES)
            if not (notes.begun if notes else os.fstat(descriptor).st_size):
                path.unlink()
            raise
        else:
            notes.write_lines(folder / LINES)
            path.unlink()
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    """Returns the descriptor of a file, which is created if missing."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({reason(error)})") from error
    if what := special(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: needed a file, found {what}")
    return descriptor


def _call_of(path: Path) -> Call | None:
    """Returns the call that began an unfinished prediction; None if it was not completely written."""
    with open_file(path) as file:
        call = (_parsed(file.readline()) or {}).get(_CALL)
    return call if isinstance(call, dict) else None


def _is_torn(path: Path) -> bool:
    """Whether a file holds only the beginning of a journal's first line, so that it is a journal cut short."""
    with open_file(path) as file:
        content = file.readline()
    beginning = f'{{"{_CALL}": '.encode()
    return not content.endswith(b"\n") and content[: len(beginning)] == beginning[: len(content)]


def _parsed(content: bytes) -> dict[str, Any] | None:
    """Returns a line's content; None if the line is incomplete or damaged."""
    try:
        line = json.loads(content) if content.endswith(b"\n") else None
    except ValueError:  # neither JSON nor UTF-8: a power cut can leave zeros
        return None
    return line if isinstance(line, dict) and line.keys() & {_CALL, "line"} else None
