import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from multitask.engine.history import SECONDS, read_history
from multitask.reporting.tensorboard import Tracker
from multitask.runs.same_run import flatten


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tracker_writes_scalars_to_both(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.scalars(5, {"loss/total": -1.5})
    tracker.close()
    assert read_history(tmp_path) == [{"step": 5, "loss/total": -1.5}]
    assert scalars(tmp_path, "loss/total") == [(5, -1.5)]


def test_tracker_that_goes_on_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for step in (2, 4, 6):
        tracker.scalars(step, {"loss/x": step})
    tracker.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 8, "loss/x"')  # killed while writing
    time.sleep(1.1)  # names of event files, which are read in their order, begin with the second
    tracker = Tracker(tmp_path, step=4)
    tracker.scalars(6, {"loss/x": 60})
    tracker.close()
    assert read_history(tmp_path) == [
        {"step": 2, "loss/x": 2},
        {"step": 4, "loss/x": 4},
        {"step": 6, "loss/x": 60},
    ]
    assert scalars(tmp_path, "loss/x") == [(2, 2.0), (4, 4.0), (6, 60.0)]


def test_tracker_that_goes_on_before_a_validation_drops_what_that_logged(tmp_path: Path) -> None:
    for validated, kept in ((4, [2, 4, 4]), (2, [2, 4])):
        folder = tmp_path / str(validated)
        tracker = Tracker(folder)
        tracker.scalars(2, {"val/semantic/iou_class": 0.1})
        tracker.scalars(4, {"loss/x": 4})
        tracker.scalars(4, {"val/semantic/iou_class": 0.2})  # and was killed before it saved that
        tracker.close()
        Tracker(folder, step=4, validated=validated).close()
        assert [entry["step"] for entry in read_history(folder)] == kept


def test_tracker_that_goes_on_shows_each_validation_once(tmp_path: Path) -> None:
    for validated in (2, 4):
        folder = tmp_path / str(validated)
        tracker = Tracker(folder)
        tracker.scalars(2, {"loss/x": 2})
        tracker.scalars(2, {"val/semantic/iou_class": 0.25})
        tracker.scalars(4, {"loss/x": 4})
        tracker.scalars(4, {"val/semantic/iou_class": 0.5})  # and was killed before or after it saved that
        tracker.close()
        time.sleep(1.1)
        tracker = Tracker(folder, step=4, validated=validated)
        if validated == 2:
            tracker.scalars(4, {"val/semantic/iou_class": 0.5})
        tracker.close()
        assert scalars(folder, "val/semantic/iou_class") == [(2, 0.25), (4, 0.5)]
        assert scalars(folder, "loss/x") == [(2, 2.0), (4, 4.0)]


def test_tracker_that_goes_on_at_the_end_drops_what_the_end_logged(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.scalars(4, {"loss/x": 4})
    tracker.text(4, "results", "first")
    tracker.scalars(4, {SECONDS: 10})  # and was killed before it wrote its figures
    tracker.close()
    time.sleep(1.1)
    tracker = Tracker(tmp_path, step=4, validated=4)
    tracker.text(4, "results", "second")
    tracker.scalars(4, {SECONDS: 12})
    tracker.close()
    assert scalars(tmp_path, SECONDS) == [(4, 12.0)]
    assert [entry[SECONDS] for entry in read_history(tmp_path) if SECONDS in entry] == [12]
    texts = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload().Tensors("results/text_summary")
    assert [event.tensor_proto.string_val for event in texts] == [[b"second"]]


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe", b"[1]", b'{"lr": 1}', b'{"step": "x"}', b'{"step": 2, "lr": {}}', b'{"st']
)
def test_history_with_a_damaged_line_keeps_the_others(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "history.jsonl").write_bytes(b'{"step": 1, "lr": 0.5}\n' + damage + b'\n{"step": 3, "lr": NaN}\n')
    first, last = read_history(tmp_path)
    assert first == {"step": 1, "lr": 0.5}
    assert last["step"] == 3


def test_tracker_s_events_follow_those_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    ahead = int(time.time()) + 10_000
    for number, step in enumerate((2, 4)):
        tracker = Tracker(tmp_path, step=step - 2)
        tracker.scalars(step, {"loss/x": step})
        tracker.scalars(6, {"loss/x": 60 + step})  # after the checkpoint
        tracker.close()
        (written,) = (path for path in tmp_path.glob("events*") if not path.name.endswith(".ahead"))
        written.rename(tmp_path / f"events.out.tfevents.{ahead + number}.host.1.{number}.ahead")
    tracker = Tracker(tmp_path, step=4)
    tracker.scalars(6, {"loss/x": 6})
    tracker.close()
    assert scalars(tmp_path, "loss/x") == [(2, 2.0), (4, 4.0), (6, 6.0)]
    assert len(list(tmp_path.glob("events*"))) == 3


def test_tracker_keeps_pictures_and_texts(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.image(1, "val/frame", np.zeros((4, 6, 3), dtype=np.uint8))
    tracker.text(1, "results", "| a |\n|---|")
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    image = events.Images("val/frame")[0]
    assert (image.height, image.width) == (4, 6)
    (text,) = events.Tensors("results/text_summary")
    assert text.tensor_proto.string_val == [b"| a |\n|---|"]


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("lr", "run/lr"),
        ("run/seconds", "run/seconds"),
        ("loss/total", "loss/total"),
        ("val/road/iou", "val/road/iou"),
        ("val/a/iou/road", "val_classes/a/iou/road"),
    ],
)
def test_tracker_gives_tensorboard_few_sections(tmp_path: Path, name: str, tag: str) -> None:
    tracker = Tracker(tmp_path)
    tracker.scalars(3, {name: 0.5})
    tracker.close()
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] == [tag]
    assert read_history(tmp_path) == [{"step": 3, name: 0.5}]


def test_tracker_s_table_of_runs_holds_what_distinguishes_them(tmp_path: Path) -> None:
    config = {
        "tasks": ["a", "b"],
        "weighting": {"_target_": "some.where.Equal"},
        "optimizer": {"lr": 0.1, "momentum": 0.9},
        "data": {"image_size": [32, 64], "root": "elsewhere"},
        "seed": 3,
    }
    tracker = Tracker(tmp_path)
    tracker.hyperparameters(flatten(config), ["val/a/error", "val/b/error"])
    tracker.close()
    metadata = EventAccumulator(str(tmp_path)).Reload().summary_metadata
    content = {
        tag.rpartition("/")[2]: HParamsPluginData.FromString(found.plugin_data.content)
        for tag, found in metadata.items()
    }
    start = content["session_start_info"].session_start_info.hparams
    assert {key: value.string_value or value.number_value for key, value in start.items()} == {
        "tasks": "a+b",
        "weighting": "Equal",
        "optimizer.lr": 0.1,
        "data.image_size": "[32, 64]",
        "seed": 3,
    }
    table = content["experiment"].experiment
    assert [info.name.tag for info in table.metric_infos] == ["val/a/error", "val/b/error"]
    first = sorted(table.hparam_infos, key=lambda info: (not info.differs, info.name))  # as the tab does
    assert [info.name for info in first] == ["optimizer.lr", "seed", "tasks", "weighting", "data.image_size"]


def test_flatten_joins_keys_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
