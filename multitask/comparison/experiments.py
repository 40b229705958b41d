"""The experiments: the paper's table 1 and figures 2, 6 and 7, and comparisons beyond them."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from multitask.comparison import transfer
from multitask.comparison.columns import DISPARITY, IOU, OF_TASK, VECTOR
from multitask.comparison.orderings import AS_GOOD, as_in_paper, better, better_in_all
from multitask.comparison.rows import Choices, Experiment, Ordering, Row, fixed

_S, _I, _D = _ALL = tuple(OF_TASK)

LEARNED = "three"
"""Name of the row that trains all three tasks with learned weights."""

PAPER_NOISE = {
    "after 500 of 50,000 steps": {_S: 0.60, _I: 62.5, _D: 13.5},
    "at the end": {_S: 0.075, _I: 20.4, _D: 3.25},
}
"""sigma^2 of each task in the paper's figure 7."""


def _paper(iou: float | None, vector: float | None, disparity: float | None) -> dict[str, float]:
    values = {IOU: iou and iou / 100, VECTOR: vector, DISPARITY: disparity}
    return {key: value for key, value in values.items() if value}


_UNCERTAINTY = ("weighting=uncertainty",)
SINGLE = (
    Row(_S, "semantic only", (_S,), ("weighting=equal",), _paper(59.4, None, None)),
    Row(_I, "instance only", (_I,), ("weighting=equal",), _paper(None, 4.61, None)),
    Row(_D, "depth only", (_D,), ("weighting=equal",), _paper(None, None, 0.640)),
)
_SINGLE_IN_PAPER = {figure: value for row in SINGLE for figure, value in row.paper.items()}
_EQUAL = Row("equal", "equal weights", _ALL, ("weighting=equal",), _paper(50.1, 3.79, 0.592))
_PAIRS = (
    Row(f"{_S}-{_I}", "semantic + instance, learned", (_S, _I), _UNCERTAINTY, _paper(61.0, 3.42, None)),
    Row(f"{_S}-{_D}", "semantic + depth, learned", (_S, _D), _UNCERTAINTY, _paper(62.7, None, 0.533)),
    Row(f"{_I}-{_D}", "instance + depth, learned", (_I, _D), _UNCERTAINTY, _paper(None, 3.54, 0.539)),
)
_THREE = Row(LEARNED, "three tasks, learned", _ALL, _UNCERTAINTY, _paper(63.4, 3.50, 0.522))
_NORMALISED, *_PAIRS_NORMALISED = (
    Row(f"{row.name}-sum1", f"{row.title}, sum 1", row.tasks, (*row.overrides, "weighting.sum=1.0"))
    for row in (_THREE, *_PAIRS)
)


def _weights(*values: float) -> dict[str, float]:
    return dict(zip(_ALL, values, strict=True))


def _named(weights: Mapping[str, float], paper: Mapping[str, float] | None = None) -> Row:
    on = {task: weight for task, weight in weights.items() if weight}
    name = "fixed-" + "-".join(f"{task}{weight:g}" for task, weight in on.items())
    title = "fixed " + " : ".join(f"{weight:g}" for weight in weights.values() if weight)
    return fixed(name, title, weights, paper)


_GRID = tuple(
    _named(_weights(round(1 - instance - depth, 4), instance, depth))
    for depth in (0.03, 0.1, 0.3, 0.6)
    for instance in (0.01, 0.03, 0.1, 0.3)
)
"""Grid of fixed weights that a user would search: some values of each small weight, the paper's among them."""


_OF_SINGLE = {figure: task for task, figure in OF_TASK.items()}

_SEARCHED = Row("", "fixed weights, searched", _ALL, (), _paper(62.8, 3.61, 0.549), "searched")
_RESCALED = Row("", "fixed weights, searched, rescaled", _ALL, role="searched-rescaled")
"""Placeholders for the best fixed weights of the search: as found, and rescaled to the sum of the learned weights."""


def _searched(choices: Choices) -> list[Row]:
    """Returns the row of the best fixed weights; empty before the search is done."""
    found = choices.weights
    if not found:
        return []
    return [replace(_SEARCHED, name=found.name, title=f"{found.title}, searched", overrides=found.overrides)]


