import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from multitask.data.class_tables import FOLDER, built_in, read_mapping, read_table, table_of
from multitask.data.classes import IGNORE, MOST_CLASSES, UNKNOWN
from multitask.data.ids import read_class_ids, read_instance_ids
from multitask.errors import UserError
from tests.cityscapes import CITYSCAPES
from tests.compose import ROOT

FLOOR = {"name": "floor", "id": 3}
BOX = {"name": "box", "id": 0, "instances": True}
VOID = {"name": "void", "id": 9, "ignored": True}

TABLES = sorted(path.stem for path in (ROOT / "configs/classes").glob("*.yaml") if "_to_" not in path.stem)


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def rows(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"c{index}", "id": index, **more} for index in range(number)]


# Tables by hand


def test_train_ids_are_counted_in_order_where_none_is_given() -> None:
    table = table_of({"classes": [FLOOR, VOID, BOX]}, "mine.yaml", "mine")
    assert table.name == "mine"
    assert [(label.name, label.id, label.train_id) for label in table.labels] == [
        ("void", 9, IGNORE),  # first, as what pixels without a class are
        ("floor", 3, 0),
        ("box", 0, 1),
    ]
    assert table.names == ("floor", "box")
    assert table.class_ids[[9, 3, 0, 1]].tolist() == [0, 1, 2, UNKNOWN]
    assert table.label_ids[:4].tolist() == [9, 3, 0, 0]
    assert table.train_ids[:4].tolist() == [IGNORE, 0, 1, IGNORE]
    assert table.evaluated_ids.tolist() == [1, 2]
    assert np.flatnonzero(table.has_instances).tolist() == [2]
    assert np.flatnonzero(table.counted).tolist() == [2]
    assert np.flatnonzero(table.things).tolist() == [1]
    assert (table.unseen_ids, table.sky_id) == ((), None)
    assert table.categories == ("floor", "box")


def test_train_ids_that_are_given_decide_the_order_of_the_channels() -> None:
    table = table_of({"classes": [{**FLOOR, "train_id": 1}, {**BOX, "train_id": 0}]}, "")
    assert table.names == ("box", "floor")
    assert table.train_ids[table.class_ids[[3, 0]]].tolist() == [1, 0]


def test_table_without_an_ignored_class_has_a_place_for_pixels_without_a_class() -> None:
    table = table_of({"classes": [FLOOR, BOX]}, "")
    nothing, floor, box = table.labels
    assert (nothing.id, nothing.train_id, nothing.has_instances) == (None, IGNORE, False)
    assert (floor.name, box.name) == ("floor", "box")
    assert table.class_ids[[3, 0]].tolist() == [1, 2]
    assert np.flatnonzero(table.class_ids != UNKNOWN).tolist() == [0, 3]


@pytest.mark.parametrize("row", [{**VOID, "instances": True}, VOID])
def test_first_place_is_of_no_class_with_instances_or_without_a_view(row: dict[str, Any]) -> None:
    table = table_of({"classes": [row, FLOOR], "unseen": [] if "instances" in row else ["void"]}, "")
    assert [label.name for label in table.labels] == ["(no class)", "void", "floor"]


def test_sky_and_unseen_are_class_ids() -> None:
    content = {"classes": [{"name": "air", "id": 7}, VOID, {**VOID, "name": "hood", "id": 8}]}
    table = table_of({**content, "unseen": ["hood"], "sky": "air"}, "")
    assert [table.labels[class_id].name for class_id in table.unseen_ids] == ["hood"]
    assert table.sky_id is not None
    assert table.labels[table.sky_id].name == "air"


