import re
from pathlib import Path

import pytest

from multitask.data.census import KINDS, Census, take_census
from multitask.data.check import census_text, check
from multitask.data.cityscapes import Cityscapes
from multitask.data.counts import KEPT, kept_counts
from multitask.data.formats import FORMATS
from multitask.data.kitti import Kitti
from multitask.synthetic import render, write_dataset
from tests.cityscapes import CITYSCAPES, ID
from tests.compose import config
from tests.fulldisk import full_disk
from tests.layouts import CAMVID, write_all, write_camvid


def found(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    check(config(*overrides, "num_workers=1", name="prepare_data"))
    return capsys.readouterr().out


@pytest.mark.parametrize("layout", ["cityscapes", "tiny_cityscapes", "synthetic", "kitti", "camvid", "mixed"])
def test_check_of_a_whole_data_set_shows_every_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    roots = write_all(tmp_path)
    where = {name: f"data.root={root}" for name, root in roots.items()}
    where |= {"tiny_cityscapes": where["cityscapes"], "synthetic": where["cityscapes"]}
    where |= {"mixed": f"data.roots=[{','.join(map(str, roots.values()))}]"}
    text = found(capsys, f"data={layout}", where[layout])
    shown = roots.values() if layout == "mixed" else [Path(where[layout].partition("=")[2])]
    for root in shown:
        for split in ("train", "val"):
            assert f"\n{root}, split {split}\n" in text
    assert text.count("faults: 0") == 2 * len(shown)
    assert ("disparity: measured in" in text) == (layout != "camvid")


def test_check_names_every_fault_and_counts_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_camvid(tmp_path, {"train": 3, "val": 2})
    spoilt = [root / "trainannot/0000TP_000000.png", root / "train/0000TP_000002.png", root / "val/0001TP_000001.png"]
    for path in spoilt:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"{root}: needed files without a fault, found 3 faults, listed above"):
        check(config("data=camvid", f"data.root={root}", "num_workers=1", name="prepare_data"))
    text = capsys.readouterr().out
    for path in spoilt:
        assert f"\n{path}: not a readable PNG" in text
    assert "| image        |               2 |         3 |" in text
    assert "| class_ids    |               2 |         3 |" in text
    assert "faults: 2\n" in text
    assert "faults: 1\n" in text


def test_check_of_partial_frames_counts_them_by_kind_of_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_all(tmp_path)["kitti"]
    names = Kitti(root, "train", (32, 64), CITYSCAPES).names
    (root / f"training/disp_occ_0/{names[0]}.png").unlink()
    with pytest.raises(ValueError, match="found 1 faults"):
        found(capsys, "data=kitti", f"data.root={root}")
    capsys.readouterr()
    text = found(capsys, "data=kitti", f"data.root={root}", "data.partial=true")
    number = len(names)
    assert f"| disparity    | {number - 1:>15} | {number:>9} |" in text
    line = f"frames with class_ids + instance_ids + disparity: {number - 1}; class_ids + instance_ids: 1\n"
    assert text.count("frames with ") == 1
    assert line in text
    assert kept_counts(root)["train"]["disparity"] == number - 1


def test_check_reads_a_split_of_labels_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_all(tmp_path)["cityscapes"]
    for path in (root / "leftImg8bit/val").rglob("*.png"):
        path.unlink()
    (root / "leftImg8bit/val").rename(root / "nothing")
    with pytest.raises(ValueError, match="found 1 faults"):
        found(capsys, "data=cityscapes", f"data.root={root}")
    assert f"{root / 'leftImg8bit/val'}: no such folder; needed split 'val', found ['train']" in capsys.readouterr().out


