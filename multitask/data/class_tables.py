"""Reading of class tables and mappings between them from ``configs/classes/*.yaml``, users' files, and checkpoints."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from multitask.data.classes import IGNORE, MOST_CLASSES, ClassMapping, ClassTable, Color, Label, distinct_color
from multitask.data.reading import read_text
from multitask.errors import UserError, shown

FOLDER = Path(__file__).parents[2] / "configs" / "classes"
"""Folder of the tables that can be given by name alone."""

_SUFFIXES = (".yaml", ".yml")
_TABLE_KEYS = ("name", "classes", "unseen", "sky")
_CLASS_KEYS = ("name", "id", "train_id", "ignored", "category", "instances", "color", "average_pixels")
_MAPPING_KEYS = ("from", "to", "classes")

_OF_MAPPINGS = "_to_"
"""Part of a file name in `FOLDER` that marks a mapping rather than a table."""

_NOTHING = Label("(no class)", None, IGNORE, "(no class)", False, (0, 0, 0))
"""Label of pixels without a class, for tables without an ignored class that could stand for them."""


def read_table(given: Any, key: str = "data.classes") -> ClassTable:
    """Reads a class table.

    Args:
        given: the name of a table in `FOLDER`, the path of a YAML file, or the result of `ClassTable.content`.
        key: of the configuration, for errors.
    Raises:
        UserError: naming the key or file, the class, and what is wrong with it.
    """
    if isinstance(given, Mapping):
        return table_of(given, key)
    path = _find(given, key, mappings=False)
    return built_in(path.stem) if path.parent == FOLDER else _table_in(path)


@cache
def built_in(name: str) -> ClassTable:
    """Returns a table of `FOLDER`, parsed only once, since a run asks for it repeatedly."""
    return _table_in(FOLDER / f"{name}.yaml")


def _table_in(path: Path) -> ClassTable:
    return table_of(_read(path), str(path), path.stem)


def table_of(content: Any, source: str, name: str = "") -> ClassTable:
    """Builds a class table from plain values, as a YAML file holds them.

    Args:
        content: ``classes``, a list of classes with the keys ``name`` and ``id``, and optionally ``train_id``,
            ``ignored``, ``category``, ``instances``, ``color`` and ``average_pixels``; and optionally ``name``,
            ``unseen`` (names of classes) and ``sky`` (a class).
        source: beginning of error messages.
        name: name of the table where the content has none; by default the source.
    Raises:
        UserError: naming the class and the key.
    """
    _check_keys(content, source, _TABLE_KEYS)
    if not isinstance(name := content.get("name", name or source), str) or not name.isprintable():
        raise UserError(f"{source}: name: needed a name, found {shown(name)}")
    rows = content.get("classes")
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{source}: classes: needed a list of classes, found {shown(rows)}")
    _check_rows(source, rows)
    unseen, sky = content.get("unseen", []), content.get("sky")
    if not isinstance(unseen, list):
        raise UserError(f"{source}: unseen: needed a list of classes, found {shown(unseen)}")
    listed = [_label(row, f"{source}: class {row['name']!r}", train_id) for train_id, row in _numbered(rows, source)]
    labels = _ordered(listed, unseen)
    _check_train_ids(source, labels)
    _check_once(source, "id", [(label.id, label.name) for label in labels if label.id is not None])
    table = ClassTable(name, labels)
    ids = tuple(_class_id(table, found, f"{source}: unseen") for found in unseen)
    if evaluated := [table.labels[class_id].name for class_id in ids if table.labels[class_id].evaluated]:
        raise UserError(f"{source}: unseen: needed ignored classes, found {evaluated[0]!r}")
    sky_id = None if sky is None else _class_id(table, sky, f"{source}: sky")
    return ClassTable(name, labels, ids, sky_id)


def read_mapping(given: Any, key: str = "data.mappings") -> ClassMapping:
    """Reads a mapping from the labels of one class table to those of another.

    Args:
        given: the name of a mapping in `FOLDER`, or the path of a YAML file.
        key: of the configuration, for errors.
    Raises:
        UserError: naming the file, the class and what is wrong with it.
    """
    path = _find(given, key, mappings=True)
    content = _read(path)
    _check_keys(content, str(path), _MAPPING_KEYS)
    source, target = (read_table(_beside(path, content.get(end)), f"{path}: {end}") for end in ("from", "to"))
    names = content.get("classes")
    if not isinstance(names, Mapping):
        raise UserError(
            f"{path}: classes: needed a class of {target.name} for each of {source.name}, found {shown(names)}"
        )
    class_ids = np.zeros(256, dtype=np.uint8)
    for name, other in names.items():
        class_ids[_class_id(source, name, f"{path}: classes")] = _class_id(target, other, f"{path}: classes: {name}")
    if missing := [label.name for label in source.labels if label.id is not None and label.name not in names]:
        raise UserError(f"{path}: classes: needed every class of {source.name}, found none for {missing[0]!r}")
    return ClassMapping(source, target, class_ids)


def _find(given: Any, key: str, *, mappings: bool) -> Path:
    """Returns the file of a table or mapping: one in `FOLDER` by its name, any other by its path."""
    if not isinstance(given, str) or not given:
        raise UserError(f"{key}: needed a name or the path of a YAML file, found {shown(given)}")
    if Path(given).suffix in _SUFFIXES:
        return Path(given)
    known = sorted(found.stem for found in FOLDER.glob("*.yaml") if (_OF_MAPPINGS in found.stem) == mappings)
    if given in known:
        return FOLDER / f"{given}.yaml"
    raise UserError(f"{key}: needed one of {known} or the path of a file that ends with .yaml, found {shown(given)}")


def _beside(path: Path, given: Any) -> Any:
    """Resolves a path given in a file relative to that file; other values are returned unchanged."""
    if isinstance(given, str) and Path(given).suffix in _SUFFIXES:
        return str(path.parent / given)
    return given


class _Loader(yaml.SafeLoader):
    """Loader that refuses duplicate keys in a mapping, of which YAML's own loader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for place, key in enumerate(keys) if key in keys[:place])
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} twice", node.start_mark)
        return found


