"""Decides which differences between the cells of a task are proven: every pair, and once.

The report's verdicts and ranks, ``recommend``, ``compare`` and the differences over all tasks read
these comparisons, so they cannot contradict one another. A pair is decided if its corrected p-value
is under 0.05 (:mod:`paretune.analysis.statistics.differences`). P-values are corrected over
families; in each, even one false claim is made in at most 5 % of studies:

- all pairs of one model's methods: who is best is found by looking, and the correction over all
  pairs covers whatever is looked at;
- where a reference is named (``protocol.reference``, said before the scores are seen): "better than
  the reference", one claim for each further method, one-sided
  (:func:`~paretune.analysis.statistics.multiple_testing.dunnett_correction`). All that is not
  better than the reference stays in the family of all pairs;
- the methods of one model, each against its baselines: the claim is "better than every baseline",
  which the hardest of them decides, so what is corrected for is the number of methods
  (:func:`~paretune.analysis.statistics.multiple_testing.rows_correction`);
- a baseline with a model, in the same way, against those without;
- the pairs of the remaining baselines;
- where cells of several models are compared, all pairs of the task's cells.

Scores are of runs that trained (:mod:`paretune.analysis.outcomes`). Three cases have no verdict
whatever the p-value:

- one run of a method that draws its seed: how much runs differ is unknown, and a difference of two
  such runs was false in 28 to 88 % of simulated studies;
- fewer than three folds in which both sides trained: of such pairs up to a quarter had p < 0.05 in
  studies of equal methods;
- a higher score with failures that would make the next run the worse one.

And none before its end in a study that is judged at its end alone.

**Several looks.** A study in passes (``preset: passes``) may end after each, and the decision to
end reads test answers. So a claim is one that may be made after any of the planned passes, and its
p-value pays for all of them
(:func:`~paretune.analysis.statistics.multiple_testing.correct_for_looks`). A pair is judged by the
passes that both sides have. With ``until: complete`` nothing is paid, and a pair is decided only
when both sides have all their runs.

**The largest loss**: how far a cell may be below the best, 95 % for all cells at once. The best is
not known and may not be taken for the one that scored highest. Let E be the event that no cell is
overestimated against the truly best one by more than its half width. E is one-sided and about k - 1
differences, so half widths of two-sided level 2 * 0.05 / (k - 1) give it 95 %. On E

- the truly best cell is among those that no other exceeds by more than the half width: the
  candidates;
- each cell is at most ``estimate of the best - its own + half width`` worse than the best.

So the largest of that over all candidates bounds every cell's true loss, and with 95 % all bounds
hold. These are Hsu's multiple comparisons with the best (1984, Annals of Statistics 12) with
Bonferroni's inequality in place of equal variances. All pairs of k cells would need 0.05 / (k(k -
1)/2): the bounds would be a quarter wider.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

from paretune.analysis.cell import NO_MODEL, Cell, CellKey
from paretune.analysis.pairs import (
    Correction,
    Names,
    Pair,
    RankRange,
    Standing,
    Withheld,
    compare_all_pairs,
    correct_against_reference,
    correct_all_pairs,
    rank_ranges,
)
from paretune.analysis.pareto.expected_scores import ExpectedScore, expected_scores
from paretune.analysis.statistics.differences import (
    moderate_scatters,
    on_common_rows,
)
from paretune.analysis.statistics.multiple_testing import (
    ALPHA,
    level_of_look,
    rows_correction,
)
from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.scores import RunScores, keep_comparable
from paretune.analysis.unlabelled_answers import UnlabelledAnswers
from paretune.methods.baselines import WITH_MODEL
from paretune.methods.core.titles import title_of

Rival = Literal["baseline", "other method", "other model"]
"""What verdicts compare a method with."""


@dataclass(frozen=True)
class Verdict:
    """A cell compared with all its baselines; for a task without baselines with all methods.

    Attributes:
        comparisons: differences of the cell minus each baseline or rival that has a score.
        missing: names of baselines without a score.
        note: why the verdict is undecided, if the reason is not a missing baseline.
        of_trained: whether runs failed, so that the verdict is about those that trained.
        rival: kind of cells that it is compared with.
    """

    comparisons: tuple[Pair, ...]
    missing: tuple[str, ...] = ()
    note: str = ""
    of_trained: bool = False
    rival: Rival = "baseline"

    @property
    def standing(self) -> Standing | Literal["none"]:
        """Above only if above each baseline; below if below any; none without a comparison."""
        standings = {pair.standing for pair in self.comparisons}
        if not standings:
            return "none"
        if "below" in standings:
            return "below"
        return "above" if standings == {"above"} else "unclear"

    @property
    def above_all(self) -> bool:
        """Whether it is proven better than all its rivals, none of which is missing."""
        return self.standing == "above" and not self.missing

    @property
    def summary(self) -> str:
        """Write a phrase for a table: ``undecided against TF-IDF; better than constant answer``."""
        if not self.comparisons:
            return self.note or "no baseline has a score yet"
        if self.above_all:
            condition = ", of runs that trained" if self.of_trained else ""
            return f"better than every {self.rival}{condition}"
        words = {"below": "worse than", "unclear": "undecided against", "above": "better than"}
        names: dict[str, list[str]] = {standing: [] for standing in words}
        for pair in self.comparisons:
            names[pair.standing].append(title_of(pair.b))
        parts = [
            f"{words[standing]} {', '.join(named)}" for standing, named in names.items() if named
        ]
        text = "; ".join([*parts, self.note] if self.note else parts)
        if not self.missing:
            return text
        return f"{text} (no score of {', '.join(map(title_of, self.missing))})"


class PairwiseComparisons:
    """All pairs of one task's cells, and the verdicts and ranks that follow.

    Attributes:
        cells: cells of the task.
    """

    def __init__(self, cells: Sequence[Cell], reference: str | None = None) -> None:
        """Compare all cells on one model, with each other and with the baselines.

        Args:
            cells: cells of the task.
            reference: key of the method against which each method is tested as better.
        """
        self.cells = cells
        models = dict.fromkeys(c.model for c in cells if c.model != NO_MODEL) or (NO_MODEL,)
        self._groups = {}
        for model in models:
            by_method = {c.method: c for c in cells if c.model in (model, NO_MODEL)}
            self._groups[model] = self._compare(
                by_method, partial(correct_by_family, cells=by_method), reference
            )

    def _compare(
        self, cells: Mapping[str, Cell], correct: Correction, reference: str | None = None
    ) -> _Group:
        """Compare all pairs of some cells, by name."""
        scores = keep_comparable((name, cell.run_scores) for name, cell in cells.items())
        baselines = {name for name, cell in cells.items() if cell.baseline}
        lenders = {name: score for name, score in scores.items() if name not in baselines}
        scatters = moderate_scatters(scores, lenders)
        looks = max((cell.passes for cell in cells.values()), default=1)
        unlabelled = UnlabelledAnswers(cells)
        covary = unlabelled.covary if unlabelled.uids else None
        pairs = {
            (pair.a, pair.b): replace(
                pair, withheld=self._withhold(pair, cells[pair.a], cells[pair.b])
            )
            for pair in compare_all_pairs(scores, scatters, correct, looks, covary)
        }
        if reference in scores and reference not in baselines:
            # Correct the pairs of methods that are ahead of the reference within its family.
            against = {
                names: pair if pair.b == reference else pair.flip()
                for names, pair in pairs.items()
                if reference in names and not set(names) & baselines
            }
            corrected = correct_against_reference([*against.values()], scores, reference)
            pairs |= {
                names: replace(
                    pairs[names], p_holm=corrected[pair.a], family=len(against), reference=True
                )
                for names, pair in against.items()
                if pair.difference.estimate > 0
            }
        return _Group(scores, baselines, pairs, looks)

    def scores(self, model: str) -> Mapping[str, RunScores]:
        """Return by method the comparable scores of a model and of baselines without a model."""
        return self._groups[model].scores

    def pairs(self, model: str) -> tuple[Pair, ...]:
        """Return every pair on one model and the model-free baselines, in the cells' order."""
        return tuple(self._groups[model].pairs.values()) if model in self._groups else ()

    def compare(self, a: Cell, b: Cell) -> Pair | None:
        """Return ``a`` minus ``b``; None if they share no examples.

        Cells on different models are corrected over all pairs of the task's cells.
        """
        group, names = self._find_group(a, b)
        return group.find(*names)

    def _find_group(self, a: Cell, b: Cell) -> tuple[_Group, Names]:
        """Find the group in which both cells are compared, and their names there."""
        for model, group in self._groups.items():
            if {a.model, b.model} <= {model, NO_MODEL}:
                return group, (a.method, b.method)
        return self._across_models, (_full_name(a), _full_name(b))

    @cached_property
    def _across_models(self) -> _Group:
        by_name = {_full_name(cell): cell for cell in self.cells}
        return self._compare(by_name, correct_all_pairs)

    @cached_property
    def expected(self) -> Mapping[CellKey, ExpectedScore]:
        """The expected scores of cells that have one on enough rows."""
        return expected_scores(self.cells)

    def estimate_sample_size(self, a: Cell, b: Cell) -> SampleSize | None:
        """Estimate the rows that would decide ``a`` against ``b``; None without common examples.

        The level and the variances are those by which :meth:`compare` judges them.
        """
        group, names = self._find_group(a, b)
        pair = group.find(*names)
        if pair is None:
            return None
        blind = pair.withheld in ("one run", "few folds")
        sides = on_common_rows(*(group.scores[name] for name in names))
        return estimate_sample_size(pair.estimate, *sides, pair.level, blind=blind)

    @property
    def rival(self) -> Rival:
        """What verdicts compare a method with: all other methods where the task has no baseline."""
        if any(cell.baseline for cell in self.cells):
            return "baseline"
        about_models = any(cell.judged == "models" for cell in self.cells)
        return "other model" if about_models else "other method"

    def find_rivals(self, cell: Cell) -> list[Cell]:
        """Find the cells that a verdict compares a cell with: without a model, and on its model."""
        of_baselines = self.rival == "baseline"
        return [
            rival
            for rival in self.cells
            if rival.baseline == of_baselines
            and rival.model in (NO_MODEL, cell.model)
            # A probe is not a baseline of itself.
            and (rival.name != cell.name if cell.name in WITH_MODEL else rival is not cell)
        ]

    def verdict(self, cell: Cell, format_name: Callable[[str], str] = str) -> Verdict | None:
        """Compare ``cell`` with its rivals; None without rivals, a model, a score or a failure.

        Args:
            cell: cell of the task.
            format_name: formats the names of rivals.
        """
        rivals = self.find_rivals(cell)
        if cell.model == NO_MODEL or (not rivals and self.rival != "baseline"):
            return None
        failed = cell.failures is not None and cell.failures.failed > 0
        if cell.run_scores is None:
            return Verdict((), note="undecided: no run trained") if failed else None
        pairs, missing = [], []
        for rival in rivals:
            pair, name = self.compare(cell, rival), format_name(rival.method)
            if pair is None:
                missing.append(name)
            else:
                pairs.append(replace(pair, b=name))
        note = describe_withheld(pair.withheld for pair in pairs)
        return Verdict(tuple(pairs), tuple(missing), note, of_trained=failed, rival=self.rival)

    def shortfall(self, cell: Cell) -> float | None:
        """Return by how many points ``cell`` may be below the best of its model.

        The result is None with one run, and for a single cell.
        """
        group = self._groups.get(cell.model)
        return group.shortfalls.get(cell.method) if group else None

    def ranks(self, model: str) -> dict[str, RankRange]:
        """Return the possible ranks of a model's methods among each other, without baselines."""
        group = self._groups.get(model)
        if group is None:
            return {}
        names = [name for name in group.scores if name not in group.baselines]
        return rank_ranges(names, [p for p in group.pairs.values() if {p.a, p.b} <= {*names}])

    def _withhold(self, pair: Pair, a: Cell, b: Cell) -> Withheld:
        """Return why a pair may not be decided."""
        if pair.withheld:
            return pair.withheld
        if any(c.run_scores and len(c.run_scores.tables) == 1 and c.draws_seeds for c in (a, b)):
            return "one run"
        if any(c.judged_at_end and not c.complete for c in (a, b)):
            return "unfinished"
        better, worse = (a, b) if pair.difference.estimate > 0 else (b, a)
        if better.failures is not None and better.failures.failed:
            ahead, behind = (self.expected.get(cell.key) for cell in (better, worse))
            if ahead and behind and ahead.estimate <= behind.estimate:
                return "failures"
        return ""


