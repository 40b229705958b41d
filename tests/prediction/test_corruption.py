"""Damaged pictures of all formats among good ones: each is predicted or named, and no other loses anything."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.data.layout import read_png
from multitask.prediction import Predictor
from multitask.prediction.decoding import pillow_limits
from multitask.prediction.kinds import readers
from tests.prediction.made import photo, run_predict, write_photo

NUM_DAMAGED = 190

FORMATS: list[tuple[str, str, dict[str, object]]] = [
    ("png", "PNG", {}),
    ("jpg", "JPEG", {}),
    ("jpeg", "JPEG", {"progressive": True}),
    ("gif", "GIF", {}),
    ("bmp", "BMP", {}),
    ("tif", "TIFF", {"compression": "tiff_lzw"}),
    ("tiff", "TIFF", {}),
    ("webp", "WEBP", {}),
    ("ppm", "PPM", {}),
    ("mpo", "MPO", {}),
    ("jp2", "JPEG2000", {}),
    ("tga", "TGA", {}),
    ("pcx", "PCX", {}),
    ("ico", "ICO", {"sizes": [(60, 12)]}),  # which Pillow 10 does not find by itself
    ("sgi", "SGI", {}),
    ("dds", "DDS", {}),
    ("qoi", "QOI", {}),
    ("dib", "DIB", {}),
    ("avif", "AVIF", {}),
]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flip_bits(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))
    bits[rng.integers(0, len(bits), rng.choice([1, 3, 20, 200]))] ^= 1
    return np.packbits(bits).tobytes()


def truncate(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, max(len(content), 1))]


def blank(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    start, length = rng.integers(0, len(content)), rng.integers(1, 200)
    return content[:start] + bytes(length) + content[start + length :]


def wrong_header(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Another size, depth or kind of picture than what follows, with a checksum that fits; or another format's name."""
    if rng.random() < 0.2:
        names = [
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"RIFF\0\0\0\0WEBP",
            b"P6 9 9 255 ",
        ]
        name = names[rng.integers(len(names))]
        return name + content[len(name) :]
    value = int(rng.choice([0, 1, 7, 11, 13, 59, 61, 300, 65535]))
    if kind == "PNG":
        header = bytearray(content[12:29])
        where = rng.choice([4, 8, 12, 13, 14, 15, 16])
        header[where : where + 4 if where < 12 else where + 1] = (
            struct.pack(">I", value if rng.random() < 0.9 else 2**31 - 1) if where < 12 else bytes([value % 9])
        )
        return content[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + content[33:]
    if b"\xff\xc0" not in content[:1000]:
        beginning = np.frombuffer(content[:48], dtype=np.uint8).copy()
        beginning[rng.integers(0, len(beginning), 3)] = rng.integers(0, 256, 3)
        return beginning.tobytes() + content[48:]
    start = content.index(b"\xff\xc0") + 4
    frame = bytearray(content[start : start + 15])
    where = rng.choice([1, 3, 5, 6, 7])
    frame[where : where + 2 if where < 5 else where + 1] = (
        struct.pack(">H", value) if where < 5 else bytes([rng.integers(0, 256)])
    )
    return content[:start] + bytes(frame) + content[start + 15 :]


def wrong_mode(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Another kind of picture than the file's name says, sometimes damaged besides."""
    image = Image.open(io.BytesIO(content))
    grey = np.asarray(image.convert("L"))
    made = [
        lambda: encoded(image.convert("1"), "PNG"),
        lambda: encoded(image.convert("P"), "GIF"),
        lambda: encoded(image.convert("LA"), "PNG"),
        lambda: encoded(image.convert("RGBA"), "WEBP"),
        lambda: encoded(image.convert("CMYK"), "JPEG"),
        lambda: encoded(image.convert("CMYK"), "TIFF"),
        lambda: encoded(image.convert("YCbCr"), "TIFF"),
        lambda: encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        lambda: encoded(Image.fromarray(grey.astype(np.int32) * 1000), "TIFF"),
        lambda: encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        lambda: b"<html>not found</html>",
        lambda: b"",
    ][rng.integers(12)]()
    return truncate(made, kind, rng) if rng.random() < 0.4 else made


def splice(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """The beginning of one picture, and the end of another of another format."""
    _, other, options = FORMATS[rng.integers(len(FORMATS))]
    Image.init()
    if other not in Image.SAVE:
        return content[::2]
    end = encoded(Image.fromarray(photo((12, 60), 1)), other, **options)
    return content[: rng.integers(4, len(content))] + end[rng.integers(0, len(end)) :]


DAMAGES: list[Callable[[bytes, str, np.random.Generator], bytes]] = [
    flip_bits,
    truncate,
    blank,
    wrong_header,
    wrong_mode,
    splice,
]


def decodes(path: Path) -> bool:
    """Whether Pillow alone makes a picture of it that a network of 64 px of width can be given."""
    try:
        with Image.open(path, formats=readers(path)) as image:
            width, height = image.convert("RGB").size
    except Exception:
        return False
    return min(width, height) >= 8 and height <= 16 * width and round(height * 64 / width) >= 8


def write_damaged(folder: Path, count: int) -> list[Path]:
    """Pictures of every format, each damaged in another way."""
    damaged: list[Path] = []
    folder.mkdir(parents=True)
    Image.init()
    for number in range(count):
        rng = np.random.default_rng(number)
        suffix, kind, options = FORMATS[number % len(FORMATS)]
        if kind not in Image.SAVE:
            continue
        content = encoded(Image.fromarray(photo((12, 60), number)), kind, **options)
        path = folder / f"{number:03d}.{suffix}"
        path.write_bytes(DAMAGES[number // len(FORMATS) % len(DAMAGES)](content, kind, rng))
        damaged.append(path)
    return damaged


def test_every_damaged_picture_is_predicted_or_named(trained: Path, predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    damaged = write_damaged(folder, NUM_DAMAGED)
    good = [write_photo(folder / f"{number:03d}_good.png", (12, 60), number) for number in range(0, NUM_DAMAGED, 25)]

    predicted = run_predict(trained, folder, tmp_path / "out", batch_size=16)

    with pillow_limits():
        readable = {path.name for path in damaged if decodes(path)}
    assert 0.2 < len(readable) / len(damaged) < 0.8, "both fates are frequent"
    named = [Path(failure.split(": ")[0]).name for failure in predicted.failures]
    assert len(named) == len(set(named))
    assert set(named) == {path.name for path in damaged} - readable
    assert predicted.count == len(readable) + len(good)
    panels = {path.name.removesuffix("_panel.png") for path in (tmp_path / "out").glob("*_panel.png")}
    assert panels == {name.split(".")[0] for name in readable} | {path.stem for path in good}
    assert len((tmp_path / "out/predictions.jsonl").read_text().splitlines()) == predicted.count
    for path in good:
        classes = read_png(tmp_path / f"out/{path.stem}_class_ids.png", "class_ids")
        assert (classes == predictor.predict(path).class_ids).mean() > 0.99


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_changes_a_picture(damage: Callable[[bytes, str, np.random.Generator], bytes]) -> None:
    for kind in ("PNG", "JPEG", "GIF"):
        content = encoded(Image.fromarray(photo((12, 60))), kind)
        changed = [damage(content, kind, np.random.default_rng(seed)) for seed in range(10)]
        assert sum(other != content for other in changed) >= 7
