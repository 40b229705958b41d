import io
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from multitask.data import png
from multitask.data.layout import check_rows, read_header, read_png, write_png
from multitask.data.png_chunks import Damaged, check_chunks
from tests.png import chunks_of, damaged_bytes, damaged_chunks, decode, grey_png, png_of

TYPES = {"image": np.uint8, "class_ids": np.uint8, "instance_ids": np.uint16, "disparity": np.uint16}


def picture(kind: str) -> np.ndarray:
    shape = (9, 13, 3) if kind == "image" else (9, 13)
    return np.random.default_rng(3).integers(np.iinfo(TYPES[kind]).max, size=shape, dtype=TYPES[kind], endpoint=True)


def read_and_checked(path: Path, kind: str) -> tuple[np.ndarray | None, str]:
    """What is read, and the message of the one type of error that there may be."""
    try:
        found = read_png(path, kind)
        check_rows(path)
    except ValueError as error:
        return None, str(error)
    return found, ""


@pytest.mark.parametrize("kind", list(TYPES))
def test_what_is_read_of_a_damaged_png_is_what_a_strict_decoder_reads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture(kind))
    whole, rng = path.read_bytes(), np.random.default_rng(4)
    np.testing.assert_array_equal(decode(whole, kind), picture(kind))
    outcomes: Counter[bool] = Counter()
    for number in range(600):
        png = (damaged_chunks if number % 3 else damaged_bytes)(whole, rng)
        path.write_bytes(png)
        found, error = read_and_checked(path, kind)
        if error:
            assert str(path) in error
        else:
            np.testing.assert_array_equal(found, decode(png, kind))
        outcomes[not error] += 1
    assert outcomes[False] > 300
    assert outcomes[True] > 30


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 1, 2)])
def test_header_belongs_at_the_beginning_once(tmp_path: Path, order: tuple[int, ...]) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture("class_ids"))
    chunks = chunks_of(path.read_bytes())
    assert [name for name, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    path.write_bytes(png_of([chunks[index] for index in order]))
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG, .*it has not one header, at its beginning"):
        read_png(path, "class_ids")


def test_rows_are_counted_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture("disparity"))
    check_rows(path)
    (name, header), *others = chunks_of(path.read_bytes())
    path.write_bytes(png_of([(name, header[:4] + struct.pack(">I", 10) + header[8:]), *others]))
    with pytest.raises(ValueError, match=r"a\.png: needed 270 bytes in 10 rows, found 243"):
        check_rows(path)  # a row is 13 px of 2 bytes and the byte that says its filter


# Codings of the same greys


IDS = np.array([[0, 7, 26, 33], [26, 26, 7, 0], [255, 17, 34, 68]], dtype=np.uint8)


def read_written(path: Path, content: bytes, kind: str = "class_ids") -> np.ndarray:
    path.write_bytes(content)
    assert read_header(path, kind, verify_checksums=True) == read_header(path, kind)
    check_rows(path)
    found = read_png(path, kind)
    np.testing.assert_array_equal(found, decode(content, kind))
    return found


@pytest.mark.parametrize("depth", [4, 8])
@pytest.mark.parametrize("others", [[], [(b"tRNS", b"\0\x80")]])
def test_palette_of_greys_in_any_order_is_read_as_its_greys(
    tmp_path: Path, depth: int, others: list[tuple[bytes, bytes]]
) -> None:
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(np.unique(IDS)).tolist()
        np.testing.assert_array_equal(read_written(tmp_path / "a.png", grey_png(IDS, depth, order, others)), IDS)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_of_few_bits_is_read_as_the_grey_of_8_bits_that_it_stands_for(tmp_path: Path, depth: int) -> None:
    step = 255 // (2**depth - 1)
    greys = (np.arange(40).reshape(5, 8) % 2**depth * step).astype(np.uint8)
    for others in ([], [(b"tRNS", b"\0\0")]):
        np.testing.assert_array_equal(read_written(tmp_path / "a.png", grey_png(greys, depth, others=others)), greys)


def test_interlaced_picture_is_read_as_it_is_without(tmp_path: Path) -> None:
    """By hand: seven passes, of which the second and the third lie outside of 3 x 4 px."""
    rows = [b"\0\0", b"\0\x1a", b"\0\xff\x22", b"\0\x07\x21", b"\0\x11\x44", b"\0\x1a\x1a\x07\0"]
    header = struct.pack(">IIBBBBB", 4, 3, 8, 0, 0, 0, 1)
    png = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")])
    (tmp_path / "a.png").write_bytes(png)
    check_rows(tmp_path / "a.png")
    np.testing.assert_array_equal(read_png(tmp_path / "a.png", "class_ids"), IDS)


