import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from multitask.errors import UserError
from multitask.prediction.inputs import find_sources, passed_over


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


def test_find_sources_of_a_folder_says_what_it_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.JFIF", "c.pnm", "d.mpo", "notes.txt", "sub/data.json", ".DS_Store", "._a.png")
    os.mkfifo(tmp_path / "queue.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "queue.png")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    found = find_sources(str(tmp_path))
    assert [source.name for source in found.sources] == ["a", "b", "c", "d"]
    assert found.passed == [
        "link.png (a pipe)",
        "notes.txt",
        "queue.png (a pipe)",
        "zero.jpg (a device)",
        "sub/data.json",
    ]
    assert found.failures == []


def test_passed_over_names_a_few_and_counts_all() -> None:
    assert passed_over(["a.txt"]) == "passed over 1 file that is no picture or video: a.txt"
    names = [f"{index}.txt" for index in range(1000)]
    expected = "passed over 1000 files that are no picture or video: 0.txt, 1.txt, 2.txt and 997 more"
    assert passed_over(names) == expected


def test_find_sources_of_a_pattern_passes_over_what_is_no_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    os.mkfifo(tmp_path / "c.png")
    found = find_sources(str(tmp_path / "*"))
    assert [source.name for source in found.sources] == ["a"]
    assert found.passed == [f"{tmp_path}/c.png (a pipe)"]
    with pytest.raises(UserError, match=r"found none \(passed over 1 file that is .*c\.png \(a pipe\)\)"):
        find_sources(str(tmp_path / "c*"))


def test_find_sources_of_no_file_given_directly_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.png")
    (tmp_path / "link").symlink_to("c.png")
    for given, what in ((tmp_path / "c.png", "a pipe"), (tmp_path / "link", "a pipe"), ("/dev/zero", "a device")):
        with pytest.raises(UserError, match=rf"input={given}: needed a picture, .*, found {what}"):
            find_sources(str(given))


def test_find_sources_names_folders_that_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "closed/b.png")
    scan = os.scandir

    def refused(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", refused)
    found = find_sources(str(tmp_path))
    assert [source.name for source in found.sources] == ["a"]
    assert found.failures == [f"{tmp_path}/closed: could not be searched (Permission denied)"]


def test_names_of_a_pattern_with_dots_stay_inside_and_are_each_file_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/p/1.jpg", "a/q/1.jpg", "a/x/1.jpg", "a/x/2.jpg", "b/1.jpg", "here/z")
    monkeypatch.chdir(tmp_path / "here")
    # Each is found twice: by way of p, of q and of x.
    assert names("../a/*/../x/*.jpg") == ["1", "2"]
    assert names("../*/*/../../b/*.jpg") == ["1"]
    assert names("../a/*/*.jpg") == ["p/1", "q/1", "x/1", "x/2"]
    assert names("../?/../a/*/1.jpg") == ["p/1", "q/1", "x/1"]
    for given in ("../a/*/../x/*.jpg", "../?/../?/**/*.jpg", "**/../a/**/*.jpg"):
        found = names(given)
        assert len(set(found)) == len(found)
        assert not any(".." in Path(name).parts or Path(name).is_absolute() for name in found)


def test_a_link_in_a_pattern_with_dots_is_followed_as_the_system_does(tmp_path: Path) -> None:
    touch(tmp_path, "far/real/1.jpg", "far/x/2.jpg", "near/x/3.jpg")
    (tmp_path / "near/link").symlink_to(tmp_path / "far/real")
    found = find_sources(str(tmp_path / "near/lin*/../x/*.jpg"))
    assert [source.name for source in found.sources] == ["2"]
    assert found.sources[0].path.exists()


def test_names_that_are_one_on_some_file_system_keep_their_endings(tmp_path: Path) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    touch(tmp_path, f"{composed}.png", f"{decomposed}.jpg", "x.png")
    assert sorted(names(tmp_path)) == sorted([f"{composed}.png", f"{decomposed}.jpg", "x"])


@pytest.mark.parametrize("name", ["..jpg", "...png", "a..png", "a\n.png", "\udcff.png", ".png"])
def test_name_of_a_file_with_an_odd_name_is_no_other_place(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    (found,) = names(tmp_path / name)
    assert found == os.path.splitext(name)[0]
    assert found not in ("", ".", "..")


def test_results_below_the_input_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a_panel.png", "out/sub/b_panel.png", "other/c.png")
    assert [x.name for x in find_sources(str(tmp_path), tmp_path / "out").sources] == ["a", "other/c"]
    assert [x.name for x in find_sources(str(tmp_path / "**/*.png"), tmp_path / "out").sources] == ["a", "other/c"]


def test_names_that_differ_only_in_case_or_form_are_numbered(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "A.jpg", "a.jpg-2.png", "b/x.png", "B/x.png", "\u00e9.png", "e\u0301.png")
    found = names(tmp_path)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(found) == 7
    assert {"A.jpg", "a.jpg-2", "a.jpg-3", "B/x.png", "b/x.png-2"} <= set(found)
