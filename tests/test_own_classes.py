"""A user's own five classes, from a YAML file and label files to figures, pictures and an exported network."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

import multitask
from multitask.config import factories as build
from multitask.data.class_tables import read_table
from multitask.data.classes import INSTANCE_BASE, ClassTable
from multitask.data.kitti import FOLDERS
from multitask.data.layout import file_path, read_png, write_png
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.evaluation.checkpoint_evaluation import evaluate_checkpoint
from multitask.export import export_checkpoint
from multitask.metrics import PredictedInstance, PredictedScene
from multitask.metrics.scene_metrics import SceneMetrics
from multitask.runs.run import CONFIG, LAST, METRICS, Run
from tests.cityscapes import CITYSCAPES, CLASS_NAMES
from tests.compose import SMALL, config, small
from tests.layouts import write_camvid
from tests.prediction.made import run_predict
from tests.reference import iou_by_sets
from tests.runs.stopping import Killed, after_step
from tests.states import state
from tests.trees import write_frame, write_tree

SIZE = (32, 64)
FLOOR, WALL, DOOR, BOX, ROBOT, VOID = 0, 200, 7, 12, 60, 255
COLORS = {"floor": [11, 222, 33], "wall": [44, 55, 66], "door": [250, 1, 2], "box": [3, 4, 251], "robot": [251, 252, 5]}
CLASSES: dict[str, Any] = {
    "classes": [
        {"name": "floor", "id": FLOOR, "color": COLORS["floor"]},
        {"name": "wall", "id": WALL, "color": COLORS["wall"]},  # of an id that Cityscapes' coding of instances has not
        {"name": "door", "id": DOOR, "color": COLORS["door"]},
        {"name": "box", "id": BOX, "instances": True, "color": COLORS["box"]},
        {"name": "robot", "id": ROBOT, "instances": True, "color": COLORS["robot"]},
        {"name": "void", "id": VOID, "ignored": True},
    ]
}
NAMES = tuple(COLORS)

LONGER = (
    "weighting=equal",
    "optimizer.lr=0.1",
    "trainer.max_steps=40",
    "trainer.val_every=40",
    "trainer.checkpoint_every=20",
    "data.augmentation.flip=0",
)
"""Until some instances are found."""


def write_table(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def room(seed: int) -> dict[str, np.ndarray]:
    """A wall with a door above a floor with two boxes and a robot; a row without a class. The picture tells which."""
    rng = np.random.default_rng((3, seed))
    class_ids = np.full(SIZE, FLOOR)
    class_ids[:14] = WALL
    left = int(rng.integers(2, 20))
    class_ids[2:14, left + 30 : left + 40] = DOOR
    instance_ids = class_ids.copy()
    for number, (id, top, start) in enumerate([(BOX, 16, left), (BOX, 18, left + 16), (ROBOT, 12, 50)]):
        part = np.s_[top : top + 12, start : start + 12]
        class_ids[part], instance_ids[part] = id, id * 1000 + number
    class_ids[-1] = instance_ids[-1] = VOID
    noise = rng.integers(20, size=SIZE)
    image = np.stack([class_ids + noise // 2, 255 - class_ids, (class_ids * 5) % 230 + noise], axis=-1).clip(0, 255)
    return {"image": image, "class_ids": class_ids, "instance_ids": instance_ids, "disparity": 1 + noise / 10}


def write_rooms(root: Path) -> Path:
    for number, (split, count) in enumerate({"train": 6, "val": 3}.items()):
        for index in range(count):
            write_frame(root, split, f"house_{index:06d}_000019", room(10 * number + index))
    return root


def evaluated(source: Path, *overrides: str) -> dict[str, float]:
    given = [f"checkpoint={source}", *overrides]
    return evaluate_checkpoint(config(*given, name="evaluate"), given)[0]


def colors_in(path: Path) -> set[tuple[int, ...]]:
    colors = np.unique(read_png(path, "image").astype(int) @ [1 << 16, 1 << 8, 1])
    return {(color >> 16, color >> 8 & 255, color & 255) for color in colors.tolist()}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def mine(rooms: Path) -> Path:
    return write_table(rooms / "mine.yaml", CLASSES)


@pytest.fixture(scope="module")
def table(mine: Path) -> ClassTable:
    return read_table(str(mine))


@pytest.fixture(scope="module")
def run(rooms: Path, mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed, and went on when the file of its classes had moved; no test may change it."""
    folder = tmp_path_factory.mktemp("own") / "run"
    before = write_table(rooms / "before.yaml", CLASSES)

    def die() -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 30, die)
        with pytest.raises(Killed):
            Run(small(rooms, folder, f"data.classes={before}", *LONGER)).train()
    before.unlink()
    going_on = Run(small(rooms, folder, f"data.classes={mine}", *LONGER))
    assert going_on.trainer.step == 20
    assert list(going_on.tasks) == ["semantic", "instance", "depth"]
    going_on.train()
    return folder


