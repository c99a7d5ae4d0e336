"""How far off a prediction would have been: predicted and measured, method by method."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from paretune.analysis.cell import Cell
from paretune.analysis.forecast import Backtest, backtest_predictions
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import format_bytes, format_seconds
from paretune.terminal.plural import pluralise

TITLES = (
    "peak: predicted",
    "measured",
    "ratio",
    "time to train: predicted",
    "measured",
    "ratio",
)


def build_prediction_grids(tasks: Sequence[Sequence[Row]]) -> tuple[Grid | None, ...]:
    """One for each task, None where nothing of it could have been predicted.

    Each method is predicted from the runs of the other methods on the same model and device, in
    all tasks of the study: what ``plan`` knew before the method's first run, had the others ended.
    """
    backtests = {
        _cell_key(one.cell): one
        for one in backtest_predictions([row.cell for rows in tasks for row in rows])
    }
    grids = []
    for rows in tasks:
        known = [(row, one) for row in rows if (one := backtests.get(_cell_key(row.cell)))]
        grids.append(_build_grid(known) if known else None)
    return tuple(grids)


def _cell_key(cell: Cell) -> tuple[str, str, str]:
    return cell.task, cell.model, cell.method


def _build_grid(pairs: Sequence[tuple[Row, Backtest]]) -> Grid:
    return Grid(
        title="Predicted and measured",
        above=(
            "Each method predicted as if it had never run here: from first principles (operations, "
            "bytes), fitted to the runs of the other methods on the same model and device. A ratio "
            "over 1: predicted too much. Seconds are for the steps that were made, since early "
            "stopping is not foreseen."
        ),
        titles=TITLES,
        rows=tuple((row, _format_texts(one)) for row, one in pairs),
        notes=tuple(_write_notes([one for _, one in pairs])),
    )


def _format_texts(one: Backtest) -> tuple[str, ...]:
    return (
        *_format_three(one.peaks, format_bytes),
        *_format_three(one.seconds, format_seconds),
    )


def _format_three(
    pairs: Sequence[tuple[float, float]], format_: Callable[[float], str]
) -> tuple[str, str, str]:
    if not pairs:
        return "–", "–", "–"
    predicted, measured = (statistics.median(side) for side in zip(*pairs, strict=True))
    return format_(predicted), format_(measured), format_ratios(pairs)


def format_ratios(pairs: Sequence[tuple[float, float]]) -> str:
    """``1.03 (0.97 to 1.10, 3 runs)``: median and range of predicted to measured."""
    ratios = sorted(predicted / measured for predicted, measured in pairs)
    median, runs = f"{statistics.median(ratios):.2f}", pluralise(len(ratios), "run")
    if len(ratios) == 1:
        return f"{median} ({runs})"
    return f"{median} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {runs})"


def _write_notes(backtests: Sequence[Backtest]) -> Iterable[str]:
    peaks = [(one.peaks, one.basis_peaks) for one in backtests if one.peaks]
    seconds = [(one.seconds, one.basis_seconds) for one in backtests if one.seconds]
    for quantity, known in (("Peak memory", peaks), ("Time to train", seconds)):
        if known:
            pairs = [pair for some, _ in known for pair in some]
            basis = [runs for _, runs in known]
            fewest, most = min(basis), max(basis)
            span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            yield (
                f"{quantity}, predicted to measured over all methods: {format_ratios(pairs)}; "
                f"each predicted "
                f"from {span} runs of others."
            )
