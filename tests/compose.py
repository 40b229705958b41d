"""Configurations as the scripts get them, small enough to train in a second."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent

SMALL = (
    "data.image_size=[32,64]",
    "model=resnet18",
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


def config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """The resolved configuration with these overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        plain = OmegaConf.to_container(compose(name, list(overrides)), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def small(root: Path, output: Path, *overrides: str) -> dict[str, Any]:
    """A run of a second on the data set at ``root``."""
    return config(*SMALL, f"data.root={root}", f"output_dir={output}", *overrides)
