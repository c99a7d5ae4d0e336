"""Cells of outer cross-validation: the answers of all folds are one part, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.cell import Cell, TestAnswers
from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.design import SPLIT, TestDesign
from paretune.analysis.outcomes import FailureRate
from paretune.analysis.pareto.expected_scores import estimate_means, expected_scores
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.statistics.differences import ROW_FACTOR
from paretune.errors import StoreError
from paretune.reporting.build import build_report
from paretune.reporting.text.formatting import format_n_by_seeds
from paretune.store.record import Predictions
from paretune.study import OuterFold, Study


def make_study(seeds: int = 5, **protocol: object) -> Study:
    return fake.study(protocol={"seeds": list(range(1, seeds + 1)), "folds": 1, **protocol})


def lora(study: Study, records: list, states: tuple = ()) -> Cell:
    cells = group_into_cells(study, records, states)
    return next(c for c in cells if (c.task, c.method) == ("topics", "lora"))


def merge(folds: Sequence[Predictions], further: Sequence[Predictions] = ()) -> Predictions:
    run = fake.make_run(make_study(), "final", "lora", 1)
    of_folds, others = (
        [fake.record(run, {"test": part}) for part in parts] for parts in (folds, further)
    )
    return TestAnswers.of_folds(of_folds, others).predictions


def test_folds_are_merged_to_all_rows_in_natural_order() -> None:
    study = make_study()
    cell = lora(study, fake.crossed_cell(study, "lora", 0.8, 5))
    (answers,) = cell.test_answers
    whole = fake.answers(0.8, seed=800)
    assert answers == whole  # test-2 before test-10
    assert cell.design == TestDesign(5, 1, 5)
    assert cell.interval is not None and cell.interval.n_examples == 60
    assert cell.interval.estimate == pytest.approx(np.equal(whole.label, whole.prediction).mean())
    assert (cell.finished, cell.expected_runs, len(cell.trained)) == (True, 5, 5)


def test_a_failed_fold_costs_its_own_answers_only() -> None:
    """Its rows are answered in the other repeats; in its own they have the next repeat's answer."""
    study = make_study(15)
    whole = lora(study, fake.crossed_cell(study, "lora", 0.8, 5))
    records = fake.crossed_cell(study, "lora", 0.8, 5)
    cell = lora(study, fake.without_fold(fake.without_fold(records, 2), 14))
    score = cell.run_scores
    assert cell.design == TestDesign(5, 3, 5) and score is not None and score.folds is not None
    inside = [score.folds[r] == -1 for r in range(3)]
    assert [int(rows.sum()) for rows in inside] == [12, 0, 12]
    for repeat, (mine, full) in enumerate(zip(cell.test_answers, whole.test_answers, strict=True)):
        assert (mine.uid, mine.label) == (full.uid, full.label)
        other = whole.test_answers[(repeat + 1) % 3].prediction
        expected = np.where(inside[repeat], other, full.prediction)
        # Row by row the mean over what answered it; the first repeat's rows come from the second.
        assert mine.prediction == tuple(expected.tolist())
    assert (score.runs, score.run_degrees) == (13, 3 + 4 + 3)


def test_a_row_that_no_repeat_answered_is_absent_and_a_repeat_without_any_too() -> None:
    study = make_study(10)
    records = fake.crossed_cell(study, "lora", 0.8, 5)
    for place in range(5, 10):
        records = fake.without_fold(records, place)
    cell = lora(study, fake.without_fold(records, 0))
    assert cell.design == TestDesign(5, 1, 4) and len(cell.test_answers[0].uid) == 48


def test_a_method_that_fails_in_most_folds_takes_no_rows_from_the_others() -> None:
    study = make_study()
    records = fake.crossed_cell(study, "lora", 0.8, 5)
    poor = fake.crossed_cell(study, "prompt", 0.7, 5)
    for place in (0, 1, 2):
        poor = fake.without_fold(poor, place)
    partial = fake.without_fold(fake.crossed_cell(study, "full", 0.7, 5), 4)
    cells = [c for c in group_into_cells(study, [*records, *poor, *partial]) if c.task == "topics"]
    expected = expected_scores(cells)
    assert {key[1]: len(e.score.uid) for key, e in expected.items()} == {"lora": 60, "full": 48}
    assert all(c.cell.method != "prompt" for c in recommend(cells).candidates)
    assert "prompt" in {c.method for c in recommend(cells).failed_cells}


