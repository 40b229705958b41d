import struct
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from multitask.data.layout import read_png, write_png
from multitask.data.png import check_rows
from tests.png import chunks_of, damaged_bytes, damaged_chunks, decode, png_of

TYPES = {"image": np.uint8, "class_ids": np.uint8, "instance_ids": np.uint16, "disparity": np.uint16}


def picture(kind: str) -> np.ndarray:
    shape = (9, 13, 3) if kind == "image" else (9, 13)
    return np.random.default_rng(3).integers(np.iinfo(TYPES[kind]).max, size=shape, dtype=TYPES[kind], endpoint=True)


def read_and_checked(path: Path, kind: str) -> tuple[np.ndarray | None, str]:
    """What is read, and the message of the one type of error that there may be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on animated PNGs
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
        if len(png) >= 24 and 10**7 < np.prod(struct.unpack_from(">II", png, 16), dtype=float) < 10**9:
            continue  # it asks for much memory, which only costs time here
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
