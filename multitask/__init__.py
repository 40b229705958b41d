"""Semantic segmentation, instance segmentation and depth from one image, tasks weighed by learned uncertainty.

The way of the data; a module imports only what stands before it:

    folder on disk -> Sample of raw layers -> augmented together           data
    -> one target and valid mask for each task                             tasks
    -> batch -> encoder -> shared features -> decoders                     models
    -> one loss for each task, over its valid pixels                       tasks
    -> total, with the tasks' learned uncertainties                        likelihoods, weighting
    -> optimiser step, checkpoints, logs                                   engine
    predictions -> figures of merit | pictures and tables                  metrics, report
    one's own pictures -> scenes -> panels and files                       prediction
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multitask.prediction import Predictor

__version__ = "0.1.0"


def load(
    checkpoint: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    size: Sequence[int] | None = None,
    batch_size: int = 8,
) -> "Predictor":
    """A trained network, ready to predict: ``multitask.load(checkpoint).predict(image)`` is a scene.

    Args:
        checkpoint: path, such as ``runs/quickstart/seed0/checkpoints/last.pt``; it is read without running code of its.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        size: (H, W) px that pictures are resized to for the network; None: as wide as those that it was trained on,
            since it has learned the sizes of things in px, and with their shape kept.
        batch_size: most pictures that the network gets at once.
    Returns:
        A `multitask.prediction.Predictor`; its ``predict`` gives a `multitask.prediction.Scene` at the picture's size.
    Raises:
        ValueError: naming the file or the argument, what was needed and what was found.
    """
    from multitask.prediction import load as load_predictor

    return load_predictor(checkpoint, device=device, precision=precision, size=size, batch_size=batch_size)
