"""What is compared: rows of a table, each of them what one types behind ``scripts/train.py``, and claims about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        name: of its folder; rows of two experiments that have the same name are the same runs.
        role: what claims call it, where what it is depends on earlier runs; its name where it does not.
        title: in tables.
        tasks: that are on.
        overrides: beside ``tasks=``, as for ``scripts/train.py``.
        paper: the paper's figures, ``<task>/<figure>``, fractions and px; empty where it has none.
        rated_as: another row, whose learning rate it takes; None where its own is searched.
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
        """What claims and reports call it."""
        return self.role or self.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """All that is typed."""
        return f"tasks=[{','.join(self.tasks)}]", *self.overrides


@dataclass(frozen=True)
class Ordering:
    """A claim: one row is better than another, or at least as good.

    Attributes:
        better, worse: keys of rows.
        figure: ``<task>/<figure>`` by which, or another key of `multitask.comparison.columns.COLUMNS`.
        higher_is_better: direction of the figure.
        margin: by which it may be worse and still count as good, as a share of the other's mean; of Delta m, which is
            a share itself, as it is.
    """

    better: str
    worse: str
    figure: str
    higher_is_better: bool
    margin: float = 0.0


@dataclass(frozen=True)
class Choices:
    """What earlier runs decided, None as long as they have not.

    Attributes:
        weights: the row of fixed weights that did best on the frames held out.
        learned_sum: mean sum of the learned weights over the training of the row of three tasks.
    """

    weights: Row | None = None
    learned_sum: float | None = None


@dataclass(frozen=True)
class Experiment:
    """Rows, the claims about them, and how they are shown.

    Attributes:
        title: heading of the report.
        rows: given what was decided so far.
        candidates: rows of fixed weights to choose from on frames that are held out.
        orderings: claims, each of which gets a verdict; of rows that are not there, none.
        swept: task whose fixed weight is the axis of a plot, if there is one.
        curves: rows of another plot, by kind and by a number in which they differ.
        axis: what that number is.
        search_rate: whether each row's learning rate is searched.
        histories: keys of rows whose learned weights are plotted over training.
        single: keys of rows by which mean relative improvements are measured, by figure.
        missing: rows that this installation cannot run, and why.
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
    """Task and value of ``weighting.weights.<task>=<value>``."""
    key, _, value = override.partition("=")
    return key.rpartition(".")[2], value


def fixed(name: str, title: str, weights: Mapping[str, float], paper: Mapping[str, float] | None = None) -> Row:
    """A row of fixed weights; tasks without weight are off."""
    on = {task: weight for task, weight in weights.items() if weight}
    given = tuple(f"weighting.weights.{task}={weight:g}" for task, weight in on.items())
    return Row(name, title, tuple(on), ("weighting=fixed", *given), paper or {})
