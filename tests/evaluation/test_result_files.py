from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multitask.evaluation.result_files import write_results
from multitask.metrics import PredictedInstance, PredictedScene
from tests.cityscapes import CITYSCAPES, EVALUATED, ID
from tests.metrics.pairs import random_pair

MAP = np.array([[0, 5, 5], [9, 9, 0]])
INSTANCES = [PredictedInstance(9, ID["person"], 0.1), PredictedInstance(5, ID["car"], 1 / 3)]


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_results_are_what_was_predicted(tmp_path: Path) -> None:
    with write_results(tmp_path / "results", CITYSCAPES) as writer:
        writer.write("ulm_000000_000019", PredictedScene(np.array([[0, 13, 13], [11, 11, 18]]), MAP, INSTANCES))
    folder = tmp_path / "results"
    classes = np.asarray(Image.open(folder / "pixel-level" / "ulm_000000_000019_labelIds.png"))
    assert classes.tolist() == [[7, 26, 26], [24, 24, 33]]
    assert classes.dtype == np.uint8
    lines = (folder / "instance-level" / "ulm_000000_000019.txt").read_text().splitlines()
    parts = [line.split(" ") for line in lines]
    assert [(class_id, float(score)) for _, class_id, score in parts] == [("24", 0.1), ("26", 1 / 3)]
    for (mask, _, _), number in zip(parts, (9, 5), strict=True):
        assert not Path(mask).name.startswith("ulm_000000_000019")
        picture = np.asarray(Image.open(folder / "instance-level" / mask))
        assert ((picture > 0) == (number == MAP)).all()


def test_results_of_a_random_scene_come_back(tmp_path: Path) -> None:
    sample, scene = random_pair(3)
    with write_results(tmp_path / "results", CITYSCAPES) as writer:
        writer.write(sample.name, scene)
    ids = np.array([label.id for label in EVALUATED])
    (file,) = (tmp_path / "results" / "pixel-level").iterdir()
    assert (np.asarray(Image.open(file)) == ids[scene.train_ids]).all()


def test_results_without_instances_have_an_empty_list(tmp_path: Path) -> None:
    with write_results(tmp_path / "results", CITYSCAPES) as writer:
        writer.write("ulm_000000_000019", PredictedScene(instance_map=np.zeros((2, 3), dtype=np.int64)))
        # Given, but without a pixel.
        writer.write("ulm_000001_000019", PredictedScene(instance_map=MAP * 0, instances=INSTANCES))
    assert _files(tmp_path / "results") == {
        "instance-level/ulm_000000_000019.txt",
        "instance-level/ulm_000001_000019.txt",
    }
    assert all(path.read_text() == "" for path in (tmp_path / "results" / "instance-level").iterdir())


def test_results_dir_that_is_empty_or_new_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("empty", "new/below"):
        with write_results(tmp_path / place, CITYSCAPES) as writer:
            writer.write("a_0_0", PredictedScene(np.zeros((2, 2), dtype=np.uint8)))
        assert _files(tmp_path / place) == {"pixel-level/a_0_0_labelIds.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "new"}


def test_results_dir_that_is_not_empty_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "old.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"results_dir=.*needed an empty or a new folder, found 1 entries"):
        write_results(tmp_path / "results", CITYSCAPES).__enter__()
    assert _files(tmp_path) == {"results/old.txt"}


def test_results_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("kept")
    with pytest.raises(ValueError, match=r"results_dir=.*needed a folder, found a file"):
        write_results(tmp_path / "results", CITYSCAPES).__enter__()


def test_results_after_an_error_leave_nothing(tmp_path: Path) -> None:
    good = PredictedScene(np.zeros((2, 2), dtype=np.uint8))
    with pytest.raises(KeyError), write_results(tmp_path / "results", CITYSCAPES) as writer:  # noqa: PT012
        writer.write("a_0_0", good)
        assert not (tmp_path / "results").exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "scene", "message"),
    [
        ("a b_0_0", PredictedScene(np.zeros((2, 2), dtype=np.uint8)), "a b_0_0: needed a frame's name without spaces"),
        ("a_0_0", PredictedScene(np.full((2, 2), 19)), "a_0_0: predicted train ids: needed 0 to 18, found 19"),
        ("a_0_0", PredictedScene(instance_map=MAP, instances=INSTANCES[:1]), r"a_0_0: instance map: .*found \[5\]"),
        ("a_0_0", PredictedScene(np.zeros((3, 2), dtype=np.uint8), MAP, INSTANCES), r"\(3, 2\), found \(2, 3\)"),
    ],
)
def test_results_of_a_bad_scene_are_refused(tmp_path: Path, name: str, scene: PredictedScene, message: str) -> None:
    with pytest.raises(ValueError, match=message), write_results(tmp_path / "results", CITYSCAPES) as writer:
        writer.write(name, scene)
    assert list(tmp_path.iterdir()) == []
