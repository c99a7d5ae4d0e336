"""``export``: a trained run as a folder that other libraries open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from paretune.study import Run, Study
from paretune.terminal.notebook import html_code, html_lines
from paretune.verbs import study_input

if TYPE_CHECKING:
    from paretune.exporting.export_run import AnswerCheck


class ExportOptions(TypedDict, total=False):
    """Which run is exported, and under which conditions.

    Attributes:
        method: by default what ``recommend`` says.
        seed: of the final run; by default that of the best selection score.
        train_again: train the run once more if its weights were not kept.
        allow_collapsed: also a run that gave every test example the same answer.
        online: the base model and a dataset may be downloaded from the hub.
        push: ``OWNER/NAME`` of the hub, where the export is uploaded, by the login of ``hf``.
        public: with ``push``: everybody may see it; otherwise it is private.
    """

    task: str | None
    model: str | None
    method: str | None
    seed: int | None
    train_again: bool
    allow_collapsed: bool
    online: bool
    push: str | None
    public: bool


@dataclass(frozen=True)
class ExportResult:
    """An export that was written and opened again.

    Attributes:
        form: ``peft``, ``merged``, ``paretune`` or ``lora``.
        largest_difference: of logits after it was opened again.
        answers: of its card's program on test rows, compared with those that were scored.
        notes: what to know before the folder is given to others.
        url: of the repository that it was pushed to; empty where it was not.
        loading_lines: two lines of Python that load it; the card's program has the rest.
    """

    folder: Path
    form: str
    run: Run
    largest_difference: float
    answers: AnswerCheck
    card: str
    notes: tuple[str, ...] = ()
    loading_lines: tuple[str, ...] = ()
    url: str = ""

    def _repr_html_(self) -> str:
        where = f"Exported: {self.folder} ({self.form})"
        lines = [f"{where}, {self.url}" if self.url else where]
        lines += [f"The card's program: {self.answers}."] if self.answers.rows else []
        lines += self.notes
        return html_lines(lines) + html_code(self.loading_lines)


def export(
    study: Study | Path | str,
    *,
    output: Path | str | None = None,
    store: Path | str | None = None,
    form: str = "auto",
    tell: Callable[[str], None] = lambda sentence: None,
    **options: Unpack[ExportOptions],
) -> ExportResult:
    """Write one final run of a study, and open it again to compare its logits.

    Args:
        study: a study, its file, or the name of a shipped one.
        output: the folder to make; ``exports/STUDY/TASK-MODEL-METHOD`` by default.
        store: folder of the results; ``studies/NAME`` by default.
        form: ``peft``, ``merged``, ``paretune``, ``lora`` (converted into it by PEFT), or
            ``auto``: the first of these that is possible.
        tell: called with a sentence before what takes long.
        options: ``task``, ``model``, ``method``, ``seed``, ``train_again``, ``allow_collapsed``,
            ``online``, ``push``, ``public`` (:class:`ExportOptions`).

    Raises:
        StudyError: no such cell, an ambiguous one, a recommendation without trained weights, a
            run that has collapsed, or nobody is logged in to the hub.
        StoreError: the run has not ended, its weights were not kept, or nothing can be written.
        MethodError: the run cannot take this form.
        NetworkError: the export is written, but could not be pushed.
    """
    study = study_input.resolve_study(study)  # before torch is imported
    from paretune.exporting import card, export_selection
    from paretune.exporting.export_run import write_export
    from paretune.exporting.folder import atomic_folder, check_push, check_target, push_folder
    from paretune.exporting.formats import explain_forms
    from paretune.exporting.restore import TaskSignature, load_or_retrain
    from paretune.files import make_file_name
    from paretune.models.sources.local_paths import is_local_folder, remember_path
    from paretune.planning.prepare import find_source, read_dataset
    from paretune.store import Store
    from paretune.training.caches import ProcessCache
    from paretune.verbs.recommend import parse_budget
    from paretune.verbs.report import load_results
    from paretune.verbs.trained_data import load_dataset_or_outline

    results = load_results(study, store)
    cell, task_cells = export_selection.select_cell(
        results.study,
        results.records,
        options.get("task"),
        options.get("model"),
        options.get("method"),
        parse_budget(results.study.limits),
    )
    record = export_selection.select_record(cell, options.get("seed"))
    warning = export_selection.refuse_collapsed(
        record, cell, allowed=options.get("allow_collapsed", False)
    )
    run = record.run
    caches, offline = ProcessCache(), not options.get("online", False)
    with Store.open(results.folder) as opened:
        dataset = load_dataset_or_outline(
            opened,
            results.study,
            run.task,
            lambda task: read_dataset(task, caches, offline=offline),
        )
    source = find_source(run.model, caches, offline=offline)
    task = TaskSignature.of(run, dataset)
    form = export_selection.select_form(form, explain_forms(run, task, source), run)
    target = Path("exports", results.study.study, make_file_name(*run.cell))
    target = target if output is None else Path(output)
    check_target(target)
    push = options.get("push")
    if push is not None:
        check_push(push)
    exported = card.ExportedRun(
        results.study,
        cell,
        task_cells,
        record,
        dataset,
        source,
        form,
        warnings=(warning,) if warning else (),
    )
    with Store.open(results.folder) as opened:
        train_again = options.get("train_again", False)
        weights = load_or_retrain(record, opened, train_again=train_again, tell=tell)
    with atomic_folder(target) as folder:
        text, difference, answers = write_export(exported, weights, caches, folder)
        notes = [f"Warning: {sentence}" for sentence in exported.warnings]
        notes += [results.missing_runs] if results.missing_runs else []
        notes += card.warn_before_publishing(form, folder, target, source)
    if form == "paretune" and is_local_folder(source):
        try:
            remember_path(source)
        except OSError as error:
            notes.append(f"Where the base lies could not be noted ({error}): load it by base=.")
    url = ""
    if push is not None:
        tell(f"Uploading to {push}.")
        url = push_folder(target, push, public=options.get("public", False))
    lines = card.render_loading_lines(form, task, target)
    return ExportResult(
        folder=target,
        form=form,
        run=run,
        largest_difference=difference,
        answers=answers,
        card=text,
        notes=tuple(notes),
        loading_lines=lines,
        url=url,
    )