def _table1_rows(choices: Choices) -> list[Row]:
    rows = [*SINGLE, _EQUAL, *_searched(choices), *_PAIRS, _THREE, _NORMALISED]
    if choices.weights and choices.learned_sum:
        total = f"{choices.learned_sum:.3g}"
        overrides = (*choices.weights.overrides, f"weighting.sum={total}")
        title = f"{choices.weights.title}, rescaled to sum {total}"
        rows.append(replace(_RESCALED, name=f"{choices.weights.name}-sum{total}", title=title, overrides=overrides))
    return rows


def _sweep(first: str, second: str, points: Mapping[float, tuple[float | None, ...]]) -> tuple[Row, ...]:
    """Returns rows of fixed weights of two tasks, w and 1 - w."""
    return tuple(
        _named({first: weight, second: round(1 - weight, 4)}, _paper(*paper)) for weight, paper in points.items()
    )


def _sweep_claims(sweep: Sequence[Row], *learned: Row) -> list[Ordering]:
    return [claim for row in sweep for one in learned for claim in better(one, row)]


_SWEEP_A = _sweep(_S, _D, {
    0.975: (59.5, None, 0.664), 0.95: (59.9, None, 0.603), 0.9: (60.1, None, 0.586), 0.85: (60.4, None, 0.582),
    0.8: (59.6, None, 0.577), 0.7: (59.0, None, 0.573), 0.5: (56.3, None, 0.602), 0.2: (47.2, None, 0.625),
    0.1: (42.7, None, 0.628),
})  # fmt: skip
_SWEEP_B = _sweep(_I, _D, {
    0.75: (None, 4.52, 0.692), 0.5: (None, 4.30, 0.655), 0.4: (None, 4.14, 0.641), 0.3: (None, 4.04, 0.615),
    0.2: (None, 3.83, 0.607), 0.1: (None, 3.91, 0.600), 0.05: (None, 4.27, 0.607), 0.025: (None, 4.31, 0.624),
})  # fmt: skip
_STARTS = (-2, -1, 0, 1, 2, 3, 4, 5)


def _start(value: int) -> str:
    return f"start{value}" if value else LEARNED  # the usual start, 0, is that row


# Not `laplace` and `gaussian`: runs of these names counted one penalty for both components of a vector.
_LIKELIHOODS = (
    _THREE,
    Row("laplace-per-component", "Laplace regressions", _ALL,
        (*_UNCERTAINTY, f"task.{_I}.likelihood=laplace", f"task.{_D}.likelihood=laplace")),
    Row("gaussian-per-component", "Gaussian regressions, squared error", _ALL,
        (*_UNCERTAINTY, f"task.{_I}.likelihood=gaussian", f"task.{_D}.likelihood=gaussian")),
    Row("softmax-exact", "exact softmax", _ALL, (*_UNCERTAINTY, f"task.{_S}.likelihood=softmax_exact")),
)  # fmt: skip
_METHODS = {
    "liebel_koerner": "Liebel & Koerner",
    "uw_so": "UW-SO",
    "dwa": "DWA",
    "rlw": "RLW",
    "gls": "GLS",
    "imtl_l": "IMTL-L",
    "famo": "FAMO",
}
_WEIGHTINGS = (
    _EQUAL,
    replace(_THREE, title="uncertainty"),
    *(Row(name, title, _ALL, (f"weighting={name}",)) for name, title in _METHODS.items()),
)


def _varied(row: Row, name: str, title: str, *overrides: str) -> Row:
    """Returns a variant of a row, with the learning rate that was chosen for the unchanged row."""
    role = row.role and f"{row.role}-{name}"
    overrides = (*row.overrides, *overrides)
    return Row(f"{row.name}-{name}", f"{row.title}, {title}", row.tasks, overrides, role=role, rated_as=row)


_OF_ALL = (
    ("steps2400", "2400 steps", "trainer.max_steps=2400"),
    ("resnet18", "ResNet-18", "model.encoder=resnet18"),
    ("draw125", "125 images", "data.draw=125"),
    ("draw500", "500 images", "data.draw=500"),
)
_OF_LEARNING = (
    ("slow-s", "s five times slower", "optimizer.log_variance_lr=0.023"),
    ("fast-s", "s five times faster", "optimizer.log_variance_lr=0.575"),
)


