"""Steps of training on given batches."""

from collections.abc import Callable, Iterator

import pytest

from multitask.data.loader import Batch
from multitask.engine import trainer as trainer_module
from multitask.engine.trainer import Trainer


class Given:
    """In place of the loader; calls ``at_end`` when it has no more."""

    def __init__(self, batches: tuple[Batch, ...], at_end: Callable[[], object]) -> None:
        self.batches = batches
        self.at_end = at_end

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches
        self.at_end()


def train_on(
    trainer: Trainer,
    *batches: Batch,
    save: Callable[[], None] = lambda: None,
    at_end: Callable[[], object] = lambda: None,
) -> list[dict[str, float]]:
    """Trains a step on each batch.

    Returns:
        What is logged of each.
    """
    entries: list[dict[str, float]] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(trainer_module, "Loader", lambda *_, **__: Given(batches, at_end))
        trainer.run(lambda _, values: entries.append(values), lambda _: None, save)
    return entries
