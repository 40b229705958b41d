"""Pictures that would fill the memory."""

import threading
import traceback
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from multitask.errors import UserError
from multitask.prediction import decoding as pictures
from multitask.prediction.decoding import one_at_a_time, pillow_limits, read_picture, shrinking, to_picture
from tests.prediction.made import photo, write_photo


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of more than 2,000 px are large, and converted in strips of 500."""
    monkeypatch.setattr(pictures, "_LARGE", 2000)
    monkeypatch.setattr(pictures, "_STRIP", 500)


@pytest.mark.parametrize("min_size", [(1, 1), (20, 40), (100, 200)])
@pytest.mark.usefixtures("small_is_large")
def test_shrinking_keeps_what_is_needed(min_size: tuple[int, int]) -> None:
    for size in ((100, 200), (101, 203), (44, 46), (45, 45), (8, 5000)):
        factor = shrinking(size, min_size)
        assert factor >= 1
        assert factor == 1 or (size[0] >= 2 * min_size[0] * factor and size[1] >= 2 * min_size[1] * factor)
        if min_size == (1, 1) and min(size) > 8:
            assert size[0] * size[1] / factor**2 <= 2000
    assert shrinking((40, 50), (1, 1)) == 1


def averaged(size: tuple[int, int], factor: int) -> np.ndarray:
    return np.asarray(Image.fromarray(photo(size)).reduce(factor)).astype(int)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "ppm", "webp"])
@pytest.mark.usefixtures("small_is_large")
def test_read_picture_makes_a_large_one_smaller(tmp_path: Path, suffix: str) -> None:
    size = 101, 203  # four times as many px as are not large, and some: by four
    Image.fromarray(photo(size)).save(
        tmp_path / f"a.{suffix}", **({"quality": 95} if suffix in ("jpg", "webp") else {})
    )
    pixels, found = read_picture(tmp_path / f"a.{suffix}")
    assert found == size
    assert pixels.shape == (26, 51, 3)
    expected = averaged(size, 4)
    np.testing.assert_allclose(pixels, expected, atol=1 if suffix not in ("jpg", "webp") else 12)
    # Of what is needed at this size nothing is lost.
    np.testing.assert_allclose(read_picture(tmp_path / f"a.{suffix}", (60, 60)).pixels, photo(size), atol=40)
    assert read_picture(tmp_path / f"a.{suffix}", (60, 60)).pixels.shape == (*size, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "I;16", "I", "F"])
@pytest.mark.usefixtures("small_is_large")
def test_large_picture_of_every_mode_is_converted_before_it_is_averaged(mode: str) -> None:
    grey = Image.fromarray(photo((120, 160))).convert("L")
    image = {
        "I;16": lambda: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(np.asarray(grey).astype(np.int32) * 257),
        "F": lambda: Image.fromarray(np.asarray(grey).astype(np.float32)),
    }.get(mode, lambda: Image.fromarray(photo((120, 160))).convert(mode))()
    small, size = to_picture(image)
    assert size == (120, 160)
    assert small.shape == (30, 40, 3)
    whole = to_picture(image, (100, 100)).pixels
    assert whole.shape == (120, 160, 3)
    np.testing.assert_allclose(small, np.asarray(Image.fromarray(whole).reduce(4)).astype(int), atol=1)


@pytest.mark.usefixtures("small_is_large")
def test_large_picture_of_floating_point_numbers_has_one_black_and_one_white() -> None:
    values = np.tile(np.linspace(-3, 5, 120, dtype=np.float32)[:, None], (1, 160))
    values[0, 0] = np.inf
    rows = to_picture(Image.fromarray(values), (60, 60)).pixels[:, 1, 0].astype(int)
    assert (rows[0], rows[-1]) == (0, 255)
    assert (np.diff(rows) > 0).all()


@pytest.mark.usefixtures("small_is_large")
def test_large_transparent_picture_shows_grey_where_it_is_transparent() -> None:
    pixels = np.zeros((80, 80, 4), dtype=np.uint8)
    pixels[:, 40:] = 200, 0, 0, 255
    small = to_picture(Image.fromarray(pixels)).pixels
    assert small[3, 3].tolist() == [124, 116, 104]
    assert small[3, -3].tolist() == [200, 0, 0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("large", [True, False])
def test_picture_that_is_turned_is_read_upright_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, orientation: int, large: bool
) -> None:
    if large:
        monkeypatch.setattr(pictures, "_LARGE", 800)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo((80, 160))).save(tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = read_picture(tmp_path / f"a.{suffix}")
    assert picture.size == expected.shape[:2] == ((80, 160) if orientation < 5 else (160, 80))
    height, width = picture.pixels.shape[:2]
    assert height == picture.size[0] // (4 if large else 1)
    small = Image.fromarray(expected).reduce(expected.shape[0] // height)
    assert small.size == (width, height)
    np.testing.assert_allclose(picture.pixels, np.asarray(small).astype(int), atol=12 if suffix == "jpg" else 1)


def test_largest_allows_more_and_fewer_px(tmp_path: Path) -> None:
    Image.fromarray(photo((24, 48))).save(tmp_path / "a.png")
    limit = Image.MAX_IMAGE_PIXELS
    for largest in (24 * 48, 10**12):
        with pillow_limits(largest):
            assert read_picture(tmp_path / "a.png").pixels.shape == (24, 48, 3)
    for largest in (1, 24 * 48 - 1, 500):
        with pillow_limits(largest), pytest.raises(UserError, match=rf"a\.png: needed at most {largest} px \(largest="):
            read_picture(tmp_path / "a.png")
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("name", "options", "copies"),
    [
        ("a.webp", {}, 4),
        ("a.jp2", {}, 4),
        ("a.tif", {"compression": "tiff_lzw", "strip_size": 10**9}, 1),
        ("a.gif", {}, 1),
        ("a.jpg", {}, 1),
        ("a.png", {}, 1),
        ("a.bmp", {}, 1),
        ("a.ppm", {}, 1),
        ("a.tif", {}, 1),
    ],
)
def test_pictures_whose_decoding_takes_copies_may_have_fewer_px(
    tmp_path: Path, name: str, options: dict[str, object], copies: int
) -> None:
    Image.fromarray(photo((24, 48))).save(tmp_path / name, **options)
    with pillow_limits(24 * 48 * copies):
        assert read_picture(tmp_path / name).pixels.shape == (24, 48, 3)
    if copies > 1:
        with (
            pillow_limits(24 * 48 * copies - 1),
            pytest.raises(UserError, match=rf"\(largest=\d+ / {copies}, for .* found 24"),
        ):
            read_picture(tmp_path / name)


def test_tiff_of_one_long_strip_may_have_fewer_px(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_LONG_STRIP", 24 * 48 - 1)
    Image.fromarray(photo((24, 48))).save(tmp_path / "one.tif", compression="tiff_lzw", strip_size=10**9)
    Image.fromarray(photo((24, 48))).save(tmp_path / "many.tif", compression="tiff_lzw", strip_size=48 * 3)
    with pillow_limits(24 * 48):
        assert read_picture(tmp_path / "many.tif").pixels.shape == (24, 48, 3)
        with pytest.raises(
            UserError, match=r"one\.tif: needed at most 288 px \(largest=1152 / 4, for TIFF of this kind"
        ):
            read_picture(tmp_path / "one.tif")


def test_fault_of_the_program_is_no_damage_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise ZeroDivisionError

    write_photo(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "most_pixels", fail)
    with pytest.raises(ZeroDivisionError):
        read_picture(tmp_path / "a.png")


def test_jpeg_of_four_colours_may_have_half_as_many_px(tmp_path: Path) -> None:
    Image.fromarray(photo((24, 48))).convert("CMYK").save(tmp_path / "a.jpg")
    with pillow_limits(24 * 48 * 2):
        assert read_picture(tmp_path / "a.jpg").pixels.shape == (24, 48, 3)
    with pillow_limits(24 * 48), pytest.raises(UserError, match=r"needed at most 576 px \(largest=1152 / 2, for JPEG"):
        read_picture(tmp_path / "a.jpg")


def test_one_large_picture_is_in_the_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_LARGE", 100)
    entered = threading.Event()

    def other() -> None:
        with one_at_a_time(101):
            entered.set()

    with one_at_a_time(101), one_at_a_time(100):
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()


def test_what_is_decoded_of_a_damaged_picture_is_freed_while_its_error_lives(tmp_path: Path) -> None:
    whole = write_photo(tmp_path / "a.bmp", (500, 600)).read_bytes()
    (tmp_path / "a.bmp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="image file is truncated") as kept:
        read_picture(tmp_path / "a.bmp")
    frames, error = [], kept.value
    while error:
        frames += [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        error = error.__cause__
    held = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, Image.Image)]
    assert held, "an error holds on to what was known where it was raised"
    for image in held:
        with pytest.raises(ValueError, match="closed image"):
            image.getpixel((0, 0))