def test_palette_of_colours_is_refused_for_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for palette in ([0, 0, 0, 128, 64, 128], [0, 0, 0, 7, 7, 8]):
        (name, header), _, *others = chunks_of(grey_png(IDS[:1, :2], 8, [0, 7]))
        path.write_bytes(png_of([(name, header), (b"PLTE", bytes(palette)), *others]))
        for read in (read_png, read_header):
            with pytest.raises(
                ValueError, match=r"needed 8-bit single-channel \(grey\), found 8-bit palette of colours"
            ):
                read(path, "class_ids")


def test_pixel_beyond_its_palette_is_damage(tmp_path: Path) -> None:
    chunks = chunks_of(grey_png(IDS, 8, np.unique(IDS).tolist()))
    chunks[1] = (b"PLTE", chunks[1][1][:-3])
    (tmp_path / "a.png").write_bytes(png_of(chunks))
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG, .*a pixel has colour 7 of a palette of 7"):
        read_png(tmp_path / "a.png", "class_ids")


@pytest.mark.parametrize("kind", ["instance_ids", "disparity"])
def test_sixteen_bits_that_are_all_zero_may_be_written_in_fewer(tmp_path: Path, kind: str) -> None:
    zeros = np.zeros((3, 4), dtype=np.uint8)
    for content in (grey_png(zeros, 1), grey_png(zeros, 8), grey_png(zeros, 1, [0])):
        found = read_written(tmp_path / "a.png", content, kind)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, zeros)
    (tmp_path / "a.png").write_bytes(grey_png(IDS, 8))
    for read in (read_png, read_header):
        with pytest.raises(ValueError, match=r"needed 16-bit single-channel \(grey\), found 8-bit grey"):
            read(tmp_path / "a.png", kind)


# Large and absurd files


def test_text_of_megabytes_is_passed_over(tmp_path: Path) -> None:
    texts = [(b"tEXt", b"Comment\0" + b"x" * 3_000_000), (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))]
    np.testing.assert_array_equal(read_written(tmp_path / "a.png", grey_png(IDS, 8, others=texts)), IDS)