def _ablations(searched: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Groups of rows (single tasks, searched and learned weights), one group per change of budget, network or data."""
    ablated = (*SINGLE, *searched, _THREE)
    of_all = [tuple(_varied(row, *variant) for row in ablated) for variant in _OF_ALL]
    return [ablated, *of_all, *((*SINGLE, *searched, _varied(_THREE, *variant)) for variant in _OF_LEARNING)]


def _ablation_claims() -> list[Ordering]:
    claims = []
    for *single, searched, three in _ablations([_SEARCHED]):
        claims += [claim for row in single for claim in better(three, row)]
        claims += better(three, searched, AS_GOOD)
    return claims


_HAS_TORCHJD = importlib.util.find_spec("torchjd") is not None
if _HAS_TORCHJD:
    _WEIGHTINGS += tuple(
        Row(f"jacobian-{name}", f"Jacobian, {title}", _ALL, ("weighting=jacobian", f"weighting.aggregator={name}"))
        for name, title in {
            "upgrad": "UPGrad",
            "pcgrad": "PCGrad",
            "cagrad": "CAGrad",
            "mgda": "MGDA",
            "nash_mtl": "Nash-MTL",
        }.items()
    )

EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment(
        "Table 1: three tasks in one network, and how they are weighted",
        _table1_rows,
        candidates=_GRID,
        orderings=[
            *as_in_paper([*SINGLE, _EQUAL, _SEARCHED, *_PAIRS, _THREE], _SINGLE_IN_PAPER),
            # Not separated in the paper: whether learned weights are better, or only larger.
            *better_in_all(_THREE, _SEARCHED, AS_GOOD),
            *better_in_all(_THREE, _RESCALED, AS_GOOD),
            *better_in_all(_NORMALISED, _SEARCHED, AS_GOOD),
            *better_in_all(_SEARCHED, _RESCALED),
            *better_in_all(_THREE, _NORMALISED),
        ],
        histories=[LEARNED],
        single=_OF_SINGLE,
    ),
    "figure2a": Experiment(
        "Figure 2a: the weight of semantic segmentation against depth",
        lambda _: [SINGLE[0], *_SWEEP_A, SINGLE[2], _PAIRS[1], _PAIRS_NORMALISED[1]],
        orderings=_sweep_claims(_SWEEP_A, _PAIRS[1], _PAIRS_NORMALISED[1]),
        swept=_S,
        search_rate=False,
    ),
    "figure2b": Experiment(
        "Figure 2b: the weight of instance segmentation against depth",
        lambda _: [SINGLE[1], *_SWEEP_B, SINGLE[2], _PAIRS[2], _PAIRS_NORMALISED[2]],
        orderings=_sweep_claims(_SWEEP_B, _PAIRS[2], _PAIRS_NORMALISED[2]),
        swept=_I,
        search_rate=False,
    ),
    "figure6": Experiment(
        "Figure 6: log-variances from different starts",
        lambda _: [
            Row(_start(start), f"start {start}", _ALL, (*_UNCERTAINTY, f"weighting.initial_log_variance={start}.0"))
            for start in _STARTS
        ],
        search_rate=False,
        histories=[_start(start) for start in _STARTS],
    ),
    "figure7": Experiment(
        "Figure 7: losses, noise and effective weights over training",
        lambda _: [_THREE],
        search_rate=False,
        histories=[LEARNED],
    ),
    "likelihoods": Experiment(
        "Likelihoods: the paper's form and others",
        lambda _: _LIKELIHOODS,
        orderings=[claim for row in _LIKELIHOODS[1:] for claim in better(_THREE, row)],
    ),
    "ablations": Experiment(
        "Ablations: learned weights with more steps, a larger network, other amounts of data",
        lambda choices: list(dict.fromkeys(itertools.chain(*_ablations(_searched(choices))))),
        candidates=_GRID,
        orderings=_ablation_claims(),
    ),
    "transfer": Experiment(
        "Transfer: what to start from, with few labelled frames",
        lambda _: transfer.ROWS,
        orderings=transfer.claims(),
        curves=transfer.CURVES,
        axis="labelled frames",
    ),
    "weightings": Experiment(
        "Weightings, against networks of a single task",
        lambda _: [*SINGLE, *_WEIGHTINGS],
        orderings=[claim for row in _WEIGHTINGS if row.name != LEARNED for claim in better_in_all(_THREE, row)],
        single=_OF_SINGLE,
        missing="" if _HAS_TORCHJD else "rows of weighting=jacobian: left out, torchjd is not installed",
    ),
}
