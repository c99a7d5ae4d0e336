"""Cut examples into equal parts: stratified by label, groups (and duplicates) together.

The numbers of a regression are stratified by their fifths.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from paretune.data.columns import cell_text, parse_date
from paretune.data.example import Dataset, text_key
from paretune.data.finding import Finding, raise_for_findings, summarise
from paretune.data.rows import Row
from paretune.errors import DataError, suggest
from paretune.metrics.classification import multi_hot
from paretune.objectives.example import Example
from paretune.study import AUTO_OUTER_FOLDS, NUM_FOLDS, OuterFold, Protocol, TaskSpec, derive_seed

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Parts by what a column calls them, in small letters."""


def assign_folds(examples: Sequence[Example], seed: int, folds: int = NUM_FOLDS) -> list[int]:
    """The part (0 to ``folds - 1``) of each example, in their order.

    Groups are placed largest first, in an order drawn from a private generator, each where it
    disturbs the balance least: the sum over parts of squared shares of each label, then of size.
    Examples without a group are alone, but equal texts stay together, or train would leak into
    the selection part. A label that occurs in two groups or more is found in two parts or more,
    so that it is in the training complement of every part.

    Raises:
        DataError: fewer examples than parts, or only one group of them.
    """
    if len(examples) < folds:
        raise DataError(
            f"{len(examples)} training rows cannot be cut into {folds} parts.",
            where=examples[0].where if examples else "train",
            remedy="Add rows; a claim needs hundreds.",
        )
    groups = _groups(examples)
    if len(groups) == 1:
        raise DataError(
            f"all {len(examples)} training rows are of one group, or of one text, and groups stay "
            "together: nothing is left to select on.",
            where=examples[0].where,
            remedy=f"Add rows of other groups; {folds} groups make parts of equal size.",
        )
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "split")))
    strata = _compute_strata(examples)
    counts = np.array([strata[members].sum(axis=0) for members in groups], dtype=float)
    sizes = np.array([float(len(members)) for members in groups])
    placed = _place_groups(counts, sizes, generator, folds)
    # Move a group where a label with several groups ended in one part only (rare).
    for label in range(counts.shape[1]):
        having = np.flatnonzero(counts[:, label])
        if len(having) < 2 or len(set(placed[having])) > 1:
            continue
        row = having[np.argmin(counts[having].sum(axis=1))]
        loads = [counts[placed == part].sum() for part in range(folds)]
        loads[placed[row]] = np.inf
        placed[row] = int(np.argmin(loads))
    result = [0] * len(examples)
    for row, members in enumerate(groups):
        for i in members:
            result[i] = int(placed[row])
    return result


def take_whole_groups(
    examples: Sequence[Example], count: int
) -> tuple[list[Example], list[Example]]:
    """The first ``count`` examples with all that must stay with them, and the rest."""
    indices = {
        i for members in _groups(examples) if any(i < count for i in members) for i in members
    }
    chosen = [e for i, e in enumerate(examples) if i in indices]
    return chosen, [e for i, e in enumerate(examples) if i not in indices]


def take_share(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """A share of the examples of each label, by whole groups, in the order of the data.

    A smaller share lies inside a larger one; of each label there is a group at least.
    """
    strata, groups, chosen = _compute_strata(examples), _groups(examples), set[int]()
    by_stratum: dict[bytes, list[list[int]]] = defaultdict(list)
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "rows")))
    for row in generator.permutation(len(groups)):
        by_stratum[strata[groups[row][0]].tobytes()].append(groups[row])
    for members in by_stratum.values():
        chosen.update(i for group in members[: math.ceil(share * len(members))] for i in group)
    return [e for i, e in enumerate(examples) if i in chosen]


