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

from paretune.analysis.cell import Cell
from paretune.metrics.translation import CHRF
from paretune.reporting.parts import ComparedPair, ComparedSide, Disagreement
from paretune.reporting.rows import CellRow
from paretune.store.record import Predictions
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MAX_LISTED = {"examples": 25, "answers": 25, "segments": 10}
"""What is listed of one pair, by its unit."""
MAX_EXAMPLES = 2000
"""Examples of one task on the page, for all its pairs together."""
MAX_TEXTS = 2400
"""Texts on the page, for all tasks together: at most 1 MB."""
MAX_CHARACTERS = 400
"""Characters that are shown of a text."""
_CUT = " […]"
_EQUAL = 1e-9
"""Differences of chrF that are none."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class _Answers:
    """What the seeds of a configuration say: the answer to each example, and all scores."""

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
    rows, parts = _group_common_answers(all_rows)
    if len(rows) < 2:
        return None
    first, are_labels = next(iter(parts[0].values())), objective.predicts_labels
    sides = [_read_answers(by_seed, are_labels=are_labels) for by_seed in parts]
    unit, most, compared = "segments", max(1, most_texts // (len(rows) + 2)), "The means"
    write: Callable[[Any], str] = str
    if are_labels:
        unit = "answers" if first.question else "examples"
        most, compared = MAX_EXAMPLES, "Majority answers"
        highest = max(*map(int, first.label), *(int(side.answers.max()) for side in sides))
        write = (*name_labels(rows[0].cell, highest), "no label").__getitem__  # the last for -1
    most_of_pair = MAX_LISTED[unit]
    orders = {}
    for a, b in combinations(range(len(rows)), 2):
        gap = np.abs(sides[a].means - sides[b].means)
        differ = sides[a].answers != sides[b].answers if are_labels else gap > _EQUAL
        order = np.argsort(-gap, kind="stable")
        orders[a, b] = order[differ[order]].tolist()
    # Of too many the clearest of each pair; in data order.
    clearest = zip_longest(*(order[:most_of_pair] for order in orders.values()))
    ranked = [i for i in dict.fromkeys(chain.from_iterable(clearest)) if i is not None]
    listed = {i: place for place, i in enumerate(sorted(ranked[:most]))}
    pairs = []
    for (a, b), order in orders.items():
        matched = _match_seeds(rows[a], sides[a].scores, rows[b], sides[b].scores)
        only_a, only_b = (
            sum(int((sign * (x - y) > _EQUAL).sum()) for x, y in matched) for sign in (1, -1)
        )
        both = sum(int((x * y).sum()) for x, y in matched) if are_labels else None
        named = tuple(listed[i] for i in takewhile(listed.__contains__, order[:most_of_pair]))
        listing = "; all are listed, the clearest difference first" if named else ""
        if left := len(order) - len(named):
            listing = (
                f"; the {len(named)} with the clearest difference are listed, {left:,} are left out"
            )
        count = f"{len(first.uid):,} test {unit}"
        basis = f"{count} × {pluralise(len(matched), 'pair')} of runs"
        pairs.append(
            ComparedPair(
                a=a,
                b=b,
                runs=len(matched),
                basis=basis if matched else "no seed that both have: nothing can be counted",
                both=both,
                only_a=only_a,
                only_b=only_b,
                neither=len(first.uid) * len(matched) - only_a - only_b - (both or 0),
                differing=len(order),
                named=named,
                summary=f"{compared} over seeds differ on {len(order):,} of {count}{listing}.",
            )
        )
    texts: dict[str, int] = {}

    def place(text: str) -> int:
        return texts.setdefault(_shorten(text), len(texts))

    copied = (r.cell.test_answers[0].prediction for r in rows if r.cell.name == "copy_source")
    sources = next(copied, None)
    task = rows[0].cell.final[0].run.task
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
                name=row.report.title,
                seeds=len(side.scores),
                answers=tuple(place(write(side.answers[i])) for i in listed),
                scores=tuple(round(float(side.means[i]), 4) for i in listed),
            )
            for row, side in zip(rows, sides, strict=True)
        ),
        pairs=tuple(pairs),
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
        default_pair=_choose_default_pair(rows, list(orders)),
    )


def _group_common_answers(
    all_rows: Sequence[CellRow],
) -> tuple[list[CellRow], list[Mapping[int, Predictions]]]:
    """The largest group of rows that answered the same examples, and their answers by seed."""
    answered = [
        (row, {seed: by_seed[seed].predictions for seed in by_seed})
        for row in all_rows
        if (by_seed := row.cell.group_answers(row.cell.final))
    ]
    groups = Counter(next(iter(answers.values())).uid for _, answers in answered)
    largest = groups.most_common(1)[0][0] if groups else ()
    comparable = [pair for pair in answered if next(iter(pair[1].values())).uid == largest]
    return [row for row, _ in comparable], [answers for _, answers in comparable]


def _read_answers(by_seed: Mapping[int, Predictions], *, are_labels: bool) -> _Answers:
    """Scores, and the answer of most seeds or the text whose score is nearest to the mean."""
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
    return _Answers(answer, dict(zip(by_seed, scores, strict=True)), scores.mean(axis=0))


def _match_seeds(
    a: CellRow, scores_a: Mapping[int, Scores], b: CellRow, scores_b: Mapping[int, Scores]
) -> list[tuple[Scores, Scores]]:
    """Pairs of the scores of two configurations for the same seed.

    A deterministic configuration has one run, which is paired with every run of the other.
    """
    if a.cell.deterministic or b.cell.deterministic:
        return list(product(scores_a.values(), scores_b.values()))
    return [(scores, scores_b[seed]) for seed, scores in scores_a.items() if seed in scores_b]


def _choose_default_pair(rows: Sequence[CellRow], pairs: Sequence[tuple[int, int]]) -> int:
    """Place of the pair of the two highest methods; baselines only without two methods."""
    scores = [row.cell.interval.estimate if row.cell.interval else 0.0 for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (rows[i].cell.baseline, -scores[i], i))
    return next(place for place, pair in enumerate(pairs) if set(pair) == set(order[:2]))


def name_labels(cell: Cell, highest: int) -> tuple[str, ...]:
    """Names of the labels, from the study or the built-in task; numbers where they do not fit."""
    from paretune import tasks

    task = cell.final[0].run.task
    names = task.labels
    if not task.has_own_data and task.name in tasks.names():
        names = tasks.get(task.name).labels
    if highest >= len(names or ()):
        return tuple(str(index) for index in range(highest + 1))
    return tuple(map(sanitise_line, names or ()))


def _shorten(text: str) -> str:
    """Printable, and at most :data:`MAX_CHARACTERS` long."""
    return sanitise_line(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}{_CUT}")
