"""Which runs an experiment needs next, given those that are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multitask.build import HELD_OUT
from multitask.comparison.experiments import LEARNED, Choices, Experiment
from multitask.comparison.results import Result
from multitask.comparison.rows import Row
from multitask.engine.inference import score
from multitask.tasks.base import Task


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        row: how to train.
        split: to evaluate on.
        rate: factor of the learning rate.
        seed: of the run.
    """

    row: Row
    split: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        """Name of its folder and of its result."""
        return f"{self.row.name}/{self.split}-rate{self.rate:g}-seed{self.seed}"


class Plan:
    """An experiment's runs.

    Everything that is chosen, weights and learning rates, is chosen on frames that are held out of training, with a
    seed that is not reported.

    Args:
        experiment: which rows.
        tasks: with labels; rows that need others are left out.
        seeds: to report.
        split: to report on.
        rates: factors of the learning rate to choose from, for each row.
        search_seed: not among ``seeds``.
    Raises:
        ValueError: naming the key, if seeds or rates make no sense.
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
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds: needed each seed once, and one at least, found {list(seeds)}")
        if search_seed in seeds:
            raise ValueError(f"search_seed={search_seed}: needed a seed that is not reported, seeds={list(seeds)}")
        if not rates or not all(rate > 0 for rate in rates) or len(set(rates)) < len(rates):
            raise ValueError(f"rates: needed positive factors, each once, found {list(rates)}")
        self.experiment = experiment
        self.tasks = tasks
        self.seeds = list(seeds)
        self.split = split
        self.rates = list(rates) if experiment.search_rate else [1.0]
        self.search_seed = search_seed

    def choices(self, results: Mapping[str, Result], failed: frozenset[str] = frozenset()) -> Choices:
        """What the results decide so far; a run that failed is not chosen."""
        searched = [self._search(row, 1.0) for row in self._possible(self.experiment.candidates)]
        done = [job for job in searched if job.key in results]
        complete = bool(done) and all(job.key in results or job.key in failed for job in searched)
        best = max(done, key=lambda job: score(results[job.key].figures, self.tasks)) if complete else None
        learned = [result for key, result in sorted(results.items()) if key.startswith(f"{LEARNED}/")]
        sums = [_mean_sum(result) for result in learned if result.split == HELD_OUT and result.rate == 1]
        return Choices(best.row if best else None, sums[0] if sums else None)

    def rows(self, results: Mapping[str, Result], failed: frozenset[str] = frozenset()) -> list[Row]:
        """The rows of the table that are known."""
        return self._possible(self.experiment.rows(self.choices(results, failed)))

    def left_out(self) -> list[Row]:
        """Rows whose tasks have no labels."""
        return [row for row in self.experiment.rows(Choices()) if not set(row.tasks) <= self.tasks.keys()]

    def rate(self, row: Row, results: Mapping[str, Result], failed: frozenset[str] = frozenset()) -> float | None:
        """The factor of a row's learning rate, or None as long as runs are missing that decide it."""
        if len(self.rates) == 1:
            return self.rates[0]
        jobs = [self._search(row, rate) for rate in self.rates]
        done = [job for job in jobs if job.key in results]
        if not done or any(job.key not in results and job.key not in failed for job in jobs):
            return None
        on = {name: self.tasks[name] for name in row.tasks}
        return max(done, key=lambda job: score(results[job.key].figures, on)).rate

    def jobs(self, results: Mapping[str, Result], failed: frozenset[str] = frozenset()) -> list[Job]:
        """All runs that can be named by now, in the order in which to do them; more may follow from their results."""
        rows = self.rows(results, failed)
        searches = [self._search(row, 1.0) for row in self._possible(self.experiment.candidates)]
        if searches:  # the weights that were found are also tried with the sum of those that are learned
            searches += [self._search(row, 1.0) for row in rows if row.name == LEARNED]
        if len(self.rates) > 1:
            searches += [self._search(row, rate) for row in rows for rate in self.rates]
        reported = [
            Job(row, self.split, rate, seed)
            for seed in self.seeds
            for row in rows
            if (rate := self.rate(row, results, failed)) is not None
        ]
        return list(dict.fromkeys([*searches, *reported]))

    def reported(
        self, row: Row, results: Mapping[str, Result], failed: frozenset[str] = frozenset()
    ) -> dict[int, Result]:
        """The results of a row by seed."""
        rate = self.rate(row, results, failed)
        if rate is None:
            return {}
        keys = {seed: Job(row, self.split, rate, seed).key for seed in self.seeds}
        return {seed: results[key] for seed, key in keys.items() if key in results}

    def _search(self, row: Row, rate: float) -> Job:
        return Job(row, HELD_OUT, rate, self.search_seed)

    def _possible(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if set(row.tasks) <= self.tasks.keys()]


def _mean_sum(result: Result) -> float:
    """Mean over training of the sum of the weights."""
    sums = [sum(value for key, value in entry.items() if key.startswith("weight/")) for entry in result.history]
    return sum(sums) / len(sums)
