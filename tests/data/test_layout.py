import json
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitask.data import png
from multitask.data.layout import (
    Camera,
    city_of,
    decode_disparity,
    encode_disparity,
    file_path,
    read_camera,
    read_header,
    read_png,
    write_camera,
    write_png,
)
from multitask.errors import UserError
from tests.fulldisk import full_disk
from tests.png import chunks_of, damaged_bytes, damaged_chunks, png_of

ALL_16_BIT = np.arange(65536, dtype=np.uint16).reshape(256, 256)
CAMERA = Camera(
    baseline=0.209313, fx=2262.52, fy=2265.3, u0=1096.98, v0=513.137, x=1.7, y=0.1, z=1.22, yaw=-0.02, pitch=0.038
)
PNG_KINDS = ("image", "class_ids", "instance_ids", "disparity")
DTYPES = {"image": np.uint8, "class_ids": np.uint8, "instance_ids": np.uint16, "disparity": np.uint16}


def picture(kind: str, size: tuple[int, int] = (9, 13), seed: int = 0) -> np.ndarray:
    shape = (*size, 3) if kind == "image" else size
    return np.random.default_rng(seed).integers(0, np.iinfo(DTYPES[kind]).max, shape, DTYPES[kind], endpoint=True)


# File names


def test_file_path_follows_the_official_layout() -> None:
    name = "frankfurt_000000_000294"
    paths = {kind: str(file_path(Path("r"), kind, "val", name)) for kind in (*PNG_KINDS, "camera")}
    assert paths == {
        "image": f"r/leftImg8bit/val/frankfurt/{name}_leftImg8bit.png",
        "class_ids": f"r/gtFine/val/frankfurt/{name}_gtFine_labelIds.png",
        "instance_ids": f"r/gtFine/val/frankfurt/{name}_gtFine_instanceIds.png",
        "disparity": f"r/disparity/val/frankfurt/{name}_disparity.png",
        "camera": f"r/camera/val/frankfurt/{name}_camera.json",
    }


@pytest.mark.parametrize("city", ["ulm", "bad_honnef", "a_b_c", "st._x-1"])
def test_city_of_keeps_underscores_of_the_city(city: str) -> None:
    assert city_of(f"{city}_000001_000019") == city


# Round trips


@pytest.mark.parametrize("kind", ["instance_ids", "disparity"])
def test_png_of_16_bits_returns_every_value(tmp_path: Path, kind: str) -> None:
    write_png(tmp_path / "a.png", ALL_16_BIT)
    found = read_png(tmp_path / "a.png", kind)
    assert found.dtype == np.uint16
    assert np.array_equal(found, ALL_16_BIT)
    assert (tmp_path / "a.png").read_bytes()[24] == 16  # the bit depth in the header


@pytest.mark.parametrize("value", [0, 1, 255, 256, 32767, 32768, 65535])
def test_png_of_16_bits_with_a_single_value(tmp_path: Path, value: int) -> None:
    write_png(tmp_path / "a.png", np.full((3, 5), value, dtype=np.uint16))
    assert read_png(tmp_path / "a.png", "disparity").tolist() == [[value] * 5] * 3


def test_png_of_16_bits_opened_as_mode_i_by_older_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", ALL_16_BIT)
    original = png.PngImageFile
    monkeypatch.setattr(png, "PngImageFile", lambda file: original(file).convert("I"))
    found = read_png(tmp_path / "a.png", "instance_ids")
    assert found.dtype == np.uint16
    assert np.array_equal(found, ALL_16_BIT)


def test_png_of_8_bits_returns_every_value(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = np.random.default_rng(0).permutation(256).astype(np.uint8)[:252].reshape(7, 12, 3)
    write_png(tmp_path / "labels.png", labels)
    write_png(tmp_path / "image.png", image)
    assert np.array_equal(read_png(tmp_path / "labels.png", "class_ids"), labels)
    assert np.array_equal(read_png(tmp_path / "image.png", "image"), image)


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_header_gives_height_then_width(tmp_path: Path, kind: str) -> None:
    write_png(tmp_path / "a.png", picture(kind, (3, 8)))
    assert read_header(tmp_path / "a.png", kind) == (3, 8)


# Disparity


def test_disparity_code_by_hand() -> None:
    coded = np.array([[0, 1, 2, 257, 65535]], dtype=np.uint16)
    decoded = decode_disparity(coded)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, np.array([[np.nan, 0, 1 / 256, 1, 65534 / 256]], dtype=np.float32))


def test_disparity_code_returns_every_value() -> None:
    assert np.array_equal(encode_disparity(decode_disparity(ALL_16_BIT)), ALL_16_BIT)