@pytest.fixture(scope="module")
def figures(run: Path) -> dict[str, float]:
    return {key: float(value) for key, value in json.loads((run / METRICS).read_text()).items()}


@pytest.fixture(scope="module")
def of_cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of Cityscapes' classes, as random as it was made."""
    found = config(*SMALL)
    tasks = build.make_tasks(found, CITYSCAPES)
    path = tmp_path_factory.mktemp("cityscapes") / "street.pt"
    network = build.make_model(found, tasks).state_dict()
    checkpoint.save(path, state(network=network, config=found, tasks=list(tasks)))
    return path


# Training and evaluation


def test_own_classes_have_their_figures_and_no_others(figures: dict[str, float]) -> None:
    own = {key: value for key, value in figures.items() if not key.startswith("position_prior/")}
    assert {key for key in own if key.startswith("semantic/")} == {
        "semantic/iou_class",
        *(f"semantic/iou/{name}" for name in NAMES),
    }, "there are no categories and no average sizes"
    assert {key for key in own if key.startswith("instance/ap/")} == {"instance/ap/box", "instance/ap/robot"}
    assert {"instance/ap", "instance/ap50", "panoptic/pq", "panoptic/pq_things", "panoptic/pq_stuff"} <= own.keys()
    assert {key for key in own if key.startswith("panoptic/pq/")} == {f"panoptic/pq/{name}" for name in NAMES}
    assert "depth/mean_error_px" in own
    assert own["semantic/iou/wall"] > 0.5, "else there was nothing to tell classes by"


def test_own_classes_iou_is_that_of_a_slow_loop(
    run: Path, rooms: Path, table: ClassTable, figures: dict[str, float]
) -> None:
    predictor = multitask.load(run / LAST, device="cpu", precision="fp32")
    truth, predicted = [], []
    for path in sorted((rooms / "leftImg8bit/val").rglob("*.png")):
        name = path.name.removesuffix("_leftImg8bit.png")
        truth.append(read_png(file_path(rooms, "class_ids", "val", name), "class_ids"))
        class_ids = predictor.predict(path).class_ids
        assert class_ids is not None
        predicted.append(class_ids)
    by_id = iou_by_sets(np.stack(predicted), np.stack(truth), np.stack(truth) != VOID, 256)
    found = {f"semantic/iou/{label.name}": by_id[label.id] for label in table.evaluated if label.id in by_id}
    assert found == pytest.approx({key: figures[key] for key in figures if key.startswith("semantic/iou/")})
    assert figures["semantic/iou_class"] == pytest.approx(np.mean(list(found.values())))


