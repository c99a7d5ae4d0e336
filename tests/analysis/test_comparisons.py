"""One decision for each pair: the report, ranks, ``recommend`` and ``compare`` have the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.pairs import Pair
from paretune.analysis.statistics.differences import estimate_variances, moderate_scatters
from paretune.analysis.statistics.multiple_testing import (
    ALPHA,
    all_pairs_correction,
    rows_correction,
)
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.errors import StudyError
from paretune.reporting.build import build_report
from paretune.reporting.parts import PairDifference
from paretune.study import Study
from paretune.verbs.compare import compare
from paretune.verbs.report import StudyResults

METHODS = ["full", "lora", "loha", "prompt"]
FREE = ("majority", "tfidf")


def cells(**levels: float) -> list[Cell]:
    study = fake.study(methods=METHODS, tasks=[fake.own_task("t")])
    return group_into_cells(study, fake.whole(study, {"prompt": 0.6, **levels}))


def test_what_would_decide_a_pair_is_asked_by_the_rule_that_decides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the level of its family, with the variances that the cells lend to one another."""
    monkeypatch.setattr("paretune.analysis.statistics.sample_size.FOUND_POINTS", 30.0)
    by_method = {cell.method: cell for cell in cells(lora=0.75, full=0.77)}
    comparisons = PairwiseComparisons([*by_method.values()])
    full, lora = by_method["full"], by_method["lora"]
    assert full.run_scores and lora.run_scores
    size = comparisons.estimate_sample_size(full, lora)
    sides = full.run_scores, lora.run_scores
    scores = {name: c.run_scores for name, c in by_method.items() if c.run_scores}
    lenders = {name: score for name, score in scores.items() if name in METHODS}
    scatters = moderate_scatters(scores, lenders)
    estimate = estimate_variances(*sides, [scatters["full"], scatters["lora"]])
    alike = estimate_sample_size(estimate, *sides, ALPHA / 6)
    assert size == alike
    assert alike != estimate_sample_size(estimate_variances(*sides), *sides)


def test_methods_are_one_family_and_their_rows_of_baselines_another() -> None:
    pairs = PairwiseComparisons(cells()).pairs("e5-small")
    assert len(pairs) == 21
    among = [p for p in pairs if {p.a, p.b} <= set(METHODS)]
    assert {p.family for p in among} == {6}
    expected = all_pairs_correction([p.difference.p for p in among], 4)
    assert [p.p_holm for p in among] == expected
    rows = {
        method: {
            (p.a, p.b): p.difference.p
            for p in pairs
            if len({p.a, p.b} & {method}) and p not in among
        }
        for method in METHODS
    }
    assert {len(row) for row in rows.values()} == {3}
    corrected = rows_correction(rows)
    probe = rows_correction(
        {"head_only": {("head_only", b): pair_of(pairs, "head_only", b).difference.p for b in FREE}}
    )
    for pair in pairs:
        key = (pair.a, pair.b)
        if key in corrected:
            assert (pair.p_holm, pair.family) == (corrected[key], 4)
        elif "head_only" in key:
            assert (pair.p_holm, pair.family) == (probe[key], 1)
    free = pair_of(pairs, *FREE)
    assert (free.p_holm, free.family) == (free.difference.p, 1)


def test_the_corrected_interval_has_0_inside_exactly_where_nothing_is_proven() -> None:
    proven = unclear = 0
    for high in (0.7, 0.8, 0.9):
        for pair in PairwiseComparisons(cells(full=high, lora=0.75)).pairs("e5-small"):
            corrected, alone = pair.corrected, pair.difference
            inside = corrected.low <= 0 <= corrected.high
            assert inside == (pair.standing == "unclear"), pair
            assert corrected.low <= alone.low and alone.high <= corrected.high
            assert corrected.estimate == alone.estimate
            proven, unclear = proven + (not inside), unclear + inside
    assert proven > 3 and unclear > 3
    there = PairwiseComparisons(cells()).pairs("e5-small")[0]
    back = there.flip().corrected
    assert (back.low, back.high) == pytest.approx((-there.corrected.high, -there.corrected.low))


def test_a_reference_is_the_family_of_what_is_better_than_it() -> None:
    levels = {"lora": 0.60, "full": 0.74, "loha": 0.66, "prompt": 0.35}
    of_study = cells(**levels)
    plain = PairwiseComparisons(of_study).pairs("e5-small")
    with_reference = PairwiseComparisons(of_study, "lora").pairs("e5-small")
    ahead = [p for p in with_reference if p.reference]
    assert {frozenset((p.a, p.b)) for p in ahead} == {
        frozenset(("full", "lora")),
        frozenset(("loha", "lora")),
    }
    for pair in ahead:
        before = pair_of(plain, pair.a, pair.b)
        assert pair.family == 3 and pair.p_holm < before.p_holm
        # One-sided: at least half of the pair's own p-value, at most three halves.
        assert pair.difference.p / 2 <= pair.p_holm <= 3 * pair.difference.p / 2
        inside = pair.corrected.low <= 0 <= pair.corrected.high
        assert inside == (pair.standing == "unclear")
    # What is worse than the reference, and all that does not concern it, stays as it was.
    for pair in with_reference:
        if not pair.reference:
            assert pair == pair_of(plain, pair.a, pair.b)


