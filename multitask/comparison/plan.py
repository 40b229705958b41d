"""The plan of an experiment: the runs that it needs next, given the results so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multitask.comparison.experiments import LEARNED
from multitask.comparison.results import Result
from multitask.comparison.rows import Choices, Experiment, Row
from multitask.config.factories import MAX_SEED, is_seed
from multitask.data.subset import HELD_OUT
from multitask.errors import UserError, shown
from multitask.evaluation.scoring import score
from multitask.tasks.base import Task

_MAX_BEYOND = 3
"""Largest number of learning rates to try beyond each end of the given ones."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        row: the row that it trains.
        split: split to evaluate on.
        rate: factor of the learning rate.
        seed: seed of the run.
    """

    row: Row
    split: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        """Name of the run's folder and of its result."""
        return f"{self.row.name}/{self.split}-rate{self.rate:g}-seed{self.seed}"


class Plan:
    """An experiment's runs.

    Weights and learning rates are chosen on frames that are held out of training, with a seed that is not reported.

    Args:
        experiment: the experiment.
        tasks: the tasks that have labels; rows with other tasks are left out.
        seeds: seeds to report.
        split: split to report on.
        rates: factors of the learning rate to choose from, for each row; if the best one is at either end, the search
            is extended beyond it.
        search_seed: seed of the runs to choose by, not among ``seeds``.
    Raises:
        UserError: naming the key, if seeds or rates are invalid.
    """

    def __init__(
        self,
        experiment: Experiment,
        tasks: Mapping[str, Task],
        seeds: Sequence[int],
        split: str,
        rates: Sequence[float],
        search_seed: int,
    ) -> None:
        check_seeds(seeds, search_seed)
        if split in ("train", HELD_OUT):
            raise UserError(f"split={split}: needed one that nothing is trained on or chosen by, such as test")
        if not isinstance(rates, (list, tuple)) or not all(isinstance(rate, (int, float)) for rate in rates):
            raise UserError(f"rates: needed a list of numbers, found {rates!r}")
        if not rates or not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
            raise UserError(f"rates: needed positive factors, each once, found {list(rates)}")
        self.experiment = experiment
        self.tasks = tasks
        self.seeds = list(seeds)
        self.split = split
        self.rates = sorted(rates) if experiment.search_rate or len(rates) == 1 else [1.0]
        self.search_seed = search_seed

    @property
    def candidates(self) -> list[Row]:
        """The rows of fixed weights to choose from."""
        return self._possible(self.experiment.candidates)

    @property
    def usual_rate(self) -> float:
        """The factor of the learning rate for rows whose rate is not searched."""
        return self.rates[0] if len(self.rates) == 1 else 1.0

    @property
    def searches(self) -> bool:
        """Whether anything is searched, so that frames must be held out."""
        return len(self.rates) > 1 or bool(self.candidates)

    def choices(self, results: Mapping[str, Result]) -> Choices:
        """Returns the choices that the results decide; empty until all candidates are done."""
        searched = [self.search(row, self.usual_rate) for row in self.candidates]
        if not searched or any(job.key not in results for job in searched):
            return Choices()
        best = max(searched, key=lambda job: self._score(job, results))
        return Choices(best.row, self._learned_sum(results))

    def rows(self, results: Mapping[str, Result]) -> list[Row]:
        """Returns the rows of the table that are known so far."""
        return self._possible(self.experiment.rows(self.choices(results)))

    def left_out(self) -> list[Row]:
        """Returns the rows with a task that has no labels."""
        return [row for row in self.experiment.rows(Choices()) if not set(row.tasks) <= self.tasks.keys()]

    def rate(self, row: Row, results: Mapping[str, Result]) -> float | None:
        """Returns the factor of a row's learning rate; None until all runs that decide it are done."""
        if len(self.rates) == 1:
            return self.usual_rate
        tried = self.rates_to_try(row, results)
        return self._best_rate(row, tried, results) if self._all_tried(row, tried, results) else None

    def rates_to_try(self, row: Row, results: Mapping[str, Result]) -> list[float]:
        """Returns the factors of a row's learning rate to try, in ascending order, as known from the results so far.

        These are the given ones and, in the same ratio, as many more as it takes for the best one to lie between
        others: one fixed range would suit rows of large weights, but not those of small weights.
        """
        rates = list(self.rates)
        if len(rates) == 1:
            return rates
        down, up = rates[0] / rates[1], rates[-1] / rates[-2]
        below = above = 0
        while self._all_tried(row, rates, results):
            best = self._best_rate(row, rates, results)
            if best == rates[-1] and above < _MAX_BEYOND:
                rates.append(best * up)
                above += 1
            elif best == rates[0] and below < _MAX_BEYOND:
                rates.insert(0, best * down)
                below += 1
            else:
                break
        return rates

    def jobs(self, results: Mapping[str, Result]) -> list[Job]:
        """Returns all runs that are known so far, in order of execution; their results may add more."""
        rows = self.rows(results)
        searches: list[Job] = []
        if len(self.rates) > 1:
            searches += [self.search(row, rate) for row in rows for rate in self.rates_to_try(row, results)]
        if self.candidates:  # the best fixed weights are also tried with the sum of the learned ones
            searches += [self.search(row, self.usual_rate) for row in rows if row.name == LEARNED]
        searches += [self.search(row, self.usual_rate) for row in self.candidates]
        reported = [
            Job(row, self.split, rate, seed)
            for seed in self.seeds
            for row in rows
            if (rate := self.rate(row, results)) is not None
        ]
        # The chosen row is also a candidate, whose search run has the same key.
        by_key: dict[str, Job] = {}
        for job in (*searches, *reported):
            by_key.setdefault(job.key, job)
        return list(by_key.values())

    def reported(self, row: Row, results: Mapping[str, Result]) -> dict[int, Result]:
        """Returns the reported results of a row by seed."""
        rate = self.rate(row, results)
        if rate is None:
            return {}
        keys = {seed: Job(row, self.split, rate, seed).key for seed in self.seeds}
        return {seed: results[key] for seed, key in keys.items() if key in results}

    def expected(self, results: Mapping[str, Result]) -> int:
        """Returns the number of runs in all, an estimate until everything is chosen."""
        choices = self.choices(results)
        if self.candidates:  # whichever candidate is chosen, the number of rows is the same
            choices = Choices(choices.weights or self.candidates[0], choices.learned_sum or 1.0)
        rows = self._possible(self.experiment.rows(choices))
        rated = len({(row.rated_as or row).name for row in rows})
        searches = rated * len(self.rates) if len(self.rates) > 1 else 0
        return max(len(self.jobs(results)), len(self.candidates) + searches + len(rows) * len(self.seeds))

    def _learned_sum(self, results: Mapping[str, Result]) -> float | None:
        """Returns the mean sum of the learned weights in the search run whose learning rate was chosen."""
        learned = next((row for row in self._possible(self.experiment.rows(Choices())) if row.name == LEARNED), None)
        rate = self.rate(learned, results) if learned else None
        if not learned or rate is None:
            return None
        result = results.get(self.search(learned, rate).key)
        return sum(result.mean_weights.values()) if result and result.mean_weights else None

    def _all_tried(self, row: Row, rates: Sequence[float], results: Mapping[str, Result]) -> bool:
        return all(self.search(row, rate).key in results for rate in rates)

    def _best_rate(self, row: Row, rates: Sequence[float], results: Mapping[str, Result]) -> float:
        return max(rates, key=lambda rate: self._score(self.search(row, rate), results))

    def _score(self, job: Job, results: Mapping[str, Result]) -> float:
        """Returns the score to choose by; a diverged run has no metrics, and scores worst."""
        return score(results[job.key].figures, {name: self.tasks[name] for name in job.row.tasks})

    def search(self, row: Row, rate: float) -> Job:
        """Returns the run by which a row's learning rate, or the fixed weights, are chosen."""
        return Job(row.rated_as or row, HELD_OUT, rate, self.search_seed)

    def _possible(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if set(row.tasks) <= self.tasks.keys()]


def check_seeds(seeds: object, search_seed: object) -> None:
    """Checks the seeds to report and the search seed.

    Raises:
        UserError: naming the key, if they are invalid.
    """
    if not isinstance(seeds, (list, tuple)) or not all(map(is_seed, seeds)):
        raise UserError(f"seeds: needed a list of whole numbers from 0 to {MAX_SEED}, found {shown(seeds)}")
    if not is_seed(search_seed):
        raise UserError(f"search_seed: needed a whole number from 0 to {MAX_SEED}, found {shown(search_seed)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: needed each seed once, and one at least, found {list(seeds)}")
    if search_seed in seeds:
        raise UserError(f"search_seed={search_seed}: needed a seed that is not reported, seeds={list(seeds)}")
