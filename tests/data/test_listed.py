import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multitask.data.census import take_census
from multitask.data.described import Described, DescribedLayout
from multitask.data.description import describe
from multitask.data.layout import write_png
from tests.cityscapes import CITYSCAPES

FLAT = {"image": "rgb/{name}.png", "class_ids": "ids/{name}.png"}
SPLIT = {"image": "rgb/{split}/{name}.png", "class_ids": "ids/{split}/{name}.png"}


def write(root: Path, *names: str, folder: str = "") -> Path:
    """Frames of 2 x 2 px with classes."""
    for name in names:
        write_png(root / "rgb" / folder / f"{name}.png", np.zeros((2, 2, 3), dtype=np.uint8))
        write_png(root / "ids" / folder / f"{name}.png", np.zeros((2, 2), dtype=np.uint8))
    return root


def frames(root: Path, splits: Any, split: str = "train", layout: dict[str, str] = FLAT) -> Described:
    return DescribedLayout(describe(layout | {"splits": splits}))(root, split, (2, 2), CITYSCAPES)


def names(root: Path, splits: Any, split: str = "train", layout: dict[str, str] = FLAT) -> list[str]:
    found = frames(root, splits, split, layout)
    assert found.kinds == {"class_ids"}
    assert all(found.path(kind, name).is_file() for kind in ("image", "class_ids") for name in found.names)
    return found.names


# Folders


def test_splits_are_folders_where_nothing_is_said(tmp_path: Path) -> None:
    for split in ("train", "val", "other"):
        write(tmp_path, f"{split}1", folder=split)
    assert names(tmp_path, None, "other", SPLIT) == ["other1"]
    assert DescribedLayout(describe(SPLIT)).splits(tmp_path) == ["other", "train", "val"]
    only = DescribedLayout(describe(SPLIT | {"splits": ["val", "train", "test"]}))
    assert only.splits(tmp_path) == ["val", "train"]
    assert only.splits(tmp_path, "class_ids") == ["val", "train"]
    assert only.splits(tmp_path, "disparity") == []


def test_split_that_is_no_folder_names_those_that_are(tmp_path: Path) -> None:
    write(tmp_path, "1", folder="train")
    needed = re.escape(f"{tmp_path}/rgb/valid: no such folder; needed split 'valid', found ['train']")
    with pytest.raises(ValueError, match=needed):
        frames(tmp_path, None, "valid", SPLIT)
    with pytest.raises(ValueError, match=r"^data\.splits: needed split 'train', found \['val'\]$"):
        frames(tmp_path, ["val"], "train", SPLIT)


def test_labels_of_other_splits_in_one_folder_are_no_strays(tmp_path: Path) -> None:
    layout = {"image": "rgb/{split}/{name}.png", "class_ids": "ids/{name}.png"}
    for split in ("train", "val"):
        write(tmp_path, split)
        (tmp_path / "rgb" / split).mkdir()
        (tmp_path / f"rgb/{split}.png").rename(tmp_path / f"rgb/{split}/{split}.png")
    assert names(tmp_path, None, "train", layout) == ["train"]
    opener = DescribedLayout(describe(layout))
    assert take_census(opener, tmp_path, "train", CITYSCAPES, 1).faults == []
    write_png(tmp_path / "ids/stray.png", np.zeros((2, 2), dtype=np.uint8))
    found = take_census(opener, tmp_path, "val", CITYSCAPES, 1).faults
    assert found == [f"{tmp_path}/ids/stray.png: belongs to no image of split 'val'"]


def test_labels_without_a_split_of_pictures_are_a_fault(tmp_path: Path) -> None:
    write(tmp_path, "1", folder="train")
    write_png(tmp_path / "ids/val/2.png", np.zeros((2, 2), dtype=np.uint8))
    opener = DescribedLayout(describe(SPLIT))
    assert opener.splits(tmp_path, "class_ids") == ["train", "val"]
    (fault,) = take_census(opener, tmp_path, "val", CITYSCAPES, 1).faults
    assert fault == f"{tmp_path}/rgb/val: no such folder; needed split 'val', found ['train']"


