"""The covariate of a pair beside its formula, written out for each row, run and fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.statistics.differences import on_common_rows
from paretune.analysis.unlabelled_answers import UnlabelledAnswers
from paretune.store.record import Predictions, Record
from paretune.study import Run, Study

LEVELS = {"full": 0.8, "lora": 0.7, "loha": 0.6, "tfidf": 0.5}
UNLABELLED = 40


def answer(run: Run) -> Mapping[str, Predictions]:
    """Unlabelled rows, which each run answers by itself; of two to a cluster."""
    part = fake.answers(LEVELS[run.method.name], n=UNLABELLED, seed=run.seed, part="unlabelled")
    scores = np.random.default_rng([run.seed, len(run.method.name)]).normal(size=(UNLABELLED, 3))
    clusters = tuple(i // 2 for i in range(UNLABELLED))
    rows = tuple(map(tuple, scores.tolist()))
    return {"unlabelled": replace(part, scores=rows, cluster=clusters)}


def draw_finals(folds: int) -> tuple[Study, list[Record]]:
    """Final runs of four methods, two seeds or two passes each, that answered unlabelled rows."""
    protocol = {"seeds": [*range(1, 1 + 2 * (folds or 1))], "folds": 1}
    study = fake.study(
        methods=["full", "lora", "loha"], protocol=protocol, tasks=[fake.own_task("t")]
    )
    records = []
    for name, level in LEVELS.items():
        if folds:
            records += fake.crossed_cell(study, name, level, folds)
        else:
            records += fake.cell(study, name, level)
    finals = [r for r in fake.add_parts(records, answer) if r.run.stage == "final"]
    return study, finals


@pytest.mark.parametrize("folds", [0, 5])
def test_covariates_are_of_further_methods_in_runs_that_have_not_trained_on_the_row(
    folds: int,
) -> None:
    study, finals = draw_finals(folds)
    cells = {cell.method: cell for cell in group_into_cells(study, finals)}
    scores = [cells[name].run_scores for name in ("full", "lora")]
    assert scores[0] is not None and scores[1] is not None
    pair = on_common_rows(scores[0], scores[1])
    covariate = UnlabelledAnswers(cells).covary("full", "lora", pair)
    assert covariate is not None and covariate.rows == UNLABELLED

    def support(side: str, part: str) -> dict[str, list[tuple[float, int, float]]]:
        """Of each row the mean probability of each run's answer, its fold's rows, and its mean."""
        values: dict[str, list[tuple[float, int, float]]] = {}
        for record in finals:
            if record.run.method.name != side:
                continue
            of_parts = {}
            for name in ("test", "unlabelled"):
                tables = [
                    [
                        softmax(r.predictions[name].scores, axis=1)
                        for r in finals
                        if r.run.method.name == further and r.run.outer == record.run.outer
                    ]
                    for further in ("loha", "tfidf")
                ]
                mean = np.mean([np.mean(runs, axis=0) for runs in tables if runs], axis=0)
                answers = record.predictions[name].prediction
                of_parts[name] = [float(row[a]) for row, a in zip(mean, answers, strict=True)]
            size, centre = len(of_parts["test"]), float(np.mean(of_parts["unlabelled"]))
            for uid, value in zip(record.predictions[part].uid, of_parts[part], strict=True):
                values.setdefault(uid, []).append((value, size, centre))
        return values

    first, second = support("full", "test"), support("lora", "test")
    expected = [
        np.mean([v - c for v, _, c in first[uid]]) - np.mean([v - c for v, _, c in second[uid]])
        for uid in pair[0].uid
    ]
    assert covariate.labelled == pytest.approx(expected, abs=1e-12)
    a, b = support("full", "unlabelled"), support("lora", "unlabelled")
    rows = np.array(
        [
            np.average([v for v, *_ in a[uid]], weights=[n for _, n, _ in a[uid]])
            - np.average([v for v, *_ in b[uid]], weights=[n for _, n, _ in b[uid]])
            for uid in a
        ]
    )
    clusters = (rows - rows.mean()).reshape(-1, 2).mean(axis=1)
    assert covariate.unlabelled == pytest.approx(clusters, abs=1e-12)


def test_pairs_are_corrected_where_both_sides_have_answered() -> None:
    """And a pair that is turned around is corrected the other way."""
    study, finals = draw_finals(5)
    without = [
        replace(r, predictions={"test": r.predictions["test"]})
        if r.run.method.name == "full"
        else r
        for r in finals
    ]
    pairs = {}
    for name, records in (("all", finals), ("without", without)):
        cells = group_into_cells(study, records)
        comparisons = PairwiseComparisons([c for c in cells if c.final], "lora")
        pairs[name] = {(p.a, p.b): p for p in comparisons.pairs("e5-small")}
    for names, pair in pairs["all"].items():
        estimate, turned = pair.estimate, pair.flip().estimate
        assert estimate.unlabelled == UNLABELLED
        alike = pairs["without"][names].estimate
        assert alike.unlabelled == (0 if "full" in names else UNLABELLED)
        if estimate.residuals is None:
            assert estimate.row_ratio == 1
            continue
        assert estimate.residuals.mean() == pytest.approx(estimate.value)
        assert np.array_equal(-turned.residuals, estimate.residuals)  # type: ignore[operator]
        if "full" in names:
            rows = estimate.parts[0][0] - alike.parts[0][0]
            assert estimate.variance - alike.variance == pytest.approx(rows)
            assert estimate.parts[1:] == alike.parts[1:] and estimate.value != alike.value
    assert any(pair.estimate.residuals is not None for pair in pairs["all"].values())