def test_a_baseline_is_judged_on_the_rows_that_methods_have_reached() -> None:
    study = make_study()
    tuned, probe = (fake.crossed_cell(study, m, 0.8, 5) for m in ("lora", "head_only"))
    for of_probe, names in (
        (probe, ["lora", "head_only"]),
        (fake.without_fold(probe, 0), ["lora"]),
    ):
        cells = group_into_cells(study, [tuned[0], *of_probe])
        expected = expected_scores([cell for cell in cells if cell.task == "topics"])
        assert [key[1] for key in expected] == names
        assert {len(score.score.uid) for score in expected.values()} == {12}


def test_scores_are_compared_as_if_a_failed_fold_had_been_answered() -> None:
    """The estimates are those of a ridge regression on configurations and rows."""
    study = make_study()
    whole = fake.crossed_cell(study, "lora", 0.8, 5)
    partial = fake.without_fold(fake.crossed_cell(study, "lora", 0.7, 5), 2)
    scores = [s for r in (whole, partial) if (s := lora(study, r).run_scores) is not None]
    estimates, noise = estimate_means(scores, [False] * 2)
    uids = scores[0].uid
    places = [(i, uids.index(uid)) for i, score in enumerate(scores) for uid in score.uid]
    values = np.concatenate([score.values[0] for score in scores])
    design = np.zeros((len(places) + 60, 2 + 60))
    for row, (i, place) in enumerate(places):
        design[row, [i, 2 + place]] = 1
    design[len(places) :, 2:] = np.eye(60)
    fit = np.linalg.lstsq(design, np.append(values, np.zeros(60)))[0]
    assert estimates == pytest.approx(fit[:2])
    assert abs(estimates[1] - scores[1].estimate) > 1e-3
    complete = estimate_means(scores[:1] * 2, [False] * 2)[1]
    rows = np.stack([scores[0].values[0]] * 2)
    credit = np.diag([0.5 / 62**2] * 2)
    assert complete == pytest.approx(ROW_FACTOR * np.cov(rows) / 60 + credit)
    assert noise[1, 1] > complete[0, 0]


