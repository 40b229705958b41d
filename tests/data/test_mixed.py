import pickle
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from multitask.data.cityscapes import Cityscapes
from multitask.data.class_tables import table_of
from multitask.data.formats import FORMATS, open_mixed
from multitask.data.kitti import Kitti
from multitask.data.loader import StepSampler
from multitask.data.mixed import Mixed, spread
from tests.cityscapes import CITYSCAPES
from tests.layouts import CAMVID, mixed_data, write_all
from tests.trees import write_tree

SIZE = (32, 64)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set in each layout, which no test may change."""
    return write_all(tmp_path_factory.mktemp("roots"))


def mixed(roots: dict[str, Path], split: str = "train") -> Mixed:
    frames = open_mixed(split, mixed_data([str(root) for root in roots.values()], SIZE))
    assert isinstance(frames, Mixed)
    return frames


# Reading


def test_frames_are_those_of_the_parts_with_the_labels_that_each_has(roots: dict[str, Path]) -> None:
    frames = mixed(roots)
    parts = {
        "1": Cityscapes(roots["cityscapes"], "train", SIZE, CITYSCAPES),
        "2": Kitti(roots["kitti"], "train", SIZE, CITYSCAPES),
        "3": FORMATS["camvid"](roots["camvid"], "train", SIZE, CAMVID),
    }
    assert sorted(frames.names) == sorted(f"{number}-{name}" for number, part in parts.items() for name in part.names)
    for index, full in enumerate(frames.names):
        number, _, name = full.partition("-")
        sample, expected = frames[index], parts[number][parts[number].names.index(name)]
        assert sample.name == full
        assert sample.camera == expected.camera
        for kind in ("image", "class_ids", "instance_ids", "disparity"):
            np.testing.assert_array_equal(getattr(sample, kind), getattr(expected, kind))
        assert frames.source_size(full) == parts[number].source_size(name)


def test_kind_is_there_if_one_part_has_it(roots: dict[str, Path]) -> None:
    frames = mixed(roots)
    assert all(frames.has(kind) for kind in ("image", "class_ids", "instance_ids", "disparity", "camera"))
    assert frames.lacking("class_ids") == []
    assert frames.lacking("disparity") == [f"data.root={roots['camvid']}"]
    assert not mixed({"camvid": roots["camvid"]}).has("disparity")


def test_kinds_are_there_together_if_one_part_has_them_all(tmp_path: Path) -> None:
    kinds = {"a": ("image", "class_ids"), "b": ("image", "disparity", "camera")}
    frames = mixed({name: write_tree(tmp_path / name, {"train": 1}, kinds=kinds[name]) for name in kinds})
    assert frames.has("disparity", "camera")
    assert frames.has("class_ids")
    assert not frames.has("class_ids", "disparity")


def test_names_stay_apart_where_the_parts_have_the_same_ones(tmp_path: Path) -> None:
    a, b = (write_tree(tmp_path / name, {"train": 2}) for name in "ab")
    frames = mixed({"a": a, "b": b})
    assert len(set(frames.names)) == 4
    assert len({name[2:] for name in frames.names}) == 2


def test_part_of_the_frames_keeps_their_parts(roots: dict[str, Path]) -> None:
    frames = mixed(roots)
    some = frames.only([7, 0, 3])
    assert some.names == [frames.names[index] for index in (7, 0, 3)]
    assert some.parts == [frames.parts[index] for index in (7, 0, 3)]
    assert some[0].name == frames.names[7]


def test_frames_survive_the_way_to_a_worker(roots: dict[str, Path]) -> None:
    frames = mixed(roots)
    again = pickle.loads(pickle.dumps(frames))
    assert again.names == frames.names
    np.testing.assert_array_equal(again[3].image, frames[3].image)


def test_headers_of_the_chosen_frames_are_checked(tmp_path: Path) -> None:
    roots = write_all(tmp_path)
    frames = mixed(roots)
    path = roots["camvid"] / "trainannot/0000TP_000001.png"
    path.write_bytes(b"")
    damaged = frames.names.index("3-0000TP_000001")
    frames.only(index for index in range(len(frames)) if index != damaged).check_headers()
    with pytest.raises(ValueError, match=re.escape(str(path))):
        frames.check_headers()


# Errors


def test_class_tables_that_differ_name_both_roots(roots: dict[str, Path]) -> None:
    one, other = (
        Cityscapes(roots["cityscapes"], "train", SIZE, CITYSCAPES),
        FORMATS["camvid"](roots["camvid"], "train", SIZE, CAMVID),
    )
    assert one.classes == other.classes == CITYSCAPES
    content = CITYSCAPES.content()
    content["classes"][25]["name"] = "cyclist"
    other.classes = table_of(content, "", "mine")
    with pytest.raises(ValueError, match="needed one class table") as caught:
        Mixed({1: one, 2: other}, "data.roots=[a,b]")
    assert "data.roots=[a,b]: " in str(caught.value)
    for root in (roots["cityscapes"], roots["camvid"]):
        assert f"data.root={root}" in str(caught.value)
    assert "class 12 is 'rider' with instances in cityscapes, 'cyclist' with instances in" in str(caught.value)
    other.classes = CAMVID.source
    with pytest.raises(ValueError, match=r"found cityscapes in .* and camvid in .*: class 0 is 'road' in cityscapes"):
        Mixed({1: one, 2: other}, "data.roots=[a,b]")


def test_part_without_the_split_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, roots: dict[str, Path]
) -> None:
    bare = write_tree(tmp_path / "bare", {"train": 2})
    frames = mixed({"bare": bare, "camvid": roots["camvid"]}, "val")
    assert frames.names == ["2-0001TP_000000", "2-0001TP_000001"]
    assert f"data.roots: {bare} has no split 'val', only ['train']" in caplog.messages
    with pytest.raises(ValueError, match=r"needed split 'test' in one of them, found \{"):
        mixed({"bare": bare, "camvid": roots["camvid"]}, "test")


# Order


def test_any_stretch_of_the_frames_holds_each_part_s_share(tmp_path: Path) -> None:
    roots = {name: write_tree(tmp_path / name, {"train": n}, ("image",), (8, 16)) for name, n in (("a", 12), ("b", 4))}
    parts = mixed(roots).parts
    assert all(parts[start : start + 4].count(2) == 1 for start in range(0, 16, 4))


def test_one_part_is_shuffled_as_ever() -> None:
    expected = np.random.default_rng((3, 0, 7)).permutation(50)
    np.testing.assert_array_equal(spread([0] * 50, np.random.default_rng((3, 0, 7))), expected)


@pytest.mark.parametrize("sizes", [(40, 40), (60, 20), (97, 11, 5), (5, 200), (3, 1)])
def test_shuffled_parts_are_spread_evenly(sizes: tuple[int, ...]) -> None:
    parts = np.repeat(np.arange(len(sizes)), sizes)
    orders = [spread(parts.tolist(), np.random.default_rng(seed)) for seed in range(20)]
    assert len({tuple(order) for order in orders}) > 1
    for order in orders:
        assert sorted(order) == list(range(sum(sizes)))
        for part, size in enumerate(sizes):
            seen = np.concatenate([[0], np.cumsum(parts[order] == part)])
            expected = np.arange(len(order) + 1) * size / len(order)
            assert np.abs(seen - expected).max() <= len(sizes)


def test_every_batch_mixes_the_parts() -> None:
    parts = [0] * 30 + [1] * 10
    batches = list(StepSampler(40, 8, seed=0, start=0, stop=50, parts=parts))
    shares = [sum(parts[key.frame] for key in batch) for batch in batches]
    assert min(shares) >= 1
    assert max(shares) <= 4
    assert sum(shares) == 50 * 8 / 4
    first_epoch = [key.frame for key in chain(*batches[:5])]
    assert sorted(first_epoch) == list(range(40))
    later = list(StepSampler(40, 8, seed=0, start=20, stop=50, parts=parts))
    assert later == batches[20:], "a batch is a function of seed and step"
