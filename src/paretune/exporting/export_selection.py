"""Which cell and which of its runs an export is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from paretune.analysis.cells import NO_MODEL, Cell, group_into_cells
from paretune.analysis.constant_answers import is_collapsed
from paretune.errors import MethodError, StoreError, StudyError
from paretune.store.record import UNSCORED_RESULTS, Record
from paretune.study import Run, Study

FORMS = ("peft", "merged", "paretune")


def select_cell(
    study: Study,
    records: Sequence[Record],
    task: str | None,
    model: str | None,
    method: str | None,
) -> tuple[Cell, list[Cell]]:
    """The cell that is meant, and all cells of its task.

    Without a method, it is the one of the highest score that trains a model and is no baseline,
    where there is one.

    Raises:
        StudyError: the names are not of the study, ambiguous, or nothing that was trained is meant.
    """
    cells = group_into_cells(study, records)
    for what, asked, known in (
        ("task", task, {c.task: None for c in cells}),
        ("model", model, {m.key: None for m in study.models}),
    ):
        if asked is None and len(known) > 1:
            raise StudyError(
                f"has several {what}s.",
                where=f"study {study.study}",
                remedy=f"Say --{what}: {', '.join(known)}.",
            )
        if asked is not None and asked not in known:
            raise StudyError(
                f'has no {what} "{asked}".',
                where=f"study {study.study}",
                remedy=f"It has {', '.join(known)}.",
            )
    task = task or study.tasks[0].key
    model = model or study.models[0].key
    here = [c for c in cells if c.task == task]
    on_model = [c for c in here if c.model == model]
    if method is not None:
        _refuse_unknown(study, method, here, on_model)
        on_model = [c for c in on_model if c.method == method]
    trained = [c for c in on_model if c.interval is not None]
    if any(not c.baseline for c in trained):
        trained = [c for c in trained if not c.baseline]
    if not trained:
        raise _no_ended_run(study, on_model, f"{method or 'any method'} with {model} on {task}")
    return max(trained, key=lambda c: c.interval.estimate if c.interval else 0.0), here


def select_record(cell: Cell, seed: int | None) -> Record:
    """The final run that is meant: of this seed, or of the best selection score.

    Raises:
        StoreError: it has not ended with scores.
    """
    usable = [r for r in cell.final if _has_scores(r)]
    ended = [r for r in usable if seed in (None, r.run.seed)]
    if not ended:
        raise StoreError(
            f"no final run {'' if seed is None else f'of seed {seed} '}has ended with scores.",
            where=" x ".join((cell.task, cell.model, cell.method)),
            remedy=f"Seeds that have: {', '.join(str(r.run.seed) for r in usable) or 'none'}.",
        )
    return max(ended, key=selection_score)


def selection_score(record: Record) -> tuple[float, float]:
    """What a run is chosen by: the primary score on the selection part, then the lower loss."""
    scores = record.result["scores"]["selection"]
    return scores["primary"], -scores["loss"]


def refuse_collapsed(record: Record, cell: Cell, *, allowed: bool) -> str:
    """What to warn of where a run gave every test example one answer; "" of all others.

    Raises:
        StudyError: it did, and it was not said that this is wanted.
    """
    if not _is_collapsed(record):
        return ""
    answers = record.predictions.get("test")
    of = f"all {len(answers.uid):,} test examples" if answers else "every test example"
    said = f"This model learnt nothing: it gave one and the same answer to {of}."
    if not allowed:
        others = [str(r.run.seed) for r in cell.final if _has_scores(r) and not _is_collapsed(r)]
        seeds = f"Seeds that did not: {', '.join(others)} (--seed). " if others else ""
        raise StudyError(
            f"seed {record.run.seed} has collapsed. {said}",
            where=" x ".join(record.run.cell),
            remedy=f"{seeds}Train longer or with a higher rate, or say --allow-collapsed.",
        )
    return said


def select_form(asked: str, possible: dict[str, str], run: Run) -> str:
    """The form to write: the one that is asked for, or the first that the run can take.

    Raises:
        StudyError: there is no such form.
        MethodError: the run cannot take it, and why.
    """
    if asked == "auto":
        return next(form for form in FORMS if not possible[form])
    if asked not in FORMS:
        raise StudyError(
            f'there is no form "{asked}".', remedy=f"There is auto, {', '.join(FORMS)}."
        )
    if possible[asked]:
        others = ", ".join(form for form in FORMS if not possible[form])
        raise MethodError(
            f"{possible[asked]}.", where=f"method {run.method.key}", remedy=f"It can be: {others}."
        )
    return asked


def _refuse_unknown(
    study: Study, method: str, here: Sequence[Cell], on_model: Sequence[Cell]
) -> None:
    """Refuse a method that is not of the study, or has no model that could be given to others."""
    trains = ", ".join(c.method for c in on_model)
    if any(c.method == method and c.model == NO_MODEL for c in here):
        raise StudyError(
            f"{method} is a baseline without a model: it trains nothing that could be exported.",
            where=f"study {study.study}",
            remedy=f"Its scores are in the report. What can be exported: {trains}.",
        )
    if all(c.method != method for c in on_model):
        raise StudyError(
            f'has no method "{method}".', where=f"study {study.study}", remedy=f"It has {trains}."
        )


def _no_ended_run(study: Study, cells: Sequence[Cell], what: str) -> StudyError:
    ended: Counter[str] = sum((Counter(cell.outcomes) for cell in cells), Counter())
    if ended:
        how = ", ".join(f"{count} {outcome}" for outcome, count in ended.items())
        return StudyError(
            f"no final run of {what} left a model with scores ({how}).",
            where=f"study {study.study}",
            remedy="`paretune report` says why; lower rates or more memory may help.",
        )
    return StudyError(
        f"has no ended final run of {what}.",
        where=f"study {study.study}",
        remedy="`paretune run` trains it; `paretune report` shows what there is.",
    )


def _has_scores(record: Record) -> bool:
    """Whether it ended with scores, and of one that diverged nothing is left."""
    return "selection" in record.result.get("scores", {}) and record.outcome not in UNSCORED_RESULTS


def _is_collapsed(record: Record) -> bool:
    answers = record.predictions.get("test")
    return record.outcome == "collapsed" or (answers is not None and is_collapsed(answers))
