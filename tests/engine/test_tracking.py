import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multitask.engine.tracking import Tracker, flatten, read_history, write_json


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
        tracker.scalars(step, {"x": step})
    tracker.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 8, "x"')  # killed while writing
    time.sleep(1.1)  # names of event files, which are read in their order, begin with the second
    tracker = Tracker(tmp_path, step=4)
    tracker.scalars(6, {"x": 60})
    tracker.close()
    assert read_history(tmp_path) == [{"step": 2, "x": 2}, {"step": 4, "x": 4}, {"step": 6, "x": 60}]
    assert scalars(tmp_path, "x") == [(2, 2.0), (4, 4.0), (6, 60.0)]


def test_tracker_keeps_pictures_and_hyperparameters(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.image(1, "val/frame", np.zeros((4, 6, 3), dtype=np.uint8))
    tracker.hyperparameters({"optimizer": {"lr": 0.1}, "tasks": ["a", "b"], "none": None}, {"depth/error": 2.0})
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    image = events.Images("val/frame")[0]
    assert (image.height, image.width) == (4, 6)
    assert "_hparams_/session_start_info" in events.summary_metadata
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.lr" in start
    assert b"tasks" in start
    assert scalars(tmp_path, "final/depth/error") == [(0, 2.0)]


def test_flatten_joins_keys_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_write_json_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'
