"""Writing of the data sets that the project generates, as ``scripts/prepare_data.py`` runs it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from multitask.config.signatures import call
from multitask.console import Progress
from multitask.data.class_tables import built_in, read_table
from multitask.data.parallel import num_workers
from multitask.data.split import check_size
from multitask.data.tiny import shrink
from multitask.errors import UserError, shown
from multitask.synthetic import write_dataset

_TRAINING_KEYS = ("format", "augmentation", "val_split", "held_out", "draw", "folds", "fold", "mappings")
"""Keys of ``data`` that concern training alone and do not affect the written files."""

Counts = dict[str, int]
"""Number of frames by split."""


def prepare(config: Mapping[str, Any]) -> None:
    """Writes the data set of the configuration ``configs/prepare_data.yaml``, and prints its size.

    Raises:
        UserError: naming the key or file.
    """
    data = dict(config["data"])
    name = data.pop("name")
    for key in _TRAINING_KEYS:
        data.pop(key, None)
    writers: dict[str, Callable[..., Counts]] = {"synthetic": _synthetic, "tiny_cityscapes": _tiny}
    if name not in writers:
        raise UserError(
            f"data={name}: needed {' or '.join(writers)}; {name} is used as it is, and check=true checks it"
        )
    counts = call("data", writers[name], data, num_workers(config["num_workers"]))
    height, width = data["image_size"]
    print(f"{data['root']}: {height} x {width} px, " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def _synthetic(
    workers: int,
    root: str,
    image_size: list[int],
    classes: Any,
    seed: int,
    num_train: int,
    num_val: int,
    num_test: int,
    partial: bool = False,
) -> Counts:
    if partial:
        raise UserError("data.partial: needed false, since all files of all frames are written, found true")
    size = check_size("data.image_size", image_size)
    if read_table(classes) != built_in("cityscapes"):
        raise UserError(f"data.classes: needed cityscapes, whose ids the files have, found {shown(classes)}")
    counts = {"train": num_train, "val": num_val, "test": num_test}
    write_dataset(Path(root), counts, size=size, seed=seed, workers=workers, progress=Progress("frames"))
    return counts


def _tiny(
    workers: int, root: str, image_size: list[int], classes: Any, source: str | None, partial: bool = False
) -> Counts:
    size = check_size("data.image_size", image_size)
    if not source:
        raise UserError("data.source: needed the folder of Cityscapes as downloaded, found none")
    return shrink(Path(source), Path(root), size, read_table(classes), workers, Progress("frames"), partial=partial)
