"""Which differences between the cells of a task are proven: every pair is decided here, once.

The report's verdicts and ranks, ``recommend`` and ``compare`` all read these comparisons, so they
cannot contradict one another. A pair is decided if its corrected p-value is under 0.05
(:mod:`paretune.analysis.statistics.differences`). P-values are corrected over families; in
each, even one false claim is made in at most 5 % of studies:

- all pairs of one model's methods: who is best is found by looking, and the correction over all
  pairs covers whatever is looked at;
- the methods of one model, each against its baselines: the claim is "better than every baseline",
  which the hardest of them decides, so what is corrected for is the number of methods
  (:func:`~paretune.analysis.statistics.multiple_testing.rows_correction`);
- a baseline with a model, in the same way, against those without;
- the pairs of the remaining baselines;
- where cells of several models are compared, all pairs of the task's cells.

Scores are of runs that trained (:mod:`paretune.analysis.outcomes`). Two cases have no verdict
whatever the p-value:

- one run of a method that draws its seed: how much runs differ is unknown, and a difference of two
  such runs was false in 28 to 88 % of simulated studies;
- a higher score with failures that would make the next run the worse one.

**In a race** (``protocol.race``) the claims are some of those that the same rules make when all
runs of all cells are there, whatever was stopped and why: only
pairs of cells with all their runs are decided, the others count with p = 1, families are those of
the whole study, cells lend the scatter of their first two runs alone, and any failure of the
higher side withholds a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from paretune.analysis.cell import NO_MODEL, Cell, CellKey
from paretune.analysis.pairs import (
    Pair,
    RacedPairs,
    RankRange,
    Shortfall,
    Standing,
    Withheld,
    bound_shortfalls,
    compare_all_pairs,
    flip,
    rank_ranges,
)
from paretune.analysis.pareto.expected_scores import ExpectedScore, expected_scores
from paretune.analysis.statistics.differences import pool_runs
from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.multiple_testing import (
    ALPHA,
    all_pairs_correction,
    rows_correction,
)
from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.scores import RunScores, keep_comparable
from paretune.methods.baselines import WITH_MODEL
from paretune.methods.core.titles import title_of


def scores_on_model(cells: Sequence[Cell], model: str) -> dict[str, RunScores]:
    """By method key: comparable scores of one model's methods and of baselines without a model."""
    on_model = [c for c in cells if c.model in (model, NO_MODEL)]
    return keep_comparable((c.method, c.run_scores) for c in on_model)


@dataclass(frozen=True)
class BaselineComparison:
    """A cell's score minus that of one baseline.

    ``p_holm`` is corrected over its family; ``standing`` is the verdict on the pair.
    """

    baseline: str
    difference: Interval
    p_holm: float
    standing: Standing


@dataclass(frozen=True)
class Verdict:
    """A cell compared with all its baselines.

    Attributes:
        comparisons: with each baseline that has a score.
        missing: names of baselines without a score.
        note: why it is undecided, if the reason is not a missing baseline.
        of_trained: whether runs failed, so that the verdict is of those that trained.
    """

    comparisons: tuple[BaselineComparison, ...]
    missing: tuple[str, ...] = ()
    note: str = ""
    of_trained: bool = False

    @property
    def standing(self) -> Standing | Literal["none"]:
        """Above only if above each baseline; below if below any; none without a comparison."""
        standings = {comparison.standing for comparison in self.comparisons}
        if not standings:
            return "none"
        if "below" in standings:
            return "below"
        return "above" if standings == {"above"} else "unclear"

    @property
    def above_all(self) -> bool:
        """Proven better than every baseline, none of which is missing."""
        return self.standing == "above" and not self.missing

    @property
    def summary(self) -> str:
        """A phrase for a table: ``undecided against TF-IDF; better than constant answer``."""
        if not self.comparisons:
            return self.note or "no baseline has a score yet"
        if self.above_all:
            condition = ", of runs that trained" if self.of_trained else ""
            return f"better than every baseline{condition}"
        words = {"below": "worse than", "unclear": "undecided against", "above": "better than"}
        names: dict[str, list[str]] = {standing: [] for standing in words}
        for comparison in self.comparisons:
            names[comparison.standing].append(title_of(comparison.baseline))
        parts = [
            f"{words[standing]} {', '.join(named)}" for standing, named in names.items() if named
        ]
        text = "; ".join([*parts, self.note] if self.note else parts)
        if not self.missing:
            return text
        return f"{text} (no score yet of {', '.join(map(title_of, self.missing))})"


