"""What a training run goes on from, and whether that is the same run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from multitask.config.factories import Config
from multitask.data.formats import MAPPED_BEFORE
from multitask.data.split import Split
from multitask.engine import checkpoint
from multitask.errors import UserError
from multitask.files import LOCK, is_leftover
from multitask.reporting.tensorboard import flatten
from multitask.weighting import Weighting

log = logging.getLogger(__name__)

CONFIG, METRICS = Path("config.yaml"), Path("metrics.json")
LAST, BEST = Path("checkpoints/last.pt"), Path("checkpoints/best.pt")

PREVIOUS = Path("checkpoints/previous.pt")
"""What `LAST` was before it: a run goes on from there where the newest is damaged or missing."""

_FREE_KEYS = (
    "output_dir",
    "data.root",
    "data.roots",
    "trainer.device",
    "trainer.precision",
    "trainer.num_workers",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.num_panels",
    "trainer.resume",
)
# A checkpoint knows the precision that was meant.

_FREE_GROUPS = ("instances.", "starts.")
"""Groups of keys that change no training: how votes are grouped, and what starts there are to choose from, of which a
run's own is its ``model.pretrained``.
"""

_FREE_ELSEWHERE = ("name", "trainer.max_steps", "trainer.val_every")
"""What may also differ where a run goes on in another folder."""

_TABLE = "data.classes"
"""Names the class table, whose file may have moved: the checkpoint has the table itself."""

SINCE = {
    _TABLE: "cityscapes",
    "data.held_out": 0,
    "data.partial": False,
    "data.folds": None,
    "data.fold": None,
    "optimizer.encoder_lr_factor": 1.0,
    "optimizer.warmup_steps": 0,
    "model.freeze_batch_norm": False,
    "model.library": "torchvision",
}
"""Keys that runs of older versions lack, and what those did."""

_PENALTY_OF_EACH_COMPONENT = 2
"""The first version of checkpoints whose likelihoods of vectors count s for each component."""


def is_free(key: str) -> bool:
    """Whether a key (dotted) may be given otherwise when a run is started again: nothing that training depends on."""
    return key in _FREE_KEYS or key.startswith(_FREE_GROUPS)


class Resumed(NamedTuple):
    """What a run goes on from.

    Attributes:
        source: the checkpoint.
        state: what it holds.
        own: whether it is one of the run's folder, not another run's.
    """

    source: Path
    state: dict[str, Any]
    own: bool


def identity(folder: Path) -> list[tuple[int, ...]]:
    """What tells whether another process has changed what a run in ``folder`` goes on from."""
    paths = (folder / path for path in (LAST, PREVIOUS, METRICS) if (folder / path).exists())
    return [(found.st_ino, found.st_size, found.st_mtime_ns) for found in (path.stat() for path in paths)]


def find(folder: Path, config: Config, resume: str | None) -> Resumed | None:
    """What a run in ``folder`` goes on from: the newest of its own checkpoints that is whole, else ``resume``.

    Args:
        folder: of the run, which need not exist.
        config: of the run.
        resume: ``trainer.resume``.
    Raises:
        UserError: naming the key or the file, if the folder holds something else or a run of another configuration, or
            no checkpoint can be read.
    """
    own = [folder / path for path in (LAST, PREVIOUS) if (folder / path).exists()]
    if (folder / CONFIG).exists():
        # One that ended before it had anything to keep may start again otherwise.
        if own:
            _check_same_config(folder, config, _TABLE)
        elif (folder / METRICS).exists():
            _check_same_config(folder, config)
    # A run that was killed while it wrote its first files is nobody else's.
    elif folder.exists() and any(path.name != LOCK and not is_leftover(path) for path in folder.iterdir()):
        raise UserError(f"output_dir={folder}: needed a new or empty folder or a run's, found other files in it")
    if resume is None and own:
        raise UserError(f"trainer.resume=null: output_dir={folder} holds a run; delete it or choose another")
    if own:
        return _newest_whole(folder, own)
    if resume in ("auto", None):
        return None
    if not Path(str(resume)).is_file():
        raise UserError(f"trainer.resume={resume}: needed auto, null or an existing checkpoint")
    return Resumed(Path(str(resume)), checkpoint.load(str(resume)), own=False)


def _newest_whole(folder: Path, own: list[Path]) -> Resumed:
    """The first of a run's checkpoints that is not damaged; a line says which is."""
    newest, *older = own
    if newest != folder / LAST:
        log.warning("%s is missing; going on from %s", folder / LAST, newest)
    try:
        return Resumed(newest, checkpoint.load(newest), own=True)
    except checkpoint.Damaged as error:
        if not older:
            raise
        log.warning("%s; going on from %s", error, older[0])
        return Resumed(older[0], checkpoint.load(older[0]), own=True)


def check(resumed: Resumed, config: Config, frames: Split, weighting: Weighting) -> None:
    """Checks that a checkpoint's run, in this folder or another one, is the one to go on with.

    Args:
        resumed: the checkpoint.
        config: of the run that is to go on.
        frames: that it is to be trained on.
        weighting: of its tasks.
    Raises:
        UserError: naming the checkpoint and the first key that differs, or the frames.
    """
    source, state = resumed.source, resumed.state
    vectors = [name for name in weighting.log_variances() if weighting.likelihoods[name].components > 1]
    if vectors and state["version"] < _PENALTY_OF_EACH_COMPONENT:
        raise UserError(
            f"checkpoint={source}: was trained with another likelihood of task {vectors[0]!r}, in which s counted once "
            f"for all components; model.pretrained={source} starts a new run from its weights"
        )
    if different := difference(config, flatten(state["config"]), *_FREE_ELSEWHERE, _TABLE):
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


def difference(config: Config, before: Mapping[str, Any], *more_free: str) -> str | None:
    """The first key of a flat configuration that is given otherwise in ``config``, in words; None if there is none."""
    previous, now = SINCE | dict(before), flatten(config)
    if _TABLE not in before and "data.mappings" in now:
        previous = {"data.mappings": MAPPED_BEFORE.get(str(before.get("data.format")))} | previous
    for key in [*now, *(key for key in previous if key not in now)]:
        if not is_free(key) and key not in more_free and previous.get(key) != now.get(key):
            return f"{key} was {previous.get(key)!r}, is {now.get(key)!r}"
    return None


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