@dataclass(frozen=True, eq=False)
class _Group:
    """Cells that are compared with one another, by name.

    Attributes:
        looks: number of looks that intervals pay for.
    """

    scores: Mapping[str, RunScores]
    baselines: Collection[str]
    pairs: Mapping[Names, Pair]
    looks: int

    def find(self, a: str, b: str) -> Pair | None:
        """Return ``a`` minus ``b``."""
        if (a, b) in self.pairs:
            return self.pairs[a, b]
        return self.pairs[b, a].flip() if (b, a) in self.pairs else None

    @cached_property
    def shortfalls(self) -> Mapping[str, float]:
        """The largest loss of each cell in points, as above; none for one run."""
        level = level_of_look(2 * ALPHA / max(len(self.scores) - 1, 1), self.looks)
        leads: dict[str, dict[str, tuple[float, float]]] = {}
        highest = 1.0
        for pair in self.pairs.values():
            if pair.withheld not in ("one run", "few folds"):
                gap, half = pair.difference.estimate, pair.estimate.half_width(level)
                leads.setdefault(pair.a, {})[pair.b] = -gap, half
                leads.setdefault(pair.b, {})[pair.a] = gap, half
                highest = pair.difference.highest
        candidates = {
            name
            for name, rivals in leads.items()
            if all(gap <= half for gap, half in rivals.values())
        }
        shortfalls = {}
        for name, rivals in leads.items():
            losses = [gap + half for rival, (gap, half) in rivals.items() if rival in candidates]
            shortfalls[name] = 100 * min(max([0.0, *losses]), highest) / highest
        return shortfalls