def sample_held_out(examples: Sequence[Example], count: int, seed: int) -> set[int]:
    """Indices of about ``count`` examples, drawn by whole groups (see :func:`assign_folds`).

    Groups are taken in an order drawn from a private generator; one that would exceed what is
    wanted is passed over, so the result is short only where groups are large. The smallest group
    is taken where none would do.

    Raises:
        DataError: nothing can be held out: no examples, or one group of them.
    """
    groups = _groups(examples)
    if len(groups) < 2:
        raise DataError(
            f"no test rows can be taken from {len(examples)} training rows in {len(groups)} "
            "groups; equal texts and named groups stay together.",
            where=examples[0].where if examples else "train",
            remedy="Add rows, or give the task test: FILE.",
        )
    chosen: set[int] = set()
    order = np.random.Generator(np.random.PCG64(derive_seed(seed, "split"))).permutation(
        len(groups)
    )
    for row in order:
        if len(chosen) + len(groups[row]) <= count:
            chosen.update(groups[row])
        if len(chosen) == count:
            break
    smallest = min(groups, key=len)
    return chosen or set(smallest)


def read_dates(rows: Sequence[Row], column: str) -> list[datetime]:
    """The date of each row, in UTC where it names no zone.

    Raises:
        DataError: no such column, or rows without a date as ISO 8601 writes it; all are named.
    """
    moments, faults = [], []
    present = dict.fromkeys(name for row in rows for name in row.values)
    if column not in present:
        listing = f"Its columns are {', '.join(present)}; name one of them."
        remedy = f"{listing} {suggest(column, present)}".rstrip()
        raise DataError(f'has no column "{column}" to split by.', where=rows[0].file, remedy=remedy)
    for row in rows:
        value = row.values.get(column)
        if (moment := parse_date(value)) is not None:
            moments.append(moment)
            continue
        what = "has no date" if cell_text(value) is None else f'holds "{value}", which is no date,'
        remedy = (
            "Write it as 2026-01-31 or 2026-01-31T12:00, or remove the row; a column of parts "
            "holds train and test."
        )
        fault = f'{what} in "{column}", the column to split by.'
        faults.append(Finding("error", "not-a-date", row.where, fault, remedy))
    raise_for_findings(summarise(faults, f"of {len(rows)} rows"))
    return moments


def take_newest(dates: Sequence[datetime], count: int) -> tuple[set[int], date]:
    """Indices of about the ``count`` newest of the rows, and the day of the oldest among them.

    Rows of one moment stay together: every row that is taken is newer than all that are left.

    Raises:
        DataError: all rows are of one moment.
    """
    in_order = sorted(dates)
    later = sorted(set(dates))[1:]  # something must be left to train on
    if not later:
        raise DataError(
            f"all {len(dates)} rows have one date: there is no newest part.",
            remedy="Remove split_by from the task, or name another column.",
        )
    cut = min(later, key=lambda moment: abs(len(dates) - bisect_left(in_order, moment) - count))
    return {i for i, moment in enumerate(dates) if moment >= cut}, cut.date()


def _compute_strata(examples: Sequence[Example]) -> NDArray[np.bool_]:
    """Strata that spread over the parts, (examples, strata): labels, none, or fifths of numbers."""
    labels = [e.label for e in examples]
    if any(isinstance(label, str) for label in labels):
        return multi_hot(labels)
    if numbers := [label for label in labels if isinstance(label, float)]:
        cuts = np.quantile(numbers, [0.2, 0.4, 0.6, 0.8])
        labels = [None if n is None else int(np.searchsorted(cuts, n)) for n in labels]
    codes = np.array([-1 if label is None else int(label) for label in labels])
    return np.asarray(codes[:, None] == np.unique(codes))


def _groups(examples: Sequence[Example]) -> list[list[int]]:
    """Indices that must stay together: linked by a group's name or by an equal text."""
    numbers: dict[object, int] = {}
    links = [
        (i, len(examples) + numbers.setdefault(key, len(numbers)))
        for i, example in enumerate(examples)
        for key in (text_key(example), example.group)
        if key is not None
    ]
    if not links:
        return []
    nodes = len(examples) + len(numbers)
    graph = coo_array((np.ones(len(links)), np.transpose(links)), shape=(nodes, nodes))
    groups: dict[int, list[int]] = defaultdict(list)
    for i, component in enumerate(connected_components(graph, directed=False)[1][: len(examples)]):
        groups[component].append(i)
    return list(groups.values())


