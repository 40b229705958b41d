"""The search for the checkpoint that a run resumes from, and the checks that it belongs to the same run."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from multitask.config.factories import Config
from multitask.data.split import Split
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.files import LOCK, is_leftover
from multitask.runs.paths import CONFIG, LAST, METRICS, PREVIOUS
from multitask.runs.same_run import CLASS_TABLE, FREE_ELSEWHERE, difference, flatten

log = logging.getLogger(__name__)


class Resumed(NamedTuple):
    """The checkpoint that a run resumes from.

    Attributes:
        source: path of the checkpoint.
        state: its content.
        from_own_folder: whether it lies in the run's own folder, not in another run's.
    """

    source: Path
    state: dict[str, Any]
    from_own_folder: bool


def find(folder: Path, config: Config, resume: str | None) -> Resumed | None:
    """Finds the checkpoint to resume from: the newest undamaged one in ``folder``, else ``resume``; None to start anew.

    Args:
        folder: folder of the run, which need not exist.
        config: configuration of the run.
        resume: value of ``trainer.resume``.
    Raises:
        UserError: naming the key or the file, if the folder holds other files or a run of another configuration, or no
            checkpoint can be read.
    """
    own = [folder / path for path in (LAST, PREVIOUS) if (folder / path).exists()]
    if (folder / CONFIG).exists():
        # A run that ended before its first checkpoint may be started again with another configuration.
        if own:
            _check_same_config(folder, config, CLASS_TABLE)
        elif (folder / METRICS).exists():
            _check_same_config(folder, config)
    # A run killed while it wrote its first files has left only a lock and unfinished files: the folder is free.
    elif folder.exists() and any(path.name != LOCK and not is_leftover(path) for path in folder.iterdir()):
        raise UserError(f"output_dir={folder}: needed a new or empty folder or a run's, found other files in it")
    if resume is None and own:
        raise UserError(f"trainer.resume=null: output_dir={folder} holds a run; delete it or choose another")
    if own:
        return _newest_undamaged(folder, own)
    if resume in ("auto", None):
        return None
    if not Path(str(resume)).is_file():
        raise UserError(f"trainer.resume={resume}: needed auto, null or an existing checkpoint")
    return Resumed(Path(str(resume)), checkpoint.load(str(resume)), from_own_folder=False)


def _newest_undamaged(folder: Path, checkpoints: list[Path]) -> Resumed:
    """Loads the newest checkpoint of a run that is not damaged, and logs which ones are."""
    newest, *older = checkpoints
    if newest != folder / LAST:
        log.warning("%s is missing; going on from %s", folder / LAST, newest)
    try:
        return Resumed(newest, checkpoint.load(newest), from_own_folder=True)
    except checkpoint.Damaged as error:
        if not older:
            raise
        log.warning("%s; going on from %s", error, older[0])
        return Resumed(older[0], checkpoint.load(older[0]), from_own_folder=True)


def check(resumed: Resumed, config: Config, frames: Split) -> None:
    """Checks that a checkpoint was written by the run that is to be resumed, in this folder or another one.

    Args:
        resumed: the checkpoint.
        config: configuration of the run to resume.
        frames: its training split.
    Raises:
        UserError: naming the checkpoint, and the first key that differs or the frames.
    """
    source, state = resumed.source, resumed.state
    if different := difference(config, flatten(state["config"]), *FREE_ELSEWHERE, CLASS_TABLE):
        raise UserError(
            f"trainer.resume={source}: of another configuration: {different}; model.pretrained={source} starts a new "
            "run from its weights"
        )
    before = checkpoint.table_of_run(state, f"checkpoint={source}")
    if before != frames.classes:
        raise UserError(
            f"checkpoint={source}: was trained on other classes: {before.change(frames.classes)}; "
            f"model.pretrained={source} starts a new run from its weights"
        )
    if (found := state.get("frames", frames.fingerprint)) != frames.fingerprint:
        raise UserError(f"checkpoint={source}: was trained on {found}; {frames.where} has {frames.fingerprint}")


def _check_same_config(folder: Path, config: Config, *more_free: str) -> None:
    path = folder / CONFIG
    try:
        previous = flatten(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not the configuration of a run ({error})") from error
    if different := difference(config, previous, *more_free):
        raise UserError(
            f"output_dir={folder}: holds a run of another configuration: {different}; choose another output_dir"
        )
