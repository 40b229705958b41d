import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from multitask.errors import UserError
from multitask.prediction import pictures
from multitask.prediction.pictures import alone, array_to_picture, quietly, shrinking, to_picture
from multitask.prediction.pictures import read_picture as read_whole
from tests.prediction.made import photo


def read_picture(path: Path) -> np.ndarray:
    picture = read_whole(path)
    assert picture.size == picture.pixels.shape[:2]
    return picture.pixels


def to_rgb(image: Image.Image) -> np.ndarray:
    return to_picture(image).pixels


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    return array_to_picture(array).pixels


def test_read_picture_of_plain_rgb_is_the_picture(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), photo())


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LA", "RGBA", "I;16", "I", "F"])
def test_to_rgb_of_every_mode_has_three_channels(mode: str) -> None:
    grey = Image.fromarray(photo()).convert("L")
    image = {
        "I;16": lambda: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(np.asarray(grey).astype(np.int32) * 257),
        "F": lambda: Image.fromarray(np.asarray(grey).astype(np.float32)),
    }.get(mode, lambda: Image.fromarray(photo()).convert(mode))()
    assert image.mode == mode
    rgb = to_rgb(image)
    assert (rgb.shape, rgb.dtype) == ((24, 48, 3), np.uint8)
    # Each shows the same picture: dark at the top left, light at the bottom right.
    assert rgb[:8, :8].mean() + 60 < rgb[-8:, -8:].mean()


def test_to_rgb_divides_sixteen_bits_by_257(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 256, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = [0, 0, 1, 1, 1, 128, 255]
    assert read_picture(tmp_path / "deep.png")[0].tolist() == [[value] * 3 for value in expected]
    assert array_to_rgb(values)[0, :, 1].tolist() == expected


def test_to_rgb_of_floating_point_numbers_goes_from_black_to_white() -> None:
    image = Image.fromarray(np.array([[-1.0, 0.0, 1.0, np.nan]], dtype=np.float32))
    assert to_rgb(image)[0, :, 0].tolist() == [0, 128, 255, 128]
    assert to_rgb(Image.fromarray(np.full((2, 2), 7, dtype=np.float32))).max() == 0


def test_to_rgb_shows_grey_where_the_picture_is_transparent() -> None:
    pixels = np.array([[(200, 0, 0, 255), (200, 0, 0, 0), (24, 16, 4, 127)]], dtype=np.uint8)
    shown = to_rgb(Image.fromarray(pixels))[0]
    assert shown[0].tolist() == [200, 0, 0]
    assert shown[1].tolist() == [124, 116, 104]
    np.testing.assert_allclose(shown[2], [74, 66, 54], atol=1)


def test_to_rgb_shows_grey_for_a_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_picture(tmp_path / "a.png")[0].tolist() == [[10, 20, 30], [124, 116, 104]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_picture_turns_what_exif_says_is_turned(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)
    assert expected.shape[:2] == ((24, 48) if orientation < 5 else (48, 24))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_read_picture_with_an_impossible_orientation_leaves_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), photo())


def test_read_picture_with_damaged_exif_data_shows_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    content = (tmp_path / "a.jpg").read_bytes()
    start = content.index(b"Exif\0\0") + 6
    (tmp_path / "a.jpg").write_bytes(content[:start] + b"\xff" * 12 + content[start + 12 :])
    with quietly():
        assert read_picture(tmp_path / "a.jpg").shape == (24, 48, 3)


def test_read_picture_takes_the_first_of_several(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (9, 8), color) for color in ("red", "blue"))
    first.save(tmp_path / "a.tiff", save_all=True, append_images=[second])
    assert (read_picture(tmp_path / "a.tiff") == (255, 0, 0)).all()


def test_read_picture_of_a_phone_with_a_second_picture_in_it(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 8), color) for color in ("red", "blue"))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg"), np.full((8, 16, 3), (255, 0, 0)), atol=2)


def test_read_picture_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png: no such file"):
        read_picture(tmp_path / "gone.png")


def test_read_picture_of_no_picture_names_it_and_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a picture")
    with pytest.raises(ValueError, match=r"a\.png: not a readable picture, 9 bytes \(none of PNG, JPEG,"):
        read_picture(tmp_path / "a.png")


def test_read_picture_opens_no_format_that_runs_programs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError, match="not a readable picture"):
        read_picture(tmp_path / "a.png")


def test_read_picture_of_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match=r"a\.png: needed at most 1000 px \(largest=\), found more"):
        read_picture(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    with quietly():  # half a bomb, of which Pillow only warns
        assert read_picture(tmp_path / "a.png").shape == (24, 48, 3)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (4, 5, 3, 1), (0, 5, 3)])
def test_array_to_rgb_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image: needed the shape \(H, W\), .*found \("):
        array_to_rgb(np.zeros(shape, dtype=np.uint8))


def test_array_to_rgb_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="image: needed uint8 or uint16, found float64"):
        array_to_rgb(np.zeros((4, 5)))