# Lists


@pytest.mark.parametrize(
    "line",
    [
        *("x/1", "x/1.png", "rgb/x/1.png", "rgb/x/1", "/somewhere/else/rgb/x/1.png", "elsewhere/x/1", "1", "1.jpg"),
        *("x/1.png labels/1.png", "  x/1  ", "rgb/x/1.png\tids/x/1.png", "./x/1.png"),
    ],
)
def test_line_of_a_list_is_a_name_or_a_path(tmp_path: Path, line: str) -> None:
    write(tmp_path, "x/1", "y/2")
    (tmp_path / "train.txt").write_text(f"\n{line}\r\n\n")
    assert names(tmp_path, {"train": "train.txt"}) == ["x_1"]


def test_list_names_frames_whose_names_have_spaces_and_dots(tmp_path: Path) -> None:
    write(tmp_path, "a b", "a", "1.5", "1")
    (tmp_path / "train.txt").write_text("a b\n1.5\n")
    (tmp_path / "val.txt").write_text("a.png\n1.png\n")
    splits = {"train": "train.txt", "val": "val.txt"}
    assert names(tmp_path, splits) == ["1.5", "a b"]
    assert names(tmp_path, splits, "val") == ["1", "a"]


def test_list_of_pictures_whose_names_end_alike(tmp_path: Path) -> None:
    layout = {"image": "rgb/{name}_left.png", "class_ids": "ids/{name}.png"}
    write(tmp_path, "aachen/1", "bonn/1", "bonn/2")
    for path in [*tmp_path.rglob("rgb/*/*.png")]:
        path.rename(path.with_name(f"{path.stem}_left.png"))
    (tmp_path / "train.txt").write_text("aachen/1_left.png\nrgb/bonn/2_left.png\n")
    (tmp_path / "val.txt").write_text("bonn/1")
    splits = {"train": "train.txt", "val": "val.txt"}
    assert names(tmp_path, splits, "train", layout) == ["aachen_1", "bonn_2"]
    assert names(tmp_path, splits, "val", layout) == ["bonn_1"]


def test_list_of_some_of_a_split_s_folder(tmp_path: Path) -> None:
    write(tmp_path, "1", "2", "3", folder="train")
    write(tmp_path, "2", folder="val")
    (tmp_path / "some.txt").write_text("train/1.png\n2\n")
    splits = {"train": "some.txt"}
    assert names(tmp_path, splits, "train", SPLIT) == ["1", "2"]
    assert (
        take_census(DescribedLayout(describe(SPLIT | {"splits": splits})), tmp_path, "train", CITYSCAPES, 1).faults
        == []
    )


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("x/1\nx/3\n", "line 2: 'x/3': needed the name of a picture, found none of that name"),
        ("x/1\n3\n", "line 2: '3': needed the name of a picture, found none of that name"),
        ("2\n", "line 1: '2': needed the name of one picture, found x/2 and y/2"),
        ("z/2\n", "line 1: 'z/2': needed the name of a picture, found none of that name"),
        ("x/1\n\nrgb/x/1.png\n", "line 3: 'rgb/x/1.png': needed each name once, found 'x/1' in line 1 too"),
        ("\n \n", "needed the names of pictures, found none"),
    ],
)
def test_list_with_a_mistake_is_named(tmp_path: Path, text: str, needed: str) -> None:
    write(tmp_path, "x/1", "x/2", "y/2")
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path}/train.txt: {needed}')}$"):
        frames(tmp_path, {"train": "train.txt"})


def test_list_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, "1")
    needed = f"{tmp_path}/train.txt: no such file"
    opener = DescribedLayout(describe(FLAT | {"splits": {"train": "train.txt"}}))
    with pytest.raises(ValueError, match=f"^{re.escape(needed)}$"):
        opener(tmp_path, "train", (2, 2), CITYSCAPES)
    assert take_census(opener, tmp_path, "train", CITYSCAPES, 1).faults == [needed]