def test_instances_of_an_id_of_zero_are_read_where_the_coding_can_say_them() -> None:
    table = table_of({"classes": [FLOOR, BOX, VOID]}, "")
    floor, box, void = (table.class_id[name] for name in ("floor", "box", "void"))
    path = Path("a.png")
    assert read_class_ids(path, np.array([[3, 0, 9]]), table).tolist() == [[floor, box, void]]
    coded = np.array([0, 5, 3 * 256, 3 * 256 + 7, 9 * 256])
    found = read_instance_ids(path, coded, table, 256)
    assert found.tolist() == [box, box * 1000 + 5, floor, floor, void]
    with pytest.raises(UserError, match=r"a\.png: needed ids of the class table t, found 4 in 2 px"):
        read_class_ids(path, np.array([4, 3, 4]), table_of({"name": "t", "classes": [FLOOR, BOX]}, ""))


@pytest.mark.parametrize(
    ("classes", "base"),
    [
        ([FLOOR, {**BOX, "id": 64}], 1000),
        ([{**FLOOR, "id": 64}, {**BOX, "id": 1}], 1000),
        ([FLOOR, {**BOX, "id": 65}], 256),  # 65 * 1000 + 999 needs 17 bits
        ([{**FLOOR, "id": 65}, {**BOX, "id": 1}], 256),
        ([FLOOR, BOX], 256),
        ([{**FLOOR, "id": 0}, {**BOX, "id": 1}], 1000),
        ([{**FLOOR, "id": 1}, {**BOX, "id": 2}, {**VOID, "id": 255}], 1000),  # which is never predicted
    ],
)
def test_predictions_have_cityscapes_coding_where_it_can_say_them(classes: list[dict[str, Any]], base: int) -> None:
    assert table_of({"classes": classes}, "").code_base == base


def test_colours_are_distinct_where_none_is_given() -> None:
    colors = table_of({"classes": [*rows(50), {**VOID, "id": 99}]}, "").colors
    assert len({tuple(color) for color in colors[:50].tolist()}) == 50
    assert not colors[50:].any()
    neighbours = np.abs(np.diff(colors[:50].astype(int), axis=0)).sum(1)
    assert neighbours.min() > 100
    assert table_of({"classes": [{**FLOOR, "color": [1, 2, 255]}]}, "").colors[0].tolist() == [1, 2, 255]


def test_tables_are_equal_whatever_their_names_and_colours() -> None:
    one = table_of({"name": "a", "classes": [FLOOR, BOX]}, "")
    other = table_of({"name": "b", "classes": [{**FLOOR, "color": [1, 2, 3]}, BOX]}, "")
    assert one == other
    assert one.difference(other) is None
    assert one != table_of({"classes": [{**FLOOR, "id": 4}, BOX]}, "")
    assert one.difference(table_of({"name": "c", "classes": [{**FLOOR, "id": 4}, BOX]}, "")) is None


@pytest.mark.parametrize(
    ("classes", "difference", "change"),
    [
        ([BOX, FLOOR], "class 0 is 'floor' in a, 'box' with instances in b", None),
        ([FLOOR], "a has 2 classes, b 1", None),
        ([FLOOR, {**BOX, "instances": False}], "class 1 is 'box' with instances in a, 'box' in b", None),
        ([{**FLOOR, "id": 4}, BOX], None, "class 'floor': id was 3, is 4 in b"),
        ([FLOOR, {**BOX, "category": "x"}], None, "class 'box': category was box, is x in b"),
        ([FLOOR, {**BOX, "average_pixels": 5}], None, "class 'box': average_pixels was None, is 5.0 in b"),
        ([FLOOR, BOX, VOID], None, "class '(no class)' is in one of a and b alone"),
        (
            [{**BOX, "train_id": 1}, {**FLOOR, "train_id": 0}],
            None,
            "other classes are unseen, the sky or listed in another order in b",
        ),
    ],
)
def test_what_another_table_has_otherwise_is_named(
    classes: list[dict[str, Any]], difference: str | None, change: str | None
) -> None:
    one, other = table_of({"name": "a", "classes": [FLOOR, BOX]}, ""), table_of({"name": "b", "classes": classes}, "")
    assert one.difference(other) == difference
    assert one.change(other) == (difference or change)


# Properties


