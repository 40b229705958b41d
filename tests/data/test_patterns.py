import os
from pathlib import Path

import pytest

from multitask.data.patterns import Pattern


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, text: str, split: str = "train") -> dict[str, str]:
    """Name by path below the root."""
    files = Pattern(text, "data.image").find(root, split)
    return {path.relative_to(root).as_posix(): name for path, name in files.items()}


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        (None, r"a pattern such as images/\{split\}/\{name\}\.png, found None"),
        (7, r"a pattern such as .*, found 7"),
        ("", r"a pattern such as .*, found ''"),
        ({"path": "a"}, r"a pattern such as .*, found \{'path': 'a'\}"),
        ("images/a.png", r"\{name\} once, found 'images/a\.png'"),
        ("{name}/{name}.png", r"\{name\} once, found '\{name\}/\{name\}\.png'"),
        ("images/{nam}.png", r"no fields but \{split\} and \{name\}, found \{nam\} in 'images/\{nam\}\.png'"),
        ("images/{}/{name}.png", r"no fields but \{split\} and \{name\}, found \{\} in"),
        ("images/{split/{name}.png", r"no fields but .*, found \{split/\{name\} in"),
        ("/images/{name}.png", r"a path relative to data\.root, found '/images/\{name\}\.png'"),
        ("../images/{name}.png", r"a path relative to data\.root, found '\.\./"),
        ("images/../{name}.png", r"a path relative to data\.root, found"),
        ("images/{name}_{split}.png", r"\{split\} in the name of a folder before those with \{name\} or \*, found"),
        ("{name}/{split}/a.png", r"\{split\} in the name of a folder before"),
        ("*/{split}/{name}.png", r"\{split\} in the name of a folder before"),
    ],
)
def test_pattern_that_is_none_is_refused(text: object, needed: str) -> None:
    with pytest.raises(ValueError, match=rf"^data\.image: needed {needed}[^\n]*$"):
        Pattern(text, "data.image")


@pytest.mark.parametrize(
    ("text", "needed"), [("{name}.json", r"no \{name\}, found '\{name\}\.json'"), ("*.json", r"one file, and so no \*")]
)
def test_pattern_of_one_file_is_refused(text: str, needed: str) -> None:
    with pytest.raises(ValueError, match=rf"^data\.class_ids\.json: needed {needed}"):
        Pattern(text, "data.class_ids.json", named=False)


def test_files_are_found_with_the_names_of_their_frames(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/a.jpg", "images/train/b.c.jpg", "images/val/d.jpg", "images/train/e.png")
    assert found(tmp_path, "images/{split}/{name}.jpg") == {"images/train/a.jpg": "a", "images/train/b.c.jpg": "b.c"}
    assert found(tmp_path, "images/{split}/{name}.jpg", "val") == {"images/val/d.jpg": "d"}
    assert found(tmp_path, "images/{split}/{name}.jpg", "test") == {}


def test_names_may_hold_folders(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/x/y/1.png", "rgb/x/2.png", "rgb/3.png")
    assert found(tmp_path, "rgb/{name}.png") == {"rgb/x/y/1.png": "x/y/1", "rgb/x/2.png": "x/2", "rgb/3.png": "3"}
    touch(tmp_path, "scenes/1/rgb/image.png", "scenes/1/depth/image.png", "scenes/a/2/rgb/image.png")
    expected = {"scenes/1/rgb/image.png": "1", "scenes/a/2/rgb/image.png": "a/2"}
    assert found(tmp_path, "scenes/{name}/rgb/image.png") == expected


def test_star_is_anything_but_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.png", "rgb/2.jpg", "rgb/3.b.jpeg", "rgb/4")
    assert found(tmp_path, "rgb/{name}.*") == {"rgb/1.png": "1", "rgb/2.jpg": "2", "rgb/3.b.jpeg": "3.b"}
    touch(tmp_path, "cam1/x/5.png", "cam2/6.png")
    assert found(tmp_path, "cam*/{name}.png") == {"cam1/x/5.png": "x/5", "cam2/6.png": "6"}
    assert found(tmp_path, "cam*/*/{name}.png") == {"cam1/x/5.png": "5"}


def test_letters_with_a_meaning_elsewhere_are_letters(tmp_path: Path) -> None:
    touch(tmp_path, "a+b (1)/[x]/1.png", "aab 1/x/2.png")
    assert found(tmp_path, "a+b (1)/[x]/{name}.png") == {"a+b (1)/[x]/1.png": "1"}


def test_hidden_files_are_nobody_s(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/._1.png", "rgb/.cache/2.png", "rgb/3.png")
    assert found(tmp_path, "rgb/{name}.png") == {"rgb/3.png": "3"}


def test_link_to_a_folder_above_is_no_way_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/x/1.png", "other/2.png")
    os.symlink(tmp_path / "rgb", tmp_path / "rgb/x/again")
    os.symlink(tmp_path / "other", tmp_path / "rgb/y")
    assert found(tmp_path, "rgb/{name}.png") == {"rgb/x/1.png": "x/1", "rgb/y/2.png": "y/2"}


@pytest.mark.parametrize(
    ("text", "files", "splits"),
    [
        ("images/{split}/{name}.png", ["images/b/1.png", "images/a/1.png", "images/c.txt"], ["a", "b"]),
        ("{split}/rgb/{name}.png", ["a/rgb/1.png", "docs/page.html", "b/rgb/x/2.png"], ["a", "b"]),
        ("{split}/{name}/rgb.png", ["a/1/rgb.png"], ["a"]),
        ("{split}2017/{name}.jpg", ["train2017/1.jpg", "annotations/1.json", "2017/1.jpg"], ["train"]),
        ("x_{split}_y/{split}/{name}.png", ["x_a_y/a/1.png", "x_b_y/c/1.png"], ["a"]),
        ("{split}-{split}/{name}.png", ["a-a/1.png", "a-b/1.png"], ["a"]),
        ("{name}.png", ["1.png"], []),
    ],
)
def test_splits_are_the_folders_that_hold_the_pattern_s(
    tmp_path: Path, text: str, files: list[str], splits: list[str]
) -> None:
    touch(tmp_path, *files)
    assert Pattern(text, "data.image").splits(tmp_path) == splits


def test_path_and_folder_of_a_frame() -> None:
    pattern = Pattern("./{split}/rgb//cam*/{name}_x.png", "data.image")
    assert pattern.path(Path("root"), "train", "a/1") == Path("root/train/rgb/cam*/a/1_x.png")
    assert pattern.folder(Path("root"), "train") == Path("root/train/rgb")
    assert pattern.name_of(Path("root"), "train", Path("root/train/rgb/cam7/a/1_x.png")) == "a/1"
    assert pattern.name_of(Path("root"), "val", Path("root/train/rgb/cam7/a/1_x.png")) is None
    assert Pattern("{name}.png", "data.image").folder(Path("root"), "train") == Path("root")


def test_root_may_hold_letters_of_patterns(tmp_path: Path) -> None:
    root = tmp_path / "{split} [1]*"
    touch(root, "images/train/1.png")
    assert found(root, "images/{split}/{name}.png") == {"images/train/1.png": "1"}
    assert Pattern("images/{split}/{name}.png", "data.image").splits(root) == ["train"]