def crossed_cells(study: Study, folds: dict[str, Sequence[int]]) -> list[Cell]:
    """Methods of which only some folds trained."""
    records = []
    for name, kept in folds.items():
        runs = fake.crossed_cell(study, name, 0.9 if name == "full" else 0.6, 5)
        records += [r for r in runs if r.run.outer is not None and r.run.outer.index in kept]
    return [c for c in group_into_cells(study, records) if c.run_scores]


@pytest.mark.parametrize(("common", "withheld"), [(2, "few folds"), (3, "")])
def test_pairs_that_share_fewer_than_three_folds_have_no_verdict(
    common: int, withheld: str
) -> None:
    study = fake.study(
        methods=["full", "lora"],
        tasks=[fake.own_task("t")],
        protocol={"seeds": [1, 2, 3, 4, 5], "folds": 1, "outer": 5},
    )
    cells = crossed_cells(study, {"full": range(5), "lora": range(common)})
    (pair,) = PairwiseComparisons(cells).pairs("e5-small")
    assert pair.withheld == withheld
    assert (pair.p_holm == 1 and pair.standing == "unclear") == bool(withheld)
    assert pair.difference.p < 1


def pair_of(pairs: Sequence[Pair], a: str, b: str) -> Pair:
    return next(pair for pair in pairs if {pair.a, pair.b} == {a, b})


def test_lost_seeds_count_in_every_verdict() -> None:
    """The report's verdicts left them out, so it could contradict ``recommend``."""
    study = fake.study(methods=["full", "lora"], tasks=[fake.own_task("t")])
    records = [
        r for r in fake.whole(study) if not (r.run.method.name == "lora" and r.run.seed in (2, 3))
    ]
    for seed in (2, 3):
        records.append(fake.record(fake.make_run(study, "final", "lora", seed), outcome="diverged"))
    (task,) = build_report(study, records).tasks
    lora = next(row for row in task.methods if row.method == "lora")
    assert lora.verdict is not None and not lora.verdict.above_all


def disagreeing() -> tuple[Any, list[Any]]:
    """Two methods whose pair is clear alone, and not among the pairs of all methods."""
    study = fake.study(
        methods=["full", "lora", "loha", "dora", "houlsby"],
        tasks=[fake.own_task("t")],
        protocol={"seeds": [1, 2, 3], "folds": 1},
    )
    records = [*fake.cell(study, "majority", None, n=200)]
    records += fake.cell(study, "tfidf", 0.3, n=200) + fake.cell(study, "head_only", 0.3, n=200)
    levels = {"full": 0.8, "lora": 0.7, "loha": 0.78, "dora": 0.79, "houlsby": 0.77}
    for name, level in levels.items():
        records += fake.cell(study, name, level, n=200)
    return study, records


def test_report_ranks_and_compare_agree_on_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.1.0 had three: "clearly below" the highest, ranks 1 to 2 for both, and p 0.042 alone."""
    study, records = disagreeing()
    results = StudyResults(study, Path("x"), records, [], [])
    monkeypatch.setattr("paretune.verbs.compare.load_results", lambda *_: results)
    (task,) = build_report(study, records).tasks
    rows = {row.method: row for row in task.cells}
    pairs: dict[tuple[str, str], PairDifference] = {(p.a, p.b): p for p in task.pairs}
    contested = 0
    for (a, b), pair in pairs.items():
        (compared,) = compare("s.yaml", a, b)
        assert compared.pair is not None
        assert (compared.pair.standing, compared.pair.p_holm) == (pair.standing, pair.p_holm)
        assert (compared.sample_size is None) == (pair.standing != "unclear")
        one, other = rows[a].rank, rows[b].rank
        if one and other and pair.standing == "above":
            assert one.best < other.best and one.worst < other.worst
        contested += pair.standing == "unclear" and pair.p < ALPHA
    assert contested  # a pair on which one test alone would have said otherwise
    top = max(task.methods, key=lambda c: c.score.estimate if c.score else 0)
    below = {
        p.b if p.a == top.method else p.a
        for p in pairs.values()
        if top.method in (p.a, p.b) and p.standing == ("above" if p.a == top.method else "below")
    }
    sentences = [
        text for text in task.sentences if text.startswith("Of these, worse than the highest")
    ]
    named = {c.method for c in task.methods if sentences and c.label in sentences[0].split(": ")[1]}
    assert named == {name for name in below if not rows[name].baseline}


def test_compare_asks_by_than_whether_any_method_is_better_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, records = disagreeing()
    results = StudyResults(study, Path("x"), records, [], [])
    monkeypatch.setattr("paretune.verbs.compare.load_results", lambda *_: results)
    compared = compare("s.yaml", than="lora")
    assert [c.pair and (c.pair.a, c.pair.b) for c in compared] == [
        (name, "lora") for name in ("full", "loha", "dora", "houlsby")
    ]
    assert all(c.pair and c.pair.reference and c.pair.family == 4 for c in compared)
    assert all("before its scores were seen" in c.note for c in compared)
    (alone,) = compare("s.yaml", "full", than="lora")
    assert alone == compared[0]
    (of_all,) = compare("s.yaml", "full", "lora")
    assert of_all.pair and compared[0].pair and compared[0].pair.p_holm < of_all.pair.p_holm
    with pytest.raises(StudyError, match="two methods"):
        compare("s.yaml", "full")
    with pytest.raises(StudyError, match="second method"):
        compare("s.yaml", "full", "loha", than="lora")