HOSTILE = """
import resource, sys
from pathlib import Path
from multitask.data import png
from multitask.data.layout import check_rows, read_header, read_png
path, before = Path(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (lambda: read_png(path, "class_ids"), lambda: read_header(path, "class_ids"), lambda: check_rows(path)):
    try:
        print(read())
    except ValueError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def said_and_mebibytes(path: Path) -> tuple[list[str], int]:
    """What the readers say of a file in a process of their own, and how much memory that process takes for it."""
    result = subprocess.run([sys.executable, "-c", HOSTILE, str(path)], capture_output=True, text=True, check=True)
    *said, memory = result.stdout.splitlines()
    return said, int(memory)


def giant(width: int, height: int, inflated: int) -> bytes:
    """A picture that claims a size, with ``inflated`` bytes of rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    coder = zlib.compressobj(9)
    pieces = [coder.compress(bytes(10**6)) for _ in range(inflated // 10**6)]
    return png_of([(b"IHDR", header), (b"IDAT", b"".join([*pieces, coder.flush()])), (b"IEND", b"")])


def test_pixels_that_inflate_to_hundreds_of_megabytes_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(giant(64, 32, 3 * 10**8))  # 290 kB
    said, memory = said_and_mebibytes(tmp_path / "a.png")
    assert "its 32 x 64 px are in more bytes than they can be" in said[0]
    assert memory < 50


def test_rows_beyond_the_last_are_not_inflated(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(giant(64, 3200, 200 * 10**6))  # 195 kB, which 205 kB of pixels might be
    said, memory = said_and_mebibytes(tmp_path / "a.png")
    assert "needed 208000 bytes in 3200 rows, found 262144 and no end" in said[-1]
    assert memory < 50


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((20_000, 20_000), "it claims 20000 x 20000 px, and more than 225000000 are not read"),
        ((2**31 - 1, 2**31 - 1), "and more than 225000000 are not read"),
        ((14_000, 14_000), "it claims 14000 x 14000 px, which its "),
    ],
)
def test_claim_of_a_giant_picture_takes_no_memory(tmp_path: Path, size: tuple[int, int], words: str) -> None:
    (tmp_path / "a.png").write_bytes(giant(*size, 10**6))
    said, memory = said_and_mebibytes(tmp_path / "a.png")
    assert all(words in line for line in said)
    assert memory < 50


def smooth(kind: str, size: tuple[int, int]) -> np.ndarray:
    """A picture in which every kind of difference between neighbours is the smallest somewhere."""
    rng = np.random.default_rng(5)
    slopes = rng.integers(0, 40, size=(2, *size, *((3,) if kind == "image" else ())))
    return (slopes[0].cumsum(0) + slopes[1].cumsum(1) + rng.integers(0, 3, size=slopes.shape[1:])).astype(TYPES[kind])


def rechunked(png: bytes, length: int) -> bytes:
    """The same picture, its pixels in chunks of so many bytes, some of them empty."""
    header, *others, end = chunks_of(png)
    pixels = b"".join(data for name, data in others if name == b"IDAT")
    parts = [pixels[start : start + length] for start in range(0, len(pixels), length)]
    return png_of([header, *((b"IDAT", part) for whole in parts for part in (whole, b"")), end])


@pytest.mark.parametrize("kind", list(TYPES))
@pytest.mark.parametrize("strip", [1, 40, 41, 100])
def test_large_picture_is_the_same_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, strip: int
) -> None:
    path, expected = tmp_path / "a.png", smooth(kind, (37, 40))
    write_png(path, expected)
    rows = zlib.decompress(b"".join(data for name, data in chunks_of(path.read_bytes()) if name == b"IDAT"))
    assert len(set(rows[:: len(rows) // 37])) > 2, "rows are filtered in several ways"
    monkeypatch.setattr(png, "_STRIP", strip)
    for length in (7, 10**6):
        path.write_bytes(rechunked(path.read_bytes(), length))
        np.testing.assert_array_equal(read_png(path, kind), expected)


def test_palette_is_the_same_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_STRIP", 4)
    for depth in (4, 8):
        order = np.unique(IDS)[::-1].tolist()
        np.testing.assert_array_equal(read_written(tmp_path / "a.png", grey_png(IDS, depth, order)), IDS)


def test_rows_that_lack_are_missed_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    monkeypatch.setattr(png, "_STRIP", 26)
    write_png(path, picture("disparity"))
    (name, header), *others = chunks_of(path.read_bytes())
    path.write_bytes(png_of([(name, header[:4] + struct.pack(">I", 10) + header[8:]), *others]))
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG, .*needed 270 bytes in 10 rows, found fewer"):
        read_png(path, "disparity")


@pytest.mark.parametrize(("depth", "palette"), [(1, None), (8, None), (8, [255, 0]), (2, [0, 255])])
@pytest.mark.parametrize("shade", [0, 255])
def test_rows_that_lack_are_no_black_ones(tmp_path: Path, depth: int, palette: list[int] | None, shade: int) -> None:
    path, greys = tmp_path / "a.png", np.full((9, 13), shade, dtype=np.uint8)
    np.testing.assert_array_equal(read_written(path, grey_png(greys, depth, palette)), greys)
    (name, header), *others = chunks_of(path.read_bytes())
    path.write_bytes(png_of([(name, header[:4] + struct.pack(">I", 10) + header[8:]), *others]))
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG, .*needed \d+ bytes in 10 rows, found fewer"):
        read_png(path, "class_ids")


@pytest.mark.parametrize("kind", list(TYPES))
def test_rows_that_lack_are_missed_in_every_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture(kind))
    (name, header), *others = chunks_of(path.read_bytes())
    path.write_bytes(png_of([(name, header[:4] + struct.pack(">I", 10) + header[8:]), *others]))
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG, .*needed \d+ bytes in 10 rows, found fewer"):
        read_png(path, kind)


def test_rows_that_lack_are_missed_in_passes(tmp_path: Path) -> None:
    """Without the last pass every second row would be black, the last of all rows not."""
    rows = [b"\0\x05", b"\0\x1a", b"\0\xff\x22", b"\0\x07\x21", b"\0\x11\x44"]
    header = struct.pack(">IIBBBBB", 4, 3, 8, 0, 0, 0, 1)
    png = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")])
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(ValueError, match=r"a\.png: .*needed 18 bytes in 3 rows, found fewer"):
        read_png(tmp_path / "a.png", "class_ids")


def test_check_of_chunks_takes_pictures_of_any_size_and_no_damage(tmp_path: Path) -> None:
    whole = giant(60_000, 60_000, 10**6)
    check_chunks(io.BytesIO(whole))
    for content, message in (
        (b"", "does not begin as one"),
        (bytes(len(whole)), "does not begin as one"),
        (whole[:-1], "it has no end"),
        (whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], "the check sum of chunk b'IDAT' is wrong"),
    ):
        with pytest.raises(Damaged, match=message):
            check_chunks(io.BytesIO(content))


def test_labels_of_16_bits_have_a_limit_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(giant(18_999, 10_000, 190 * 10**6))
    for read in (read_png, read_header):
        with pytest.raises(ValueError, match=r"a\.png: needed at most 150000000 px, found 10000 x 18999"):
            read(tmp_path / "a.png", "disparity")


def test_picture_beyond_pillows_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(giant(18_999, 10_000, 190 * 10**6))
    assert read_header(tmp_path / "a.png", "class_ids") == (10_000, 18_999)
    found = read_png(tmp_path / "a.png", "class_ids")
    assert found.shape == (10_000, 18_999)
    assert not found.any()
