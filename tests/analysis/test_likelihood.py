"""Likelihood as a verdict of its own: what it is computed from, and that scores do not feel it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support import fake_cells
from support import fake_records as fake

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.secondary_scores import (
    LikelihoodComparisons,
    cell_likelihood,
    example_likelihood,
)
from paretune.objectives.likelihood import ExampleLikelihood, NoLikelihood
from paretune.store.record import Predictions, Record
from paretune.study import OuterFold, Study

SHARP, FLAT = 1.0, 0.05


def logits(part: Predictions, sureness: float, seed: int) -> Predictions:
    """The same answers with logits; the higher ``sureness``, the better they tell right from wrong.

    The answer has the highest logit. By how much says how likely it is right, blurred by noise.
    """
    rng = np.random.default_rng([seed, len(part.uid)])
    rows = []
    for label, answer in zip(part.label, part.prediction, strict=True):
        margin = 0.5 + abs(rng.normal()) + sureness * 3 * (label == answer)
        rows.append(tuple(float(margin * (k == answer)) for k in range(3)))
    return replace(part, scores=tuple(rows))


def records_of(study: Study, method: str, sureness: float, part: str = "full") -> list[Record]:
    """Final runs whose answers do not depend on ``sureness``."""
    records = []
    for seed in study.protocol.seeds:
        run = fake.make_run(study, "final", method, seed)
        parts = {
            name: logits(fake.answers(0.7, n=n, seed=seed, part=name), sureness, seed)
            for name, n in (("selection", 40), ("test", 120))
        }
        records.append(fake.record(run, parts))
    return records


def cells_of(study: Study, records: list[Record]) -> dict[str, Cell]:
    cells = group_into_cells(study, records)
    return {cell.method: cell for cell in cells if cell.task == "topics"}


@pytest.fixture
def study() -> Study:
    return fake.study(methods=["full", "lora"])


def test_equal_answers_with_other_probabilities_differ_here_and_nowhere_else(study: Study) -> None:
    records = [*records_of(study, "full", SHARP), *records_of(study, "lora", FLAT)]
    cells = cells_of(study, records)
    (pair,) = LikelihoodComparisons([*cells.values()]).pairs["e5-small"]
    assert (pair.a, pair.b, pair.standing) == ("full", "lora", "above")
    score = PairwiseComparisons([*cells.values()]).compare(cells["full"], cells["lora"])
    assert score is not None
    assert (score.difference.estimate, score.standing) == (0.0, "unclear")


def test_the_mean_is_that_of_the_runs(study: Study) -> None:
    records = records_of(study, "full", SHARP)
    cell = cells_of(study, records)["full"]
    likelihood = cell_likelihood(cell)
    assert likelihood.log_likelihood is not None and likelihood.brier is not None
    runs = [example_likelihood(record, cell.objective) for record in records]
    means = [run.log_likelihood.mean() for run in runs if isinstance(run, ExampleLikelihood)]
    assert likelihood.log_likelihood.seeds == pytest.approx(means)
    assert likelihood.log_likelihood.estimate < 0 < likelihood.brier.estimate
    assert set(likelihood.runs) == {record.run_id for record in records}


def in_folds(records: list[Record]) -> list[Record]:
    """Three runs, each of which answers every third of the rows."""
    fold_records = []
    for index, record in enumerate(records):
        test = record.predictions["test"]
        own = {
            name: getattr(test, name)[index::3] for name in ("uid", "label", "prediction", "scores")
        }
        run = record.run.model_copy(update={"outer": OuterFold(folds=3, index=index, repeat=0)})
        parts = {**record.predictions, "test": replace(test, **own)}
        fold_records.append(replace(record, run=run, predictions=parts))
    return fold_records


def test_folds_are_put_together_by_example(study: Study) -> None:
    records = in_folds(records_of(study, "full", SHARP))
    cell = cells_of(study, records)["full"]
    likelihood = cell_likelihood(cell)
    assert likelihood.log_likelihood is not None and likelihood.log_likelihood.design == cell.design
    assert cell.design.is_cross_validation
    each = [example_likelihood(record, cell.objective) for record in records]
    every = [v for run in each if isinstance(run, ExampleLikelihood) for v in run.log_likelihood]
    assert likelihood.log_likelihood.seeds.tolist() == [pytest.approx(np.mean(every))]
    assert len(likelihood.log_likelihood.uid) == 120
    # Runs scatter between folds, which is part of the variance, as of scores.
    means = [run.log_likelihood.mean() for run in each if isinstance(run, ExampleLikelihood)]
    assert likelihood.log_likelihood.fold_scores == pytest.approx(np.array([means]))


def test_of_missing_folds_the_rows_that_both_answered_are_compared(study: Study) -> None:
    full, lora = (
        in_folds(records_of(study, method, sureness))
        for method, sureness in (("full", SHARP), ("lora", FLAT))
    )
    cells = cells_of(study, [*full, *lora[:2]])
    (pair,) = LikelihoodComparisons([*cells.values()]).pairs["e5-small"]
    assert pair.difference.n_examples == 80 and pair.difference.estimate > 0


def test_one_run_of_a_method_that_draws_its_seed_has_no_verdict(study: Study) -> None:
    records = [*records_of(study, "full", SHARP), *records_of(study, "lora", FLAT)[:1]]
    (pair,) = LikelihoodComparisons([*cells_of(study, records).values()]).pairs["e5-small"]
    assert (pair.standing, pair.withheld) == ("unclear", "one run")


def test_what_cannot_be_fitted_says_why(study: Study) -> None:
    records = records_of(study, "full", SHARP)
    without = [replace(r, predictions={"test": r.predictions["test"]}) for r in records]
    on_test = [replace(r, run=r.run.model_copy(update={"selection": "test"})) for r in records]
    for runs in (without, on_test):
        likelihood = cell_likelihood(cells_of(study, runs)["full"])
        assert likelihood.log_likelihood is None and "selection part" in likelihood.reason
    nothing = cell_likelihood(cells_of(study, [])["full"])
    assert nothing.reason == "no run that trained has left answers"
    objective = cells_of(study, records)["full"].objective
    plain = replace(objective, likelihood=None)
    assert isinstance(example_likelihood(records[0], plain), NoLikelihood)


def test_cells_with_other_examples_form_no_pair(study: Study) -> None:
    records = [*records_of(study, "full", SHARP), *records_of(study, "lora", FLAT)]
    shorter = [
        replace(r, predictions={**r.predictions, "test": fake.answers(0.7, n=30)})
        for r in records[3:]
    ]
    cells = cells_of(study, [*records[:3], *shorter])
    assert LikelihoodComparisons([*cells.values()]).pairs == {"e5-small": ()}


METHODS = ("full", "lora", "loha", "prompt")


def draw_study(study: Study, rng: np.random.Generator, lead: float) -> list[Record]:
    """Methods whose logits favour the right label alike, but ``full`` by ``lead`` more.

    Examples differ in ease, methods in what is hard for them, seeds in how well they learnt, and
    each run is overconfident by a factor of its own.
    """
    sizes = {"selection": 80, "test": 100}
    labels = {name: rng.integers(0, 3, size) for name, size in sizes.items()}
    ease = {name: rng.normal(0, 1.1, size) for name, size in sizes.items()}
    records = []
    for method in METHODS:
        own = {name: rng.normal(0, 0.6, size) for name, size in sizes.items()}
        for seed in study.protocol.seeds:
            skill = 1.0 + lead * (method == "full") + rng.normal(0, 0.3)
            parts = {}
            for name, size in sizes.items():
                scores = rng.normal(0, 1, (size, 3))
                scores[np.arange(size), labels[name]] += skill + ease[name] + own[name]
                scores *= np.exp(rng.normal(0.5, 0.5))
                part = fake.predictions(labels[name], scores.argmax(1), name)
                parts[name] = replace(part, scores=tuple(map(tuple, scores.tolist())))
            records.append(fake.record(fake.make_run(study, "final", method, seed), parts))
    return records


def draw_crossed_study(study: Study, rng: np.random.Generator, lead: float) -> list[Record]:
    """The same on 300 rows in five folds, each answered by a run of its own."""
    rows, labels, ease = 300, rng.integers(0, 3, 300), rng.normal(0, 1.1, 300)
    fold_of, records = rng.permutation(rows) % 5, []

    def answer(right: np.ndarray, favour: np.ndarray, part: str) -> Predictions:
        scores = rng.normal(0, 1, (len(right), 3))
        scores[np.arange(len(right)), right] += favour
        answers = fake.predictions(right, scores.argmax(1), part)
        return replace(answers, scores=tuple(map(tuple, scores.tolist())))

    for method in METHODS:
        own = rng.normal(0, 0.6, rows)
        for position, seed in enumerate(study.protocol.seeds):
            skill = 1.0 + lead * (method == "full") + rng.normal(0, 0.3)
            whole = answer(labels, skill + ease + own, "test")
            near = answer(rng.integers(0, 3, 48), skill + rng.normal(0, 1.25, 48), "train")
            factor = np.exp(rng.normal(0.5, 0.5))
            test = fake_cells.take(whole, np.flatnonzero(fold_of == position).tolist())
            parts = {
                name: replace(part, scores=tuple(map(tuple, (factor * np.array(part.scores)))))
                for name, part in (("test", test), ("selection", near))
            }
            outer = OuterFold.at(position, 5)
            run = fake.make_run(study, "final", method, seed, outer=outer)
            records.append(fake.record(run, parts))
    return records


@pytest.mark.slow
@pytest.mark.parametrize("draw", [draw_study, draw_crossed_study])
@pytest.mark.parametrize(("lead", "least", "most"), [(0.0, 0, 8), (1.5, 40, 60)])
def test_equal_methods_are_seldom_said_to_differ(
    draw: Callable[[Study, np.random.Generator, float], list[Record]],
    lead: float,
    least: int,
    most: int,
) -> None:
    """Of 60 studies with any claim that is right, or false where all methods are equal.

    A true 5 % of 60 is 3, and more than 8 in under 1 % of such draws.
    """
    claims = count_claims(draw, lead, 60)
    assert least <= claims <= most


def count_claims(
    draw: Callable[[Study, np.random.Generator, float], list[Record]], lead: float, studies: int
) -> int:
    study = fake.study(
        methods=[*METHODS],
        tasks=[fake.own_task("topics")],
        protocol={"seeds": [1, 2, 3, 4, 5], "folds": 1, "trials": 1},
    )
    rng, claims = np.random.default_rng([20, int(10 * lead)]), 0
    for _ in range(studies):
        cells = group_into_cells(study, draw(study, rng, lead))
        (pairs,) = LikelihoodComparisons(cells).pairs.values()
        claims += any(
            pair.standing != "unclear" and (not lead or pair.a == "full") for pair in pairs
        )
    return claims