def test_own_instances_that_are_found_exactly_have_full_marks(rooms: Path, mine: Path, table: ClassTable) -> None:
    metrics = SceneMetrics(table, "semantic", "instance", "depth")
    frames = build.make_frames(config(*SMALL, f"data.root={rooms}", f"data.classes={mine}"), "val")
    for index in range(len(frames)):
        sample = frames[index]
        assert sample.class_ids is not None
        assert sample.instance_ids is not None
        single = np.where(sample.instance_ids >= INSTANCE_BASE, sample.instance_ids, 0)
        ids, numbers = np.unique(single, return_inverse=True)
        found = [PredictedInstance(number, int(id) // INSTANCE_BASE, 1.0) for number, id in enumerate(ids) if id]
        assert sorted(table.labels[instance.class_id].name for instance in found) == ["box", "box", "robot"]
        train_ids = np.where(sample.class_ids == 0, 0, table.train_ids[sample.class_ids])
        metrics.update(sample, PredictedScene(train_ids, numbers.reshape(single.shape), found))
    figures = metrics.compute()
    for key in ("semantic/iou_class", "instance/ap", "instance/ap/robot", "panoptic/pq", "panoptic/pq/box"):
        assert figures[key] == pytest.approx(1), key
    assert not {key for key in figures if "iiou" in key or "category" in key}


def test_own_classes_are_evaluated_from_the_checkpoint_alone(
    run: Path, mine: Path, rooms: Path, figures: dict[str, float]
) -> None:
    content = mine.read_text()
    mine.unlink()
    try:
        again = evaluated(run / LAST)
    finally:
        mine.write_text(content)
    assert again == pytest.approx(figures)


def test_labels_whose_table_has_other_ignored_classes_are_evaluated_alike(
    run: Path, tmp_path: Path, figures: dict[str, float]
) -> None:
    first, *others = CLASSES["classes"]
    more = [{"name": name, "id": id, "ignored": True} for name, id in (("sofa", 1), ("lamp", 100))]
    for position, row in enumerate([*others[:4], first]):
        row = {**row, "train_id": (position + 1) % 5}
        more.append(row)
    path = write_table(tmp_path / "reordered.yaml", {"classes": [*more, others[4]]})
    assert read_table(str(path)).names == NAMES
    again = evaluated(run / LAST, f"data.classes={path}", f"output_dir={tmp_path / 'figures'}")
    assert again == pytest.approx(figures)


def test_own_checkpoint_is_refused_on_labels_of_other_classes(run: Path, of_cityscapes: Path, tmp_path: Path) -> None:
    street = write_tree(tmp_path, {"train": 1, "val": 1})
    given = ["data=cityscapes", f"data.root={street}", "data.image_size=[32,64]"]
    with pytest.raises(UserError, match="was trained on other classes than") as caught:
        evaluated(run / LAST, *given)
    assert str(caught.value) == (
        f"checkpoint={run / LAST}: was trained on other classes than data.root={street} has: class 0 is 'floor' in "
        "mine, 'road' in cityscapes"
    )


def test_cityscapes_checkpoint_is_refused_on_own_labels(of_cityscapes: Path, rooms: Path, mine: Path) -> None:
    with pytest.raises(UserError, match="was trained on other classes than") as caught:
        evaluated(of_cityscapes, f"data.root={rooms}", f"data.classes={mine}")
    assert str(caught.value) == (
        f"checkpoint={of_cityscapes}: was trained on other classes than data.root={rooms} has: class 0 is 'road' in "
        "cityscapes, 'floor' in mine"
    )


def test_result_files_of_own_classes_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^results_dir=.*: needed Cityscapes' classes, which its server knows, but clas"
    ):
        evaluated(run / LAST, f"results_dir={tmp_path / 'results'}")
    assert not (tmp_path / "results").exists()


def test_result_files_of_cityscapes_classes_with_other_ids_are_refused(of_cityscapes: Path, tmp_path: Path) -> None:
    content = CITYSCAPES.content()
    for row in content["classes"]:
        row["id"] = {7: 8, 8: 7}.get(row["id"], row["id"])
    path = write_table(tmp_path / "other.yaml", {**content, "name": "other"})
    street = write_tree(tmp_path / "street", {"val": 1})
    given = [f"data.root={street}", f"data.classes={path}", f"results_dir={tmp_path / 'results'}"]
    with pytest.raises(UserError, match=r"but class 'road' has the id 7 in cityscapes, 8 in other$"):
        evaluated(of_cityscapes, *given)


# Predictions and export


def test_predictions_have_own_ids_names_and_colours(run: Path, rooms: Path, table: ClassTable, tmp_path: Path) -> None:
    pictures = rooms / "leftImg8bit/val"
    assert run_predict(run / LAST, pictures, tmp_path / "out").count == 3
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert {instance["class"] for line in lines for instance in line["instances"]} == {"box", "robot"}
    seen = set()
    for line in lines:
        class_ids, coded = (
            np.asarray(Image.open(tmp_path / f"out/{line['name']}_{kind}.png"))
            for kind in ("class_ids", "instance_ids")
        )
        seen |= set(np.unique(class_ids).tolist())
        assert table.code_base == 256, "200 * 1000 would need 18 bits"
        assert (coded[coded % 256 == 0] // 256 == class_ids[coded % 256 == 0]).all()
        for instance in line["instances"]:
            assert instance["class_id"] == {"box": BOX, "robot": ROBOT}[instance["class"]]
            assert (coded == instance["png_value"]).sum() == instance["area_px"]
            assert instance["png_value"] // 256 == instance["class_id"]
        drawn = colors_in(tmp_path / f"out/{line['name']}_panel.png")
        present = {label.name for label in table.evaluated if (class_ids == label.id).any()}
        assert {tuple(COLORS[name]) for name in present} <= drawn
        assert tuple(CITYSCAPES.colors[0].tolist()) not in drawn
    assert {FLOOR, WALL} <= seen <= {FLOOR, WALL, DOOR, BOX, ROBOT}


def test_panels_of_the_run_have_own_colours(run: Path) -> None:
    (path,) = (run / "panels").glob("*.png")
    assert {tuple(color) for color in COLORS.values()} <= colors_in(path)


def test_exported_network_says_own_classes(run: Path, tmp_path: Path) -> None:
    assert export_checkpoint(str(run / LAST), "onnx", str(tmp_path / "own.onnx")).keys() == {
        "semantic",
        "instance",
        "depth",
    }
    model = onnx.load(tmp_path / "own.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == list(NAMES)
    assert {output.name: output.type.tensor_type.shape.dim[1].dim_value for output in model.graph.output} == {
        "semantic": 5,
        "instance": 2,
        "depth": 1,
    }


# Going on and starting


def changed(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"classes": [{**row, **rows.get(row["name"], {})} for row in CLASSES["classes"]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed({"door": {"id": 8}}), "class 'door': id was 7, is 8 in mine"),
        (changed({"door": {"name": "window"}}), "class 2 is 'door' in mine, 'window' in mine"),
        (changed({"door": {"instances": True}}), "class 2 is 'door' in mine, 'door' with instances in mine"),
        ({"classes": CLASSES["classes"][1:]}, "class 0 is 'floor' in mine, 'wall' in mine"),
        ({**CLASSES, "sky": "wall"}, "other classes are unseen, the sky or listed in another order in mine"),
    ],
)
def test_run_whose_classes_were_edited_is_refused(
    run: Path, rooms: Path, tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    path = write_table(tmp_path / "mine.yaml", content)
    with pytest.raises(UserError, match="was trained on other classes") as caught:
        Run(small(rooms, run, f"data.classes={path}", *LONGER))
    source = run / LAST
    assert str(caught.value) == (
        f"checkpoint={source}: was trained on other classes: {message}; model.pretrained={source} starts a new run "
        "from its weights"
    )


def test_run_whose_colours_were_edited_goes_on(run: Path, rooms: Path, tmp_path: Path) -> None:
    path = write_table(tmp_path / "other.yaml", changed({"door": {"color": [9, 9, 9]}}))
    going_on = Run(small(rooms, run, f"data.classes={path}", *LONGER))
    assert going_on.trainer.step == 40
    assert going_on.classes.colors[2].tolist() == [9, 9, 9]


def test_run_without_checkpoints_in_the_folder_is_not_replaced_by_one_of_other_classes(
    run: Path, rooms: Path, mine: Path, tmp_path: Path
) -> None:
    for path in (CONFIG, METRICS):
        shutil.copyfile(run / path, tmp_path / path)
    with pytest.raises(UserError, match=rf"another configuration: data\.classes was '{mine}', is 'cityscapes'"):
        Run(small(rooms, tmp_path, *LONGER))


def test_run_of_own_classes_starts_from_cityscapes_with_a_new_last_layer(
    of_cityscapes: Path, rooms: Path, mine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = f"data.classes={mine}", f"model.pretrained={of_cityscapes}", "trainer.max_steps=1"
    with caplog.at_level("INFO"):
        run = Run(small(rooms, tmp_path / "run", *options))
    line = "encoder loaded; decoders loaded: instance, depth; last layers re-initialised: semantic"
    assert f"model.pretrained={of_cityscapes}: {line}" in caplog.messages
    before, now = checkpoint.load(of_cityscapes)["network"], run.trainer.objective.network.state_dict()
    assert now["decoders.semantic.output.weight"].shape[0] == 5
    for key in ("encoder.backbone.conv1.weight", "decoders.semantic.hidden.0.weight", "decoders.depth.output.weight"):
        assert (now[key] == before[key]).all()


# Instances of the id 0


def test_class_of_the_id_0_has_instances_in_kitti_s_coding(tmp_path: Path) -> None:
    """Where ``id * 1000 + k`` is a bare id below 1000, ``id * 256 + k`` with k above 0 says it."""
    path = write_table(tmp_path / "mine.yaml", changed({"box": {"id": 0}, "floor": {"id": 12}}))
    for index in range(5):
        layers = room(index)
        class_ids = np.select([layers["class_ids"] == FLOOR, layers["class_ids"] == BOX], [12, 0], layers["class_ids"])
        numbers = np.where(layers["instance_ids"] >= 1000, layers["instance_ids"] % 1000 + 1, 0)
        coded = {
            "image": layers["image"].astype(np.uint8),
            "class_ids": class_ids.astype(np.uint8),
            "instance_ids": (class_ids * 256 + numbers).astype(np.uint16),
        }
        for kind, layer in coded.items():
            write_png(tmp_path / "kitti/training" / FOLDERS[kind] / f"{index:06}_10.png", layer)
    given = ["data=kitti", f"data.classes={path}", "data.augmentation.crop=null", "trainer.max_steps=1"]
    run = Run(small(tmp_path / "kitti", tmp_path / "run", *given))
    assert list(run.tasks) == ["semantic", "instance"]
    sample = run.val_frames[0]
    box = run.classes.class_id["box"]
    assert sample.instance_ids is not None
    assert {id % 1000 for id in np.unique(sample.instance_ids).tolist() if id // 1000 == box} == {1, 2}
    target = run.tasks["instance"].encode(sample)
    assert int(target.valid.sum()) == 3 * 12 * 12
    figures = run.train()
    assert {"instance/ap/box", "panoptic/pq/box", "semantic/iou/box"} <= figures.keys()
    with pytest.raises(UserError, match=r"class 'box' of mine: needed an id from 1 to 65, since its instances"):
        Run(small(write_rooms(tmp_path / "rooms"), tmp_path / "other", f"data.classes={path}"))


# Checkpoints of before there were tables


def as_before_tables(source: Path, path: Path) -> Path:
    """A checkpoint as version 3 wrote it: the names of the classes alone, and no table in its configuration."""
    found = checkpoint.load(source)
    data = {key: value for key, value in found["config"]["data"].items() if key not in ("classes", "mappings")}
    old = {"version": 3, "classes": list(CLASS_NAMES), "config": {**found["config"], "data": data}}
    checkpoint.save(path, {**found, **old})
    return path


def test_old_checkpoint_is_evaluated_on_the_classes_of_cityscapes(
    of_cityscapes: Path, tmp_path: Path, shared_tree: Path
) -> None:
    path = as_before_tables(of_cityscapes, tmp_path / "old.pt")
    new, old = (evaluated(source, f"data.root={shared_tree}") for source in (of_cityscapes, path))
    assert old == pytest.approx(new)
    assert {key.removeprefix("semantic/iou/") for key in old if key.startswith("semantic/iou/")} <= set(CLASS_NAMES)
    assert {"semantic/iou_category", "semantic/iiou_class"} <= old.keys()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a step on CamVid with the classes of Cityscapes, as an older version left it; no test may change it."""
    folder = tmp_path_factory.mktemp("mapped")
    root = write_camvid(folder / "camvid", {"train": 3, "val": 2})
    Run(small(root, folder / "run", *MAPPED)).train()
    as_before_tables(folder / "run" / LAST, folder / "run" / LAST)
    found = yaml.safe_load((folder / "run" / CONFIG).read_text())
    del found["data"]["classes"], found["data"]["mappings"]
    (folder / "run" / CONFIG).write_text(yaml.safe_dump(found))
    return folder


OF_CAMVID = ("data=camvid", "data.augmentation.crop=null", "trainer.max_steps=1")
MAPPED = (*OF_CAMVID, "data.classes=cityscapes", "data.mappings=[camvid_to_cityscapes]")


def test_old_checkpoint_of_camvid_is_evaluated_with_its_labels_mapped(mapped: Path, tmp_path: Path) -> None:
    figures = evaluated(mapped / "run" / LAST, f"output_dir={tmp_path}")
    assert figures == pytest.approx(json.loads((mapped / "run" / METRICS).read_text()))
    assert "semantic/iou/vegetation" in figures
    with pytest.raises(UserError, match=r"other classes than .*: class 0 is 'road' in cityscapes, 'sky' in camvid$"):
        evaluated(mapped / "run" / LAST, "data=camvid", f"data.root={mapped / 'camvid'}", "data.image_size=[32,64]")


def test_old_run_of_camvid_goes_on_with_its_labels_mapped(mapped: Path) -> None:
    assert Run(small(mapped / "camvid", mapped / "run", *MAPPED)).trainer.step == 1
    with pytest.raises(UserError, match=r"data\.mappings was \['camvid_to_cityscapes'\], is \[\]"):
        Run(small(mapped / "camvid", mapped / "run", *OF_CAMVID))
    with pytest.raises(
        UserError, match=r"data\.mappings: needed mappings to data\.classes, camvid, found one to citys"
    ):
        Run(small(mapped / "camvid", mapped / "run", *OF_CAMVID, "data.mappings=[camvid_to_cityscapes]"))
