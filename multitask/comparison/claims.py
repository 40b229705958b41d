"""The section of a report on the claims: a table of verdicts, and the statistical method in words."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set

from multitask.comparison.columns import COLUMNS, IMPROVEMENT
from multitask.comparison.rows import Ordering
from multitask.comparison.statistics import (
    FAILS,
    HOLDS,
    LEVEL,
    MIN_SEEDS,
    TOO_FEW,
    UNDECIDED,
    Decision,
    Difference,
    decide,
    paired_difference,
)
from multitask.console import markdown

_HEADING = ["claim", "is", "", "in", "by", "95 % interval", "seeds", "p, corrected", "verdict"]
_WORDS = (HOLDS, FAILS, UNDECIDED, TOO_FEW)


def verdicts(
    claims: Sequence[Ordering],
    total: int,
    titles: Mapping[str, str],
    values: Callable[[str, str], Mapping[int, float]],
    diverged: Set[str],
) -> str:
    """Returns text and table in Markdown; empty without claims.

    Args:
        claims: the claims about rows that have runs.
        total: number of claims of the experiment.
        titles: titles of the rows, by key.
        values: returns, for a row's key and a metric, its values by seed.
        diverged: keys of rows with a diverged run: their means ignore it, so that no verdict may be in their favour.
    """
    if not claims:
        return ""
    found = [
        paired_difference(values(claim.better, claim.figure), values(claim.worse, claim.figure), claim.higher_is_better)
        for claim in claims
    ]
    margins = [_margin(claim, difference) for claim, difference in zip(claims, found, strict=True)]
    tested = decide(list(zip(found, margins, strict=True)))
    decisions = [_without_praise(*pair, diverged) for pair in zip(claims, tested, strict=True)]
    lines = [_line(*parts, titles) for parts in zip(claims, found, decisions, strict=True)]
    method = _method(claims, total, found, decisions, withheld=decisions != tested)
    return f"{method}\n\n{markdown([_HEADING, *lines])}"


def _margin(claim: Ordering, difference: Difference | None) -> float:
    """The margin by which the first row may be worse, in the metric's unit."""
    if claim.figure == IMPROVEMENT or not difference:
        return claim.margin
    return claim.margin * abs(difference.other)


def _without_praise(claim: Ordering, decision: Decision, diverged: Set[str]) -> Decision:
    ahead = {HOLDS: claim.better, FAILS: claim.worse}.get(decision.verdict)
    return decision._replace(verdict=UNDECIDED) if ahead in diverged else decision


def _line(claim: Ordering, found: Difference | None, decision: Decision, titles: Mapping[str, str]) -> list[str]:
    column = COLUMNS[claim.figure]
    relation = "better than"
    if claim.margin:
        points = claim.figure == IMPROVEMENT
        relation = "as good as, within " + (f"{100 * claim.margin:g} point" if points else f"{claim.margin:.0%}")
    line = [titles[claim.better], relation, titles[claim.worse], column.title]
    if found is None:  # no seed with metrics of both rows
        return [*line, "-", "-", "0", "-", decision.verdict]
    interval = "-" if found.num_seeds == 1 else "none: all equal"
    if found.interval:
        interval = " to ".join(f"{end * column.scale:+.3g}" for end in found.interval)
    p = "-" if decision.p is None else f"{decision.p:.2g}"
    return [*line, f"{found.mean * column.scale:+.3g}", interval, str(found.num_seeds), p, decision.verdict]


def _method(
    claims: Sequence[Ordering],
    total: int,
    found: Sequence[Difference | None],
    decisions: Sequence[Decision],
    *,
    withheld: bool,
) -> str:
    """Describes the number of claims, the statistical method and the counts of verdicts."""
    number = f"{len(claims)} of {total} claims" if len(claims) < total else f"{total} claims"
    tested = sum(decision.p is not None for decision in decisions)
    parts = [
        f"{number}, each by its paired difference over seeds, above zero where the first is better. The intervals are "
        f"of each claim alone (Student's t), so that one in twenty is expected to miss."
    ]
    if tested:
        parts.append(
            f"The verdicts are corrected for their number: each of the {tested} claims of {MIN_SEEDS} seeds or more "
            f"is tested both ways, whether the first is better and whether it is worse, by one-sided paired t tests; "
            f"all {2 * tested} p-values of this table are corrected together by Holm's step-down method, and a claim "
            f"holds, or does not, where the corrected p of its test is at most {LEVEL:g}; else it is undecided. The "
            f"chance of any wrong verdict in this table is then at most {100 * LEVEL:g} %, as far as differences over "
            "seeds are normally distributed. Shown is the smaller corrected p of the two."
        )
    if any(decision.verdict == TOO_FEW for decision in decisions):
        parts.append(f"With fewer than {MIN_SEEDS} seeds nothing is tested.")
    if withheld:
        parts.append("No verdict praises a row with a seed that diverged: it is undecided there, whatever p is.")
    if any(claim.margin for claim in claims):
        margins = "A claim to be as good as another row is tested against minus the margin, not zero: that share of "
        margins += "the other row's mean over the same seeds, taken as known"
        of_improvement = any(claim.margin and claim.figure == IMPROVEMENT for claim in claims)
        parts.append(margins + (", or so many points of Delta m." if of_improvement else "."))
    if any(difference and difference.num_seeds > 1 and difference.error is None for difference in found):
        parts.append(
            "Where all differences are equal, nothing tells how much they would vary: there is no interval, and "
            "nothing is decided."
        )
    counts = Counter(decision.verdict for decision in decisions)
    parts.append(f"Verdicts: {', '.join(f'{word} {counts[word]}' for word in _WORDS if counts[word])}:")
    return " ".join(parts)