class _Group:
    """Cells that are compared with one another, by name."""

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        self.cells = cells
        self.scores = keep_comparable((name, cell.run_scores) for name, cell in cells.items())
        self.baselines = {name for name, cell in cells.items() if cell.baseline}
        self.race = None
        if any(cell.raced for cell in cells.values()):
            # Without those that costs have left out, which no test answer decides.
            lending = [c for c in cells.values() if not c.baseline and c.stop != "limit"]
            first_runs = keep_comparable((c.method, c.first_scores) for c in lending)
            lacking = frozenset(name for name, cell in cells.items() if cell.lacks_runs)
            self.race = RacedPairs(len(cells), lacking, pool_runs(first_runs))

    def compare(self) -> tuple[Pair, ...]:
        return compare_all_pairs(self.scores, self.baselines, self.race)


class PairwiseComparisons:
    """All pairs of one task's cells, and the verdicts and ranks that follow."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        """Compare all cells on one model, with each other and with the baselines."""
        self._cells = cells
        models = dict.fromkeys(c.model for c in cells if c.model != NO_MODEL) or (NO_MODEL,)
        self._groups = {
            model: _Group({c.method: c for c in cells if c.model in (model, NO_MODEL)})
            for model in models
        }
        self._pairs = {model: self._compare_on(group) for model, group in self._groups.items()}
        self._shortfalls = {
            # The best of all may be one that was stopped.
            model: {} if group.race and group.race.incomplete else bound_shortfalls(pairs)
            for (model, group), pairs in zip(
                self._groups.items(), self._pairs.values(), strict=True
            )
        }

    def pairs(self, model: str) -> tuple[Pair, ...]:
        """Every pair on one model, the baselines without a model included, in the cells' order."""
        return self._pairs.get(model, ())

    def compare(self, a: Cell, b: Cell) -> Pair | None:
        """``a`` minus ``b``; None if they share no examples.

        Cells on different models are corrected over all pairs of the task's cells.
        """
        _, pairs, names = self._find_group(a, b)
        return _find_pair(pairs, *names)

    def _find_group(self, a: Cell, b: Cell) -> tuple[_Group, tuple[Pair, ...], tuple[str, str]]:
        """The cells among which both are compared, all their pairs, and both names there."""
        for model, group in self._groups.items():
            if {a.model, b.model} <= {model, NO_MODEL}:
                return group, self._pairs[model], (a.method, b.method)
        return self._all_cells, self._pairs_across_models, (_full_name(a), _full_name(b))

    def estimate_sample_size(self, a: Cell, b: Cell) -> SampleSize | None:
        """What would decide between ``a`` and ``b``; None if they share no examples.

        By the level and with the variances between seeds by which :meth:`compare` judges them.
        """
        group, pairs, names = self._find_group(a, b)
        pair = _find_pair(pairs, *names)
        if pair is None:
            return None
        return estimate_sample_size(
            group.scores[names[0]],
            group.scores[names[1]],
            (a.deterministic, b.deterministic),
            ALPHA / pair.family,
            pooled=group.race.pooled if group.race else pool_runs(group.scores, group.baselines),
            run_seconds=(a.run_seconds, b.run_seconds),
        )

    def verdict(self, cell: Cell, format_name: Callable[[str], str] = str) -> Verdict | None:
        """``cell`` compared with its baselines; None without a model, score or failure.

        Args:
            cell: of the task.
            format_name: formats the names of baselines.
        """
        if cell.model == NO_MODEL:
            return None
        failed = cell.failures is not None and cell.failures.failed > 0
        if cell.run_scores is None:
            return Verdict((), note="undecided: no run trained") if failed else None
        comparisons, missing, withheld = [], [], set()
        for baseline in self._cells:
            # Those without a model, and on its own model; a probe is none of itself.
            same_probe = cell.name in WITH_MODEL and baseline.name == cell.name
            if not baseline.baseline or baseline.model not in (NO_MODEL, cell.model) or same_probe:
                continue
            pair, name = self.compare(cell, baseline), format_name(baseline.method)
            if pair is None:
                missing.append(name)
            else:
                withheld.add(pair.withheld)
                comparisons.append(
                    BaselineComparison(name, pair.difference, pair.p_holm, pair.standing)
                )
        note = describe_withheld(withheld)
        return Verdict(tuple(comparisons), tuple(missing), note, of_trained=failed)

    def shortfall(self, cell: Cell) -> Shortfall | None:
        """How far ``cell`` may be below the best of its model; None with one run, or alone."""
        return self._shortfalls.get(cell.model, {}).get(cell.method)

    def ranks(self, model: str) -> dict[str, RankRange]:
        """The possible ranks of each method of a model among its methods, without baselines."""
        if model not in self._groups:
            return {}
        group = self._groups[model]
        names = [name for name in group.scores if name not in group.baselines]
        return rank_ranges(names, [p for p in self._pairs[model] if {p.a, p.b} <= {*names}])

    def _compare_on(self, group: _Group) -> tuple[Pair, ...]:
        compared = group.compare()
        corrected = correct_by_family(
            {(pair.a, pair.b): pair.difference.p for pair in compared}, group.cells
        )
        pairs = []
        for pair in compared:
            p, size = corrected[pair.a, pair.b]
            pairs.append(replace(pair, p_holm=p, family=size))
        return self._withhold_pairs(pairs, group.cells)

    @cached_property
    def _all_cells(self) -> _Group:
        return _Group({_full_name(cell): cell for cell in self._cells})

    @cached_property
    def _pairs_across_models(self) -> tuple[Pair, ...]:
        return self._withhold_pairs(self._all_cells.compare(), self._all_cells.cells)

    def _withhold_pairs(self, pairs: Iterable[Pair], cells: Mapping[str, Cell]) -> tuple[Pair, ...]:
        return tuple(
            replace(pair, withheld=self._withhold(pair, cells[pair.a], cells[pair.b]))
            for pair in pairs
        )

    def _withhold(self, pair: Pair, a: Cell, b: Cell) -> Withheld:
        """Why a pair may not be decided."""
        if any(c.run_scores and len(c.run_scores.tables) == 1 and c.draws_seeds for c in (a, b)):
            return "one run"
        if a.lacks_runs or b.lacks_runs:
            return "stopped"
        better, worse = (a, b) if pair.difference.estimate > 0 else (b, a)
        if better.failures is not None and better.failures.failed:
            if better.raced:  # what failures cost depends on how often all others fail
                return "failures"
            ahead, behind = (self._expected.get(c.key) for c in (better, worse))
            if ahead and behind and ahead.estimate <= behind.estimate:
                return "failures"
        return ""

    @cached_property
    def _expected(self) -> Mapping[CellKey, ExpectedScore]:
        return expected_scores(self._cells)


