from pathlib import Path

import numpy as np
import pytest

from multitask.data.class_tables import built_in, table_of
from multitask.data.ids import check_thousands, contradiction, read_class_ids, read_instance_ids
from tests.cityscapes import CITYSCAPES, ID, TRAIN_ID

PATH = Path("gtFine/a.png")
CAR, PERSON, ROAD, SKY = (ID[name] for name in ("car", "person", "road", "sky"))


def array(*rows: list[int]) -> np.ndarray:
    return np.array(rows)


def test_instances_and_classes_that_agree_by_hand() -> None:
    class_ids = array([CAR, CAR, CAR, ROAD], [PERSON, 0, 1, SKY])
    # Two cars, a group of cars, stuff; a person, what is ignored, stuff.
    instance_ids = array([CAR * 1000, CAR * 1000 + 999, CAR, ROAD], [PERSON * 1000 + 7, 0, 1, SKY])
    assert contradiction(class_ids, instance_ids, CITYSCAPES) is None


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        ((0, 0), ROAD * 1000, "26 (car) for 7 (road) in row 0, column 0"),
        ((0, 0), ROAD, "26 (car) for 7 (road) in row 0, column 0"),
        ((0, 3), CAR * 1000 + 5, "7 (road) for 26 (car) in row 0, column 3"),
        ((1, 1), PERSON, "0 (unlabeled) for 24 (person) in row 1, column 1"),
    ],
)
def test_one_pixel_of_another_class_is_a_contradiction(place: tuple[int, int], value: int, found: str) -> None:
    class_ids = array([CAR, CAR, CAR, ROAD], [PERSON, 0, 1, SKY])
    instance_ids = array([CAR * 1000, CAR * 1000 + 999, CAR, ROAD], [PERSON * 1000 + 7, 0, 1, SKY])
    instance_ids[place] = value
    assert contradiction(class_ids, instance_ids, CITYSCAPES) == (
        "class_ids",
        f"another class in 12.5 % of the pixels, such as {found}",
    )


def test_train_ids_are_known_in_whichever_file_they_are() -> None:
    class_ids = np.random.default_rng(0).choice([0, 1, CAR, ROAD, PERSON, SKY], size=(8, 16))
    train_ids = np.where(TRAIN_ID[class_ids] == 255, 0, TRAIN_ID[class_ids].astype(int))
    for kind, pair in (("class_ids", (train_ids, class_ids)), ("instance_ids", (class_ids, train_ids))):
        found = contradiction(*pair, CITYSCAPES)
        assert found is not None
        assert found[0] == kind
        assert found[1].endswith("; its values look like train ids")


def test_train_ids_without_instances_are_known_by_what_they_ignore() -> None:
    train_ids = TRAIN_ID[array([CAR, 0], [ROAD, SKY])]
    with pytest.raises(ValueError, match=rf"{PATH}: .* found 255 in 1 px; its values look like train ids"):
        read_class_ids(PATH, train_ids, CITYSCAPES)
    with pytest.raises(ValueError, match=r"needed ids of the class table cityscapes, found 255 in 1 px$"):
        read_class_ids(PATH, array([255, CAR]), CITYSCAPES)


@pytest.mark.parametrize("unknown", [34, 999, 34_000, 65_535])
def test_unknown_instance_ids_are_refused_and_all_others_are_not(unknown: int) -> None:
    known = np.array([*range(34), *range(1000, 34_000)], dtype=np.uint16)
    # Of a class without instances the number is passed over.
    expected = [n if n < 1000 or CITYSCAPES.has_instances[n // 1000] else n // 1000 for n in known.tolist()]
    assert read_instance_ids(PATH, known, CITYSCAPES, 1000, first=0).tolist() == expected
    with pytest.raises(ValueError, match=rf"{PATH}: needed id \* 1000 \+ k of .*, found {unknown} in 1 px"):
        read_instance_ids(PATH, np.append(known, np.uint16(unknown)), CITYSCAPES, 1000, first=0)


def test_instances_of_a_class_with_the_id_0_need_another_coding() -> None:
    table = table_of({"classes": [{"name": "cup", "id": 0, "instances": True}, {"name": "floor", "id": 1}]}, "", "mine")
    with pytest.raises(ValueError, match=r"mine: class 'cup' of mine: needed an id from 1 to 65, .*, found 0"):
        check_thousands(table, "mine")
    coded = np.array([[0, 1, 2, 256, 257]], dtype=np.uint16)  # a group and two cups, the floor twice
    cup, floor = table.class_id["cup"], table.class_id["floor"]
    expected = [cup, cup * 1000 + 1, cup * 1000 + 2, floor, floor]
    assert read_instance_ids(PATH, coded, table, 256).tolist() == [expected]
    assert read_instance_ids(PATH, coded, table, 256, first=0)[0, 0] == cup * 1000


def test_class_ids_of_any_table_are_looked_up() -> None:
    rng = np.random.default_rng(0)
    for name in ("cityscapes", "camvid", "mapillary_vistas", "coco_panoptic"):
        table = built_in(name)
        known = np.array([label.id for label in table.labels if label.id is not None], dtype=np.uint8)
        coded = rng.choice(known, size=(9, 13))
        found = read_class_ids(PATH, coded, table)
        assert found.dtype == np.uint8
        assert [table.labels[class_id].id for class_id in found.ravel().tolist()] == coded.ravel().tolist()
