"""Metrics of a network, or of another predictor, over one split."""

import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext

from multitask.config.factories import EvaluationSettings
from multitask.data.loader import EncodedFrames, Loader, in_order
from multitask.data.split import Split
from multitask.engine.history import POSITION_PRIOR
from multitask.engine.inference import Predict
from multitask.engine.interruption import Waiting
from multitask.errors import UserError
from multitask.evaluation.position_prior import fit_position_prior
from multitask.evaluation.result_files import ResultWriter
from multitask.evaluation.scoring import PixelScorer, SceneScorer, Scorer, evaluate, scored_by_pixels_alone
from multitask.tasks.base import Task

log = logging.getLogger(__name__)


class Evaluator:
    """Computes the metrics of predictions over one split.

    Args:
        frames: the split.
        tasks: the tasks that the split has labels for.
        settings: settings of loading frames and of grouping votes into instances.
    """

    def __init__(self, frames: Split, tasks: Mapping[str, Task], settings: EvaluationSettings) -> None:
        self.frames = frames
        self.tasks = tasks
        self.settings = settings

    def batches(self, keep_samples: bool = False) -> Loader:
        """Returns a loader of uncropped frames; a batch has at most as many pixels as a micro-batch of training."""
        at_once = max(1, self.settings.pixels_at_once // math.prod(self.frames.image_size))
        encoded = EncodedFrames(self.frames, self.tasks, keep_samples=keep_samples)
        pin = self.settings.compute.device.type == "cuda"
        return Loader(encoded, in_order(len(self.frames), at_once), self.settings.num_workers, pin)

    def pixel_figures(self, predict: Predict, waiting: Waiting = nullcontext) -> dict[str, float]:
        """Computes the tasks' own metrics, ``<task>/<metric>``; for ``waiting`` see `evaluate`."""
        return evaluate(predict, self.batches(), [PixelScorer(self.tasks)], self.settings.compute.device, waiting)

    def all_figures(
        self, predict: Predict, waiting: Waiting = nullcontext, writer: ResultWriter | None = None
    ) -> dict[str, float]:
        """Computes the tasks' own metrics and those of scenes; ``writer``, if given, gets the scenes."""
        start = time.perf_counter()
        scenes = SceneScorer(self.tasks, self.frames.classes, self.settings.grouping, writer)
        scorers: list[Scorer] = [PixelScorer(scored_by_pixels_alone(self.tasks)), scenes]
        figures = evaluate(predict, self.batches(keep_samples=True), scorers, self.settings.compute.device, waiting)
        seconds = time.perf_counter() - start
        log.info("%d frames: %.1f s, %.1f s of them for scenes", len(self.frames), seconds, scenes.seconds)
        return figures


def position_prior_figures(train: Split, evaluator: Evaluator) -> dict[str, float]:
    """Computes the metrics of the position prior, their names prefixed with `POSITION_PRIOR`.

    If a training frame cannot be read, a warning is logged and the result is empty.

    Args:
        train: the training split, to which the prior is fitted.
        evaluator: evaluator of the split to evaluate.
    """
    log.info("position prior: reading %d training frames", len(train))
    tasks = {name: task for name, task in evaluator.tasks.items() if train.has(*task.layers)}
    same, of_train = (Evaluator(frames, tasks, evaluator.settings) for frames in (evaluator.frames, train))
    try:
        fitted = fit_position_prior(of_train.batches(), tasks, evaluator.settings.compute.device)
    except UserError as error:
        log.warning("no position prior: %s", error)
        return {}
    return {POSITION_PRIOR + key: value for key, value in same.all_figures(fitted).items()}
