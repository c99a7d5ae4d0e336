"""What to do next on a task: labels to look at, more rows, training otherwise.

Each step has the points that an hour of it may bring. A person checks a label, or writes a row, in
half a minute; what trains longer than an hour brings its share.

**Labels to look at** are those of confident learning (Northcutt, Jiang and Chuang 2021, Journal of
Artificial Intelligence Research 70, arXiv:1911.00068). ``p[i, j]`` is the mean probability of label
j for row i, over runs that have not trained on it; the threshold of a label is the mean of
``p[i, j]`` over the rows that have it. A row counts as the likeliest of the labels whose thresholds
it reaches. It is listed where that is not its label, has clearly more probability than its label,
and is what most runs answer. Methods that score little above chance, or far below the best, have no
vote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2
from statistics import fmean

import numpy as np
from scipy.special import softmax

from paretune.analysis.cell import Cell
from paretune.analysis.learning_curve import predict_gain
from paretune.analysis.pareto.expected_scores import name_chance
from paretune.analysis.pareto.recommend import Candidate, Recommendation
from paretune.data.example import Dataset
from paretune.data.split import labelled_rows
from paretune.methods.core.titles import title_of
from paretune.metrics import Array
from paretune.reporting.disagreement import name_labels
from paretune.reporting.parts import DoubtfulLabel, NextStep, NextSteps
from paretune.reporting.text.formatting import describe_chance
from paretune.store.record import ComputeCost, Predictions
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

LEAST_MARGIN = 0.3
"""A doubtful label is this much less probable than the answer: weak methods contradict many."""
MOST_POINTS_BELOW = 10.0
"""Methods that score this many points less than the best have no vote."""
HOUR_ROWS = 120
"""Labels that a person checks, or rows that a person writes, in an hour."""
PRECISION = 0.4
"""Share of the listed labels that are wrong: bench/flipped_labels.py, dev/log.md."""
LEAST_POINTS = 0.05


def write_next_steps(
    choice: Recommendation, dataset: Dataset | None = None, *, shares: Sequence[float] = ()
) -> NextSteps | None:
    """Write what to do next on a task; None before a method has a score.

    Args:
        choice: what is recommended for the task, and from what.
        dataset: of the task, for lines of files and names of labels; None where it is not here.
        shares: of the rows on which the recommended method is trained too (``protocol.rows``).
    """
    methods = [c for c in choice.candidates if not c.cell.baseline]
    if not methods:
        return None
    subject = choice.chosen
    if subject is None or subject.cell.baseline:
        subject = max(methods, key=lambda c: c.expected.estimate)
    trivial = choice.trivial_score.value if choice.trivial_score else -np.inf
    least = max(c.interval.estimate for c in methods)
    least -= MOST_POINTS_BELOW * subject.interval.highest / 100
    voters = [c.cell for c in methods if c.interval.estimate > max(least, trivial)]
    labels, seen = _find_doubtful_labels(voters, dataset)
    rows = len(seen)
    steps = [_write_rows(choice, subject.cell, shares)]
    if rows:
        tested = set(subject.expected.score.uid)
        checked = min(sum(label.uid in tested for label in labels), HOUR_ROWS)
        points = 100 * PRECISION * checked / subject.interval.n_examples
        listed = " (`paretune next` lists them)" if labels and dataset is None else ""
        text = (
            f"{len(labels)} of {rows:,} labels may be wrong: runs that did not train on these rows "
            f"answer otherwise{listed}."
        )
        every = {example.uid for example in labelled_rows(dataset)} if dataset else set()
        if unseen := len(every - seen):
            text += f" Not looked at: {unseen:,} of {len(every):,} rows, which no run held out"
            text += "." if subject.cell.folds else "; `outer: 5` holds out each."
        steps.append(NextStep(action="check the labels", points=points, guess=True, text=text))
    steps += _write_training(subject, methods)
    steps.sort(key=lambda step: -(step.points or 0.0))
    worth = [
        f"{step.action} ({_format_gain(step.points)}{', a guess' if step.guess else ''})"
        for step in steps
        if step.points is not None and step.points >= LEAST_POINTS
    ]
    return NextSteps(
        task=sanitise_line(subject.cell.task),
        rows=rows,
        labels=tuple(labels),
        steps=tuple(steps),
        sentence=f"In the next hour, first {', then '.join(worth)}."
        if worth
        else "First let the study finish."
        if choice.unfinished
        else "Nothing is known to bring more in the next hour.",
    )


def _find_doubtful_labels(
    cells: Sequence[Cell], dataset: Dataset | None
) -> tuple[list[DoubtfulLabel], set[str]]:
    """Find labels that runs of these cells contradict, the clearest first, and all rows' uids."""
    # Answers with probabilities to rows that a run, or a trial of its rate, has not trained on.
    answers: list[Predictions | None] = []
    for cell in cells:
        rates = {(r.run.outer, r.run.learning_rate) for r in cell.trained}
        trials = [r for r in cell.tuning if (r.run.outer, r.run.learning_rate) in rates]
        for record in (*cell.trained, *trials) if cell.objective.predicts_labels else ():
            answers += [record.predictions.get("test"), record.predictions.get("selection")]
    votes: dict[tuple[str, int], list[Array]] = {}
    for held_out in answers:
        if not held_out or {len(row) > 1 for row in held_out.scores} != {True}:
            continue
        probabilities = softmax(np.array(held_out.scores), axis=1)
        for uid, row_label, vote in zip(held_out.uid, held_out.label, probabilities, strict=True):
            votes.setdefault((uid, int(row_label)), []).append(vote)
    if not votes:
        return [], set()
    p = np.array([np.mean(of_row, axis=0) for of_row in votes.values()])
    having = np.array([label for _, label in votes])[:, None] == np.arange(p.shape[1])
    with np.errstate(invalid="ignore"):  # a label that no row has is never reached
        reached = np.where(p >= (p * having).sum(axis=0) / having.sum(axis=0), p, -1.0)
    margins = reached.max(axis=1) - p[having]
    names = dataset.labels if dataset else name_labels(cells[0], p.shape[1] - 1)
    places = {e.uid: e.where for e in (*dataset.train, *dataset.test)} if dataset else {}
    doubtful = []
    for i, ((uid, label), of_row) in enumerate(votes.items()):
        answer = int(reached[i].argmax())
        agreeing = sum(int(vote.argmax()) == answer for vote in of_row)
        if margins[i] > LEAST_MARGIN and 2 * agreeing > len(of_row):
            fields = {"uid": uid, "where": sanitise_line(places.get(uid, uid))}
            fields |= {"label": names[label], "answer": names[answer]}
            counts = {"probability": p[i, answer], "agreeing": agreeing, "runs": len(of_row)}
            doubtful.append((margins[i], DoubtfulLabel.model_validate(fields | counts)))
    doubtful.sort(key=lambda pair: -pair[0])
    return [label for _, label in doubtful], {uid for uid, _ in votes}