def correct_by_family(
    p_values: Mapping[tuple[str, str], float], cells: Mapping[str, Cell]
) -> dict[tuple[str, str], tuple[float, int]]:
    """P-values of the pairs of one model, corrected over their families, and the families' sizes.

    In a race the families have all cells of the study; what is absent counts with p = 1.

    Args:
        p_values: by the names of two cells.
        cells: by name.
    """
    between: dict[bool, dict[tuple[str, str], float]] = {False: {}, True: {}}
    rows: dict[bool, dict[str, dict[tuple[str, str], float]]] = {False: {}, True: {}}
    for (name, second), p in p_values.items():
        a, b = cells[name], cells[second]
        # The method's row, or that of the baseline with a model.
        row = next((c for c in (a, b) if not c.baseline), a if a.model != NO_MODEL else b)
        if a.baseline == b.baseline and (a.model == NO_MODEL) == (b.model == NO_MODEL):
            between[a.baseline][(name, second)] = p
        else:
            rows[row.baseline].setdefault(row.method, {})[(name, second)] = p
    methods = [cell for cell in cells.values() if not cell.baseline]
    raced = any(cell.raced for cell in methods)
    corrected: dict[tuple[str, str], tuple[float, int]] = {}
    for baselines, family in between.items():
        members, absent = len({name for pair in family for name in pair}), 0
        if raced and not baselines and family:
            members = len(methods)
            absent = members * (members - 1) // 2 - len(family)
        values = all_pairs_correction([*family.values(), *[1.0] * absent], members)
        for key, p in zip(family, values[: len(family)], strict=True):
            corrected[key] = p, len(family) + absent
    for baselines, table in rows.items():
        if raced and not baselines and table:
            absent_row: dict[tuple[str, str], float] = {("", ""): 1.0}
            table = {cell.method: absent_row for cell in methods} | table
        for key, p in rows_correction(table).items():
            corrected[key] = p, len(table)
    return corrected


def describe_withheld(reasons: Iterable[Withheld]) -> str:
    """Why pairs are undecided, in a few words; empty where none was withheld."""
    words = {
        "one run": "one run cannot show how much runs differ",
        "failures": "the failed runs may outweigh the higher score",
        "stopped": "stopped early, since more runs could not change the answer",
    }
    return "; ".join(text for reason, text in words.items() if reason in set(reasons))


def _find_pair(pairs: Iterable[Pair], a: str, b: str) -> Pair | None:
    for pair in pairs:
        if (pair.a, pair.b) == (a, b):
            return pair
        if (pair.a, pair.b) == (b, a):
            return flip(pair)
    return None


def _full_name(cell: Cell) -> str:
    return f"{cell.model}\n{cell.method}"
