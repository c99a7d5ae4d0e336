"""Test examples on which methods differ, for every pair of a task: labels, and generated texts.

The score of an example is whether its label is right, 1 or 0, or sacreBLEU's chrF of its text
alone, 0 to 100. Two methods are compared run by run: same seed, same examples. The single run of a
deterministic baseline is compared with every run of the other. Of the examples that
differ, by label in the answer of most seeds, by text in the mean score over seeds, those with the
largest difference of mean scores are listed. Shown texts are those of the run that is nearest to
the mean. The sources of translations are the outputs of the baseline ``copy_source``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product, takewhile, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune import tasks
from paretune.analysis.cell import Cell
from paretune.metrics.translation import CHRF
from paretune.reporting.parts import ComparedPair, ComparedSide, Disagreement
from paretune.reporting.rows import CellRow
from paretune.store.record import Predictions
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MAX_LISTED = {"examples": 25, "answers": 25, "segments": 10}
"""The most that is listed of a pair, by its unit."""
MAX_EXAMPLES = 2000
"""The most examples of a task on the page, for all its pairs together."""
MAX_TEXTS = 2400
"""The most texts on the page, for all tasks together: 1 MB."""
MAX_CHARACTERS = 400
"""A longer text is cut."""
_CUT = " […]"
_EQUAL = 1e-9
"""Two values of chrF that differ by less are equal."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class _Side:
    """A configuration, the answer to each example, and the scores of its seeds."""

    row: CellRow
    answers: NDArray[Any]
    scores: Mapping[int, Scores]
    means: Scores


