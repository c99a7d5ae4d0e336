"""The block on the shifted test part: scores beside those of the test, and what they lose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.secondary_scores import ShiftedScore, score_shifted
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import (
    format_interval,
    format_n_by_seeds,
    format_point_difference,
)

TITLE = "On the shifted test part"
_ABOVE = (
    "Scores on test_shifted, data from elsewhere than the test part. Verdicts, ranks and "
    "recommendations are those of the test part alone."
)
TITLES = ("shifted [95 %]", "change [95 %]", "n x seeds")


def build_shifted_grid(rows: Sequence[Row]) -> Grid | None:
    """A line for each row with answers to the shifted part; None where the task has none."""
    scored = [(row, score) for row in rows if (score := score_shifted(row.cell)) is not None]
    if not scored:
        return None
    return Grid(
        title=TITLE,
        above=_ABOVE,
        titles=TITLES,
        rows=tuple((row, _format(score)) for row, score in scored),
        notes=tuple(_write_notes([score for _, score in scored])),
        intervals=tuple((score.score, score.change, None) for _, score in scored),
    )


def _format(score: ShiftedScore) -> tuple[str, ...]:
    change = "–" if score.change is None else format_point_difference(score.change)
    return format_interval(score.score), change, format_n_by_seeds(score.score)


def _write_notes(scores: Sequence[ShiftedScore]) -> Iterable[str]:
    yield (
        "Change: score on the shifted part minus score on the test part, by the same runs, in "
        "points; the two parts have different examples, whose variances add up."
    )
    if any(score.change is None for score in scores):
        yield (
            "In cross-validation every run answers the whole shifted part, and each only a fold of "
            "the test: the score is a mean over the runs of all folds, whose training sets overlap."
        )