def _place_groups(
    counts: NDArray[np.float64],
    sizes: NDArray[np.float64],
    generator: np.random.Generator,
    folds: int,
) -> NDArray[np.int64]:
    """Part of each group; ``counts`` is (groups, labels).

    Where examples have several labels, groups with a rare one come first among those of one size:
    what is placed last finds the least room.
    """
    shuffled = generator.permutation(len(counts))
    totals, n = np.maximum(counts.sum(axis=0), 1), sizes.sum()
    several = bool((counts.sum(axis=1) != sizes).any())
    rarity = (counts / totals).max(axis=1)[shuffled] * several
    order = shuffled[np.lexsort((-rarity, -sizes[shuffled]))]
    label_counts, part_sizes = np.zeros((folds, counts.shape[1])), np.zeros(folds)
    placed = np.zeros(len(counts), dtype=np.int64)
    for row in order:
        # The growth of the sum of squared shares, less the terms that are equal for every part.
        labels = (label_counts * counts[row] / totals**2).sum(axis=1)
        size = part_sizes * sizes[row] / n**2
        part = int(np.argmin(np.round(labels + size, 12)))
        placed[row] = part
        label_counts[part] += counts[row]
        part_sizes[part] += sizes[row]
    return placed


MIN_OUTSIDE_ROWS = 10
"""Rows outside a fold, so that training and selection part have some (as train must have)."""


def labelled_rows(dataset: Dataset) -> list[Example]:
    """The rows that are divided: those of train, then those of test, that have an answer."""
    rows = (*dataset.train, *dataset.test)
    return [e for e in rows if e.label is not None or e.target is not None]


def split_by_fold(
    dataset: Dataset, fold: OuterFold, split_seed: int
) -> tuple[list[Example], list[Example]]:
    """The rows outside a fold and those inside, both in the order of the data.

    Raises:
        DataError: the rows cannot be divided (:func:`find_obstacle`).
    """
    rows = labelled_rows(dataset)
    parts = assign_folds(rows, derive_seed(split_seed, "outer", fold.repeat), fold.folds)
    outside = [e for e, part in zip(rows, parts, strict=True) if part != fold.index]
    return outside, [e for e, part in zip(rows, parts, strict=True) if part == fold.index]