def find_disagreements(
    all_rows: Sequence[CellRow], most_texts: int = MAX_TEXTS
) -> Disagreement | None:
    """Compare every pair of a task's configurations.

    Args:
        most_texts: maximum number of generated texts in the result.

    Returns:
        None where answers are neither labels nor texts, or for fewer than two configurations.
    """
    objective = all_rows[0].cell.objective
    if not (objective.predicts_labels or objective.generates):
        return None
    # Only the largest group of rows that answered the same examples is comparable.
    answered = [
        (row, {seed: by_seed[seed].predictions for seed in by_seed})
        for row in all_rows
        if (by_seed := row.cell.group_answers(row.cell.final))
    ]
    groups = Counter(next(iter(answers.values())).uid for _, answers in answered)
    largest = groups.most_common(1)[0][0] if groups else ()
    by_row = [
        (row, answers) for row, answers in answered if next(iter(answers.values())).uid == largest
    ]
    if len(by_row) < 2:
        return None
    are_labels = objective.predicts_labels
    sides = [_read_side(row, answers, are_labels=are_labels) for row, answers in by_row]
    first = next(iter(by_row[0][1].values()))
    unit, most = "segments", max(1, most_texts // (len(sides) + 2))
    write: Callable[[Any], str] = str
    if are_labels:
        unit, most = "answers" if first.question else "examples", MAX_EXAMPLES
        highest = max(*map(int, first.label), *(int(side.answers.max()) for side in sides))
        names = name_labels(sides[0].row.cell, highest)
        write = (*names, "no label").__getitem__  # the last for -1
    orders = {}
    for a, b in combinations(range(len(sides)), 2):
        gap = np.abs(sides[a].means - sides[b].means)
        differ = sides[a].answers != sides[b].answers if are_labels else gap > _EQUAL
        order = np.argsort(-gap, kind="stable")
        orders[a, b] = order[differ[order]].tolist()
    # Of too many the clearest of each pair; in data order.
    clearest = zip_longest(*(order[: MAX_LISTED[unit]] for order in orders.values()))
    ranked = [i for i in dict.fromkeys(chain.from_iterable(clearest)) if i is not None]
    listed = {i: place for place, i in enumerate(sorted(ranked[:most]))}
    # The pair of the two highest methods comes first; baselines only without two methods.
    scores = [side.row.cell.interval.estimate if side.row.cell.interval else 0.0 for side in sides]
    ranks = sorted(range(len(sides)), key=lambda i: (sides[i].row.cell.baseline, -scores[i], i))
    texts: dict[str, int] = {}

    def place(text: str) -> int:
        return texts.setdefault(_shorten(text), len(texts))

    copied = (
        side.row.cell.test_answers[0].prediction
        for side in sides
        if side.row.cell.name == "copy_source"
    )
    sources = next(copied, None)
    task = sides[0].row.cell.final[0].run.task
    # A code that HTML knows, as `sl`; not `slv_Latn`.
    source, target = (
        code if re.fullmatch("[a-z]{2}", code or "") else ""
        for code in (task.source_lang, task.target_lang)
    )
    return Disagreement(
        n=len(first.uid),
        unit=unit,
        sides=tuple(
            ComparedSide(
                name=side.row.report.title,
                seeds=len(side.scores),
                answers=tuple(place(write(side.answers[i])) for i in listed),
                scores=tuple(round(float(side.means[i]), 4) for i in listed),
            )
            for side in sides
        ),
        pairs=tuple(
            _compare_pair(sides, pair, order, listed, unit) for pair, order in orders.items()
        ),
        examples=tuple(
            (
                _shorten(first.uid[i]),
                place(write(first.label[i])),
                None if sources is None else place(str(sources[i])),
            )
            for i in listed
        ),
        texts=tuple(texts),
        languages=(source or "", target or ""),
        cut=any(text.endswith(_CUT) for text in texts),
        default_pair=[set(pair) for pair in orders].index(set(ranks[:2])),
    )


def _read_side(row: CellRow, by_seed: Mapping[int, Predictions], *, are_labels: bool) -> _Side:
    """Read scores, and the answer of most seeds or the text with the score nearest to the mean."""
    references = next(iter(by_seed.values())).label
    predictions = [p.prediction for p in by_seed.values()]
    if are_labels:
        answers = np.array(predictions, dtype=np.int64)
        scores = (answers == np.array(references, dtype=np.int64)).astype(np.float64)
        chosen = (answers[:, None, :] == answers[None, :, :]).sum(axis=1).argmax(axis=0)
    else:
        texts = [tuple(map(str, of_seed)) for of_seed in predictions]
        answers = np.array(texts, dtype=object)
        scores = CHRF.from_sums(CHRF.statistics(tuple(map(str, references)), texts, ()))
        chosen = np.abs(scores - scores.mean(axis=0)).argmin(axis=0)
    answer = np.take_along_axis(answers, chosen[None, :], axis=0)[0]
    return _Side(row, answer, dict(zip(by_seed, scores, strict=True)), scores.mean(axis=0))


def _compare_pair(
    sides: Sequence[_Side],
    pair: tuple[int, int],
    differing: Sequence[int],
    listed: Mapping[int, int],
    unit: str,
) -> ComparedPair:
    """Count run by run who is right, or has the higher chrF; name the clearest differences.

    Args:
        pair: places of the two among the sides.
        differing: examples that differ, the clearest first.
        listed: places of the examples that are shown.
    """
    a, b = (sides[side] for side in pair)
    if a.row.cell.deterministic or b.row.cell.deterministic:
        # Its one run is paired with every run of the other.
        matched = list(product(a.scores.values(), b.scores.values()))
    else:
        matched = [(a.scores[seed], b.scores[seed]) for seed in a.scores if seed in b.scores]
    only_a, only_b = (
        sum(int((sign * (x - y) > _EQUAL).sum()) for x, y in matched) for sign in (1, -1)
    )
    are_labels = unit != "segments"
    both = sum(int((x * y).sum()) for x, y in matched) if are_labels else None
    clearest = differing[: MAX_LISTED[unit]]
    named = tuple(listed[i] for i in takewhile(listed.__contains__, clearest))
    listing = "; all are listed, the clearest difference first" if named else ""
    if left := len(differing) - len(named):
        listing = (
            f"; the {len(named)} with the clearest difference are listed, {left:,} are left out"
        )
    compared = "Majority answers" if are_labels else "The means"
    count = f"{len(a.means):,} test {unit}"
    basis = f"{count} × {pluralise(len(matched), 'pair')} of runs"
    return ComparedPair(
        a=pair[0],
        b=pair[1],
        runs=len(matched),
        basis=basis if matched else "no seed that both have: nothing can be counted",
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=len(a.means) * len(matched) - only_a - only_b - (both or 0),
        differing=len(differing),
        named=named,
        summary=f"{compared} over seeds differ on {len(differing):,} of {count}{listing}.",
    )


def name_labels(cell: Cell, highest: int) -> tuple[str, ...]:
    """Name the labels as the study or the built-in task does; number them where no name fits."""
    task = cell.final[0].run.task
    names = task.labels
    if task.kind is None and task.name in tasks.names():
        names = tasks.get(task.name).labels
    if highest >= len(names or ()):
        return tuple(str(index) for index in range(highest + 1))
    return tuple(map(sanitise_line, names or ()))


def _shorten(text: str) -> str:
    """Make a text printable and at most :data:`MAX_CHARACTERS` long."""
    return sanitise_line(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}{_CUT}")