def test_long_lists_are_read(tmp_path: Path) -> None:
    write(tmp_path, "1")
    (tmp_path / "train.txt").write_text("1\n" + " " * 2**21)
    assert names(tmp_path, {"train": "train.txt"}) == ["1"]


def test_split_that_no_list_is_for_names_those_that_are(tmp_path: Path) -> None:
    write(tmp_path, "1")
    with pytest.raises(ValueError, match=r"^data\.splits: needed split 'test', found \['train', 'val'\]$"):
        frames(tmp_path, {"train": 0.5, "val": 0.5, "seed": 3}, "test")


def test_labels_of_frames_in_other_lists_are_no_strays(tmp_path: Path) -> None:
    write(tmp_path, "1", "2", "3")
    (tmp_path / "train.txt").write_text("1")
    (tmp_path / "val.txt").write_text("2")
    write_png(tmp_path / "ids/stray.png", np.zeros((2, 2), dtype=np.uint8))
    opener = DescribedLayout(describe(FLAT | {"splits": {"train": "train.txt", "val": "val.txt"}}))
    for split in ("train", "val"):
        found = take_census(opener, tmp_path, split, CITYSCAPES, 1)
        assert found.num_frames == 1
        assert found.faults == [f"{tmp_path}/ids/stray.png: belongs to no image of split '{split}'"]


# Shares


SHARES = {"train": 0.6, "val": 0.3, "test": 0.1}


def shares(root: Path, **keys: object) -> dict[str, list[str]]:
    return {split: names(root, SHARES | keys, split) for split in SHARES}


def test_shares_are_disjoint_and_use_all_frames(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number:02}" for number in range(23)))
    found = shares(tmp_path)
    assert [len(part) for part in found.values()] == [14, 7, 2]
    assert sorted(name for part in found.values() for name in part) == [f"{number:02}" for number in range(23)]
    assert shares(tmp_path) == found == shares(tmp_path, seed=0)
    assert shares(tmp_path, seed=1) != found


def test_shares_of_a_list(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number:02}" for number in range(20)))
    (tmp_path / "all.txt").write_text("\n".join(f"{number:02}.png" for number in range(0, 20, 2)))
    found = shares(tmp_path, list="all.txt")
    assert [len(part) for part in found.values()] == [6, 3, 1]
    assert sorted(name for part in found.values() for name in part) == [f"{number:02}" for number in range(0, 20, 2)]


def test_shares_are_of_pictures_where_labels_lie_beside_them(tmp_path: Path) -> None:
    layout = {"image": "{name}.png", "class_ids": "{name}_ids.png"}
    for number in range(10):
        write_png(tmp_path / f"{number}.png", np.zeros((2, 2, 3), dtype=np.uint8))
        write_png(tmp_path / f"{number}_ids.png", np.zeros((2, 2), dtype=np.uint8))
    found = {split: names(tmp_path, {"train": 0.5, "val": 0.5}, split, layout) for split in ("train", "val")}
    assert [len(part) for part in found.values()] == [5, 5]
    assert sorted(found["train"] + found["val"]) == [str(number) for number in range(10)]


def test_share_without_a_frame_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "1", "2", "3")
    needed = r"^data\.splits\.test: needed a share of 3 frames with one or more, found 0\.1$"
    with pytest.raises(ValueError, match=needed):
        frames(tmp_path, SHARES, "test")


