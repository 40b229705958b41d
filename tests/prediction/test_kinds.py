import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from multitask.errors import UserError
from multitask.prediction import kinds
from multitask.prediction.kinds import is_medium, is_video, open_file, readers, video_suffixes

PICTURES = [
    "jpg",
    "jpeg",
    "jfif",
    "jpe",
    "png",
    "apng",
    "bmp",
    "dib",
    "gif",
    "tif",
    "tiff",
    "webp",
    "ppm",
    "pgm",
    "pbm",
    "pnm",
    "mpo",
    "jp2",
    "tga",
    "pcx",
    "heic",
    "heif",
    "avif",
]
VIDEOS = [
    "mp4",
    "mov",
    "avi",
    "mkv",
    "webm",
    "m4v",
    "mts",
    "m2ts",
    "ts",
    "mpg",
    "mpeg",
    "3gp",
    "3g2",
    "wmv",
    "asf",
    "flv",
    "f4v",
    "vob",
    "ogv",
    "mxf",
]
OTHERS = [
    "txt",
    "json",
    "md",
    "pdf",
    "eps",
    "ps",
    "h5",
    "wmf",
    "csv",
    "py",
    "mp3",
    "wav",
    "wma",
    "m4a",
    "srt",
    "xml",
    "npy",
    "zip",
]


@pytest.mark.parametrize("suffix", [*PICTURES, *VIDEOS])
def test_picture_or_video_in_a_folder_is_a_medium(tmp_path: Path, suffix: str) -> None:
    for name in (f"a.{suffix}", f"A.{suffix.upper()}"):
        (tmp_path / name).write_bytes(b"\0")
        assert is_medium(tmp_path / name)


@pytest.mark.parametrize("suffix", OTHERS)
def test_any_other_file_in_a_folder_is_none(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"\0")
    assert not is_medium(tmp_path / f"a.{suffix}")
    assert not is_medium(tmp_path / "a")


def test_every_picture_that_pillow_writes_and_reads_is_a_medium(tmp_path: Path) -> None:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in {*Image.OPEN, "MPO"}}
    without = {suffix for suffix in known if not is_medium(tmp_path / f"a{suffix}")}
    refused = {Image.registered_extensions()[suffix] for suffix in without}
    assert refused == {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "WMF"}


def test_videos_without_pyav_are_known_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "pyav", lambda: None)
    video_suffixes.cache_clear()
    try:
        assert all(is_medium(tmp_path / f"a.{suffix}") and is_video(tmp_path / f"a.{suffix}") for suffix in VIDEOS)
    finally:
        video_suffixes.cache_clear()


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.iim", "a", "a.wmf", "a.PS"])
def test_no_reader_starts_another_program(name: str) -> None:
    found = readers(Path(name))
    assert not {"EPS", "IPTC", "WMF", "BUFR", "GRIB", "HDF5"} & set(found)
    assert found[:2] == ["PNG", "JPEG"]


def test_rare_formats_are_read_where_the_name_says_so(tmp_path: Path) -> None:
    assert readers(Path("a.TGA"))[-1] == "TGA"
    assert "TGA" not in readers(Path("a.png")), "which has no beginning of its own to be known by"


@pytest.mark.parametrize("name", ["a.ts", "b.MTS"])
def test_program_that_is_called_like_a_video_is_no_medium(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("export const x = 1;\n")
    assert not is_medium(tmp_path / name)
    (tmp_path / name).write_bytes((b"G\x40\0\x10" + bytes(184)) * 3)
    assert is_medium(tmp_path / name)


VIDEO_BEGINNINGS = [
    b"\0\0\0\x1cftypisom" + bytes(20),
    b"\x1aE\xdf\xa3" + bytes(20),
    b"RIFF\0\0\0\0AVI LIST",
    b"FLV\x01\x05",
    b"0&\xb2u\x8ef\xcf\x11\xa6\xd9",
    b"\0\0\1\xba\x44",
    (b"G" + bytes(187)) * 3,
    (bytes(4) + b"G" + bytes(187)) * 3,
]


@pytest.mark.parametrize("content", VIDEO_BEGINNINGS)
def test_video_is_known_by_its_beginning_whatever_it_is_called(tmp_path: Path, content: bytes) -> None:
    for name in ("a.jpg", "film", "a.dat"):
        (tmp_path / name).write_bytes(content)
        assert is_video(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"G",
        b"GIF89a" + b"G" * 600,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"\0\0\0\x18ftypheic" + bytes(20),
        b"\0\0\0\x18ftypavif",
        b"RIFF\0\0\0\0WEBPVP8 ",
        bytes(400),
    ],
)
def test_picture_is_not_taken_for_a_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert not is_video(tmp_path / "a.png")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        place = os.getcwd()
        os.chdir(path.parent)  # a socket's whole name has at most 107 bytes
        try:
            made.bind(path.name)
        finally:
            os.chdir(place)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "a pipe"),
        (a_socket, "a socket"),
        (Path.mkdir, "a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_open_file_never_waits(tmp_path: Path, make: Callable[[Path], object], what: str) -> None:
    make(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    for name in ("a.png", "link.png"):
        with pytest.raises(UserError, match=rf"{name}: needed a file, found {what}"):
            open_file(tmp_path / name)
        assert not is_video(tmp_path / name)


def test_open_file_does_not_wait_for_a_pipe_that_takes_a_file_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    regular = (tmp_path / "b.png").stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: regular)
    with pytest.raises(UserError, match="needed a file, found a pipe"):
        open_file(tmp_path / "a.png")


def test_open_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file/below", Path("a\0b")):
        with pytest.raises(UserError, match="no such file"):
            open_file(path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"loop: could not be read \(Too many levels of symbolic links\)"):
        open_file(tmp_path / "loop")
