import numpy as np
import pytest

from multitask.data.classes import IGNORE, INSTANCE_BASE
from tests.cityscapes import CLASS_NAMES, COUNTED_ID, EVALUATED, ID, LABELS, SKY_ID, TRAIN_COLORS, TRAIN_ID, UNSEEN_IDS

OFFICIAL_ORDER = (
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky "
    "person rider car truck bus train motorcycle bicycle"
)


def test_class_names_are_the_19_train_ids_in_official_order() -> None:
    assert [name.replace("_", " ") for name in OFFICIAL_ORDER.split()] == list(CLASS_NAMES)
    assert [label.train_id for label in EVALUATED] == list(range(19))


def test_labels_are_indexed_by_their_id() -> None:
    assert [label.id for label in LABELS] == list(range(34))
    assert {LABELS[id].name: id for id in range(34)} == ID


def test_counted_ids_are_24_to_28_and_31_to_33() -> None:
    assert np.flatnonzero(COUNTED_ID).tolist() == [24, 25, 26, 27, 28, 31, 32, 33]
    assert LABELS[29].has_instances
    assert not LABELS[29].evaluated


def test_unseen_ids_are_1_to_3_and_never_train() -> None:
    assert sorted(UNSEEN_IDS) == [1, 2, 3]
    assert (TRAIN_ID[list(UNSEEN_IDS)] == IGNORE).all()


def test_train_id_table_ignores_every_byte_that_is_no_evaluated_class() -> None:
    expected = {label.id: label.train_id for label in EVALUATED}
    assert TRAIN_ID.shape == (256,)
    assert TRAIN_ID.dtype == np.uint8
    assert [expected.get(byte, IGNORE) for byte in range(256)] == TRAIN_ID.tolist()
    assert IGNORE not in expected.values()


def test_train_colors_are_the_labels_colors_and_black_where_ignored() -> None:
    for label in EVALUATED:
        assert tuple(TRAIN_COLORS[label.train_id].tolist()) == label.color
    assert not TRAIN_COLORS[19:].any()
    assert len({label.color for label in EVALUATED}) == 19


def test_categories_of_the_evaluated_classes_are_the_official_seven() -> None:
    categories = {label.category for label in EVALUATED}
    assert categories == {"flat", "construction", "object", "nature", "sky", "human", "vehicle"}
    assert LABELS[SKY_ID].category == "sky"


def test_instance_coding_fits_16_bits() -> None:
    assert (len(LABELS) - 1) * INSTANCE_BASE + INSTANCE_BASE - 1 <= np.iinfo(np.uint16).max


def test_table_agrees_with_the_official_scripts() -> None:
    official = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    rows = [row for row in official if row.id >= 0]
    assert len(rows) == len(LABELS)
    for label, row in zip(LABELS, rows, strict=True):
        found = (label.name, label.id, label.category, label.has_instances, label.color)
        assert found == (row.name, row.id, row.category, row.hasInstances, row.color)
        assert label.evaluated == (not row.ignoreInEval)
        assert label.train_id == (row.trainId if label.evaluated else IGNORE)
