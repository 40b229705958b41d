"""Splits of frames that lie in one folder, or of some of those in a split's folder: lists of names, and shares.

``{train: train.txt, val: val.txt}``: texts below the data set's root with a name in each line; ``[train, val]``:
folders, and no others; ``{train: 0.8, val: 0.2, seed: 0, list: all.txt}``: shares of all frames, or of those in a list.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multitask.data.patterns import Pattern
from multitask.data.reading import read_text
from multitask.errors import UserError, shown

_KEY = "data.splits"


def split_names(splits: Any, image: Pattern, root: Path) -> list[str]:
    """Names of the splits that there are.

    Args:
        splits: as the configuration has them; None: folders.
        image: where the pictures are.
        root: of the data set.
    Raises:
        UserError: naming the key, if they make no sense.
    """
    check_splits(splits, image)
    if isinstance(splits, Mapping):
        return [name for name, value in splits.items() if name not in ("seed", "list") and not _is_missing(root, value)]
    found = image.splits(root)
    return found if splits is None else [name for name in splits if name in found]


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


def frames_of(splits: Any, split: str, root: Path, there: Iterable[str]) -> list[str] | None:
    """The names of a split's frames; None: all that are in its folder.

    Args:
        splits: as the configuration has them.
        split: one of them.
        root: of the data set.
        there: names of all frames that have a picture.
    Raises:
        UserError: naming the list and the line, if no picture has a name.
    """
    if not isinstance(splits, Mapping):
        return None
    names = sorted(there)
    if isinstance(splits[split], str):
        return _listed(root / splits[split], names)
    if splits.get("list") is not None:
        names = _listed(root / splits["list"], names)
    shares = [value for name, value in splits.items() if name not in ("seed", "list")]
    place = [name for name in splits if name not in ("seed", "list")].index(split)
    start, end = (round(sum(shares[:stop]) * len(names)) for stop in (place, place + 1))
    order = np.random.default_rng(splits.get("seed", 0)).permutation(len(names))
    return sorted(names[index] for index in order[start:end].tolist())


def _check_mapping(splits: Mapping[Any, Any], image: Pattern) -> None:
    values = {name: value for name, value in splits.items() if name not in ("seed", "list")}
    if not values or not all(isinstance(name, str) for name in values):
        raise UserError(f"{_KEY}: needed names of splits, found {shown(splits)}")
    lists = [value for value in values.values() if isinstance(value, str)]
    if len(lists) == len(values):
        if extra := [key for key in ("seed", "list") if key in splits]:
            raise UserError(f"{_KEY}.{extra[0]}: needed for shares alone, found {shown(splits[extra[0]])}")
        return
    for name, value in values.items():
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise UserError(f"{_KEY}.{name}: needed a share above 0 and at most 1, found {shown(value)}")
    if sum(values.values()) > 1 + 1e-9:
        raise UserError(f"{_KEY}: needed shares that are 1 together, or less, found {sum(values.values()):g}")
    if type(seed := splits.get("seed", 0)) is not int or seed < 0:
        raise UserError(f"{_KEY}.seed: needed a whole number, found {shown(seed)}")
    if not isinstance(splits.get("list", ""), str):
        raise UserError(f"{_KEY}.list: needed the path of a list, found {shown(splits['list'])}")
    if image.has_split:
        raise UserError(
            f"{_KEY}: needed no shares, since {image.key}={image.text} has {{split}}; found {shown(splits)}"
        )


def _is_missing(root: Path, value: Any) -> bool:
    return isinstance(value, str) and not (root / value).exists()


def _listed(path: Path, there: list[str]) -> list[str]:
    """The names in a list, each once: with or without folders in front, and an ending behind, as lists have them."""
    known = set(there)
    short: dict[str, list[str]] = {}
    for own in there:
        short.setdefault(Path(own).name, []).append(own)
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not (text := line.strip()):
            continue
        if (name := _name(text, known, short)) is None:
            raise UserError(
                f"{path}: line {number}: {shown(text)}: needed the name of a picture, found none of that name"
            )
        if name in names:
            raise UserError(f"{path}: line {number}: needed each name once, found {name!r} in line {names[name]} too")
        names[name] = number
    return sorted(names)


def _name(text: str, known: set[str], short: Mapping[str, list[str]]) -> str | None:
    """The frame that a line means: its name, or the end of the path of its picture."""
    for given in (text, text.split()[0]):
        without = given[: -len(Path(given).suffix)] if Path(given).suffix else given
        for candidate in (given, without):
            if candidate in known:
                return candidate
            if len(found := short.get(Path(candidate).name, [])) == 1 and "/" in candidate:
                return found[0]
    return None