def random_content(rng: np.random.Generator) -> dict[str, Any]:
    number = int(rng.integers(1, 40))
    classes: list[dict[str, Any]] = []
    for index, id in enumerate(rng.permutation(256)[:number].tolist()):
        row: dict[str, Any] = {"name": f"class {index}", "id": id}
        row |= {"ignored": True} if index and rng.random() < 0.3 else {}
        row |= {"instances": True} if rng.random() < 0.4 else {}
        row |= {"average_pixels": float(rng.integers(1, 999))} if "instances" in row and rng.random() < 0.5 else {}
        row |= {"category": f"kind {rng.integers(3)}"} if rng.random() < 0.5 else {}
        row |= {"color": rng.integers(256, size=3).tolist()} if rng.random() < 0.5 else {}
        classes.append(row)
    learned = [row for row in classes if "ignored" not in row]
    ignored = [row["name"] for row in classes if "ignored" in row]
    if rng.random() < 0.5:
        for train_id, row in zip(rng.permutation(len(learned)).tolist(), learned, strict=True):
            row["train_id"] = train_id
    content: dict[str, Any] = {"classes": [classes[index] for index in rng.permutation(number)]}
    content |= {"unseen": ignored[::2]} if rng.random() < 0.5 else {}
    return content | ({"sky": classes[0]["name"]} if rng.random() < 0.5 else {})


@pytest.mark.parametrize("seed", range(20))
def test_random_tables_survive_writing_and_their_ids_the_way_to_classes_and_back(seed: int, tmp_path: Path) -> None:
    content = random_content(np.random.default_rng(seed))
    table = read_table(str(written(tmp_path / "mine.yaml", content)))
    again = table_of(table.content(), "")
    assert (again, again.name, again.content()) == (table, "mine", table.content())
    np.testing.assert_array_equal(again.colors, table.colors)
    assert read_table(str(written(tmp_path / "again.yml", table.content()))).content() == table.content()
    ids = np.array([row["id"] for row in content["classes"]])
    class_ids = read_class_ids(Path("a.png"), ids, table)
    assert [table.labels[class_id].name for class_id in class_ids] == [row["name"] for row in content["classes"]]
    np.testing.assert_array_equal(table.label_ids[class_ids], ids)
    assert sorted(table.train_ids[table.evaluated_ids]) == list(range(len(table.names)))
    assert [table.labels[class_id].name for class_id in table.evaluated_ids] == list(table.names)
    assert not table.labels[0].evaluated
    assert not table.labels[0].has_instances
    assert 0 not in table.unseen_ids


def test_built_in_tables_survive_writing() -> None:
    for name in ("cityscapes", "camvid"):
        assert table_of(built_in(name).content(), "") == built_in(name)
        assert built_in(name).name == name


def test_largest_table_has_254_classes() -> None:
    table = table_of({"classes": rows(MOST_CLASSES)}, "")
    assert len(table.names) == MOST_CLASSES
    assert table.class_ids[MOST_CLASSES - 1] == MOST_CLASSES
    assert table_of(table.content(), "") == table
    assert table.train_ids[table.class_ids[:MOST_CLASSES]].tolist() == list(range(MOST_CLASSES))


