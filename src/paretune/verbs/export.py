"""``export``: a trained run as a folder that others open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import StoreError
from paretune.study import Run, Study
from paretune.verbs import study_input


@dataclass(frozen=True)
class ExportResult:
    """``folder`` holds ``run`` in ``form``; ``largest_difference``: of logits, opened again.

    ``card`` is its card; ``notes`` are what to know before others are given the folder.
    """

    folder: Path
    form: str
    run: Run
    largest_difference: float
    card: str
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
    allow_collapsed: bool = False,
    online: bool = False,
    tell: Callable[[str], None] = lambda said: None,
) -> ExportResult:
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
        train_again: where the weights were not kept, train the run once more.
        allow_collapsed: also a run that gave every test example the same answer.
        online: the base and a dataset may be fetched from the hub.
        tell: told in a sentence what is being done, where it takes long.

    Raises:
        StudyError: no such cell, an ambiguous one, or a run that has collapsed.
        StoreError: the run has not ended, its weights were not kept, or nothing can be written.
        MethodError: it cannot take this form, and why.
    """
    study = study_input.resolve_study(study)  # before torch is imported
    from paretune.exporting import (
        atomic_folder,
        export_selection,
        formats,
        loading_snippets,
        usage_snippets,
        weights,
    )
    from paretune.exporting.model_card import render_model_card
    from paretune.exporting.restore import TaskSignature, restore_run
    from paretune.models.load import quiet_transformers
    from paretune.models.sources.local_paths import is_local_folder, remember_path
    from paretune.planning.context import StudyContext
    from paretune.store import Store
    from paretune.verbs.report import load_results

    found = load_results(study, store)
    cell, cells = export_selection.select_cell(found.study, found.records, task, model, method)
    record = export_selection.select_record(cell, seed)
    run = record.run
    collapsed = export_selection.refuse_collapsed(record, cell, allowed=allow_collapsed)
    warnings = (collapsed,) if collapsed else ()
    context = StudyContext(offline=not online)
    dataset, source = context.dataset(run.task), context.source(run.model)
    about = TaskSignature(dataset.kind, dataset.labels, dataset.languages)
    form = export_selection.select_form(form, formats.explain_forms(run, about, source), run)
    name = atomic_folder.make_safe_name(*run.cell)
    target = Path(to) if to is not None else Path("exports", found.study.study, name)
    atomic_folder.check_target(target)
    with Store.open(found.folder) as opened:
        saved = weights.load_or_retrain(record, opened, train_again=train_again, tell=tell)
    with quiet_transformers(), atomic_folder.atomic_folder(target) as part:
        ours = restore_run(run, about, source, saved)
        batch = _example_batch(context, run, ours)
        before = formats.compute_logits(ours.loaded.model, batch)
        # Before a merge uses the model up.
        program = loading_snippets.render_program(
            form, about, source, usage_snippets.render_usage(run, dataset, ours)
        )
        encoding = usage_snippets.describe_encoding(run, dataset, ours)
        if form == "peft":
            formats.write_peft_adapter(run, about, source, ours, part)
        elif form == "merged":
            formats.write_merged_model(run, ours, part)
        else:
            formats.write_native_folder(run, about, source, ours, part)
        after = formats.compute_logits(formats.open_export(form, about, source, part), batch)
        # Numbers may be large: as a share of the largest of them.
        largest = float((after - before).abs().max() / before.abs().max().clamp(min=1.0))
        if not largest <= formats.TOLERANCE:
            raise StoreError(
                f"opened again it answers differently (logits off by {largest:.2g}).",
                where=f"export of {' x '.join(run.cell)}",
                remedy="This is a defect of paretune or of the library: please report it.",
            )
        said = render_model_card(
            found.study, cell, cells, record, about, source, form, dataset.licence,
            program=program, encoding=encoding, warnings=warnings,
        )  # fmt: skip
        (part / "README.md").write_text(said, encoding="utf-8")
        notes = (
            *(f"Warning: {w}" for w in warnings),
            *loading_snippets.warn_before_publishing(form, part, target, source),
        )
    if form == "paretune" and is_local_folder(source):
        try:
            remember_path(source)
        except OSError as error:
            notes = (*notes, f"Where the base lies could not be noted ({error}): load it by base=.")
    return ExportResult(target, form, run, largest, said, notes)


def _example_batch(context: Any, run: Run, ours: Any) -> Any:
    """A few examples of the task, as the model is given them."""
    from paretune.training.objective import collate_tensors

    dataset, source = context.dataset(run.task), context.source(run.model)
    examples = list(dataset.test or dataset.train)[:8]
    encoded = context.caches.encode(examples, ours.loaded, source, ours.max_length)
    return collate_tensors(encoded, list(range(len(examples))), ours.pad_id, "cpu")