def correct_by_family(
    p_values: Mapping[Names, float], cells: Mapping[str, Cell]
) -> dict[Names, tuple[float, int]]:
    """Correct p-values of the pairs of one model over their families; return the sizes too.

    Args:
        p_values: p-values by the names of two cells.
        cells: cells by name.
    """
    between: dict[bool, dict[Names, float]] = {False: {}, True: {}}
    rows: dict[bool, dict[str, dict[Names, float]]] = {False: {}, True: {}}
    for names, p in p_values.items():
        a, b = (cells[name] for name in names)
        # This is the method's row, or that of the baseline with a model.
        row = next((c for c in (a, b) if not c.baseline), a if a.model != NO_MODEL else b)
        if a.baseline == b.baseline and (a.model == NO_MODEL) == (b.model == NO_MODEL):
            between[a.baseline][names] = p
        else:
            rows[row.baseline].setdefault(row.method, {})[names] = p
    corrected = correct_all_pairs(between[True]) | correct_all_pairs(between[False])
    for table in rows.values():
        corrected |= {names: (p, len(table)) for names, p in rows_correction(table).items()}
    return corrected


def describe_withheld(reasons: Iterable[Withheld]) -> str:
    """Say in a few words why pairs are undecided; the text is empty where none was withheld."""
    words = {
        "one run": "one run cannot prove it",
        "few folds": "under three common folds",
        "failures": "the failed runs may outweigh the higher score",
        "unfinished": "its runs have not all ended",
    }
    present = set(reasons)
    return "; ".join(text for reason, text in words.items() if reason in present)


def _full_name(cell: Cell) -> str:
    return f"{cell.model}\n{cell.method}"
