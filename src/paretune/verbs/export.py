"""``export``: a trained run as a folder that others open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.errors import StoreError, StudyError
from paretune.study import Run, Study
from paretune.verbs import places

if TYPE_CHECKING:
    from paretune.analysis.cells import Cell
    from paretune.store import Record

FORMS = ("peft", "merged", "paretune")


@dataclass(frozen=True)
class Exported:
    """``folder`` holds ``run`` in ``form``; ``largest_difference``: of logits, opened again.

    ``said`` is its card; ``notes`` are what to know before others are given the folder.
    """

    folder: Path
    form: str
    run: Run
    largest_difference: float
    said: str
    notes: tuple[str, ...] = ()


def export(
    study: Study | Path | str,
    *,
    to: Path | str | None = None,
    store: Path | str | None = None,
    task: str | None = None,
    model: str | None = None,
    method: str | None = None,
    seed: int | None = None,
    form: str = "auto",
    train_again: bool = False,
    online: bool = False,
) -> Exported:
    """Write one final run of a study, and open it again to compare its logits.

    Args:
        study: a study, its file, or the name of a shipped one.
        to: the folder to make; ``exports/STUDY/TASK-MODEL-METHOD`` by default.
        store: folder of the results; ``studies/NAME`` by default.
        task: which, where there are several.
        model: which, where there are several.
        method: which; by default the one of the highest score.
        seed: which of the final runs; by default that of the best selection score.
        form: ``peft``, ``merged``, ``paretune``, or ``auto``: the first of these that can be.
        train_again: where the weights were too large to keep, train the run once more.
        online: the base and a dataset may be fetched from the hub.

    Raises:
        StudyError: no such cell, or an ambiguous one.
        StoreError: the run has not ended, or its weights were not kept.
        MethodError: it cannot take this form, and why.
    """
    study = places.asked(study)  # before torch is imported
    from paretune.export import formats, kept, opening, translating, whole
    from paretune.export.card import card
    from paretune.export.restored import Task, restored
    from paretune.models.known import is_folder, remember
    from paretune.planning.context import Context
    from paretune.store import Store
    from paretune.verbs.report import gather

    found = gather(study, store)
    cell, cells = _cell(found.study, found.records, task, model, method)
    record = _record(cell, seed)
    run = record.run
    context = Context(offline=not online)
    dataset, source = context.dataset(run.task), context.source(run.model)
    about = Task(dataset.kind, dataset.labels, dataset.languages)
    form = _form(form, formats.choices(run, about, source), run)
    cell_name = "-".join(run.cell).replace(":", "-")  # a colon is no name on every system
    target = Path(to) if to is not None else Path("exports", found.study.study, cell_name)
    whole.free(target)
    with Store.open(found.folder) as opened:
        weights = kept.weights(record, opened, train_again=train_again)
    ours = restored(run, about, source, weights)
    batch = _batch(context, run, ours)
    before = formats.answers(ours.loaded.model, batch)
    with whole.whole(target) as part:
        if form == "peft":
            formats.as_peft(run, about, source, ours, part)
        elif form == "merged":
            formats.as_merged(run, ours, part)
        else:
            formats.as_paretune(run, about, source, ours, part)
        after = formats.answers(formats.opened(form, about, source, part), batch)
        # Numbers may be large: as a share of the largest of them.
        largest = float((after - before).abs().max() / before.abs().max().clamp(min=1.0))
        if not largest <= formats.TOLERANCE:
            raise StoreError(
                f"opened again it answers differently (logits off by {largest:.2g}).",
                where=f"export of {' x '.join(run.cell)}",
                remedy="This is a defect of paretune or of the library: please report it.",
            )
        then = translating.code(run, ours.loaded)
        said = card(found.study, cell, cells, record, about, source, form, dataset.licence, then)
        (part / "README.md").write_text(said, encoding="utf-8")
        notes = opening.before_publishing(form, part, target, source)
    if form == "paretune" and is_folder(source):
        try:
            remember(source)
        except OSError as error:
            notes = (*notes, f"Where the base lies could not be noted ({error}): load it by base=.")
    return Exported(target, form, run, largest, said, notes)


def _cell(
    study: Study,
    records: list[Record],
    task: str | None,
    model: str | None,
    method: str | None,
) -> tuple[Cell, list[Cell]]:
    """The cell that is meant, and all cells of its task."""
    from paretune.analysis.cells import group

    cells = group(study, records)
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
    trained = [c for c in here if c.model == model and c.interval is not None]
    if method is not None:
        trained = [c for c in trained if c.method == method]
    elif any(not c.baseline for c in trained):
        trained = [c for c in trained if not c.baseline]
    if not trained:
        raise StudyError(
            f"has no ended final run of {method or 'any method'} with {model} on {task}.",
            where=f"study {study.study}",
            remedy="Run the study first; `paretune report` shows what there is.",
        )
    best = max(trained, key=lambda c: c.interval.estimate if c.interval else 0.0)
    return best, here


def _record(cell: Cell, seed: int | None) -> Record:
    """The final run that is meant: of this seed, or of the best selection score."""
    ended = [r for r in cell.final if "selection" in r.result.get("scores", {})]
    if seed is not None:
        ended = [r for r in ended if r.run.seed == seed]
    if not ended:
        raise StoreError(
            f"no final run {'' if seed is None else f'of seed {seed} '}has ended with scores.",
            where=" x ".join((cell.task, cell.model, cell.method)),
            remedy=f"Seeds that have: {', '.join(str(r.run.seed) for r in cell.final) or 'none'}.",
        )

    def quality(record: Record) -> tuple[float, float]:
        scores = record.result["scores"]["selection"]
        return scores["primary"], -scores["loss"]

    return max(ended, key=quality)


def _form(asked: str, possible: dict[str, str], run: Run) -> str:
    from paretune.errors import MethodError

    if asked == "auto":
        several = [form for form in FORMS if not possible[form]]
        return several[0]
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


def _batch(context: Any, run: Run, ours: Any) -> Any:
    """A few examples of the task, as the model is given them."""
    from paretune.training.objective import inputs

    dataset, source = context.dataset(run.task), context.source(run.model)
    examples = list(dataset.test or dataset.train)[:8]
    encoded = context.bench.encode(examples, ours.loaded, source, ours.max_length)
    return inputs(encoded, list(range(len(examples))), ours.pad_id, "cpu")
