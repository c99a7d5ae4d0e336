"""Chooses the cell, run and form that is exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from paretune import methods
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.outcomes import answers_are_constant
from paretune.analysis.pareto.recommend import Budget, Candidate, choose
from paretune.analysis.run_selection import selection_key
from paretune.errors import MethodError, StoreError, StudyError, require_name, spell_option
from paretune.reporting.text.formatting import format_interval
from paretune.store.record import Record
from paretune.study import Run, Study

FORMS = ("peft", "merged", "sentence_transformers", "paretune", "lora")


def select_cell(
    study: Study,
    records: Sequence[Record],
    task: str | None,
    model: str | None,
    method: str | None,
    budget: Budget | None = None,
) -> tuple[Cell, list[Cell]]:
    """The named cell, and all cells of its task.

    Without a method, the recommended cell.

    Args:
        budget: limits of the recommendation.

    Raises:
        StudyError: a name is not in the study, is needed and missing, no run has ended, or what is
            recommended has no trained weights.
    """
    cells = group_into_cells(study, records)
    for what, name, names in (
        ("task", task, {c.task: None for c in cells}),
        ("model", model, {m.key: None for m in study.models}),
    ):
        # A recommendation chooses among models, too.
        if name is None and len(names) > 1 and (what == "task" or method is not None):
            raise StudyError(
                f"has several {what}s.",
                where=f"study {study.study}",
                remedy=f"Say --{what}: {', '.join(names)}.",
            )
        if name is not None:
            require_name(what, name, names, f"study {study.study}")
    task = task or study.tasks[0].key
    task_cells = [c for c in cells if c.task == task]
    if method is None:
        candidates = [c for c in task_cells if model is None or c.model in (model, NO_MODEL)]
        return _find_recommended(study, candidates, budget or Budget()), task_cells
    model = model or study.models[0].key
    on_model = [c for c in task_cells if c.model == model]
    trains = ", ".join(c.method for c in on_model)
    if any(c.method == method and c.model == NO_MODEL for c in task_cells):
        raise StudyError(
            f"{method} is a baseline without a model: it trains nothing that could be exported.",
            where=f"study {study.study}",
            remedy=f"Its scores are in the report. What can be exported: {trains}.",
        )
    require_name("method", method, [c.method for c in on_model], f"study {study.study}")
    named = [c for c in on_model if c.method == method]
    trained = [c for c in named if any(map(_has_scores, c.final))]
    if not trained:
        raise no_ended_run(study, named, f"{method} with {model} on {task}")
    return trained[0], task_cells


def _find_recommended(study: Study, cells: Sequence[Cell], budget: Budget) -> Cell:
    """The recommended cell of one task, which has trained weights.

    Raises:
        StudyError: it has none, or nothing is recommended.
    """
    choice = choose(cells, budget)
    where = f"study {study.study}, task {cells[0].task}"
    if choice.chosen is None:
        on_models = [c for c in cells if c.model != NO_MODEL]
        if not any(_has_scores(r) for c in on_models for r in c.final):
            raise no_ended_run(study, on_models, f"any method on {cells[0].task}")
        raise StudyError(
            "no method is recommended.",
            where=where,
            remedy="`paretune recommend` says why; "
            f"{spell_option('method', 'NAME')} exports one all the same.",
        )
    if has_weights(choice.chosen.cell):
        return choice.chosen.cell
    trained = [c for c in choice.candidates if has_weights(c.cell) and c.cell.interval]
    best = max(trained, key=lambda c: c.expected.estimate, default=None)
    remedy = "`paretune report` shows what else there is."
    if best is not None:
        model, method = best.cell.model, best.cell.method
        options = f"{spell_option('model', model)} and {spell_option('method', method)}"
        remedy = f"The best that was trained is {_describe(best)}: {options} export it."
    raise StudyError(
        f"the recommendation is {'the baseline ' if choice.chosen.cell.baseline else ''}"
        f"{_describe(choice.chosen)}, which has no trained weights to export.",
        where=where,
        remedy=remedy,
    )


def _describe(candidate: Candidate) -> str:
    return f"{candidate.cell.method}, {format_interval(candidate.interval)}"


def has_weights(cell: Cell) -> bool:
    """Whether its runs trained something; untuned models and baselines without one did not."""
    return any(_has_scores(record) and record.trained_weights for record in cell.final)


def select_record(cell: Cell, seed: int | None) -> Record:
    """The final run with this seed, or by default with the best selection score.

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
    return max(ended, key=selection_key)


def refuse_collapsed(record: Record, cell: Cell, *, allowed: bool) -> str:
    """A warning if the run gave every test example the same answer, otherwise "".

    Raises:
        StudyError: it did, and that is not allowed.
    """
    if not _is_collapsed(record):
        return ""
    answers = record.predictions.get("test")
    examples = f"all {len(answers.uid):,} test examples" if answers else "every test example"
    warning = f"This model learnt nothing: it gave one and the same answer to {examples}."
    if not allowed:
        sound = [str(r.run.seed) for r in cell.final if _has_scores(r) and not _is_collapsed(r)]
        seeds = (
            f"Seeds that did not: {', '.join(sound)} ({spell_option('seed')}). " if sound else ""
        )
        raise StudyError(
            f"seed {record.run.seed} has collapsed. {warning}",
            where=" x ".join(record.run.cell),
            remedy=f"{seeds}Train longer or with a higher rate, or say "
            f"{spell_option('allow_collapsed', True)}.",
        )
    return warning


def select_form(form: str, reasons: dict[str, str], run: Run) -> str:
    """The form to write: the named one or, for ``auto``, the first that the run can take.

    Args:
        form: ``auto`` or one of :data:`FORMS`.
        reasons: against each form (:func:`paretune.exporting.formats.explain_forms`).

    Raises:
        StudyError: there is no such form.
        MethodError: the run cannot take it.
    """
    possible = [name for name in FORMS if not reasons[name]]
    require_name("form", form, ("auto", *FORMS), spell_option("form"))
    if methods.configure_method(run.method).options.shots:
        raise MethodError(
            "its answers need the solved examples of its prompt, which no export holds.",
            where=f"method {run.method.key}",
            remedy="Its model is the checkpoint itself, which "
            f"{spell_option('method', 'untuned')} exports.",
        )
    if form == "auto":
        return possible[0]
    if reasons[form]:
        raise MethodError(
            f"{reasons[form]}.",
            where=f"method {run.method.key}",
            remedy=f"It can be: {', '.join(possible)}.",
        )
    return form


def no_ended_run(study: Study, cells: Sequence[Cell], what: str) -> StudyError:
    """The error that no run of these cells has left a model; ``what`` they are."""
    ended: Counter[str] = sum((Counter(cell.outcomes) for cell in cells), Counter())
    how = ", ".join(f"{count} {outcome}" for outcome, count in ended.items())
    return StudyError(
        f"no final run of {what} left a model with scores ({how or 'none has ended'}).",
        where=f"study {study.study}",
        remedy="`paretune report` says why; `paretune run` trains what is missing.",
    )


def _has_scores(record: Record) -> bool:
    """Whether it ended with scores and with a model."""
    return record.selection_score is not None and not record.is_lost


def _is_collapsed(record: Record) -> bool:
    answers = record.predictions.get("test")
    if record.outcome == "collapsed" or answers is None:
        return record.outcome == "collapsed"
    return answers_are_constant(answers.prediction, answers.label)