def test_array_to_rgb_of_channels() -> None:
    np.testing.assert_array_equal(array_to_rgb(photo()), photo())
    np.testing.assert_array_equal(array_to_rgb(photo().astype(np.uint16) * 257), photo())
    opaque = np.dstack([photo(), np.full((24, 48), 255, dtype=np.uint8)])
    np.testing.assert_array_equal(array_to_rgb(opaque), photo())


def test_read_picture_with_a_long_text_in_it(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("history", "edited " * 500_000, zip=True)
    Image.fromarray(photo()).save(tmp_path / "a.png", pnginfo=text)
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    with quietly():
        np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), photo())
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK, "what others read is as before"


def test_read_picture_with_endless_text_in_it_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "\0" * 80_000_000, zip=True)
    Image.fromarray(photo()).save(tmp_path / "a.png", pnginfo=text)
    with (
        quietly(),
        pytest.raises(UserError, match=r"a\.png: not a readable picture, \d+ bytes \(Decompressed data too"),
    ):
        read_picture(tmp_path / "a.png")


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of more than 2,000 px are large, and converted in strips of 500."""
    monkeypatch.setattr(pictures, "_LARGE", 2000)
    monkeypatch.setattr(pictures, "_STRIP", 500)


@pytest.mark.parametrize("least", [(1, 1), (20, 40), (100, 200)])
@pytest.mark.usefixtures("small_is_large")
def test_shrinking_keeps_what_is_needed(least: tuple[int, int]) -> None:
    for size in ((100, 200), (101, 203), (44, 46), (45, 45), (8, 5000)):
        factor = shrinking(size, least)
        assert factor >= 1
        assert factor == 1 or (size[0] >= 2 * least[0] * factor and size[1] >= 2 * least[1] * factor)
        if least == (1, 1) and min(size) > 8:
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
    pixels, found = read_whole(tmp_path / f"a.{suffix}")
    assert found == size
    assert pixels.shape == (26, 51, 3)
    expected = averaged(size, 4)
    np.testing.assert_allclose(pixels, expected, atol=1 if suffix not in ("jpg", "webp") else 12)
    # Of what is needed at this size nothing is lost.
    np.testing.assert_allclose(read_whole(tmp_path / f"a.{suffix}", (60, 60)).pixels, photo(size), atol=40)
    assert read_whole(tmp_path / f"a.{suffix}", (60, 60)).pixels.shape == (*size, 3)


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
    picture = read_whole(tmp_path / f"a.{suffix}")
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
        with quietly(largest):
            assert read_picture(tmp_path / "a.png").shape == (24, 48, 3)
    for largest in (2, 24 * 48 - 2, 500):
        with quietly(largest), pytest.raises(UserError, match=rf"a\.png: needed at most {largest} px \(largest="):
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
    with quietly(24 * 48 * copies):
        assert read_picture(tmp_path / name).shape == (24, 48, 3)
    if copies > 1:
        with (
            quietly(24 * 48 * copies - 2),
            pytest.raises(UserError, match=rf"\(largest=\d+ / {copies}, for .* found 24"),
        ):
            read_picture(tmp_path / name)


def test_tiff_of_one_long_strip_may_have_fewer_px(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_LONG_STRIP", 24 * 48 - 1)
    Image.fromarray(photo((24, 48))).save(tmp_path / "one.tif", compression="tiff_lzw", strip_size=10**9)
    Image.fromarray(photo((24, 48))).save(tmp_path / "many.tif", compression="tiff_lzw", strip_size=48 * 3)
    with quietly(24 * 48):
        assert read_picture(tmp_path / "many.tif").shape == (24, 48, 3)
        with pytest.raises(
            UserError, match=r"one\.tif: needed at most 288 px \(largest=1152 / 4, for TIFF of this kind"
        ):
            read_picture(tmp_path / "one.tif")


def test_jpeg_of_four_colours_may_have_half_as_many_px(tmp_path: Path) -> None:
    Image.fromarray(photo((24, 48))).convert("CMYK").save(tmp_path / "a.jpg")
    with quietly(24 * 48 * 2):
        assert read_picture(tmp_path / "a.jpg").shape == (24, 48, 3)
    with quietly(24 * 48), pytest.raises(UserError, match=r"needed at most 576 px \(largest=1152 / 2, for JPEG"):
        read_picture(tmp_path / "a.jpg")


def test_picture_inside_another_that_starts_programs_is_not_read(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.eps")
    for name in ("a.eps", "b.png", "c.iim"):
        if name != "a.eps":
            (tmp_path / name).write_bytes((tmp_path / "a.eps").read_bytes())
        with pytest.raises(UserError, match=rf"{name}: not a readable picture, \d+ bytes \(none of PNG, JPEG"):
            read_picture(tmp_path / name)


def test_one_large_picture_is_in_the_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_LARGE", 100)
    entered = threading.Event()

    def other() -> None:
        with alone(101):
            entered.set()

    with alone(101), alone(100):
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()