def _read(path: Path) -> Any:
    text = read_text(path)
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date, for example
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error


def _check_keys(content: Any, source: str, known: tuple[str, ...]) -> None:
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: needed the keys {list(known)}, found {shown(content)}")
    for key in content:
        if key not in known:
            raise UserError(f"{source}: {shown(key)}: unknown key, needed some of {list(known)}")


def _check_rows(source: str, rows: list[Any]) -> None:
    """Refuses rows that are not classes, too many classes, and duplicate names."""
    for place, row in enumerate(rows, start=1):
        named = isinstance(row, Mapping) and isinstance(row.get("name"), str) and row["name"]
        if not named or not row["name"].isprintable() or "/" in row["name"]:
            raise UserError(f"{source}: class {place}: name: needed one without '/', found {shown(row)}")
        _check_keys(row, f"{source}: class {row['name']!r}", _CLASS_KEYS)
    if (number := sum(row["name"] != _NOTHING.name for row in rows)) > MOST_CLASSES:
        raise UserError(f"{source}: classes: needed at most {MOST_CLASSES}, found {number}")
    _check_once(source, "name", [(row["name"], row["name"]) for row in rows])


def _check_once(source: str, what: str, values: list[tuple[Any, str]]) -> None:
    """Refuses two classes that share a value."""
    owner: dict[Any, str] = {}
    for value, name in values:
        if value in owner:
            raise UserError(
                f"{source}: class {name!r}: needed {what} of its own, found {value!r} of {owner[value]!r} too"
            )
        owner[value] = name