def _write_rows(choice: Recommendation, cell: Cell, shares: Sequence[float]) -> NextStep:
    """Write what twice the rows bring, which shares of the rows have shown."""
    chosen = None if choice.chosen is None else choice.chosen.cell
    if chosen is not None and (chosen.fewer_rows or not cell.fewer_rows):
        cell = chosen
    action, gain = "label more rows", predict_gain(cell, shares)
    if cell.baseline and cell.rate is None:
        title = sanitise_line(title_of(cell.method))
        gain = f"a baseline is recommended, {title}, which is not trained on shares of the rows"
    elif chosen is None and shares and not cell.fewer_rows:
        gain = "only what is recommended is trained on shares of the rows, and nothing is"
    if isinstance(gain, str):
        return NextStep(action=action, points=None, text=f"Twice the rows: not known ({gain}).")
    points, low, high = gain
    text = f"Twice the rows: {_format_gain(points)} [{low:+z.1f}, {high:+z.1f}]."
    ends = [(r.result["curve"][-1], r.run.training) for r in cell.trained if r.result.get("curve")]
    rows = [end["step"] * training.batch_size / end["epoch"] for end, training in ends]
    hour = log2(1 + HOUR_ROWS / fmean(rows)) if rows else 0.0  # in doublings
    interval = hour * low, hour * high
    return NextStep(action=action, points=hour * points, interval=interval, text=text)


def _write_training(subject: Candidate, methods: Sequence[Candidate]) -> Iterable[NextStep]:
    """Write the steps of training: twice as long, the best larger model, the next method."""
    cell, highest = subject.cell, subject.interval.highest
    curves = [[p["selection"]["primary"] for p in r.result.get("curve", ())] for r in cell.trained]
    rising = sum(r.result.get("best_step") == r.steps for r in cell.trained)
    if any(curves) and 2 * rising > len(cell.trained):
        points, estimate = None, "not known"
        if not cell.objective.generates:  # of texts, selection compares the loss
            points = 50 * fmean(max(c) - max(c[: (len(c) + 1) // 2]) for c in curves if c) / highest
            estimate = f"{_format_gain(points)}, a guess"
            points /= max((cell.run_seconds or 0.0) * len(cell.final) / 3600, 1.0)
        runs = f"{rising} of {pluralise(len(cell.trained), 'run')}"
        text = f"Twice the epochs: {estimate} (still improving in {runs})."
        yield NextStep(action="train longer", points=points, guess=True, text=text)
    work = [(c.cell.model, ComputeCost.from_record(r)) for c in methods for r in c.cell.final]
    counted = sorted((cost.operations, model) for model, cost in work if cost is not None)
    size = {model: operations for operations, model in counted}  # of a step, the most
    ranked = sorted(methods, key=lambda c: -float(c.expected.draws.mean()))
    larger = [c for c in ranked if size.get(c.cell.model, 0) > size.get(cell.model, 0)]
    similar = [c for c in ranked if c.cell.model == cell.model and c is not subject]
    rivals = [*(("take the larger model", c, f" on {c.cell.model}") for c in larger[:1])]
    rivals += [("take the next method", c, "") for c in similar[:1]]
    for action, rival, on_model in rivals:
        draws = 100 * (rival.expected.draws - subject.expected.draws) / highest
        gain, interval = float(draws.mean()), np.quantile(draws, [0.025, 0.975]).tolist()
        name, title = f"{title_of(rival.cell.method)}{on_model}", title_of(cell.method)
        better = describe_chance(name_chance(float((draws > 0).mean())), "better")
        what = action.removeprefix("take the ").capitalize()
        text = f"{what}, {name}: {_format_gain(gain)} beside {title}, {better}."
        yield NextStep(action=action, points=gain, interval=interval, text=sanitise_line(text))


def _format_gain(points: float) -> str:
    return f"{points:+z.1f} points"