def find_obstacle(dataset: Dataset, folds: int) -> str:
    """Why the rows cannot be divided into so many folds; empty if they can."""
    rows = labelled_rows(dataset)
    if len(rows) - -(-len(rows) // folds) < MIN_OUTSIDE_ROWS:
        return f"{len(rows)} labelled rows are too few for {folds} folds"
    groups, fewest = len(_groups(rows)), max(folds, 4)  # outside a fold: two at least
    if groups < fewest:
        return (
            f"groups and equal texts stay together, and the rows have {groups} of them: {folds} "
            f"folds need {fewest}"
        )
    return ""


MAX_AUTO_ROWS = 1000
"""If there are so many labelled rows, ``outer: auto`` keeps the published split.

A test file that the user names is the test whatever its size. With fewer rows, a published test
part is so small that it decides little. With more rows runs are longer and test parts larger.
"""


@dataclass(frozen=True)
class OuterDesign:
    """The design by which the test rows of one task are answered.

    Attributes:
        folds: folds of outer cross-validation; 0: the published split.
        reason: why ``auto`` chose it; empty where the study asks for it.
    """

    folds: int
    reason: str = ""

    def place_seeds(self, seeds: Sequence[int]) -> Iterator[tuple[OuterFold | None, list[int]]]:
        """The seeds of each outer fold; of a split, all of them."""
        if not self.folds:
            yield None, list(seeds)
            return
        for position, seed in enumerate(seeds):
            yield OuterFold.at(position, self.folds), [seed]


PUBLISHED_SPLIT = OuterDesign(0)


def find_part_column(columns: Mapping[str, Iterable[str]]) -> str | None:
    """The column whose values say which rows are train and which are validation or test.

    Args:
        columns: the different values of each.
    """
    for column, values in columns.items():
        parts = {PART_NAMES.get(value.casefold()) for value in values}
        if "train" in parts and len(parts) > 1 and None not in parts:
            return column
    return None


def divide_rows(rows: Sequence[Row], column: str) -> tuple[list[Row], list[Row], Finding]:
    """The rows of train and of test by a column, and a note on how many there are.

    Where no row is of test, those of validation are the test; beside it they are left out, as part
    of train chooses learning rates and checkpoints.

    Raises:
        DataError: a row names no part, or there is nothing to train or to test on.
    """
    by_part: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        by_part[PART_NAMES.get((cell_text(row.values.get(column)) or "").casefold())].append(row)
    if unknown := by_part[None]:
        value = cell_text(unknown[0].values.get(column))
        what = f'holds "{value}" in' if value is not None else "has nothing in"
        raise DataError(
            f'{what} "{column}", which is no part ({len(unknown)} of {len(rows)} rows).',
            where=unknown[0].where,
            remedy=f"Parts are called {', '.join(PART_NAMES)}: write one, or remove the column.",
        )
    train = by_part["train"]
    test = by_part["test"]
    validation = by_part["validation"]
    if not train or not (test or validation):
        raise DataError(
            f'"{column}" calls no row {"test or validation" if train else "train"}.',
            where=rows[0].file,
            remedy="Remove split_by from the task, or name another column.",
        )
    counts = {"train": len(train), "validation": len(validation), "test": len(test)}
    listed = ", ".join(f"{count} {part}" for part, count in counts.items() if count)
    what = f'"{column}" says which rows are which: {listed}.'
    remedy = "Those of validation are the test." if not test else ""
    if test and validation:
        remedy = "Those of validation are not used: some of train choose rates and checkpoints."
    return train, test or validation, Finding("note", "split-by", rows[0].file, what, remedy)


def choose_outer_design(protocol: Protocol, task: TaskSpec, dataset: Dataset) -> OuterDesign:
    """The design that ``protocol.outer`` means for a task.

    Raises:
        DataError: the protocol names a number of folds that the rows cannot be divided into, or
            folds for a task that is split by time.
    """
    if protocol.outer == "split" or protocol.preset == "paper":
        return PUBLISHED_SPLIT
    if isinstance(protocol.outer, int):
        if task.split_by is not None:
            raise DataError(
                f"split_by: {task.split_by} says which rows are the test, and folds test on all: "
                "of dates they would train on rows that are newer than those they test on.",
                where=f"protocol.outer, task {task.key}",
                remedy="Write outer: split, or remove split_by from the task.",
            )
        if obstacle := find_obstacle(dataset, protocol.outer):
            raise DataError(
                f"{obstacle}.",
                where=f"protocol.outer, task {task.key}",
                remedy="Write a smaller number of folds, or outer: split.",
            )
        return OuterDesign(protocol.outer)
    rows, seeds = len(labelled_rows(dataset)), len(protocol.seeds)
    folds = next((folds for folds in AUTO_OUTER_FOLDS if seeds % folds == 0), None)
    reason = ""
    if task.split_by is not None:
        reason = f"the column {task.split_by} says which rows it has"
    elif task.train is not None and task.test is not None:
        reason = f"the study names {Path(task.test).name} for it"
    elif task.split != "published":
        reason = f"the study asks for the split of the {task.split}"
    elif dataset.objective.generates:
        reason = "generated texts are cross-validated only where a study asks for it"
    elif rows < len(dataset.train) + len(dataset.test):
        reason = "some of its rows have no label"
    elif rows >= MAX_AUTO_ROWS:
        reason = f"it has {rows:,} labelled rows, and from {MAX_AUTO_ROWS:,} on the split stays"
    elif folds is None:
        *fewer, most = sorted(AUTO_OUTER_FOLDS)
        reason = (
            f"cross-validation takes {', '.join(map(str, fewer))} or {most} seeds, or a multiple "
            f"of these, and the study has {seeds}"
        )
    else:
        reason = find_obstacle(dataset, folds)
    if folds is None or reason:
        return OuterDesign(0, reason)
    return OuterDesign(folds, f"it has {rows} labelled rows, fewer than {MAX_AUTO_ROWS:,}")