# Mistakes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "needed the keys ['name', 'classes', 'unseen', 'sky'], found 3"),
        ({}, "classes: needed a list of classes, found None"),
        ({"classes": {}}, "classes: needed a list of classes, found {}"),
        ({"classes": []}, "classes: needed a list of classes, found []"),
        ({"classes": [FLOOR], "skies": 1}, "'skies': unknown key, needed some of ['name', 'classes', 'unseen', 'sky']"),
        ({"name": 5, "classes": [FLOOR]}, "name: needed a name, found 5"),
        ({"name": "a\nb", "classes": [FLOOR]}, "name: needed a name, found 'a\\nb'"),
        ({"classes": [FLOOR, 4]}, "class 2: name: needed one without '/', found 4"),
        ({"classes": [FLOOR, {"id": 4}]}, "class 2: name: needed one without '/', found {'id': 4}"),
        ({"classes": [{"name": False, "id": 4}]}, "class 1: name: needed one without '/', found {'id': 4, 'name': Fal"),
        ({"classes": [{"name": "", "id": 4}]}, "class 1: name: needed one without '/', found {'id': 4, 'name': ''}"),
        ({"classes": [{"name": "a/b", "id": 4}]}, "class 1: name: needed one without '/', found {'id': 4, 'name': 'a/"),
        ({"classes": [{"name": "a\nb", "id": 4}]}, "class 1: name: needed one without '/', found {'id': 4, 'name': 'a"),
        ({"classes": [{**FLOOR, "colour": 1}]}, "class 'floor': 'colour': unknown key, needed some of ['name', 'id',"),
        ({"classes": [FLOOR, {**FLOOR, "id": 4}]}, "class 'floor': needed name of its own, found 'floor' of 'floor' t"),
        ({"classes": [FLOOR, {**BOX, "id": 3}]}, "class 'box': needed id of its own, found 3 of 'floor' too"),
        (
            {"classes": [{**FLOOR, "train_id": 0}, {**BOX, "train_id": 0}]},
            "class 'box': needed train_id of its own, found 0 of 'floor' too",
        ),
        (
            {"classes": [{**FLOOR, "train_id": 0}, {**BOX, "train_id": 2}]},
            "class 'box': train_id: needed numbers without a gap, found 2 but no 1",
        ),
        (
            {"classes": [{**FLOOR, "train_id": 254}]},
            "class 'floor': train_id: needed a whole number from 0 to 253, found 254",
        ),
        (
            {"classes": [{**FLOOR, "train_id": 0}, BOX]},
            "class 'box': needed train_id, as other classes have, or ignored: true; found neither",
        ),
        ({"classes": [{**VOID, "train_id": 0}, FLOOR]}, "class 'void': needed train_id or ignored, found both"),
        ({"classes": [{**VOID, "ignored": 1}]}, "class 'void': ignored: needed true or false, found 1"),
        ({"classes": [VOID]}, "classes: needed one that is not ignored, found none"),
        ({"classes": rows(255)}, "classes: needed at most 254, found 255"),
        ({"classes": rows(400)}, "classes: needed at most 254, found 400"),
        ({"classes": [{"name": "a"}]}, "class 'a': id: needed its value in label files, found none"),
        ({"classes": [{"name": "a", "id": -1}]}, "class 'a': id: needed a whole number from 0 to 255, found -1"),
        ({"classes": [{"name": "a", "id": 256}]}, "class 'a': id: needed a whole number from 0 to 255, found 256"),
        ({"classes": [{"name": "a", "id": True}]}, "class 'a': id: needed a whole number from 0 to 255, found True"),
        ({"classes": [{"name": "a", "id": "7"}]}, "class 'a': id: needed a whole number from 0 to 255, found '7'"),
        ({"classes": [{"name": "a", "id": None}]}, "class 'a': id: needed a whole number from 0 to 255, found None"),
        ({"classes": [{**FLOOR, "color": [0, 0, 256]}]}, "class 'floor': color: needed three whole numbers from 0 to"),
        ({"classes": [{**FLOOR, "color": [0, -1, 0]}]}, "class 'floor': color: needed three whole numbers from 0 to 2"),
        ({"classes": [{**FLOOR, "color": [0, 0]}]}, "class 'floor': color: needed three whole numbers from 0 to 255, "),
        ({"classes": [{**FLOOR, "color": [0.5, 0, 0]}]}, "class 'floor': color: needed three whole numbers from 0 to "),
        ({"classes": [{**FLOOR, "color": "red"}]}, "class 'floor': color: needed three whole numbers from 0 to 255, f"),
        ({"classes": [{**FLOOR, "category": 4}]}, "class 'floor': category: needed a name, found 4"),
        ({"classes": [{**FLOOR, "instances": "no"}]}, "class 'floor': instances: needed true or false, found 'no'"),
        ({"classes": [{**BOX, "average_pixels": 0}]}, "class 'box': average_pixels: needed a number above 0, found 0"),
        ({"classes": [{**BOX, "average_pixels": True}]}, "class 'box': average_pixels: needed a number above 0, found"),
        ({"classes": [{**BOX, "average_pixels": float("nan")}]}, "class 'box': average_pixels: needed a number above "),
        (
            {"classes": [{**FLOOR, "average_pixels": 5}]},
            "class 'floor': average_pixels: needed instances: true, whose mean size it is, found none",
        ),
        ({"classes": [FLOOR], "sky": "air"}, "sky: needed a class of mine, found 'air'"),
        ({"classes": [FLOOR], "sky": ["floor"]}, "sky: needed a class of mine, found ['floor']"),
        ({"classes": [FLOOR], "unseen": ["hood"]}, "unseen: needed a class of mine, found 'hood'"),
        ({"classes": [FLOOR], "unseen": "floor"}, "unseen: needed a list of classes, found 'floor'"),
        ({"classes": [FLOOR], "unseen": [["floor"]]}, "unseen: needed a class of mine, found ['floor']"),
        ({"classes": [FLOOR], "unseen": ["floor"]}, "unseen: needed ignored classes, found 'floor'"),
        ("classes: [", "not a YAML file (while parsing a flow node"),
        ("classes: 2020-13-41", "not a YAML file (month must be in 1..12)"),
        ("{[]: 3}", "not a YAML file (while constructing a mapping"),
        ("classes: [{name: a, id: 1, id: 2}]", "not a YAML file (the key 'id' twice in "),
        ("classes:\n- {name: a, id: 1}\nclasses: []\n", "not a YAML file (the key 'classes' twice in "),
        ("[" * 5000, "not a YAML file ("),
        ("classes: \x00", "not a YAML file (unacceptable character"),
    ],
)
def test_mistake_of_a_table_is_one_line_that_names_file_class_and_key(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "mine.yaml", content)
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")) as caught:
        read_table(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_table_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(UserError, match=re.escape(f"{path}: no such file")):
        read_table(str(path))
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(UserError, match=re.escape(f"{path}: not a text file in UTF-8")):
        read_table(str(path))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"folder\.yaml: needed a file, found a folder"):
        read_table(str(tmp_path / "folder.yaml"))


