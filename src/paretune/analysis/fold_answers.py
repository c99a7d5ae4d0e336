"""Answers of the runs of one cross-validation, put together as answers to all rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from paretune.errors import StoreError
from paretune.store.record import Predictions


def merge_folds(folds: Sequence[Predictions]) -> Predictions:
    """The answers of several folds as one part, in the natural order of uids.

    So the answers of every method and repeat stand in the same order, whatever its folds. Clusters
    and questions lie whole in a fold; they are numbered anew in that order.

    Raises:
        StoreError: two folds have answered the same row.
    """
    uids = [uid for fold in folds for uid in fold.uid]
    if len(set(uids)) < len(uids):
        raise StoreError(
            "two folds of a cross-validation have answered the same rows.",
            remedy="The data of the task changed between runs; run the study again.",
        )
    order = sorted(range(len(uids)), key=lambda i: _natural_key(uids[i]))
    names = set.intersection(*(set(fold.segment) for fold in folds))
    merged: dict[str, tuple[object, ...]] = {}
    for field in fields(Predictions):
        if field.name in ("cluster", "question"):
            merged[field.name] = _merge_groups(folds, field.name, order)
        elif field.name != "segment":
            values = [value for fold in folds for value in getattr(fold, field.name)]
            # A column that some runs do not have is left out.
            merged[field.name] = tuple(values[i] for i in order) if len(values) == len(uids) else ()
    segment = {}
    for name in names:
        scores = [score for fold in folds for score in fold.segment[name]]
        segment[name] = tuple(scores[i] for i in order)
    return replace(folds[0], **merged, segment=segment)  # type: ignore[arg-type]


def fill_repeats(repeats: Mapping[int, Predictions]) -> dict[int, Predictions]:
    """Every repeat with all rows that any has answered.

    A row without an answer in one repeat has there the answer of the next repeat that has one. So
    each row counts once, with a mean over what answered it, and a fold that failed costs its own
    answers only.
    """
    if len({answers.uid for answers in repeats.values()}) < 2:
        return dict(repeats)
    order = list(repeats)
    filled = {}
    for place, repeat in enumerate(order):
        parts = [repeats[repeat]]
        have = set(parts[0].uid)
        for other in (*order[place + 1 :], *order[:place]):
            answers = repeats[other]
            missing = [i for i, uid in enumerate(answers.uid) if uid not in have]
            if missing:
                parts.append(_take_rows(answers, missing))
                have.update(parts[-1].uid)
        filled[repeat] = merge_folds(parts)
    return filled


def _take_rows(answers: Predictions, places: Sequence[int]) -> Predictions:
    columns = {}
    for field in fields(Predictions):
        if field.name != "segment":
            column = getattr(answers, field.name)
            columns[field.name] = tuple(column[i] for i in places) if column else ()
    segment = {name: tuple(v[i] for i in places) for name, v in answers.segment.items()}
    return replace(answers, **columns, segment=segment)


def _merge_groups(folds: Sequence[Predictions], name: str, order: Sequence[int]) -> tuple[int, ...]:
    """Numbers of clusters or questions; in a fold that has none, every row is its own."""
    columns: list[tuple[int, ...]] = [getattr(fold, name) for fold in folds]
    if not any(columns):
        return ()
    keys = [
        (number, group)
        for number, (fold, column) in enumerate(zip(folds, columns, strict=True))
        for group in (column or range(len(fold.uid)))
    ]
    numbers: dict[tuple[int, int], int] = {}
    return tuple(numbers.setdefault(keys[i], len(numbers)) for i in order)


def _natural_key(uid: str) -> list[tuple[int, int, str]]:
    """``train:2`` before ``train:10``."""
    parts = re.split(r"(\d+)", uid)
    return [(1, int(p), "") if p.isdecimal() and p.isascii() else (0, 0, p) for p in parts]
