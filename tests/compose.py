"""Configurations as the scripts get them, small enough to train in a second."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from tests import tiny

ROOT = Path(__file__).resolve().parent.parent

SMALL = (
    "data.image_size=[32,64]",
    "model=resnet10",
    f"model.encoder={tiny.NAME}",
    "model.aspp_channels=8",
    "model.aspp_rates=[1,2]",
    "model.decoder_channels=8",
    "optimizer.lr=0.02",
    "trainer.max_steps=6",
    "trainer.batch_size=4",
    "trainer.log_every=1",
    "trainer.val_every=3",
    "trainer.checkpoint_every=100",
    "trainer.num_workers=0",
    "trainer.num_panels=1",
    "trainer.precision=fp32",
    "trainer.device=cpu",
)

IN_A_PROCESS = (*SMALL, "model.encoder=resnet10")
"""For a process of its own, which knows no other network."""

_PARSER = OverridesParser.create()


def config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """The resolved configuration with these overrides."""
    chosen = tuple(text for text in overrides if _chooses(text))
    composed = deepcopy(_composed(name, chosen))
    for override in _PARSER.parse_overrides([text for text in overrides if not _chooses(text)]):
        OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def small(root: Path, output: Path, *overrides: str) -> dict[str, Any]:
    """A run of half a second on the data set at ``root``."""
    paths = f"data.root={root}", f"output_dir={output}"
    return config(*SMALL, *paths, *overrides)


@cache
def _composed(name: str, chosen: tuple[str, ...]) -> DictConfig:
    """Of files alone, which takes fifty times as long as to set all values in it."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(name, list(chosen))


def _chooses(override: str) -> bool:
    """Whether an override chooses a file or changes which keys there are; those that set a value come later anyway."""
    return override[0] in "+~" or (ROOT / "configs" / override.partition("=")[0]).is_dir()
