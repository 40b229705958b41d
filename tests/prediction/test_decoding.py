from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from multitask.errors import UserError
from multitask.prediction.decoding import array_to_picture, pillow_limits, to_picture
from multitask.prediction.decoding import read_picture as read_whole
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
    with pillow_limits():
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
    with pillow_limits():  # half a bomb, of which Pillow only warns
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
    with pillow_limits():
        np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), photo())
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK, "what others read is as before"


def test_read_picture_with_endless_text_in_it_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "\0" * 80_000_000, zip=True)
    Image.fromarray(photo()).save(tmp_path / "a.png", pnginfo=text)
    with (
        pillow_limits(),
        pytest.raises(UserError, match=r"a\.png: not a readable picture, \d+ bytes \((?i:Decompressed data too)"),
    ):
        read_picture(tmp_path / "a.png")


def test_picture_inside_another_that_starts_programs_is_not_read(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.eps")
    for name in ("a.eps", "b.png", "c.iim"):
        if name != "a.eps":
            (tmp_path / name).write_bytes((tmp_path / "a.eps").read_bytes())
        with pytest.raises(UserError, match=rf"{name}: not a readable picture, \d+ bytes \(none of PNG, JPEG"):
            read_picture(tmp_path / name)