@pytest.mark.parametrize("given", ["voc", "../data/kitti", "camvid_to_cityscapes", "mine.txt"])
def test_name_that_is_no_table_s_is_refused_with_those_that_are(given: str) -> None:
    message = f"data.classes: needed one of {TABLES} or the path of a file that ends with .yaml, found "
    with pytest.raises(UserError, match=f"^{re.escape(message + repr(given))}$"):
        read_table(given)


@pytest.mark.parametrize("given", [None, 3, "", ["cityscapes"]])
def test_what_is_no_name_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^data\.classes: needed a name or the path of a YAML file, found "):
        read_table(given)


def test_every_file_of_the_folder_is_a_table_or_a_mapping() -> None:
    for path in FOLDER.glob("*.yaml"):
        (read_mapping if "_to_" in path.stem else read_table)(path.stem)


# Mappings

THINGS = {"car": 2, "van": 0, "cow": 5}
MANY = {
    "name": "many",
    "classes": [
        {"name": "road", "id": 1},
        *({"name": x, "id": id, "instances": True} for x, id in THINGS.items()),
        VOID,
    ],
}
FEW = {"name": "few", "classes": [{"name": "vehicle", "id": 4, "instances": True}, {"name": "rest", "id": 8}, VOID]}
JOINED = {"road": "rest", "car": "vehicle", "van": "vehicle", "cow": "rest", "void": "void"}


def mapping_file(folder: Path, **changes: Any) -> str:
    """Writes both tables, and a mapping that names them beside itself."""
    written(folder / "tables/many.yaml", MANY)
    written(folder / "few.yml", FEW)
    content = {"from": "tables/many.yaml", "to": "few.yml", "classes": JOINED, **changes}
    return str(written(folder / "many_to_few.yaml", {key: value for key, value in content.items() if value != "-"}))