def _numbered(rows: list[Any], source: str) -> list[tuple[int, Any]]:
    """Returns each row with its train id: the given one, or if none is given, its index among the rows not ignored."""
    for row in rows:
        if not isinstance(row.get("ignored", False), bool):
            raise UserError(
                f"{source}: class {row['name']!r}: ignored: needed true or false, found {shown(row['ignored'])}"
            )
    given = any("train_id" in row for row in rows)
    numbered, next_id = [], 0
    for row in rows:
        where = f"{source}: class {row['name']!r}"
        if row.get("ignored", False):
            if "train_id" in row:
                raise UserError(f"{where}: needed train_id or ignored, found both")
            numbered.append((IGNORE, row))
        elif given:
            if "train_id" not in row:
                raise UserError(f"{where}: needed train_id, as other classes have, or ignored: true; found neither")
            numbered.append((_whole(row["train_id"], f"{where}: train_id", MOST_CLASSES - 1), row))
        else:
            numbered.append((next_id, row))
            next_id += 1
    return numbered


def _label(row: Mapping[str, Any], where: str, train_id: int) -> Label:
    if not isinstance(instances := row.get("instances", False), bool):
        raise UserError(f"{where}: instances: needed true or false, found {shown(instances)}")
    category = _text(row.get("category", row["name"]), f"{where}: category")
    average = row.get("average_pixels")
    if average is not None and not (type(average) in (int, float) and 0 < average < 1e12):
        raise UserError(f"{where}: average_pixels: needed a number above 0, found {shown(average)}")
    if average is not None and not instances:
        raise UserError(f"{where}: average_pixels: needed instances: true, whose mean size it is, found none")
    id = _whole(row["id"], f"{where}: id", 255) if "id" in row else None
    if id is None and train_id != IGNORE:
        raise UserError(f"{where}: id: needed its value in label files, found none")
    color = _color(row["color"], where) if "color" in row else _color_of(train_id)
    return Label(row["name"], id, train_id, category, instances, color, None if average is None else float(average))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise UserError(f"{where}: needed a name, found {shown(value)}")
    return value


def _whole(value: Any, where: str, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise UserError(f"{where}: needed a whole number from 0 to {most}, found {shown(value)}")
    return value


def _color(value: Any, where: str) -> Color:
    if not isinstance(value, list) or len(value) != 3 or not all(type(x) is int and 0 <= x <= 255 for x in value):
        raise UserError(f"{where}: color: needed three whole numbers from 0 to 255, found {shown(value)}")
    return value[0], value[1], value[2]


def _color_of(train_id: int) -> Color:
    return (0, 0, 0) if train_id == IGNORE else distinct_color(train_id)


def _ordered(labels: list[Label], unseen: list[Any]) -> tuple[Label, ...]:
    """Returns the labels with an ignored one first, which stands for pixels without a class."""
    ignored = (label for label in labels if not label.evaluated and not label.has_instances)
    first = next((label for label in ignored if label.name not in unseen), None)
    return (first or _NOTHING, *(label for label in labels if label is not first))


def _check_train_ids(source: str, labels: tuple[Label, ...]) -> None:
    evaluated = [label for label in labels if label.evaluated]
    if not evaluated:
        raise UserError(f"{source}: classes: needed one that is not ignored, found none")
    _check_once(source, "train_id", [(label.train_id, label.name) for label in evaluated])
    last = max(evaluated, key=lambda label: label.train_id)
    if last.train_id >= len(evaluated):
        found = {label.train_id for label in evaluated}
        gap = next(number for number in range(last.train_id) if number not in found)
        raise UserError(
            f"{source}: class {last.name!r}: train_id: needed numbers without a gap, found {last.train_id} but no {gap}"
        )


def _class_id(table: ClassTable, name: Any, where: str) -> int:
    if not isinstance(name, str) or name not in table.class_id:
        raise UserError(f"{where}: needed a class of {table.name}, found {shown(name)}")
    return table.class_id[name]
