"""The supported layouts of data sets on disk, and opening one split of a data set in any of them."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from multitask.data.cityscapes import Cityscapes
from multitask.data.class_tables import built_in, read_mapping, read_table
from multitask.data.classes import ClassMapping, ClassTable
from multitask.data.described import Described, DescribedLayout
from multitask.data.description import KEYS, describe
from multitask.data.folder import WHOLE, Layout
from multitask.data.folds import Fold, of_fold
from multitask.data.kitti import Kitti
from multitask.data.mixed import Mixed
from multitask.data.split import Split
from multitask.errors import UserError, shown

log = logging.getLogger(__name__)

_CAMVID = {"image": "{split}/{name}.png", "class_ids": "{split}annot/{name}.png", "splits": ["train", "val", "test"]}

FORMATS: dict[str, Layout] = {
    "cityscapes": Cityscapes,
    "kitti": Kitti,
    "camvid": DescribedLayout(replace(describe(_CAMVID), plain=True)),
}
"""Layouts of one root, by name."""

FOLDER = "folder"
"""Format of a data set that the configuration itself describes."""

_TABLES = {"cityscapes": "cityscapes", "kitti": "cityscapes", "camvid": "camvid"}
"""Class table by layout, where `MIXED` infers the layout from the folders."""

MAPPED_BEFORE = {"camvid": ["camvid_to_cityscapes"], "mixed": ["camvid_to_cityscapes"]}
"""``data.mappings`` by format for configurations of older versions, which have neither mappings nor a table."""

_MARKS = {"cityscapes": "leftImg8bit", "kitti": "training/image_2", "camvid": "trainannot"}
"""Folder by layout that exists in every data set of that layout and in no other."""


MIXED = "mixed"
"""Format of several data sets joined into one, each with its own layout."""

_WRITTEN = ("source", "seed", "num_train", "num_val", "num_test")
_KEYS: dict[str, tuple[str, ...]] = dict.fromkeys(FORMATS, ("root",)) | {"cityscapes": ("root", *_WRITTEN)}
_KEYS |= {MIXED: ("roots",), FOLDER: ("root", *KEYS, "train_split")}
"""Keys of ``data`` that only some formats have."""

_ALL = (
    *("name", "format", "classes", "mappings", "image_size", "augmentation", "partial"),
    *("val_split", "held_out", "draw", "folds", "fold"),
)
"""Keys of ``data`` that every format has."""


def open_split(data: Mapping[str, Any], split: str, fold: Fold | None = None) -> Split:
    """Opens one split of the data set that the configuration group ``data`` describes.

    Args:
        data: the group.
        split: name of the split.
        fold: block of frames that training leaves out, for a data set that does not define its splits itself.
    Raises:
        UserError: naming the key, folder or file at fault.
    """
    name = check_keys(data)
    partial = data.get("partial", False)
    if fold and (name == MIXED or not layout_of(data).derived_splits):
        raise UserError(
            f"data.folds: needed null, since data={data['name']} has splits of its own, found {fold.num_folds}"
        )
    if name == MIXED:
        return open_mixed(split, data, partial=partial)
    classes = classes_of(data, name)
    frames = layout_of(data)(data["root"], WHOLE if fold else split, data["image_size"], classes, partial=partial)
    if name == FOLDER and isinstance(frames, Described):
        frames.say_what_fits_nothing()
    return of_fold(frames, split, fold) if fold else frames


def layout_of(data: Mapping[str, Any]) -> Layout:
    """Returns the layout of a data set with one root.

    Args:
        data: the configuration group, checked by `check_keys`.
    Raises:
        UserError: naming the key, if a description in it is wrong.
    """
    name = data.get("format", "cityscapes")
    return DescribedLayout(describe(data)) if name == FOLDER else FORMATS[name]


def check_keys(data: Mapping[str, Any]) -> str:
    """Returns the format of a configuration group ``data``, and checks that it has no other format's keys.

    Raises:
        UserError: naming the key.
    """
    name = data.get("format", "cityscapes")  # the only format of older versions
    if not isinstance(name, str) or name not in _KEYS:
        raise UserError(f"data.format: needed one of {list(_KEYS)}, found {shown(name)}")
    for key in sorted({key for keys in _KEYS.values() for key in keys}.intersection(data).difference(_KEYS[name])):
        raise UserError(f"data.{key}: no key of data.format={name}, needed some of {list(_KEYS[name])}")
    if name == FOLDER and (unknown := [key for key in data if key not in (*_KEYS[FOLDER], *_ALL)]):
        raise UserError(f"data.{str(unknown[0])[:80]}: unknown key, needed some of {[*_KEYS[FOLDER], *_ALL]}")
    if not isinstance(partial := data.get("partial", False), bool):
        raise UserError(f"data.partial: needed true or false, found {shown(partial)}")
    if name == MIXED:
        _check_roots(data.get("roots"))
    elif not isinstance(data.get("root"), str):
        raise UserError(f"data.root: needed a folder, found {shown(data.get('root'))}")
    return str(name)


def format_of(root: str | Path) -> str:
    """Returns the name of a root's layout, judged by the folders in it.

    Raises:
        UserError: naming the root, if it is missing or has the folders of no layout or of several.
    """
    if not Path(root).is_dir():
        raise UserError(f"data.roots: {root}: no such folder; data/README.md says how to obtain each data set")
    found = [name for name, mark in _MARKS.items() if (Path(root) / mark).is_dir()]
    if len(found) != 1:
        marks = ", ".join(f"{mark} ({name})" for name, mark in _MARKS.items())
        raise UserError(f"data.roots: {root}: needed one of the folders {marks}, found {found or 'none of them'}")
    return found[0]


def classes_of(data: Mapping[str, Any], layout: str) -> ClassTable | ClassMapping:
    """Returns the class table of label files, or the mapping from it to ``data.classes``.

    The files of one root have the table ``data.classes``, or where a mapping to it is given, the mapping's source. Of
    several roots (`MIXED`) each has its layout's table, which must equal ``data.classes`` or be mapped to it.

    Args:
        data: the configuration group.
        layout: layout of the root.
    Raises:
        UserError: naming the key or file.
    """
    target, given = read_table(data.get("classes")), data.get("mappings", [])
    if not isinstance(given, list):
        raise UserError(f"data.mappings: needed a list of names or files, found {shown(given)}")
    mappings = [read_mapping(one) for one in given]
    for mapping in mappings:
        if mapping.target != target:
            raise UserError(
                f"data.mappings: needed mappings to data.classes, {target.name}, found one to {mapping.target.name}"
            )
    if data.get("format") != MIXED:
        if len(mappings) > 1:
            raise UserError(f"data.mappings: needed one at most, since there is one root, found {shown(given)}")
        if mappings:
            return mappings[0]
        own = built_in(_TABLES[layout]) if layout in _TABLES else target
        if target == own or target not in map(built_in, _TABLES.values()):
            return target  # a user's table, for files arranged in this layout
    source = built_in(_TABLES[layout])
    if source == target:
        return target
    for mapping in mappings:
        if mapping.source == source:
            return mapping
    raise UserError(
        f"data.mappings: needed a mapping from {source.name}, the classes of data sets with the layout {layout}, to "
        f"data.classes, {target.name}; found {shown(given)}"
    )


def source_table(data: Mapping[str, Any], layout: str) -> ClassTable:
    """Returns the class table of label files, as `classes_of` determines it."""
    classes = classes_of(data, layout)
    return classes.source if isinstance(classes, ClassMapping) else classes


def open_mixed(split: str, data: Mapping[str, Any], *, partial: bool = False) -> Split:
    """Opens one split of several data sets joined, each in any layout; logs a line for each that lacks the split.

    Raises:
        UserError: naming the key, folder or file, if no data set has the split, or one is faulty.
    """
    roots: list[str] = data["roots"]
    where = f"data.roots=[{','.join(map(str, roots))}]"
    layouts = {root: format_of(root) for root in roots}
    there = {root: FORMATS[layout].splits(Path(root)) for root, layout in layouts.items()}
    for root, splits in there.items():
        if split not in splits:
            log.warning("data.roots: %s has no split %r, only %s", root, split, splits)
    numbered = enumerate(layouts.items(), start=1)
    parts = {
        number: FORMATS[layout](root, split, data["image_size"], classes_of(data, layout), partial=partial)
        for number, (root, layout) in numbered
        if split in there[root]
    }
    if not parts:
        raise UserError(f"{where}: needed split {split!r} in one of them, found {there}")
    return Mixed(parts, where)


def _check_roots(roots: Any) -> None:
    """Refuses anything but a list of different roots."""
    if not isinstance(roots, list) or not roots or not all(isinstance(root, str) for root in roots):
        raise UserError(f"data.roots: needed folders of data sets, such as [data/a,data/b], found {shown(roots)}")
    if len({Path(root).resolve() for root in roots}) < len(roots):
        raise UserError(f"data.roots: needed each folder once, found {list(roots)}")
