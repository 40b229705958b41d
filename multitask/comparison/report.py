"""The report of an experiment: tables, verdicts on its claims, and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multitask.comparison.claims import verdicts
from multitask.comparison.columns import COLUMNS, HIGHER_IS_BETTER, IMPROVEMENT, TABLE1
from multitask.comparison.experiments import LEARNED, PAPER_NOISE
from multitask.comparison.formatting import bold, spread, weights_row
from multitask.comparison.frames import folds_in_words
from multitask.comparison.plan import Plan
from multitask.comparison.results import Figures, Result
from multitask.comparison.rows import Experiment, Row, given_weight
from multitask.comparison.statistics import mean_and_deviation, mean_relative_improvement
from multitask.comparison.sweep import plot_curves, plot_sweep, swept
from multitask.console import markdown
from multitask.data.subset import HELD_OUT
from multitask.engine.history import VARIANCE, WEIGHT, early_entry
from multitask.files import write_text
from multitask.reporting.plots import plot_training, plot_weights
from multitask.reporting.tables import noise_line, weights_line


class Report:
    """The report of an experiment, from the runs that are done so far.

    Args:
        plan: plan of the experiment.
        results: results by key of the job.
        failed: reasons of failures by key of the job.
    """

    def __init__(self, plan: Plan, results: Mapping[str, Result], failed: Mapping[str, str]) -> None:
        self.plan = plan
        self.experiment: Experiment = plan.experiment
        self.results = results
        self.failed = failed
        self.rows: list[Row] = plan.rows(results)
        self.reported: dict[str, dict[int, Result]] = {row.key: plan.reported(row, results) for row in self.rows}
        self.rates = {row.key: plan.rate(row, results) for row in self.rows}

    def text(self) -> str:
        """Returns the report in Markdown."""
        parts = [f"# {self.experiment.title}", self._setting(), self._table(), self._verdicts()]
        parts += [self._weights(), self._learned(), self._search(), self._searched_weights(), self._searched_rates()]
        parts.append(self._missing())
        return "\n\n".join(part for part in parts if part) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Writes ``report.md`` and the plots that have runs; returns their paths."""
        paths = [folder / "report.md"]
        write_text(paths[0], self.text())
        histories = {
            row.title: result.history
            for row in self.rows
            if row.key in self.experiment.histories and (result := self._first(row.key)) and result.history
        }
        if histories:
            paths.append(folder / "weights.png")
            plot_weights(histories, paths[-1])
        if len(histories) == 1:
            paths.append(folder / "training.png")
            plot_training(next(iter(histories.values())), paths[-1])
        if self.experiment.swept and (rows := self._swept()):
            paths.append(folder / "sweep.png")
            learned = [row for row in self.rows if "weighting=uncertainty" in row.overrides]
            plot_sweep(rows, learned, self.experiment.swept, self._shown, paths[-1])
        if self.experiment.curves and self._has_figures(self.rows):
            paths.append(folder / "curves.png")
            plot_curves(self.experiment.curves, self.experiment.axis, self._shown, paths[-1])
        return paths

    def _setting(self) -> str:
        result = next((result for runs in self.reported.values() for result in runs.values()), None)
        if result is None:
            return "No run is finished yet."
        config = result.config
        size = " x ".join(map(str, config["data.image_size"]))
        return (
            f"{config['data.name']}, {size} px, {self._draws()}, "
            f"{config['model.encoder']}, "
            f"{config['trainer.max_steps']} steps of {config['trainer.batch_size']}, {self._compute()}; "
            f"split {self.plan.split}, mean and standard deviation over seeds {', '.join(map(str, self.plan.seeds))}. "
            f"{folds_in_words(config, self.plan)}Learning rates are {self._learning_rates()}. Weights {self._sums()}. "
            f"{self._delta_m()}Seconds are as they passed, whatever else the machine did."
        )

    def _draws(self) -> str:
        """Describes the number of training images, each of them if rows differ in it."""
        draws = [run.config.get("data.draw") for runs in self.reported.values() for run in runs.values()]
        drawn = " or ".join(map(str, sorted({draw for draw in draws if draw})))
        words = [f"{drawn} training images drawn by the seed"] if drawn else []
        return " or ".join([*words, *(["all training images"] if None in draws else [])])

    def _delta_m(self) -> str:
        """Explains the column Delta m, if there is one."""
        if not self.experiment.single:
            return ""
        return "Delta m is the mean relative improvement upon networks of a single task with the same seed. "

    def _sums(self) -> str:
        """Describes the sum of weights of the rows that do not set it."""
        silent = [row.key for row in self.rows if not any(part.startswith("weighting.sum=") for part in row.overrides)]
        found = (run.config.get("weighting.sum") for key in silent for run in self.reported[key].values())
        if sums := sorted({value for value in found if value is not None}):
            return f"are scaled to the sum {' or '.join(map(str, sums))}, but where a row says otherwise"
        return "have the sum that each row gives them, but where it says otherwise"

    def _learning_rates(self) -> str:
        rates = " or ".join(f"{rate:g}" for rate in self.plan.rates)
        text = "the default" if self.plan.rates == [1] else f"{rates} times the default"
        if len(self.plan.rates) > 1:
            each = "group of rows" if any(row.rated_as for row in self.rows) else "row"
            text += f", and beyond where the best is at an end, chosen for each {each}"
        if self.plan.searches:
            text += f" (choices on held-out training images, seed {self.plan.search_seed})"
        return text

    def _compute(self) -> str:
        """Lists all precisions and devices of the results."""
        return " and ".join(sorted({run.compute for runs in self.reported.values() for run in runs.values()}))

    def _table(self) -> str:
        shown = {key: COLUMNS[key] for key in COLUMNS if any(self._values(row.key, key) for row in self.rows)}
        heading = ["row", *(column.title for column in shown.values())]
        of_paper = [key for key in shown if any(key in row.paper for row in self.rows)]
        heading += [f"paper: {shown[key].title}" for key in of_paper]
        heading += ["lr x", "runs", "s / run"]
        best = {key: self._best(key) for key in shown}
        cells = []
        for row in self.rows:
            line = [row.title]
            for key, column in shown.items():
                line.append(bold(spread(self._shown(row, key), column.scale), row.key == best[key]))
            line += [f"{row.paper[key] * shown[key].scale:.3g}" if key in row.paper else "-" for key in of_paper]
            runs, diverged = self.reported[row.key].values(), self._num_diverged(row.key)
            line.append(self._rate(row))
            line.append(f"{len(runs)}, {diverged} diverged" if diverged else str(len(runs)))
            seconds = [run.seconds for run in runs if run.figures]
            line.append(f"{sum(seconds) / len(seconds):.0f}" if seconds else "-")
            cells.append(line)
        return markdown([heading, *cells])

    def _rate(self, row: Row) -> str:
        """Returns the factor of a row's learning rate, marked if it is at an end of the range that was tried."""
        rate, tried = self.rates[row.key], self.plan.rates_to_try(row, self.results)
        if rate is None:
            return "-"
        return f"{rate:g}, an end" if len(tried) > 1 and rate in (tried[0], tried[-1]) else f"{rate:g}"

    def _values(self, key: str, figure: str) -> dict[int, float]:
        """Returns the values of a metric of a row by seed."""
        runs = self.reported[key]
        if figure == IMPROVEMENT:
            return {s: value for s, run in runs.items() if (value := self._improvement(s, run)) is not None}
        return {seed: run.figures[figure] for seed, run in runs.items() if figure in run.figures}

    def _num_diverged(self, key: str) -> int:
        """Counts the diverged runs of a row, which its means ignore; with any, it is not marked as the best."""
        return sum(not run.figures for run in self.reported[key].values())

    def _best(self, figure: str) -> str | None:
        sound = [row.key for row in self.rows if not self._num_diverged(row.key)]
        means = {key: values for key in sound if (values := self._values(key, figure))}
        if len(means) < 2:
            return None
        choose = max if COLUMNS[figure].higher_is_better else min
        return choose(means, key=lambda name: mean_and_deviation(list(means[name].values()))[0])

    def _improvement(self, seed: int, run: Result) -> float | None:
        """Returns Delta m of a run, against the single-task runs with its seed."""
        single: Figures = {}
        for figure, name in self.experiment.single.items():
            if other := self.reported.get(name, {}).get(seed):
                single[figure] = other.figures.get(figure, 0.0)
        return mean_relative_improvement(run.figures, single, HIGHER_IS_BETTER)

    def _verdicts(self) -> str:
        claims, with_runs = self.experiment.orderings, {key for key, runs in self.reported.items() if runs}
        claimed = [claim for claim in claims if {claim.better, claim.worse} <= with_runs]
        diverged = {row.key for row in self.rows if self._num_diverged(row.key)}
        titles = {row.key: row.title for row in self.rows}
        return verdicts(claimed, len(claims), titles, self._values, diverged)

    def _first(self, name: str) -> Result | None:
        """Returns the run of the lowest seed; diverged runs come last."""
        runs = self.reported.get(name, {})
        return runs[min(runs, key=lambda seed: (not runs[seed].figures, seed))] if runs else None

    def _weights(self) -> str:
        """Returns the table of mean weights of the rows with several tasks."""
        cells = []
        for row in self.rows:
            sound = [run.mean_weights for run in self.reported[row.key].values() if run.figures]
            runs = [weights for weights in sound if set(row.tasks) <= weights.keys()]
            if len(row.tasks) > 1 and runs:
                means = {task: sum(run[task] for run in runs) / len(runs) for task in row.tasks}
                cells.append(weights_row(row.title, means, list(self.plan.tasks)))
        if not cells:
            return ""
        text = "Weights with which the encoder learned from each task's loss, means over logged steps and seeds:"
        return text + "\n\n" + markdown([["mean weights", *self.plan.tasks, "sum", "ratio"], *cells])

    def _learned(self) -> str:
        result = self._first(LEARNED) if LEARNED in self.experiment.histories else None
        if not result or not result.history:
            return ""
        tasks = [name for name in self.plan.tasks if VARIANCE + name in result.history[-1]]
        lines = [f"* {weights_line(entry, tasks)}" for entry in (early_entry(result.history), result.history[-1])]
        paper = {when: {name: of[name] for name in tasks if name in of} for when, of in PAPER_NOISE.items()}
        lines += [f"* the paper's, {when}: {noise_line(variances)}" for when, variances in paper.items()]
        return f"What {LEARNED} tasks learned (seed {result.seed}):\n\n" + "\n".join(lines)

    def _search(self) -> str:
        best = self.plan.choices(self.results).weights
        if not best:
            return ""
        found = {task: float(value) for task, value in map(given_weight, best.overrides[1:])}
        rows = [weights_row("fixed weights, searched", found, best.tasks)]
        names, rate = {row.name for row in self.plan.candidates}, self.plan.usual_rate
        runs = [run for run in self.results.values() if run.row in names and run.split == HELD_OUT and run.rate == rate]
        seconds = [run.seconds for run in runs]
        learned = self._first(LEARNED)
        beside = f", against {learned.seconds:.0f} s of one run that learns them" if learned else ""
        if learned and learned.history:
            last = {task: learned.history[-1][WEIGHT + task] for task in best.tasks}
            rows += [
                weights_row("learned, mean over training", learned.mean_weights, best.tasks),
                weights_row("learned, at the end", last, best.tasks),
            ]
        heading = ["weights", *best.tasks, "sum", " : ".join(best.tasks)]
        text = f"The search for fixed weights took {len(seconds)} runs and {sum(seconds):.0f} s{beside}:"
        return text + "\n\n" + markdown([heading, *rows])

    def _searched_weights(self) -> str:
        """Returns the table of the candidates of fixed weights and their metrics."""
        rate, best = self.plan.usual_rate, self.plan.choices(self.results).weights
        found = {row: self._found(row, rate) for row in self.plan.candidates}
        if not any(found.values()):
            return ""
        cells = [[row.title, bold(text, row == best)] for row, text in found.items() if text]
        return f"Fixed weights tried, {self._by()}:\n\n" + markdown([["weights", "reached"], *cells])

    def _searched_rates(self) -> str:
        """Returns the table of the learning rates that were tried and each row's metrics with them."""
        rates = sorted({rate for row in self.rows for rate in self.plan.rates_to_try(row, self.results)})
        rows = dict.fromkeys(row.rated_as or row for row in self.rows)
        found = {row: {rate: self._found(row, rate) for rate in rates} for row in rows}
        if len(rates) == 1 or not any(any(texts.values()) for texts in found.values()):
            return ""
        cells = [
            [row.title, *(bold(text, rate == self.plan.rate(row, self.results)) for rate, text in texts.items())]
            for row, texts in found.items()
        ]
        heading = ["lr x", *(f"{rate:g}" for rate in rates)]
        return f"Learning rates tried, {self._by()}:\n\n" + markdown([heading, *cells])

    def _by(self) -> str:
        titles = " / ".join(column.title for column in TABLE1.values())
        return f"on held-out training images with seed {self.plan.search_seed} ({titles}), the chosen ones in bold"

    def _found(self, row: Row, rate: float) -> str:
        """Returns the metrics of table 1 of a search run; empty if it is not done."""
        result = self.results.get(self.plan.search(row, rate).key)
        if not result:
            return ""
        shown = [(key, column.scale) for key, column in TABLE1.items() if key in result.figures]
        return " / ".join(spread([result.figures[key] * scale], scale) for key, scale in shown) or "diverged"

    def _missing(self) -> str:
        left_out = [row.title for row in self.plan.left_out()]
        lines = [f"* left out, no labels: {'; '.join(left_out)}"] if left_out else []
        lines += [f"* {self.experiment.missing}"] if self.experiment.missing else []
        lines += [f"* {row.title}: no finished run" for row in self.rows if not self.reported[row.key]]
        if self.experiment.candidates and not self.plan.choices(self.results).weights:
            why = "not decided yet" if self.plan.candidates else "left out, no labels"
            lines.append(f"* fixed weights, searched: {why}")
        lines += [f"* {key}: diverged" for key, result in self.results.items() if not result.figures]
        lines += [f"* {key} failed: {why}" for key, why in self.failed.items()]
        return "\n".join(lines)

    def _swept(self) -> dict[float, Row]:
        """Returns the rows that have runs, by the weight on the axis of a sweep; empty if all runs diverged."""
        task = self.experiment.swept
        rows = [row for row in self.rows if self.reported[row.key]]
        return swept(rows, task) if task and self._has_figures(rows) else {}

    def _has_figures(self, rows: Sequence[Row]) -> bool:
        """Whether any of the rows has a metric to plot."""
        return any(self._values(row.key, figure) for row in rows for figure in TABLE1)

    def _shown(self, row: Row, figure: str) -> list[float]:
        """Returns the values of a metric over seeds, in the unit of its column."""
        return [value * COLUMNS[figure].scale for value in self._values(row.key, figure).values()]
