import numpy as np
import pytest

from multitask.benchmark import measure
from multitask.benchmark.clustering import noisy_boxes
from multitask.benchmark.timing import median_seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeats": 0}, "repeats: needed a whole number above zero, found 0"),
        ({"repeats": 1, "num_frames": -1}, "num_frames: needed a whole number above zero, found -1"),
        ({"repeats": 1, "parts": []}, r"parts: needed some of \['training', .*\], found \[\]"),
        ({"repeats": 1, "parts": ["speed"]}, r"parts: needed some of .*, found \['speed'\]"),
    ],
)
def test_measure_refuses_what_makes_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(**arguments)  # type: ignore[arg-type]


def test_median_seconds_calls_once_more_than_it_counts() -> None:
    calls: list[int] = []
    assert median_seconds(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4


@pytest.mark.parametrize(("size", "num_pixels"), [((128, 256), 5_000), ((1024, 2048), 300_000)])
def test_boxes_have_as_many_votes_as_asked_for(size: tuple[int, int], num_pixels: int) -> None:
    classes, vectors = noisy_boxes(size, num_pixels)
    assert np.count_nonzero(classes) == pytest.approx(num_pixels, rel=0.05)
    assert vectors.shape == (2, *size)
    assert len(np.unique(classes)) == 6
