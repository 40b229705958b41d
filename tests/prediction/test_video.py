import sys
from pathlib import Path

import numpy as np
import pytest

from multitask.prediction.inputs import find_sources
from multitask.prediction.kinds import is_video
from multitask.prediction.video import num_frames
from multitask.prediction.video import read_frames as read_pictures
from tests.prediction.made import run_predict, write_photo


def write_video(path: Path, frames: int, size: tuple[int, int] = (32, 64), rotation: int = 0) -> Path:
    """A video that becomes lighter from left to right, and from frame to frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        if not frames:
            container.start_encoding()
        for index in range(frames):
            level = np.linspace(0, 150, size[1]) + 20 * index
            picture = np.broadcast_to(level[None, :, None], (*size, 3)).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def read_frames(path: Path) -> list[np.ndarray]:
    pictures = list(read_pictures(path))
    assert all(picture.size == picture.pixels.shape[:2] for picture in pictures)
    return [picture.pixels for picture in pictures]


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "b.avi", "c.mkv", "d.webm"])
def test_is_video_by_the_name(name: str) -> None:
    assert is_video(Path(name))
    assert not is_video(Path(name + ".png"))


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_read_frames_in_order(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", 5)
    frames = read_frames(path)
    assert [(frame.shape, frame.dtype) for frame in frames] == [((32, 64, 3), np.uint8)] * 5
    means = [frame.mean() for frame in frames]
    np.testing.assert_allclose(np.diff(means), 20, atol=4)
    assert frames[0][:, :8].mean() + 60 < frames[0][:, -8:].mean()
    assert num_frames(path) == 5


def test_read_frames_upright(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write turned videos")
    (frame, *_) = read_frames(write_video(tmp_path / "a.mp4", 2, rotation=90))
    # Turned counterclockwise by 90 degrees, what was light on the right is light at the top.
    assert frame.shape == (64, 32, 3)
    assert frame[:8].mean() > frame[-8:].mean() + 60


def test_read_frames_of_a_video_without_frames_names_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "empty.mkv", 0)
    with pytest.raises(ValueError, match=r"empty\.mkv: needed a video with frames, found none"):
        read_frames(path)
    assert num_frames(path) == 0


def test_read_frames_of_no_video_names_it(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_text("a film")
    with pytest.raises(ValueError, match=r"a\.mp4: not a readable video beyond its first 0 frames \(.*Invalid data"):
        read_frames(tmp_path / "a.mp4")
    assert num_frames(tmp_path / "a.mp4") == 0


def test_find_sources_without_pyav_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"a\.mp4: videos need PyAV: pip install -e '\.\[video\]'"):
        find_sources(str(tmp_path / "a.mp4"))


def test_predict_of_a_video_writes_its_frames(trained: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", 3)
    predicted = run_predict(trained, path, tmp_path / "out")
    assert (predicted.count, predicted.failures) == (3, [])
    panels = sorted(found.name for found in (tmp_path / "out").glob("*_panel.png"))
    assert panels == [f"film_{index:06d}_panel.png" for index in range(3)]


def test_predict_of_videos_with_faults_keeps_the_rest(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_photo(folder / "good.png")
    write_video(folder / "none.mkv", 0)
    whole = write_video(folder / "cut.mkv", 40, size=(64, 128)).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("a film")
    predicted = run_predict(trained, folder / "*", tmp_path / "out")
    names = {path.name.removesuffix("_panel.png") for path in (tmp_path / "out").glob("*_panel.png")}
    assert {"good", "cut_000000", "cut_000005"} <= names
    assert "cut_000039" not in names
    assert [failure.split(": ")[0].split("/")[-1] for failure in predicted.failures if "cut" not in failure] == [
        "none.mkv",
        "text.mp4",
    ]