def test_check_keeps_the_numbers_of_files_and_training_says_what_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = write_camvid(tmp_path, {"train": 3, "val": 2})
    command = ("data=camvid", f"data.root={root}")
    assert f"\n{root / KEPT} keeps these numbers: training says where files are fewer\n" in found(capsys, *command)
    assert kept_counts(root) == {"train": {"image": 3, "class_ids": 3}, "val": {"image": 2, "class_ids": 2}}
    for folder in ("train", "trainannot"):
        (root / folder / "0000TP_000000.png").unlink()
    FORMATS["camvid"](root, "train", (24, 32), CAMVID)
    lost = f"data.root={root}: split 'train' has lost files since it was checked: 2 of 3 image, 2 of 3 class_ids"
    assert caplog.messages == [lost]
    found(capsys, *command)  # says so, too, and takes what there is for whole from now on
    assert caplog.messages == [lost, lost]
    FORMATS["camvid"](root, "train", (24, 32), CAMVID)
    assert caplog.messages == [lost, lost]


def test_check_that_finds_a_fault_keeps_no_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_camvid(tmp_path, {"train": 3, "val": 2})
    (root / "valannot/0001TP_000000.png").write_bytes(b"")
    with pytest.raises(ValueError, match="found 1 faults"):
        found(capsys, "data=camvid", f"data.root={root}")
    assert kept_counts(root) == {}


def test_check_of_a_folder_that_takes_no_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_camvid(tmp_path, {"train": 3, "val": 2})
    with full_disk(0):
        text = found(capsys, "data=camvid", f"data.root={root}")
    assert re.search(rf"\n{root / KEPT}: could not be written \(.*\); training will not know these numbers\n", text)
    assert sorted(path.name for path in root.iterdir()) == ["train", "trainannot", "val", "valannot"]


def test_check_of_a_data_set_that_the_project_has_written_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path, {"train": 3, "val": 1}, size=(32, 64), seed=0, workers=1)
    for kind in KINDS:
        frames = Cityscapes(tmp_path, "train", (32, 64), CITYSCAPES, strict=False)
        frames.path(kind, render(0, "train", 1, (32, 64)).name).unlink()
    with pytest.raises(ValueError, match="found 1 faults"):
        found(capsys, "data=synthetic", f"data.root={tmp_path}")
    text = capsys.readouterr().out
    assert (
        f"\ndata.root={tmp_path}: needed the 3 frames of split 'train' that synthetic.json names, found 2 image; "
        in text
    )
    assert not (tmp_path / KEPT).exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=kitti", "data.root={}/none"], "data.root=.*none: no such folder"),
        (["data=kitti", "data.root={}"], r"image_2: no such folder; needed split 'train', found no split"),
        (["data=mixed"], r"data\.roots: needed folders of data sets"),
        (["data=mixed", "data.roots=[{}]"], r"data\.roots: .*: needed one of the folders leftImg8bit"),
        (["data=camvid", "num_workers=0"], "num_workers: needed auto or a whole number above zero, found 0"),
    ],
)
def test_check_of_nothing_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(config(*(text.format(tmp_path) for text in overrides), name="prepare_data"))


def test_census_text_by_hand() -> None:
    census = Census(num_frames=3, faults=["a.png: broken"])
    census.files.update(image=3, class_ids=2, instance_ids=2)
    census.sizes[8, 16] = 3
    census.pixels[[ID["road"], ID["car"]]] = 192, 64
    census.instances[ID["car"]] = 5
    census.measured += [64, 256]
    assert census_text(census, CITYSCAPES).split("\n") == [
        "| files        | without a fault | of frames |",
        "|--------------|----------------:|----------:|",
        "| image        |               3 |         3 |",
        "| class_ids    |               2 |         3 |",
        "| instance_ids |               2 |         3 |",
        "| disparity    |            none |         3 |",
        "| camera       |            none |         3 |",
        "",
        "| class | pixels, % | instances |",
        "|-------|----------:|----------:|",
        "| road  |    75.000 |           |",
        "| car   |    25.000 |         5 |",
        "",
        "disparity: measured in 25.0 % of the pixels",
        "",
        "images: 8 x 16 px (3)",
        "",
        "a.png: broken",
        "faults: 1",
    ]


def test_census_text_of_a_data_set_adds_up(shared_tree: Path) -> None:
    lines = census_text(take_census(Cityscapes, shared_tree, "train", CITYSCAPES, 1), CITYSCAPES).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("| class ")))
    shares = [float(line.split("|")[2]) for line in lines[start + 2 :] if line.startswith("|")]
    assert sum(shares) == pytest.approx(100, abs=0.02)
