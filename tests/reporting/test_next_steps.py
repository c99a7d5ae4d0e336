"""Confident learning on the answers of runs: what is suspected, in which order; when nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support import fake_records as fake
from support.fake_records import topic_cells

from paretune import objectives
from paretune.analysis.cell import Cell
from paretune.analysis.pareto.recommend import Recommendation, recommend
from paretune.data.example import Dataset
from paretune.objectives.example import Example
from paretune.reporting.next_steps import LEAST_MARGIN, PRECISION, write_next_steps
from paretune.reporting.parts import NextSteps
from paretune.store.record import Predictions

ROWS, LABELS = 300, 3


def make_cells(
    skills: Sequence[float], flipped: Sequence[int] = ()
) -> tuple[list[Cell], NDArray[np.float64]]:
    """Methods of these skills, whose runs see the labels before some were flipped; and the mean
    probabilities."""
    names = ["full", "lora", "prompt"][: len(skills)]
    study = fake.study(methods=names, protocol={"seeds": [1, 2, 3], "folds": 1})
    rng = np.random.default_rng(5)
    truth = rng.integers(0, LABELS, ROWS)
    label = truth.copy()
    label[list(flipped)] = (label[list(flipped)] + 1) % LABELS
    records, probabilities = [], []
    for name, skill in zip(names, skills, strict=True):
        of_method = []
        for seed in study.protocol.seeds:
            logits = rng.normal(0, 1, (ROWS, LABELS)) + skill * np.eye(LABELS)[truth]
            part = Predictions(
                tuple(f"test:{i}" for i in range(ROWS)),
                tuple(label.tolist()),
                tuple(logits.argmax(axis=1).tolist()),
                tuple(map(tuple, logits.tolist())),
            )
            records.append(fake.record(fake.make_run(study, "final", name, seed), {"test": part}))
            of_method.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        probabilities.append(np.mean(of_method, axis=0))
    return topic_cells(study, records), np.mean(probabilities, axis=0)


def find_steps(cells: Sequence[Cell]) -> NextSteps:
    steps = write_next_steps(recommend(cells))
    assert steps is not None
    return steps


def test_flipped_labels_are_found_and_little_else() -> None:
    flipped = [*range(0, ROWS, 20)]
    steps = find_steps(make_cells([4.0, 4.5], flipped)[0])
    listed = [int(label.uid.partition(":")[2]) for label in steps.labels]
    hits = len({*listed} & {*flipped})
    assert steps.rows == ROWS and hits >= 0.8 * len(flipped) and hits >= 0.9 * len(listed)
    assert all(label.runs == 6 and 2 * label.agreeing > label.runs for label in steps.labels)
    (step,) = [step for step in steps.steps if step.action == "check the labels"]
    assert step.guess and step.points == pytest.approx(100 * PRECISION * len(listed) / ROWS)


def test_it_is_confident_learning_with_a_margin() -> None:
    """Row by row, as the paper's definition is written."""
    cells, p = make_cells([2.0, 2.0], [*range(0, ROWS, 10)])
    (label,) = {c.test_answers[0].label for c in cells if c.test_answers}
    thresholds = [np.mean([p[i, j] for i in range(ROWS) if label[i] == j]) for j in range(LABELS)]
    expected = {}
    for i in range(ROWS):
        reached = [j for j in range(LABELS) if p[i, j] >= thresholds[j]]
        counted = max(reached, key=lambda j: p[i, j], default=label[i])
        if p[i, counted] - p[i, label[i]] > LEAST_MARGIN:
            expected[f"test:{i}"] = str(counted)
    labels = find_steps(cells).labels
    assert {s.uid: s.answer for s in labels}.items() <= expected.items()
    assert len(labels) > 0.9 * len(expected)  # of the rest half of the runs answer otherwise
    margins = [s.probability - p[int(s.uid[5:]), int(s.label)] for s in labels]
    assert margins == sorted(margins, reverse=True)


def test_rows_that_no_run_held_out_are_counted() -> None:
    cells, _ = make_cells([4.0, 4.5])
    parts = {
        part: tuple(Example(f"{part}:{i}", (("", None),), 0, f"line {i}") for i in range(count))
        for part, count in (("train", 100), ("test", ROWS))
    }
    about = {"task": "t", "kind": "classification", "metric": "accuracy", "language": None}
    dataset = Dataset(**parts, **about, labels=("a", "b", "c"), licence="", source="")
    choice = recommend(cells)
    texts = [
        step.text
        for data in (dataset, replace(dataset, train=()))
        for step in getattr(write_next_steps(choice, data), "steps", ())
        if step.action == "check the labels"
    ]
    unseen = "Not looked at: 100 of 400 rows, which no run held out; `outer: 5` holds out each."
    assert unseen in texts[0] and "Not looked at" not in texts[1] and len(texts) == 2


def test_why_the_gain_of_more_rows_is_not_known() -> None:
    """A baseline won, its shares wait, one is too few, none are asked for."""
    cells, _ = make_cells([4.0])
    method = recommend(cells)
    (candidate,) = [c for c in method.candidates if not c.cell.baseline]
    winner = replace(candidate.cell, model="-", method="tfidf", name="tfidf")
    runs = [replace(r, run=r.run.model_copy(update={"learning_rate": None})) for r in winner.final]
    baseline = replace(candidate, cell=replace(winner, final=tuple(runs)))
    won = replace(method, chosen=baseline)

    def explain(choice: Recommendation, *shares: float) -> str:
        steps = write_next_steps(choice, shares=shares)
        assert steps is not None
        (text,) = [step.text for step in steps.steps if step.action == "label more rows"]
        return text.partition("not known (")[2]

    for shares in ((), (0.25, 0.5)):
        assert explain(won, *shares).startswith("a baseline is recommended, TF-IDF")
    nothing = explain(replace(method, chosen=None), 0.25, 0.5)
    assert nothing.startswith("only what is recommended is trained on shares of the rows")
    assert explain(method, 0.25, 0.5).startswith("its runs on shares of the rows are not trained")
    assert explain(method, 0.5).startswith("one share of the rows is too few")
    assert explain(method).startswith("protocol.rows: [0.25, 0.5] measures it")


def test_methods_that_learned_little_have_no_vote() -> None:
    both, _ = make_cells([4.0, 0.3], [0, 20])
    assert {label.runs for label in find_steps(both).labels} == {3}
    texts = [replace(c, objective=objectives.get("instruction")) for c in both]
    assert find_steps(texts).rows == 0 and write_next_steps(recommend([])) is None


def test_an_unfinished_study_goes_on_where_nothing_else_is_known() -> None:
    cell = make_cells([4.5])[0][0]
    runs = [replace(r, result={**r.result, "curve": []}) for r in cell.final]
    ended = replace(cell, final=runs)
    assert find_steps([ended]).sentence == "Nothing is known to bring more in the next hour."
    never_begun = replace(cell, method="lora", name="lora", final=())
    assert find_steps([ended, never_begun]).sentence == "First let the study finish."
