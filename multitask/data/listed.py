"""Splits of frames that lie in one folder, or of some of those in a split's folder: lists of names, and shares.

``{train: train.txt, val: val.txt}``: texts below the data set's root with a name in each line; ``[train, val]``:
folders, and no others; ``{train: 0.8, val: 0.2, seed: 0, list: all.txt}``: shares of all frames, or of those in a list.
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
"""Bytes of the largest list: of millions of names."""


def split_names(splits: Any, image: Pattern, pattern: Pattern, root: Path) -> list[str]:
    """Names of the splits that there are.

    Args:
        splits: as the configuration has them; None: folders.
        image: where the pictures are.
        pattern: where the files are for which splits are sought: those of the pictures, or of another kind.
        root: of the data set.
    Raises:
        UserError: naming the key, if they make no sense.
    """
    check_splits(splits, image)
    if isinstance(splits, Mapping):
        return [name for name in _names(splits) if pattern.folder(root, name).is_dir()]
    found = (pattern if pattern.has_split else image).splits(root)
    found = [name for name in found if pattern.folder(root, name).is_dir()]
    return found if splits is None else [name for name in splits if name in found]


def are_shares(splits: Any) -> bool:
    """Whether splits are shares of all frames that there are."""
    return isinstance(splits, Mapping) and not all(isinstance(splits[name], str) for name in _names(splits))


def check_splits(splits: Any, image: Pattern) -> None:
    """Refuses splits that make no sense, whatever files there are.

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
    """Refuses the name of a split that is none of those that the configuration names.

    Raises:
        UserError: naming the key.
    """
    known = _names(splits) if isinstance(splits, Mapping) else splits
    if known is not None and split not in known:
        raise UserError(f"{_KEY}: needed split {split!r}, found {shown(known)}")


def frames_of(splits: Any, split: str, root: Path, there: Mapping[str, Path]) -> list[str] | None:
    """The names of a split's frames; None: all that are in its folder.

    Args:
        splits: as the configuration has them.
        split: one of them.
        root: of the data set.
        there: the pictures of all frames, by their names.
    Raises:
        UserError: naming the list and the line, if no picture has a name, or the key of a share without a frame.
    """
    if not isinstance(splits, Mapping):
        return None
    if isinstance(splits[split], str):
        return _listed(root / splits[split], root, there)
    names = sorted(there) if splits.get("list") is None else _listed(root / splits["list"], root, there)
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


def _listed(path: Path, root: Path, there: Mapping[str, Path]) -> list[str]:
    """The names in a list, each once."""
    whole, ends = _ways_to_say(root, there)
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(path, _MOST_TEXT).splitlines(), start=1):
        if not (text := line.strip()):
            continue
        where = f"{path}: line {number}: {shown(text)}"
        if not (found := _meant(text, whole, ends)):
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


def _ways_to_say(root: Path, there: Mapping[str, Path]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The frames that a text means: the whole name or path of a picture below the root, and each end of one."""
    whole: dict[str, set[str]] = {}
    ends: dict[str, set[str]] = {}
    for name, picture in there.items():
        path = picture.relative_to(root).as_posix()
        for text in {name, path, _without_ending(path)}:
            whole.setdefault(text, set()).add(name)
            parts = text.split("/")
            for start in range(1, len(parts)):
                ends.setdefault("/".join(parts[start:]), set()).add(name)
    return whole, ends


def _meant(text: str, whole: Mapping[str, set[str]], ends: Mapping[str, set[str]]) -> set[str]:
    """The frames that a line of a list means, which has a name or a path, and maybe more behind it."""
    for given in (text, text.split()[0]):
        for candidate in (given, _without_ending(given)):
            parts = PurePosixPath(candidate).parts
            for start in range(len(parts)):  # with more in front of it than is below the root
                if found := whole.get("/".join(parts[start:])):
                    return set(found)
            if found := ends.get("/".join(parts)):
                return set(found)
    return set()


def _without_ending(text: str) -> str:
    suffix = PurePosixPath(text).suffix
    return text[: -len(suffix)] if suffix else text
