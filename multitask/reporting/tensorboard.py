"""Logging of scalars and pictures to TensorBoard, and of scalars to ``history.jsonl``."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from multitask.engine.history import STEP, History
from multitask.files import named_errors

_EVENTS = "events.out.tfevents."

_COMPARED = (
    *("tasks", "weighting", "optimizer.lr", "seed", "model.encoder"),
    *("data.name", "data.image_size", "trainer.batch_size", "trainer.max_steps"),
)
"""Keys in TensorBoard's table of runs, which shows the first five by default."""


class Tracker:
    """Logs the scalars and pictures of one run.

    Args:
        folder: the run's folder.
        step: step at which the run resumes, see `History`; pictures of this step are dropped.
        validated: last step with a complete validation, see `History`.
    """

    def __init__(self, folder: Path, step: int = 0, validated: int = 0) -> None:
        self._history, self._events = History(folder, step, validated), folder / f"{_EVENTS}*"
        _make_room_for_now(folder)
        # TensorBoard drops whole steps: the kept entries of the last one are written again.
        with named_errors(self._events):
            self._writer = SummaryWriter(str(folder), purge_step=step)
        for entry in self._history.kept:
            if entry[STEP] == step:
                self._write(step, {name: value for name, value in entry.items() if name != STEP})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs named scalars at a step, to TensorBoard and to the history."""
        self._write(step, values)
        self._history.append(step, values)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        with named_errors(self._events):
            for name, value in values.items():
                self._writer.add_scalar(_tag(name), value, step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Logs a picture, (H, W, 3) uint8."""
        with named_errors(self._events):
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def text(self, step: int, name: str, markdown: str) -> None:
        """Logs a text in Markdown."""
        with named_errors(self._events):
            self._writer.add_text(name, markdown, step)

    def hyperparameters(self, config: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Logs the settings that most distinguish runs, for TensorBoard's HParams tab.

        Args:
            config: flat configuration of the run, with dotted keys.
            metrics: names of the logged scalars to show beside them; those that a run lacks stay empty.
        """
        flat = {**config, "weighting": str(config.get("weighting._target_")).rpartition(".")[2]}
        values = {key: _plain(value) for key, value in flat.items() if key in _COMPARED}
        # SummaryWriter.add_hparams would create a separate run below this one.
        summaries = hparams(values, {_tag(name): None for name in metrics})  # type: ignore[no-untyped-call]
        # The tab shows five values: first those marked as differing, then by name.
        table = summaries[0].value[0].metadata.plugin_data
        content = HParamsPluginData.FromString(table.content)
        for info in content.experiment.hparam_infos:
            info.differs = info.name in _COMPARED[:5]
        table.content = content.SerializeToString()
        with named_errors(self._events):
            for summary in summaries:
                self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """Writes buffered events to the disk, so that they are never older than a checkpoint."""
        with named_errors(self._events):
            self._writer.flush()

    def close(self) -> None:
        """Writes all buffered events and closes the event file."""
        with named_errors(self._events):
            self._writer.close()


def _make_room_for_now(folder: Path) -> None:
    """Renames event files that a wrong clock dated in the future: TensorBoard reads files in order of their times."""
    latest = int(time.time()) - 1
    for path in sorted(folder.glob(f"{_EVENTS}*"), reverse=True):
        stamp, _, rest = path.name.removeprefix(_EVENTS).partition(".")
        if not stamp.isdecimal() or int(stamp) < latest:
            return
        path.rename(path.with_name(f"{_EVENTS}{latest:010d}.{rest}"))
        latest -= 1


def _plain(value: Any) -> bool | str | int | float:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "+".join(value)
    return value if isinstance(value, bool | str | int | float) else str(value)


def _tag(name: str) -> str:
    """Returns a scalar's name in TensorBoard, whose first part is its section; metrics of classes have their own."""
    first, *rest = name.split("/")
    if not rest:
        return f"run/{name}"
    return name if len(rest) < 3 else "/".join([f"{first}_classes", *rest])
