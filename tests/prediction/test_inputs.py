import os
from pathlib import Path

import pytest

from multitask.prediction.inputs import find_sources


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(given: object) -> list[str]:
    return [source.name for source in find_sources(str(given)).sources]


def test_find_sources_of_a_file_is_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    assert find_sources(str(tmp_path / "a.jpg")) == ([(tmp_path / "a.jpg", "a", False)], [], [])


def test_find_sources_of_a_folder_finds_pictures_at_any_depth_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.jpeg", "deep/er/c.tif", "notes.txt", ".hidden.png", ".cache/d.png", "film.mp4")
    assert names(tmp_path) == ["a", "b", "deep/er/c", "film"]


def test_find_sources_of_a_folder_follows_links_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    touch(tmp_path, "other/b.png")
    os.symlink(tmp_path / "other", tmp_path / "real/link")
    os.symlink(tmp_path / "real", tmp_path / "other/back")
    os.symlink(tmp_path / "other/b.png", tmp_path / "real/c.png")
    assert names(tmp_path / "real") == ["a", "c", "link/b"]


def test_find_sources_of_a_pattern_keeps_folders_apart(tmp_path: Path) -> None:
    touch(tmp_path, "in/x/a.png", "in/y/a.png", "in/y/b.jpg", "in/top.png")
    assert names(tmp_path / "in/*/a.png") == ["x/a", "y/a"]
    assert names(tmp_path / "in/**/*.png") == ["top", "x/a", "y/a"]
    assert names(tmp_path / "in/*") == ["top"]


def test_find_sources_of_a_name_with_brackets_that_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].png", "a1.png")
    assert names(tmp_path / "a[1].png") == ["a[1]"]


def test_find_sources_names_the_ending_where_two_would_be_called_the_same(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "A.jpg", "b.png", "c.tar.png", "c.tar.jpg")
    assert sorted(names(tmp_path)) == ["A.jpg", "a.png", "b", "c.tar.jpg", "c.tar.png"]


def test_find_sources_keeps_frames_of_videos_apart_from_pictures(tmp_path: Path) -> None:
    pytest.importorskip("av")
    touch(tmp_path, "a.mp4", "a_000000.png", "b.mp4", "c.mp4", "c.png")
    assert sorted(names(tmp_path / "*")) == ["a.mp4", "a_000000", "b", "c.mp4", "c.png"]


def test_find_sources_of_nothing_is_refused(tmp_path: Path) -> None:
    for given in ("gone.png", "gone/*.png"):
        with pytest.raises(
            ValueError, match=r"input=.*gone.*: needed a file, a folder or a pattern of files, found no"
        ):
            find_sources(str(tmp_path / given))


def test_find_sources_of_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "sub/more.txt")
    with pytest.raises(
        ValueError, match=r"input=.*: needed pictures or videos, found none \(passed over 2 files that are .*"
    ):
        find_sources(str(tmp_path))


def test_names_stay_apart_where_an_ending_makes_another_s_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png"):
        (tmp_path / name).touch()
    assert [source.name for source in find_sources(str(tmp_path)).sources] == ["a.jpg", "a.jpg.png", "a.png", "b"]
