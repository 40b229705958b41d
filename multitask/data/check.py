"""Checks of existing data sets, as ``scripts/prepare_data.py check=true`` runs them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multitask.console import Progress, markdown
from multitask.data.census import KINDS, Census, take_census
from multitask.data.classes import ClassTable
from multitask.data.counts import KEPT, Counts, has_manifest, keep_counts
from multitask.data.folder import Layout
from multitask.data.formats import FORMATS, MIXED, check_keys, format_of, layout_of, source_table
from multitask.data.parallel import num_workers
from multitask.errors import UserError


def check(config: Mapping[str, Any]) -> None:
    """Reads every file of all splits, prints the contents and all faults, and stores the counts of faultless data sets.

    Args:
        config: resolved configuration from ``configs/prepare_data.yaml``.
    Raises:
        UserError: naming the key; or at the end, if any fault was found.
    """
    data, workers = config["data"], num_workers(config["num_workers"])
    name = check_keys(data)
    roots = {root: format_of(root) for root in data["roots"]} if name == MIXED else {data["root"]: name}
    partial, train = data.get("partial", False), data.get("train_split", "train")
    faults = 0
    for root, found in roots.items():
        layout = FORMATS[found] if name == MIXED else layout_of(data)
        faults += _check_root(Path(root), layout, source_table(data, found), workers, partial, train)
    if faults:
        raise UserError(f"{', '.join(roots)}: needed files without a fault, found {faults} faults, listed above")


def _check_root(root: Path, layout: Layout, classes: ClassTable, workers: int, partial: bool, train: str) -> int:
    """Prints the contents of one data set, and returns its number of faults."""
    if not layout.splits(root):
        layout(root, train, (1, 1), classes, strict=False)  # raises an error that says what is missing
    splits = dict.fromkeys(split for file in KINDS for split in layout.splits(root, file))
    faults, counts = 0, {}
    for split in splits:
        census = take_census(layout, root, split, classes, workers, Progress(f"frames of {split}"), partial=partial)
        print(f"\n{root}, split {split}\n\n{census_text(census, classes)}", flush=True)
        faults += len(census.faults)
        counts[split] = dict(census.files)
    if not faults and not has_manifest(root):
        print(f"\n{_keep(root, counts)}", flush=True)
    return faults


def _keep(root: Path, counts: Counts) -> str:
    """Stores the numbers of files, from which training sees that some are gone; returns a line about the outcome."""
    try:
        fewer = keep_counts(root, counts)
    except UserError as error:
        return f"{error}; training will not know these numbers"
    kept = f"{root / KEPT} keeps these numbers: training says where files are fewer"
    return f"fewer files than at the last check: {', '.join(fewer)}\n\n{kept}" if fewer else kept


def census_text(census: Census, classes: ClassTable) -> str:
    """Returns tables of the files and of the classes, and a line for each fault, as text."""
    parts = [markdown([["files", "without a fault", "of frames"], *_file_rows(census)])]
    if len(census.labels) > 1:
        parts.append("frames with " + "; ".join(f"{kinds}: {count}" for kinds, count in census.labels.most_common()))
    if census.pixels.any() or census.instances.any():
        parts.append(markdown([["class", "pixels, %", "instances"], *_class_rows(census, classes)]))
    if census.measured[1]:
        share = 100 * census.measured[0] / census.measured[1]
        parts.append(f"disparity: measured in {share:.1f} % of the pixels")
    if census.sizes:
        common = ", ".join(f"{height} x {width} px ({count})" for (height, width), count in census.sizes.most_common(5))
        parts.append(f"images: {common}" + (", and others" if len(census.sizes) > 5 else ""))
    parts.append("\n".join([*census.faults, f"faults: {len(census.faults)}"]))
    return "\n\n".join(parts)


def _file_rows(census: Census) -> list[list[str]]:
    return [[kind, str(census.files.get(kind, "none")), str(census.num_frames)] for kind in KINDS]


def _class_rows(census: Census, classes: ClassTable) -> list[list[str]]:
    """Returns the table rows of the classes that occur."""
    total = max(int(census.pixels.sum()), 1)
    return [
        [
            label.name,
            f"{100 * census.pixels[class_id] / total:.3f}" if census.pixels.any() else "",
            str(census.instances[class_id]) if label.has_instances and census.files["instance_ids"] else "",
        ]
        for class_id, label in enumerate(classes.labels)
        if np.any([census.pixels[class_id], census.instances[class_id]])
    ]
