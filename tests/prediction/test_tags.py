import numpy as np

from multitask.prediction.tags import overlap, place_tag


def ids(*parts: tuple[slice, slice]) -> np.ndarray:
    made = np.zeros((100, 200), dtype=np.int32)
    for number, part in enumerate(parts, start=1):
        made[part] = number
    return made


def test_overlap_is_of_areas_not_of_edges() -> None:
    assert overlap((0, 0, 10, 10), (9, 9, 20, 20))
    assert not overlap((0, 0, 10, 10), (10, 0, 20, 10))


def test_tag_goes_above_its_instance_where_all_is_free() -> None:
    spot = place_tag(ids(np.s_[40:61, 80:121]), 1, (30, 16), [], force=False)
    assert spot is not None
    assert spot[3] <= 41
    assert (spot[0] + spot[2]) / 2 == 100
    assert (spot[2] - spot[0], spot[3] - spot[1]) == (30, 16)


def test_tag_covers_no_other_tag() -> None:
    layer = ids(np.s_[40:61, 80:121])
    taken = []
    for _ in range(5):
        spot = place_tag(layer, 1, (30, 16), taken, force=False)
        assert spot is not None
        assert not any(overlap(spot, other) for other in taken)
        taken.append(spot)


def test_tag_covers_no_other_instance() -> None:
    spot = place_tag(ids(np.s_[40:61, 80:121], np.s_[0:40, :]), 1, (30, 16), [], force=False)
    assert spot is not None
    assert spot[1] >= 40


def test_tag_stays_in_the_picture() -> None:
    for part in (np.s_[0:10, 0:10], np.s_[90:100, 190:200], np.s_[0:100, 0:200]):
        left, top, right, bottom = place_tag(ids(part), 1, (60, 16), [], force=False) or (-1, 0, 0, 0)
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 100


def test_tag_without_any_room_goes_nowhere_or_to_the_middle() -> None:
    layer = ids(np.s_[40:61, 80:121])
    everything = [(0.0, 0.0, 200.0, 100.0)]
    assert place_tag(layer, 1, (30, 16), everything, force=False) is None
    assert place_tag(layer, 1, (30, 16), everything, force=True) == (85, 42, 115, 58)
    surrounded = ids(np.s_[40:61, 80:121], np.s_[:40, :], np.s_[61:, :], np.s_[40:61, :80], np.s_[40:61, 121:])
    wide = 90, 40
    assert place_tag(surrounded, 1, wide, [], force=False) is None
    assert place_tag(surrounded, 1, wide, [], force=True) is not None


def test_tag_is_not_drawn_to_stray_pixels() -> None:
    layer = ids(np.s_[60:90, 20:60])
    layer[0, 199] = 1
    spot = place_tag(layer, 1, (30, 16), [], force=False)
    assert spot is not None
    assert spot[2] < 80
    assert spot[1] > 30
