"""The block on searches: what each has found, what its trials said, and what the test says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from paretune.autopeft.describe import describe_layers
from paretune.autopeft.surrogate import expected_maximum
from paretune.methods.core.layer_subset import ALL, list_layers
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import format_seconds, pluralise
from paretune.store.record import Record
from paretune.study.run import is_trial

TITLE = "What the search found"
_ABOVE = (
    "A search tries combinations of methods in groups of layers on the selection part, with one "
    "seed each; what it found was then trained anew, as every method. A layer in which a method "
    "stands is ■, lowest first."
)
TITLES = ("combination", "layers", "selection said", "test says", "trials", "their training")


def build_search_grid(rows: Sequence[Row], records: Sequence[Record]) -> Grid | None:
    """A line for each method that a search has completed; None where there is none.

    Args:
        records: of the task.
    """
    searched = [
        (row, combination) for row in rows if (combination := _found_methods(row)) is not None
    ]
    if not searched:
        return None
    lines = []
    notes: dict[str, None] = {}
    for row, combination in searched:
        trials = [r for r in records if r.run.model.key == row.cell.model and is_trial(r.run)]
        lines.append((row, _describe(row, combination, trials)))
        notes |= dict.fromkeys(_write_notes(row, rows, trials))
    return Grid(TITLE, _ABOVE, TITLES, tuple(lines), tuple(notes))


def _found_methods(row: Row) -> Sequence[Mapping[str, Any]] | None:
    """The members of what was found; None where no search was."""
    for record in row.cell.final:
        if option := record.run.method.found_by_search:
            combination: Sequence[Mapping[str, Any]] = record.run.method.options[option]
            return combination
    return None


def _describe(
    row: Row, combination: Sequence[Mapping[str, Any]], trials: Sequence[Record]
) -> tuple[str, ...]:
    own = [r for r in trials if r.run.method.options.get("methods") == list(combination)]
    own = [r for r in own if r.run.learning_rate == row.cell.final[0].run.learning_rate]
    scores = [score[0] for r in own if (score := r.selection_score) is not None]
    counts = {len(r.measured["layer_gradients"]) for r in trials if "layer_gradients" in r.measured}
    strip = draw_layers(combination, counts.pop()) if len(counts) == 1 else "–"
    seconds = [s for r in trials if (s := r.train_seconds) is not None]
    return (
        describe_layers(combination),
        strip,
        f"{median(scores):.3f}" if scores else "–",
        "–" if row.interval is None else f"{row.interval.estimate:.3f}",
        str(len(trials)),
        format_seconds(sum(seconds)) if seconds else "–",
    )


def draw_layers(combination: Sequence[Mapping[str, Any]], count: int) -> str:
    """``lora ···■■■, ia3 ■■■■■■``: in which layers each method stands."""
    inside: dict[str, set[int]] = {}
    for member in combination:
        own = list_layers(str(member.get("layers", ALL)), count)
        inside.setdefault(str(member["name"]), set()).update(own)
    return ", ".join(
        f"{name} {''.join('■' if n in own else '·' for n in range(count))}"
        for name, own in inside.items()
    )


def _write_notes(row: Row, rows: Sequence[Row], trials: Sequence[Record]) -> Iterable[str]:
    if len(trials) > 1:
        yield (
            f"Of {len(trials)} equal combinations the best score on the selection part is "
            f"{expected_maximum(len(trials)):.1f} standard errors too high: that is why a search "
            "believes the mean of a model of all scores, and why the test alone says what it is "
            "worth."
        )
    others = [
        r for r in rows
        if r.cell.model == row.cell.model and not r.cell.baseline and r.interval is not None
        and _found_methods(r) is None
    ]  # fmt: skip
    if others and row.interval is not None:
        best = max(others, key=lambda r: r.interval.estimate if r.interval else 0.0)
        assert best.interval is not None  # noqa: S101  (filtered)
        gap = row.interval.estimate - best.interval.estimate
        words = "above" if gap >= 0 else "below"
        spent = sum(r.train_seconds or 0.0 for r in trials)
        hand = sum(r.train_seconds or 0.0 for r in best.cell.tuning)
        times = f", and its trials took {spent / hand:.1f} times as long" if hand else ""
        yield (
            f"{row.title}: {abs(gap):.3f} {words} {best.title}, the best method that was set by "
            f"hand{times} ({pluralise(len(row.cell.final), 'final run')}). Whether that is more "
            "than chance is in the comparison of all methods."
        )
