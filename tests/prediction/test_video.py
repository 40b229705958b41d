import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.errors import UserError
from multitask.prediction import decoding as pictures
from multitask.prediction.decoding import pillow_limits
from multitask.prediction.inputs import find_sources
from multitask.prediction.kinds import is_video
from multitask.prediction.video import num_frames
from multitask.prediction.video import read_frames as read_pictures
from tests.prediction.made import run_predict, write_photo


def write_video(
    path: Path,
    frames: int,
    size: tuple[int, int] = (32, 64),
    rotation: int = 0,
    codec: str = "mpeg4",
    ratio: Fraction | None = None,
) -> Path:
    """A video that becomes lighter from left to right, and from frame to frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if ratio:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = ratio
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


def test_num_frames_of_a_video_that_does_not_say_is_by_its_length(tmp_path: Path) -> None:
    assert num_frames(write_video(tmp_path / "a.ts", 5, codec="mpeg2video")) == 5


def test_predict_of_a_folder_finds_videos_of_every_kind(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    codecs = {"m4v": "mpeg4", "3gp": "mpeg4", "mts": "mpeg2video", "ts": "mpeg2video", "m2ts": "mpeg2video"}
    codecs |= {"wmv": "wmv2", "flv": "flv1", "mpg": "mpeg2video", "MOV": "mpeg4", "vob": "mpeg2video"}
    for suffix, codec in codecs.items():
        write_video(tmp_path / f"in/film_{suffix}.{suffix}", 4, codec=codec)
        write_video(tmp_path / f"in/a.{suffix}", 4, codec=codec).rename(tmp_path / f"in/unknown_{suffix}.jpg")
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.failures, predicted.passed) == (2 * 4 * len(codecs), [], [])
    for suffix in codecs:
        assert (tmp_path / f"out/film_{suffix}_000001_panel.png").exists(), suffix
        assert (tmp_path / f"out/unknown_{suffix}_000001_panel.png").exists(), suffix


def test_predict_of_a_program_that_is_called_like_a_video_passes_it_over(trained: Path, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    (tmp_path / "in/index.ts").write_text("export const x = 1;\n")
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert (predicted.count, predicted.failures, predicted.passed) == (1, [], ["index.ts"])
    assert "\npassed over 1 file that is no picture or video: index.ts\n" in str(predicted)
    named = run_predict(trained, tmp_path / "in/*", tmp_path / "named")
    assert named.count == 1
    assert "index.ts: not a readable video" in named.failures[0]


@pytest.mark.parametrize(
    ("ratio", "rotation", "size"),
    [
        *((Fraction(2, 1), 0, (32, 128)), (Fraction(1, 2), 0, (64, 64)), (Fraction(64, 45), 0, (32, 91))),
        (Fraction(2, 1), 90, (128, 32)),
    ],
)
def test_frames_have_square_pixels(tmp_path: Path, ratio: Fraction, rotation: int, size: tuple[int, int]) -> None:
    if rotation and not hasattr(pytest.importorskip("av").video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write turned videos")
    path = write_video(tmp_path / "a.mp4", 2, ratio=ratio, rotation=rotation)
    frames = read_frames(path)
    assert [frame.shape for frame in frames] == [(*size, 3)] * 2
    # What was light on the right is, turned counterclockwise, light at the top.
    light, dark = (frames[0][:8], frames[0][-8:]) if rotation else (frames[0][:, -8:], frames[0][:, :8])
    assert light.mean() > dark.mean() + 60


def test_large_frames_are_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 2, size=(64, 128), ratio=Fraction(2, 1))
    whole = read_frames(path)[0]
    monkeypatch.setattr(pictures, "_LARGE", 64 * 256 // 16)
    for picture in read_pictures(path):
        assert picture.size == (64, 256)
        assert picture.pixels.shape == (16, 64, 3)
    reduced = np.asarray(Image.fromarray(whole).reduce(4)).astype(int)
    np.testing.assert_allclose(next(read_pictures(path)).pixels, reduced, atol=6)
    assert next(read_pictures(path, (32, 128))).pixels.shape == (64, 256, 3)


def test_frames_that_are_too_large_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2, ratio=Fraction(2, 1))
    with pillow_limits(32 * 128):
        assert len(read_frames(path)) == 2
    for largest in (32 * 128 - 2, 32 * 64 - 2, 2):
        with (
            pillow_limits(largest),
            pytest.raises(UserError, match=r"a\.mp4: (needed frames of at most|not a readable video)"),
        ):
            read_frames(path)


def test_list_of_films_opens_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "private.mp4", 3)
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile private.mp4\n")
    with pytest.raises(UserError, match=r"a\.mp4: not a readable video"):
        read_frames(tmp_path / "a.mp4")


def test_video_whose_name_looks_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", 2).rename(tmp_path / "concat:x|y.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read_frames(Path("concat:x|y.mp4"))) == 2


def test_video_without_pyav_is_named_and_pictures_are_predicted(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "in/a.png")
    (tmp_path / "in/b.mp4").write_bytes(bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    predicted = run_predict(trained, tmp_path / "in", tmp_path / "out")
    assert predicted.count == 1
    assert predicted.failures == [f"{tmp_path}/in/b.mp4: videos need PyAV: pip install -e '.[video]'"]


@pytest.mark.parametrize("seed", range(3))
def test_every_damaged_video_is_read_or_named(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for suffix, codec in (("mp4", "mpeg4"), ("mkv", "mpeg4"), ("avi", "mpeg4"), ("ts", "mpeg2video"), ("flv", "flv1")):
        whole = write_video(tmp_path / f"a.{suffix}", 4, codec=codec).read_bytes()
        for number in range(10):
            content = np.frombuffer(whole, dtype=np.uint8).copy()
            content[rng.integers(0, len(content), rng.choice([1, 10, 100]))] ^= rng.integers(1, 256, dtype=np.uint8)
            path = tmp_path / f"{number}.{suffix}"
            path.write_bytes(content[: rng.integers(1, len(content)) if number % 3 == 0 else None].tobytes())
            assert num_frames(path) >= 0
            with suppress(UserError), pillow_limits():
                assert all(frame.ndim == 3 for frame in read_frames(path))
