"""Checkpoints made for tests."""

from typing import Any

import torch

from tests.cityscapes import CITYSCAPES


def state(**changes: Any) -> dict[str, Any]:
    """All that `multitask.engine.checkpoint.save` is given, of no run in particular."""
    return {
        "step": 0,
        "validated": 0,
        "precision": "torch.float32",
        "network": {"w": torch.arange(4.0)},
        "weighting": {},
        "optimizer": {},
        "scaler": {},
        "seen_pixels": {},
        "rng": {"torch": torch.get_rng_state(), "cuda": []},
        "score": 0.0,
        "config": {},
        "classes": CITYSCAPES.content(),
        "tasks": [],
        **changes,
    }
