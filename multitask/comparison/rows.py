"""Data types of experiments: rows, each a set of arguments of ``scripts/train.py``, and claims about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One way to train: a row of a report's table.

    Attributes:
        name: name of its folder; rows of the same name in two experiments share their runs.
        title: name in tables.
        tasks: tasks that are on.
        overrides: arguments of ``scripts/train.py`` besides ``tasks=``.
        paper: the paper's metrics, ``<task>/<metric>``, as fractions or px; empty if it has none.
        role: name in claims, for a row whose name depends on earlier runs; empty: the name itself.
        rated_as: another row, whose learning rate it takes; None: its own is searched.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)
    role: str = ""
    rated_as: "Row | None" = None

    @property
    def key(self) -> str:
        """Name in claims and reports."""
        return self.role or self.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """All arguments of ``scripts/train.py``."""
        return f"tasks=[{','.join(self.tasks)}]", *self.overrides


@dataclass(frozen=True)
class Ordering:
    """A claim: one row is better than another, or at least as good.

    Attributes:
        better, worse: keys of rows.
        figure: metric of the comparison, a key of `multitask.comparison.columns.COLUMNS`.
        higher_is_better: direction of the metric.
        margin: amount by which the first may be worse and still count as good: a fraction of the other's mean, or an
            absolute difference of Delta m, which is a fraction itself.
    """

    better: str
    worse: str
    figure: str
    higher_is_better: bool
    margin: float = 0.0


@dataclass(frozen=True)
class Choices:
    """Choices made by earlier runs; None until these are done.

    Attributes:
        weights: the row of fixed weights that scored best on the held-out frames.
        learned_sum: mean sum of the learned weights over the training of the row of three tasks.
    """

    weights: Row | None = None
    learned_sum: float | None = None


@dataclass(frozen=True)
class Experiment:
    """Rows, claims about them, and their presentation.

    Attributes:
        title: heading of the report.
        rows: returns the rows, given the choices made so far.
        candidates: rows of fixed weights to choose from on held-out frames.
        orderings: claims, each of which gets a verdict if both its rows have runs.
        swept: task whose fixed weight is the axis of a plot; None for no such plot.
        curves: rows of another plot, by curve and by the number on its axis.
        axis: label of that axis.
        search_rate: whether each row's learning rate is searched.
        histories: keys of rows whose learned weights are plotted over training.
        single: keys of the single-task rows against which Delta m is measured, by metric.
        missing: note on rows that this installation cannot run, and why.
    """

    title: str
    rows: Callable[[Choices], Sequence[Row]]
    candidates: Sequence[Row] = ()
    orderings: Sequence[Ordering] = ()
    swept: str | None = None
    curves: Mapping[str, Mapping[float, Row]] = field(default_factory=dict)
    axis: str = ""
    search_rate: bool = True
    histories: Sequence[str] = ()
    single: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


def given_weight(override: str) -> tuple[str, str]:
    """Returns task and value of ``weighting.weights.<task>=<value>``."""
    key, _, value = override.partition("=")
    return key.rpartition(".")[2], value


def fixed(name: str, title: str, weights: Mapping[str, float], paper: Mapping[str, float] | None = None) -> Row:
    """Returns a row of fixed weights; tasks of weight zero are off."""
    on = {task: weight for task, weight in weights.items() if weight}
    given = tuple(f"weighting.weights.{task}={weight:g}" for task, weight in on.items())
    return Row(name, title, tuple(on), ("weighting=fixed", *given), paper or {})
