"""Semantic segmentation, instance segmentation and depth from one image, with tasks weighted by learned uncertainty.

The data flow, with the package of each stage; a module imports only from stages before its own:

    folder on disk -> Sample of raw layers -> joint augmentation           data
    -> one target and one valid mask per task                              tasks
    -> batch -> encoder -> shared features -> one decoder per task         models
    -> one loss per task, over its valid pixels                            tasks
    -> total loss, weighted by the learned uncertainties                   likelihoods, weighting
    -> optimizer steps, checkpoints, history                               engine
    predictions -> scenes -> metrics                                       instances, metrics, evaluation
    targets and predictions -> panels, tables, plots, TensorBoard          reporting
    configuration -> all of the above -> a training run, compared runs     config, runs, comparison
    the user's own pictures -> scenes -> panels and files                  prediction
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multitask.prediction import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `load` on first use, so that importing the package does not import torch."""
    if name == "load":
        from multitask.prediction import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
