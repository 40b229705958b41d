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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multitask.prediction import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load` is imported when it is used: the package itself loads no torch."""
    if name == "load":
        from multitask.prediction import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
