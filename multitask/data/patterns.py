"""Path patterns of a data set's files, such as ``images/{split}/{name}.jpg``."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from multitask.data.reading import visible
from multitask.errors import UserError, shown

_FIELD = re.compile(r"\{(.*?)\}")


class Pattern:
    """Path pattern of one kind of file: ``{name}`` is the frame's name, maybe with folders, and ``*`` matches no ``/``.

    Args:
        text: the pattern, relative to the data set's root.
        key: configuration key, for errors.
        named: whether it must contain ``{name}``; otherwise it must not.
    Raises:
        UserError: naming the key, if the pattern is malformed.
    """

    def __init__(self, text: Any, key: str, *, named: bool = True) -> None:
        if not isinstance(text, str) or not text:
            raise UserError(f"{key}: needed a pattern such as images/{{split}}/{{name}}.png, found {shown(text)}")
        fields = _FIELD.findall(text)
        if unknown := sorted(set(fields) - {"split", "name"}):
            raise UserError(
                f"{key}: needed no fields but {{split}} and {{name}}, found {{{unknown[0]}}} in {shown(text)}"
            )
        if fields.count("name") != named:
            needed = "{name} once" if named else "no {name}"
            raise UserError(f"{key}: needed {needed}, found {shown(text)}")
        parts = PurePosixPath(text).parts
        if text.startswith("/") or ".." in parts:
            raise UserError(f"{key}: needed a path relative to data.root, found {shown(text)}")
        if not named and "*" in text:
            raise UserError(f"{key}: needed one file, and so no *, found {shown(text)}")
        wild = next((place for place, part in enumerate(parts) if "{name}" in part or "*" in part), len(parts))
        if any("{split}" in part for part in parts[wild:]):
            raise UserError(
                f"{key}: needed {{split}} in the name of a folder before those with {{name}} or *, found {shown(text)}"
            )
        self.text, self.key = "/".join(parts), key
        self._folders = parts[:wild] if named else parts[:-1]

    @property
    def has_split(self) -> bool:
        """Whether each split has a folder of its own."""
        return "{split}" in self.text

    def path(self, root: Path, split: str, name: str = "") -> Path:
        """Returns the file of a frame, or a pattern for ``glob`` if the text has a ``*``."""
        return root / self.text.replace("{split}", split).replace("{name}", name)

    def folder(self, root: Path, split: str) -> Path:
        """Returns the folder below which all files of a split lie."""
        return root.joinpath(*(part.replace("{split}", split) for part in self._folders))

    def splits(self, root: Path) -> list[str]:
        """Returns the names of the splits that have a folder; empty if the pattern has no ``{split}``."""
        place = next((place for place, part in enumerate(self._folders) if "{split}" in part), None)
        if place is None:
            return []
        wanted = re.compile(_regex(self._folders[place], split=r"(?P<split>[^/]+)"))
        found = (wanted.fullmatch(path.name) for path in visible(root.joinpath(*self._folders[:place]), "*"))
        names = {match["split"] for match in found if match}
        return sorted(name for name in names if self.folder(root, name).is_dir())

    def find(self, root: Path, split: str) -> dict[Path, str]:
        """Returns every existing file of a split, with the name of its frame."""
        start = len(root.parts)
        return {
            path: match["name"]
            for path in _files(self.folder(root, split))
            if (match := self._matcher(split).fullmatch("/".join(path.parts[start:])))
        }

    def name_of(self, root: Path, split: str, path: Path) -> str | None:
        """Returns the name of the frame that a path belongs to; None if the path does not match."""
        match = self._matcher(split).fullmatch(path.relative_to(root).as_posix())
        return match["name"] if match else None

    def _matcher(self, split: str) -> "re.Pattern[str]":
        if split not in self._matchers:
            self._matchers[split] = re.compile(_regex(self.text, split=re.escape(split)))
        return self._matchers[split]

    @cached_property
    def _matchers(self) -> dict[str, "re.Pattern[str]"]:
        return {}


def _regex(text: str, split: str) -> str:
    """Converts a pattern to a regular expression."""
    fields = {"{split}": split, "{name}": "(?P<name>.+)", "*": "[^/]*"}
    words = []
    for part in re.split(r"(\{split\}|\{name\}|\*)", text):
        words.append(fields.get(part, re.escape(part)))
        if part == "{split}" and split.startswith("(?P<"):
            fields["{split}"] = "(?P=split)"  # later occurrences must repeat the first
    return "".join(words)


def _files(folder: Path) -> Iterator[Path]:
    """Yields every file below a folder, except hidden ones."""
    for path in visible(folder, "*"):
        if path.is_dir():
            if not (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):  # avoids endless loops
                yield from _files(path)
        else:
            yield path
