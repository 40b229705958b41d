"""Validation of a run's configuration from an untrusted source, such as a checkpoint."""

from multitask.config.factories import Config, group, make_grouping, make_seed, pixels_at_once
from multitask.config.signatures import fits
from multitask.data.split import check_size
from multitask.errors import UserError, shown

_GROUPS = ("data", "data.augmentation", "task", "model", "weighting", "optimizer", "trainer")


def check_config(config: Config) -> None:
    """Refuses an invalid configuration before anything is built from it.

    Raises:
        UserError: naming the first key that is missing or of the wrong type.
    """
    for key in _GROUPS:
        group(config, key)
    if not fits(config.get("tasks"), list[str]):
        raise UserError(f"tasks: needed a list of names, found {shown(config.get('tasks'))}")
    data = config["data"]
    if not isinstance(data.get("name"), str):
        raise UserError(f"data.name: needed a name, found {shown(data.get('name'))}")
    check_size("data.image_size", data.get("image_size"))
    make_seed(config)
    pixels_at_once(config)
    make_grouping(config)