@pytest.mark.parametrize(
    ("splits", "needed"),
    [
        (
            None,
            r"data\.splits: needed lists or shares, since data\.image=rgb/\{name\}\.png has no \{split\}; found None",
        ),
        (["train"], r"data\.splits: needed lists or shares, since data\.image=.* has no \{split\}; found \['train'\]"),
        ({}, r"data\.splits: needed names of splits, found \{\}"),
        ({"seed": 1}, r"data\.splits: needed names of splits, found \{'seed': 1\}"),
        ({1: 0.5}, r"data\.splits: needed names of splits, found \{1: 0\.5\}"),
        ("train.txt", r"data\.splits: needed names of folders, lists or shares, found 'train\.txt'"),
        ([], r"data\.splits: needed names of folders, lists or shares, found \[\]"),
        ({"train": 0.8, "val": 0.3}, r"data\.splits: needed shares that are 1 together, or less, found 1\.1"),
        ({"train": 1.5}, r"data\.splits\.train: needed a list, or a share above 0 and at most 1, found 1\.5"),
        ({"train": 0}, r"data\.splits\.train: needed a list, or a share above 0 and at most 1, found 0"),
        ({"train": True}, r"data\.splits\.train: needed a list, or a share above 0 and at most 1, found True"),
        ({"train": None}, r"data\.splits\.train: needed a list, or a share above 0 and at most 1, found None"),
        ({"train": float("nan")}, r"data\.splits\.train: needed a list, or a share above 0 and at most 1, found nan"),
        ({"train": "train.txt", "val": 0.2}, r"data\.splits: needed either lists or shares, found \{'train': 'train"),
        ({"train": 0.5, "seed": -1}, r"data\.splits\.seed: needed a whole number, found -1"),
        ({"train": 0.5, "seed": 0.5}, r"data\.splits\.seed: needed a whole number, found 0\.5"),
        ({"train": 0.5, "list": 3}, r"data\.splits\.list: needed the path of a list, found 3"),
        ({"train": "train.txt", "seed": 1}, r"data\.splits\.seed: needed for shares alone, found 1"),
    ],
)
def test_splits_that_make_no_sense_are_refused(tmp_path: Path, splits: object, needed: str) -> None:
    write(tmp_path, "1", "2")
    with pytest.raises(ValueError, match=f"^{needed}[^\n]*$"):
        frames(tmp_path, splits)
    with pytest.raises(ValueError, match=f"^{needed}"):
        DescribedLayout(describe(FLAT | {"splits": splits})).splits(tmp_path)


def test_shares_of_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "1", folder="train")
    needed = r"data\.splits: needed no shares, since data\.image=rgb/\{split\}/\{name\}\.png has \{split\}; found"
    with pytest.raises(ValueError, match=needed):
        frames(tmp_path, {"train": 0.5}, "train", SPLIT)


# Names


def test_names_with_folders_that_flatten_to_one_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/1", "a_1")
    needed = re.escape(
        f"data.image: needed one file for each name, found {tmp_path}/rgb/a/1.png and {tmp_path}/rgb/a_1.png"
    )
    with pytest.raises(ValueError, match=f"^{needed} for 'a_1'$"):
        frames(tmp_path, {"train": 1.0})


def test_names_of_two_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "1")
    (tmp_path / "rgb/1.bmp").touch()
    layout = {"image": "rgb/{name}.*", "class_ids": "ids/{name}.*"}
    needed = re.escape(
        f"data.image: needed one file for each name, found {tmp_path}/rgb/1.bmp and {tmp_path}/rgb/1.png"
    )
    with pytest.raises(ValueError, match=f"^{needed} for '1'$"):
        frames(tmp_path, {"train": 1.0}, "train", layout)
    (tmp_path / "rgb/1.bmp").unlink()
    (tmp_path / "ids/1.bmp").touch()
    with pytest.raises(ValueError, match=r"^data\.class_ids\.path: needed one file for each name, found "):
        frames(tmp_path, {"train": 1.0}, "train", layout)


def test_folder_without_pictures_names_the_pattern(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/rgb: needed images rgb/{{name}}.png, found none")):
        frames(tmp_path, {"train": 1.0})


def test_root_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"data.root={tmp_path}/none: no such folder")):
        frames(tmp_path / "none", {"train": 1.0})