def test_disparity_beyond_16_bits_or_negative_becomes_invalid() -> None:
    disparity = np.array([256.0, 65534 / 256 + 0.003, 1e6, -0.01, -5, np.nan], dtype=np.float32)
    assert encode_disparity(disparity).tolist() == [0] * 6


def test_disparity_rounds_to_the_nearest_code() -> None:
    disparity = np.array([0.4, 0.6, 1.4, 65534.4]) / 256
    assert encode_disparity(disparity).tolist() == [1, 2, 2, 65535]


# Camera geometry, against projecting points


def project(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(N, 3) m -> (N, 3): column, row, disparity in px."""
    x, y, z = points.T
    left = camera.fx * x / z + camera.u0
    right = camera.fx * (x - camera.baseline) / z + camera.u0
    return np.stack([left, camera.fy * y / z + camera.v0, left - right], axis=1)


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform([-10, -3, 2], [10, 3, 80], size=(50, 3))


def test_scaled_camera_projects_to_where_resizing_moves_the_pixels(points: np.ndarray) -> None:
    kx, ky = 0.125, 0.7
    before, after = project(CAMERA, points), project(CAMERA.scaled(kx, ky), points)
    # Resizing maps edges to edges: pixel u spans u - 1/2 to u + 1/2.
    np.testing.assert_allclose(after[:, 0] + 0.5, (before[:, 0] + 0.5) * kx)
    np.testing.assert_allclose(after[:, 1] + 0.5, (before[:, 1] + 0.5) * ky)
    np.testing.assert_allclose(after[:, 2], before[:, 2] * kx)


def test_cropped_camera_projects_relative_to_the_window(points: np.ndarray) -> None:
    before, after = project(CAMERA, points), project(CAMERA.cropped(17, -5), points)
    np.testing.assert_allclose(after, before - [17, -5, 0])


def test_flipped_camera_projects_the_mirrored_world_to_the_mirrored_column(points: np.ndarray) -> None:
    before, after = project(CAMERA, points), project(CAMERA.flipped(2048), points * [-1, 1, 1])
    np.testing.assert_allclose(after, np.stack([2047 - before[:, 0], before[:, 1], before[:, 2]], axis=1))


def test_camera_changes_compose() -> None:
    assert CAMERA.flipped(2048).flipped(2048) == CAMERA
    there_and_back = CAMERA.scaled(0.5, 0.25).scaled(2, 4)
    assert there_and_back.u0 == pytest.approx(CAMERA.u0)
    assert there_and_back.v0 == pytest.approx(CAMERA.v0)
    assert (there_and_back.fx, there_and_back.fy) == pytest.approx((CAMERA.fx, CAMERA.fy))
    # Left of the mirrored picture is right of the picture.
    assert CAMERA.cropped(100, 0).flipped(512).u0 == pytest.approx(CAMERA.flipped(2048).cropped(2048 - 612, 0).u0)


def test_camera_file_returns_every_number(tmp_path: Path) -> None:
    camera = replace(CAMERA, roll=1e-17, y=-0.1)
    write_camera(tmp_path / "camera" / "a.json", camera)
    assert read_camera(tmp_path / "camera" / "a.json") == camera


def test_camera_file_has_the_official_groups(tmp_path: Path) -> None:
    write_camera(tmp_path / "a.json", CAMERA)
    content = json.loads((tmp_path / "a.json").read_text())
    assert set(content) == {"extrinsic", "intrinsic"}
    assert set(content["intrinsic"]) == {"fx", "fy", "u0", "v0"}
    assert set(content["extrinsic"]) == {"baseline", "pitch", "roll", "x", "y", "yaw", "z"}


# Wrong files


def value_or_error(read: Callable[..., Any], path: Path, *args: str) -> tuple[Any, str]:
    """What the reader returns, and the message of the one type of error that it may raise."""
    try:
        return read(path, *args), ""
    except ValueError as error:
        return None, str(error)


def assert_refused(path: Path, kind: str, *words: str) -> None:
    """Both readers refuse the file with a message that names it."""
    for read in (read_png, read_header):
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            read(path, kind)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_missing_png_is_named(tmp_path: Path, kind: str) -> None:
    assert_refused(tmp_path / "none.png", kind, "no such file")
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file" / "none.png", kind, "no such file")


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_file_that_is_no_png_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty.png").touch()
    assert_refused(tmp_path / "empty.png", kind, "0 bytes")
    (tmp_path / "text.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert_refused(tmp_path / "text.png", kind)
    (tmp_path / "folder.png").mkdir()
    assert_refused(tmp_path / "folder.png", kind)


@pytest.mark.parametrize("kind", ["image", "class_ids"])
def test_jpeg_named_png_is_refused(tmp_path: Path, kind: str) -> None:
    Image.fromarray(picture(kind)).save(tmp_path / "a.png", format="JPEG")
    assert_refused(tmp_path / "a.png", kind, "not a readable PNG")


MODES = {
    "1": "1-bit grey",
    "L": "8-bit grey",
    "LA": "8-bit grey with transparency",
    "P": "8-bit palette of colours",
    "RGB": "8-bit RGB",
    "RGBA": "8-bit RGB with transparency",
    "I;16": "16-bit grey",
}
"""Pillow's modes, and what they are called here."""


@pytest.mark.parametrize(
    ("kind", "modes", "needed"),
    [
        ("image", ("1", "L", "LA", "P", "RGBA", "I;16"), "8-bit RGB"),
        ("class_ids", ("LA", "P", "RGB", "RGBA", "I;16"), "8-bit single-channel (grey)"),
        ("instance_ids", ("1", "L", "LA", "P", "RGB", "RGBA"), "16-bit single-channel (grey)"),
        ("disparity", ("1", "L", "LA", "P", "RGB", "RGBA"), "16-bit single-channel (grey)"),
    ],
)
def test_wrong_mode_says_what_was_needed_and_found(
    tmp_path: Path, kind: str, modes: tuple[str, ...], needed: str
) -> None:
    for mode in modes:
        image = Image.new(mode, (6, 4), 1 if mode not in ("LA", "RGB", "RGBA") else None)
        if mode == "P":
            image.putpalette([color % 256 for color in range(256 * 3)])
        image.save(tmp_path / "a.png", **({"bits": 8} if mode == "P" else {}))
        assert_refused(tmp_path / "a.png", kind, f"needed {needed}, found {MODES[mode]}")


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_truncated_png_at_every_length_is_refused_or_whole(tmp_path: Path, kind: str) -> None:
    path, expected = tmp_path / "a.png", picture(kind, (4, 5))
    write_png(path, expected)
    whole = path.read_bytes()
    refused = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found, error = value_or_error(read_png, path, kind)
        if error:
            assert str(path) in error
            refused += 1
        else:
            assert np.array_equal(found, expected)
    assert refused == len(whole)


@pytest.mark.parametrize("damage", [damaged_bytes, damaged_chunks])
@pytest.mark.parametrize("kind", PNG_KINDS)
def test_damaged_png_is_refused_by_name_or_read_whole(
    tmp_path: Path, kind: str, damage: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture(kind))
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    outcomes: Counter[str] = Counter()
    for _ in range(300):
        spoilt = damage(whole, rng)
        if spoilt == whole:
            continue  # the flips took each other back
        path.write_bytes(spoilt)
        size, header_error = value_or_error(read_header, path, kind)
        found, error = value_or_error(read_png, path, kind)
        if header_error:
            assert str(path) in header_error
            assert error
        if error:
            assert str(path) in error
            outcomes["refused"] += 1
        else:
            assert found.dtype == DTYPES[kind]
            assert found.shape == ((*size, 3) if kind == "image" else size)
            outcomes["read"] += 1
    assert outcomes["refused"] > 30
    # The check sums show whatever is not written on purpose.
    assert (outcomes["read"] > 0) == (damage is damaged_chunks)


@pytest.mark.parametrize("side", [20_000, 2_000_000])
def test_png_that_claims_a_giant_picture_is_named(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture("class_ids"))
    (name, header), *others = chunks_of(path.read_bytes())
    path.write_bytes(png_of([(name, struct.pack(">II", side, side) + header[8:]), *others]))
    assert_refused(path, "class_ids", "not a readable PNG")


def camera_content() -> dict[str, dict[str, object]]:
    return {
        "extrinsic": {"baseline": 0.2, "pitch": 0, "roll": 0, "x": 1.7, "y": 0.1, "yaw": 0, "z": 1.2},
        "intrinsic": {"fx": 2262.5, "fy": 2265.3, "u0": 1096.9, "v0": 513.1},
    }


def camera_keys() -> Iterator[tuple[str, str]]:
    return ((group, key) for group, values in camera_content().items() for key in values)


def assert_camera_refused(path: Path, *words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read_camera(path)
    for word in words:
        assert word in str(caught.value)


def test_missing_camera_is_named(tmp_path: Path) -> None:
    assert_camera_refused(tmp_path / "none.json", "no such file")
    (tmp_path / "file").touch()
    assert_camera_refused(tmp_path / "file" / "none.json", "no such file")


@pytest.mark.parametrize("content", [b"", b"{", b"fx: 1", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000])
def test_camera_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    words = "not a text file in UTF-8" if content.startswith(b"\xff") else "not a JSON file"
    assert_camera_refused(tmp_path / "a.json", words)


def test_camera_with_a_mark_of_its_coding_and_lines_of_windows_is_read(tmp_path: Path) -> None:
    write_camera(tmp_path / "a.json", CAMERA)
    content = (tmp_path / "a.json").read_bytes()
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert read_camera(tmp_path / "b.json") == CAMERA


def test_camera_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(10**9)
    assert_camera_refused(tmp_path / "a.json", "needed a text of at most 1048576 bytes, found more")


@pytest.mark.parametrize("kind", [*PNG_KINDS, "camera"])
def test_pipe_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: needed a file, found a pipe or device"):
        read_camera(path) if kind == "camera" else read_png(path, kind)


def test_camera_that_is_a_folder_is_named(tmp_path: Path) -> None:
    assert_camera_refused(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"fx"', "{}", '{"intrinsic": null}', '{"intrinsic": []}'])
def test_camera_without_its_groups_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert_camera_refused(tmp_path / "a.json", "intrinsic.fx")


@pytest.mark.parametrize(("group", "key"), list(camera_keys()))
def test_camera_without_a_number_names_the_key(tmp_path: Path, group: str, key: str) -> None:
    path, content = tmp_path / "a.json", camera_content()
    del content[group][key]
    path.write_text(json.dumps(content))
    assert_camera_refused(path, f"{group}.{key}")
    for wrong, found in (
        (None, "none"),
        ("5", '"5"'),
        (True, "true"),
        ([1], "a table"),
        ({}, "a table"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (10**400, "1000000000"),
    ):
        content[group][key] = wrong
        path.write_text(json.dumps(content))
        assert_camera_refused(path, f"needed a number at {group}.{key}, found {found}")


@pytest.mark.parametrize("key", ["fx", "fy", "baseline"])
@pytest.mark.parametrize("value", [0, -2262.5])
def test_camera_with_an_impossible_number_is_refused(tmp_path: Path, key: str, value: float) -> None:
    content = camera_content()
    content["extrinsic" if key == "baseline" else "intrinsic"][key] = value
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert_camera_refused(tmp_path / "a.json", f"{key} > 0", str(value))


def test_damaged_camera_is_refused_by_name_or_read_whole(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.json", np.random.default_rng(2)
    whole = json.dumps(camera_content(), indent=4).encode()
    outcomes: Counter[str] = Counter()
    for _ in range(400):
        path.write_bytes(damaged_bytes(whole, rng))
        camera, error = value_or_error(read_camera, path)
        if error:
            assert str(path) in error
            outcomes["refused"] += 1
        else:
            assert min(camera.fx, camera.fy, camera.baseline) > 0
            assert np.isfinite([camera.u0, camera.v0, camera.x, camera.y, camera.z]).all()
            outcomes["read"] += 1
    assert outcomes["refused"] > 50
    assert outcomes["read"] > 0


def test_header_of_another_coding_is_refused(tmp_path: Path) -> None:
    path, ids = tmp_path / "a.png", np.zeros((4, 8), dtype=np.uint8)
    write_png(tmp_path / "whole.png", ids)
    (name, header), *others = chunks_of((tmp_path / "whole.png").read_bytes())
    for place, value, words in (
        (8, 3, "its header makes no sense"),
        (8, 16, "needed 8-bit single-channel (grey), found 16-bit grey"),
        (10, 1, "its compression or filtering is unknown"),
        (11, 1, "its compression or filtering is unknown"),
        (12, 2, "its header makes no sense"),
        (9, 3, "it has no palette"),
    ):
        changed = header[:place] + bytes([value]) + header[place + 1 :]
        path.write_bytes(png_of([(name, changed), *others]))
        assert_refused(path, "class_ids", words)


def test_wrong_check_sum_names_the_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture("class_ids"))
    png = bytearray(path.read_bytes())
    png[png.index(b"IDAT") + 20] ^= 4
    path.write_bytes(png)
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG, .*the check sum of chunk b'IDAT' is wrong"):
        read_png(path, "class_ids")


# Failed writes


def png_writer(path: Path) -> None:
    write_png(path, picture("image", (64, 64), seed=1))


def camera_writer(path: Path) -> None:
    write_camera(path, replace(CAMERA, u0=1.0))


@pytest.mark.parametrize("write", [png_writer, camera_writer])
def test_full_disk_leaves_the_old_file_whole(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with full_disk(100), pytest.raises(UserError, match=rf"{re.escape(str(path))}: could not be written \("):
        write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [png_writer, camera_writer])
def test_interrupted_write_shows_no_file_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "new" / "a"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(path)
    assert not path.exists()
    write(path)
    assert [other.name for other in path.parent.iterdir()] == ["a"]


def test_unsupported_array_leaves_the_old_png_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture("class_ids"))
    for array in (np.zeros((4, 4), dtype=np.int64), np.zeros((4, 4, 5), dtype=np.uint8)):
        with pytest.raises(TypeError):
            write_png(path, array)
    assert np.array_equal(read_png(path, "class_ids"), picture("class_ids"))