def test_filled_rows_have_their_own_scores_and_clusters() -> None:
    part = replace(
        fake.answers(0.7, n=20),
        cluster=tuple(i // 4 for i in range(20)),
        segment={"meteor": tuple(i / 20 for i in range(20))},
    )
    other = replace(part, scores=tuple((2.0, float(i)) for i in range(20)))
    lacking = fake.take(part, range(8, 20))
    filled = merge([lacking], [other])
    assert filled.uid == part.uid and merge([other], [lacking]) == other
    assert filled.scores == other.scores[:8] + part.scores[8:]
    assert (filled.cluster, filled.segment) == (part.cluster, part.segment)


def test_clusters_and_questions_are_numbered_anew() -> None:
    part = fake.answers(0.7, n=24)
    whole = replace(
        part,
        cluster=tuple(i // 6 for i in range(24)),
        question=tuple(i // 2 for i in range(24)),
        segment={"meteor": tuple(i / 24 for i in range(24))},
    )
    folds = [fake.take(whole, [i for i in range(24) if (i // 6) % 2 == fold]) for fold in (0, 1)]
    merged = merge(folds[::-1])
    assert (merged.uid, merged.cluster, merged.question) == (
        whole.uid,
        whole.cluster,
        whole.question,
    )
    assert merged.segment == whole.segment
    # A fold in which every cluster has one row has none stored.
    alone = replace(folds[1], cluster=())
    assert len(set(merge([folds[0], alone]).cluster)) == 2 + 12


def test_folds_of_other_data_are_no_cross_validation() -> None:
    part = fake.answers(0.7, n=10)
    with pytest.raises(StoreError, match="two folds"):
        merge([part, part])


def test_each_fold_has_the_rate_of_its_own_trials() -> None:
    study = make_study(3)
    rates = (1e-4, 1e-3)
    first, _, last = fake.crossed_cell(study, "lora", 0.8, 3)
    _, middle, _ = fake.crossed_cell(study, "lora", 0.8, 3, learning_rate=1e-4)
    records = [first, middle, last]
    for index in range(3):
        for rate in rates:
            outer = OuterFold(folds=3, index=index)
            best = rate == (1e-4 if index == 1 else 1e-3)
            run = fake.make_run(study, "tune", "lora", 0, learning_rate=rate, outer=outer)
            part = fake.answers(0.9 if best else 0.4, n=40, seed=index, part=f"train{index}")
            records.append(fake.record(run, {"selection": part}))
    # A run at a rate that its fold did not choose, of an earlier choice.
    old = fake.make_run(
        study, "final", "lora", 2, learning_rate=1e-3, outer=OuterFold(folds=3, index=1)
    )
    records.append(fake.record(old, {"test": fake.constant(n=20)}))
    cell = lora(study, records)
    assert [r.run.learning_rate for r in cell.final] == [1e-3, 1e-4, 1e-3]
    assert {o.index: c.rate for o, c in cell.fold_choices.items()} == {0: 1e-3, 1: 1e-4, 2: 1e-3}
    assert cell.rate == 1e-3
    assert [len(t.runs) for t in cell.choice.table] == [3, 3]
    assert cell.other_settings == 1


def test_a_fold_whose_trials_all_failed_asks_for_no_final_run() -> None:
    study = make_study(3, trials=1)
    records = fake.crossed_cell(study, "lora", 0.8, 3)[:2]
    outer = OuterFold(folds=3, index=2)
    run = fake.make_run(study, "tune", "lora", 0, outer=outer)
    cell = lora(study, [*records, fake.record(run, outcome="diverged")])
    assert (cell.expected_runs, cell.finished) == (2, True)
    assert cell.failures == FailureRate(failed=1, runs=3)
    # One of two rates failed: another trial is to come, and nothing has failed yet.
    waiting = make_study(3, trials=2)
    cell = lora(waiting, [*records, fake.record(run, outcome="diverged")])
    assert cell.failures == FailureRate(failed=0, runs=2)


def test_a_method_whose_trials_all_failed_has_failures_and_no_verdict() -> None:
    study = make_study(3, trials=1)
    records = [
        fake.record(
            fake.make_run(study, "tune", "lora", 0, outer=OuterFold(folds=3, index=index)),
            outcome="diverged",
        )
        for index in range(3)
    ]
    cells = group_into_cells(study, [*records, *fake.crossed_cell(study, "full", 0.8, 3)])
    cell = next(c for c in cells if (c.task, c.method) == ("topics", "lora"))
    assert cell.failures == FailureRate(failed=3, runs=3) and cell.all_trials_failed
    verdict = PairwiseComparisons([c for c in cells if c.task == "topics"]).verdict(cell)
    assert verdict is not None and verdict.note == "undecided: no run trained"


def test_a_constant_answer_to_a_small_fold_is_no_collapse() -> None:
    study = make_study(3)
    outer = OuterFold(folds=3, index=0)
    run = fake.make_run(study, "final", "lora", 1, outer=outer)
    few, many = fake.constant(n=4), fake.answers(0.7, n=40, part="train")
    cell = lora(study, [fake.record(run, {"test": few, "selection": many})])
    assert cell.outcomes == {"ok": 1}
    constant = replace(many, prediction=(0,) * 40)
    cell = lora(study, [fake.record(run, {"test": few, "selection": constant})])
    assert cell.outcomes == {"collapsed": 1}


def test_the_design_is_what_the_study_asks_for_or_what_its_runs_are() -> None:
    auto, split = make_study(3), make_study(3, outer="split")
    crossed = fake.crossed_cell(auto, "lora", 0.8, 3)
    both = [*crossed, *fake.cell(auto, "lora", 0.5)]
    assert lora(split, both).design == SPLIT
    assert lora(make_study(3, outer=3), both).design == TestDesign(3, 1, 3)
    assert lora(auto, crossed).design == TestDesign(3, 1, 3)
    assert lora(auto, fake.cell(auto, "lora", 0.5)).design == SPLIT
    waiting = tuple(fake.state(record.run) for record in crossed)
    assert lora(auto, [], waiting).design == TestDesign(3, 1)


def test_the_page_says_which_rows_are_tested() -> None:
    study = make_study()
    crossed = build_report(study, fake.crossed_cell(study, "lora", 0.8, 5))
    assert "On topics all rows (60) are tested" in crossed.study.protocol
    assert (
        "not comparable with those on published splits, which `outer: split`"
        in crossed.study.protocol
    )
    assert (
        "every method tried 3 learning rates with a tuning seed on one part of the rows outside "
        "each outer fold; scores are of 5 fresh seeds, one for each fold, at the selected rate"
    ) in crossed.study.protocol
    assert "folds of train" not in crossed.study.protocol
    assert crossed.tasks[0].basis == "all 60 examples tested, 5 folds"
    assert "60, 5 folds" in format_n_by_seeds(crossed.tasks[0].methods[1].score)
    records = fake.crossed_cell(study, "tfidf", 0.8, 5)
    full = fake.without_fold(fake.crossed_cell(study, "full", 0.8, 5), 2)
    one_failed = build_report(study, [*records, *full])
    assert one_failed.tasks[0].basis.endswith("5 folds, 48 where not every fold has a score")
    assert format_n_by_seeds(one_failed.tasks[0].methods[0].score) == "48, 4 of 5 folds"
    split = build_report(study, fake.cell(study, "lora", 0.8))
    assert "with a tuning seed on one selection part of train; scores" in split.study.protocol
    assert "On topics all runs train on the same training set" in split.study.protocol