def test_mapping_finds_tables_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = mapping_file(tmp_path / "deep")
    monkeypatch.chdir(tmp_path)
    for path in (given, "deep/many_to_few.yaml"):
        mapping = read_mapping(path)
        assert (mapping.source, mapping.target) == (table_of(MANY, ""), table_of(FEW, ""))
        assert (mapping.source.name, mapping.target.name) == ("many", "few")


def test_mapping_of_class_ids_is_by_name(tmp_path: Path) -> None:
    mapping = read_mapping(mapping_file(tmp_path))
    for name, other in JOINED.items():
        layer = np.full((2, 3), mapping.source.class_id[name], dtype=np.uint8)
        found = mapping.apply("class_ids", layer)
        assert found.dtype == np.uint8
        assert (found == mapping.target.class_id[other]).all()
    disparity = np.ones((2, 3))
    assert mapping.apply("disparity", disparity) is disparity


def test_mapping_keeps_instances_apart_whose_classes_become_one(tmp_path: Path) -> None:
    mapping = read_mapping(mapping_file(tmp_path))
    road, car, van, cow, void = (mapping.source.class_id[name] for name in JOINED)
    vehicle, rest, nothing = (mapping.target.class_id[name] for name in ("vehicle", "rest", "void"))
    layer = np.array([[car * 1000 + 3, car * 1000 + 3, van * 1000 + 3, car * 1000], [road, cow * 1000 + 3, van, void]])
    found = mapping.apply("instance_ids", layer)
    assert found[1].tolist() == [rest, rest, vehicle, nothing]
    assert (found[0] // 1000 == vehicle).all()
    assert found[0, 0] == found[0, 1]
    assert len(set(found[0].tolist())) == 3
    crowded = np.concatenate([car * 1000 + np.arange(1000), van * 1000 + np.arange(1000)])
    assert set(mapping.apply("instance_ids", crowded) // 1000) == {vehicle}


def test_mapping_to_the_same_classes_keeps_the_numbers() -> None:
    mapping = read_mapping("camvid_to_cityscapes")
    assert mapping.target == CITYSCAPES
    car = mapping.source.class_id["car"]
    found = mapping.apply("instance_ids", np.array([car, car * 1000 + 17]))
    assert found.tolist() == [26, 26 * 1000 + 17]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": {**JOINED, "bus": "vehicle"}}, "classes: needed a class of many, found 'bus'"),
        ({"classes": {**JOINED, "van": "truck"}}, "classes: van: needed a class of few, found 'truck'"),
        ({"classes": {**JOINED, "van": None}}, "classes: van: needed a class of few, found None"),
        (
            {"classes": {key: value for key, value in JOINED.items() if key != "van"}},
            "classes: needed every class of many, found none for 'van'",
        ),
        ({"classes": [1]}, "classes: needed a class of few for each of many, found [1]"),
        ({"classes": "-"}, "classes: needed a class of few for each of many, found None"),
        ({"from": "-"}, "from: needed a name or the path of a YAML file, found None"),
        ({"to": "voc"}, f"to: needed one of {TABLES} or the path of a file that ends with .yaml, found"),
        ({"until": "few.yml"}, "'until': unknown key, needed some of ['from', 'to', 'classes']"),
    ],
)
def test_mistake_of_a_mapping_is_one_line_that_names_file_class_and_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = mapping_file(tmp_path, **changes)
    with pytest.raises(UserError, match=re.escape(f"{given}: {message}")) as caught:
        read_mapping(given)
    assert "\n" not in str(caught.value)


def test_mapping_whose_table_is_not_beside_it_names_the_table(tmp_path: Path) -> None:
    given = mapping_file(tmp_path, **{"from": "gone.yaml"})
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'gone.yaml'}: no such file")):
        read_mapping(given)


@pytest.mark.parametrize("given", ["cityscapes", None, "kitti_to_cityscapes"])
def test_what_is_no_mapping_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^data\.mappings: needed (one of \['camvid_to_cityscapes'\] or|a name or) "):
        read_mapping(given)
