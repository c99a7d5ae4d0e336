"""The block on forgetting: token losses on the study's text, before and after training."""

from __future__ import annotations

from collections.abc import Sequence

from paretune.analysis.secondary_scores import CellForgetting, measure_forgetting
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import format_interval, format_n_by_seeds

TITLE = "What training cost the language model"
TITLES = ("forgetting [95 %]", "before", "after", "blocks x seeds")
DIGITS = 3
_ABOVE = (
    "Forgetting: mean loss of a token on the study's text after training, minus that of the model "
    "without the method, in nats; above 0 the model has become worse at it. It enters no verdict; "
    "among the costs, what is below 0 counts as 0."
)


def build_forgetting_grid(rows: Sequence[Row]) -> Grid | None:
    """A line for each row whose runs measured it; None where the study did not ask for it."""
    measured = [(row, one) for row in rows if (one := measure_forgetting(row.cell)) is not None]
    if not measured:
        return None
    tokens = sorted({one.tokens for _, one in measured})
    counts = " or ".join(f"{count:,}" for count in tokens)
    return Grid(
        title=TITLE,
        above=_ABOVE,
        titles=TITLES,
        rows=tuple((row, _format(one)) for row, one in measured),
        notes=(
            f"{counts} tokens were scored in each run, those of every block but its first. "
            "Intervals: over runs, and blocks of the text; losses are comparable between methods "
            "on one model, whose tokens are the same.",
        ),
        intervals=tuple((one.change, None, None, None) for _, one in measured),
    )


def _format(one: CellForgetting) -> tuple[str, ...]:
    losses = (f"{one.before:.{DIGITS}f}", f"{one.after:.{DIGITS}f}")
    return format_interval(one.change, DIGITS), *losses, format_n_by_seeds(one.change)
