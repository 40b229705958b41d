"""Splits given by lists of names or by shares, for frames in one folder or for some of those in a split's folder.

``{train: train.txt, val: val.txt}``: text files below the data set's root with a name in each line; ``[train, val]``:
only these folders; ``{train: 0.8, val: 0.2, seed: 0, list: all.txt}``: shares of all frames, or of those in a list.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from multitask.data.patterns import Pattern
from multitask.data.reading import read_text
from multitask.errors import UserError, shown

_KEY = "data.splits"
_NO_SPLITS = ("seed", "list")

_MOST_TEXT = 2**28
"""Size limit of a list in bytes, enough for millions of names."""


def split_names(splits: Any, image: Pattern, pattern: Pattern, root: Path) -> list[str]:
    """Returns the names of the existing splits.

    Args:
        splits: ``data.splits`` of the configuration; None: every folder is a split.
        image: paths of the pictures.
        pattern: paths of the files that a split must have: the pictures, or another kind.
        root: root folder of the data set.
    Raises:
        UserError: naming the key, if the splits are malformed.
    """
    check_splits(splits, image)
    if isinstance(splits, Mapping):
        return [name for name in _names(splits) if pattern.folder(root, name).is_dir()]
    found = (pattern if pattern.has_split else image).splits(root)
    found = [name for name in found if pattern.folder(root, name).is_dir()]
    return found if splits is None else [name for name in splits if name in found]


def are_shares(splits: Any) -> bool:
    """Whether the splits are shares of a set of frames."""
    return isinstance(splits, Mapping) and not all(isinstance(splits[name], str) for name in _names(splits))


def check_splits(splits: Any, image: Pattern) -> None:
    """Refuses malformed splits, without looking at files.

    Raises:
        UserError: naming the key.
    """
    if isinstance(splits, Mapping):
        _check_mapping(splits, image)
        return
    if splits is not None and not (
        isinstance(splits, list) and splits and all(isinstance(name, str) for name in splits)
    ):
        raise UserError(f"{_KEY}: needed names of folders, lists or shares, found {shown(splits)}")
    if not image.has_split:
        raise UserError(
            f"{_KEY}: needed lists or shares, since {image.key}={image.text} has no {{split}}; found {shown(splits)}"
        )


def check_split(splits: Any, split: str) -> None:
    """Refuses a split that the configuration does not name.

    Raises:
        UserError: naming the key.
    """
    known = _names(splits) if isinstance(splits, Mapping) else splits
    if known is not None and split not in known:
        raise UserError(f"{_KEY}: needed split {split!r}, found {shown(known)}")


def frames_of(splits: Any, split: str, root: Path, pictures: Mapping[str, Path]) -> list[str] | None:
    """Returns the names of a split's frames; None for all in its folder.

    Args:
        splits: ``data.splits`` of the configuration.
        split: one of them.
        root: root folder of the data set.
        pictures: the pictures of all frames, by frame name.
    Raises:
        UserError: naming the list and the line, if a name matches no picture, or the key of a share without a frame.
    """
    if not isinstance(splits, Mapping):
        return None
    if isinstance(splits[split], str):
        return _listed(root / splits[split], root, pictures)
    names = sorted(pictures) if splits.get("list") is None else _listed(root / splits["list"], root, pictures)
    shares = [splits[name] for name in _names(splits)]
    place = _names(splits).index(split)
    start, end = (round(sum(shares[:stop]) * len(names)) for stop in (place, place + 1))
    if names and start == end:
        raise UserError(
            f"{_KEY}.{split}: needed a share of {len(names)} frames with one or more, found {shares[place]}"
        )
    order = np.random.default_rng(splits.get("seed", 0)).permutation(len(names))
    return sorted(names[index] for index in order[start:end].tolist())


def _names(splits: Mapping[Any, Any]) -> list[str]:
    return [name for name in splits if name not in _NO_SPLITS]


def _check_mapping(splits: Mapping[Any, Any], image: Pattern) -> None:
    values = {name: splits[name] for name in _names(splits)}
    if not values or not all(isinstance(name, str) for name in values):
        raise UserError(f"{_KEY}: needed names of splits, found {shown(splits)}")
    lists = [value for value in values.values() if isinstance(value, str)]
    if len(lists) == len(values):
        if extra := [key for key in _NO_SPLITS if key in splits]:
            raise UserError(f"{_KEY}.{extra[0]}: needed for shares alone, found {shown(splits[extra[0]])}")
        return
    if lists:
        raise UserError(f"{_KEY}: needed either lists or shares, found {shown(dict(splits))}")
    for name, value in values.items():
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise UserError(f"{_KEY}.{name}: needed a list, or a share above 0 and at most 1, found {shown(value)}")
    if sum(values.values()) > 1 + 1e-9:
        raise UserError(f"{_KEY}: needed shares that are 1 together, or less, found {sum(values.values()):g}")
    if type(seed := splits.get("seed", 0)) is not int or seed < 0:
        raise UserError(f"{_KEY}.seed: needed a whole number, found {shown(seed)}")
    if splits.get("list") is not None and not isinstance(splits["list"], str):
        raise UserError(f"{_KEY}.list: needed the path of a list, found {shown(splits['list'])}")
    if image.has_split:
        raise UserError(
            f"{_KEY}: needed no shares, since {image.key}={image.text} has {{split}}; found {shown(dict(splits))}"
        )


def _listed(path: Path, root: Path, pictures: Mapping[str, Path]) -> list[str]:
    """Reads the names in a list, each of which may occur once."""
    exact, ends = _ways_to_say(root, pictures)
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(path, _MOST_TEXT).splitlines(), start=1):
        if not (text := line.strip()):
            continue
        where = f"{path}: line {number}: {shown(text)}"
        if not (found := _meant(text, exact, ends)):
            raise UserError(f"{where}: needed the name of a picture, found none of that name")
        if len(found) > 1:
            raise UserError(f"{where}: needed the name of one picture, found {' and '.join(sorted(found)[:2])}")
        name = found.pop()
        if name in names:
            raise UserError(f"{where}: needed each name once, found {name!r} in line {names[name]} too")
        names[name] = number
    if not names:
        raise UserError(f"{path}: needed the names of pictures, found none")
    return sorted(names)


def _ways_to_say(root: Path, pictures: Mapping[str, Path]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Returns two indices of frames by text: full names and paths below the root, and the ends of those."""
    exact: dict[str, set[str]] = {}
    ends: dict[str, set[str]] = {}
    for name, picture in pictures.items():
        path = picture.relative_to(root).as_posix()
        for text in {name, path, _without_ending(path)}:
            exact.setdefault(text, set()).add(name)
            parts = text.split("/")
            for start in range(1, len(parts)):
                ends.setdefault("/".join(parts[start:]), set()).add(name)
    return exact, ends


def _meant(text: str, exact: Mapping[str, set[str]], ends: Mapping[str, set[str]]) -> set[str]:
    """Returns the frames that match a line of a list: a name or a path, possibly followed by more words."""
    for given in (text, text.split()[0]):
        for candidate in (given, _without_ending(given)):
            parts = PurePosixPath(candidate).parts
            for start in range(len(parts)):  # the path may have more folders in front than exist below the root
                if found := exact.get("/".join(parts[start:])):
                    return set(found)
            if found := ends.get("/".join(parts)):
                return set(found)
    return set()


def _without_ending(text: str) -> str:
    suffix = PurePosixPath(text).suffix
    return text[: -len(suffix)] if suffix else text
