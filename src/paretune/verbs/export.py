"""``export``: a trained run as a folder that other libraries open; ``load`` opens our own form."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from paretune.analysis.passes import limits_of
from paretune.errors import StudyError, spell_option
from paretune.exporting.folder import atomic_folder, check_push, check_target, push_folder
from paretune.files import make_file_name
from paretune.models.sources.resolve import (
    is_local_folder,
    recall_path,
    remember_path,
    resolve_source,
)
from paretune.store import Store
from paretune.study import ModelSpec, Run
from paretune.tasks import pin_dataset
from paretune.verbs import study_input
from paretune.verbs.options import Flag, Folder, Name, Online, StoreFolder, StudyLike, TrainAgain
from paretune.verbs.report import StudyResults, load_results
from paretune.verbs.result import Result, Tell, tell_nothing
from paretune.verbs.stored_audit import load_dataset_or_outline

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.exporting.export_run import AnswerCheck
    from paretune.store.record import Record


@dataclass(frozen=True, repr=False)
class ExportResult(Result):
    """An export that was written and opened again.

    Attributes:
        folder: the new folder, or the file of a script.
        form: ``peft``, ``merged``, ``sentence_transformers``, ``paretune``, ``lora`` or ``script``;
            a command has ``artifact``: its own output, which paretune does not open.
        run: the identity of the run.
        largest_difference: largest difference of logits after it was opened again; None: nothing
            was opened.
        answers: answers of its card's program to test rows: the number of ``rows``, and of answers
            that are ``different`` from the scored ones; None: nothing was opened.
        card: the text of the card.
        notes: remarks to read before the folder is given to others.
        loading_lines: two lines of Python that load it; the card's program has the rest.
        url: the repository that it was pushed to, if it was.
        public: whether everybody may see the repository.
    """

    json_fields: ClassVar = (
        "folder",
        "form",
        "run",
        "largest_difference",
        "answers",
        "notes",
        "loading_lines",
        "url",
    )

    folder: Path
    form: str
    run: Run
    largest_difference: float | None = None
    answers: AnswerCheck | None = None
    card: str = ""
    notes: tuple[str, ...] = ()
    loading_lines: tuple[str, ...] = ()
    url: str | None = None
    public: bool = False

    def describe(self) -> Iterable[RenderableType]:
        """Where it is, how it was checked, and how to open it."""
        run = " x ".join(self.run.cell)
        yield f"Exported: {self.folder} ({self.form}): {run}, seed {self.run.seed}."
        if self.run.method.is_command:
            yield "It is what the command made, as it was."
            yield from self.notes
            return
        if self.largest_difference is None or self.answers is None:
            yield f"Train with it: uv run {shlex.quote(str(self.folder))} DATA --output FOLDER"
            yield from self.notes
            return
        yield f"Opened again, its logits differ by {self.largest_difference:.1g} at most."
        if self.answers.rows:
            yield f"The card's program: {self.answers}."
        yield f"How to open it: {self.folder / 'README.md'}"
        if self.url is not None:
            yield f"On the hub: {self.url} ({'public' if self.public else 'private'})"
        yield from self.notes


def export(
    study: StudyLike,
    *,
    task: Name | None = None,
    model: Name | None = None,
    method: Name | None = None,
    seed: Annotated[int | None, typer.Option()] = None,
    output: Folder | None = None,
    form: Name = "auto",
    script: Flag = False,
    train_again: TrainAgain = False,
    allow_collapsed: Flag = False,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME")] = None,
    public: Flag = False,
    online: Online = False,
    store: StoreFolder = None,
    tell: Tell = tell_nothing,
) -> ExportResult:
    """Write a trained model that other libraries open.

    The folder also has a model card. It is opened again, and its logits and answers are compared
    with those of the trained model.

    Args:
        task: The task, if the study has several.
        model: The model, if the study has several.
        method: The method. [default: that of `recommend`]
        seed: The seed of the run. [default: that with the best selection score]
        output: A new folder. [default: exports/STUDY/...]
        form: peft (an adapter), merged (a whole checkpoint), sentence_transformers (SetFit),
            paretune (a folder that paretune opens), lora (LoHa, LoKr and some of PEFT's tuners,
            converted by PEFT for servers), or auto: the first that is possible.
        script: Write a script that trains the model with transformers and peft (PEP 723), and no
            model: of a text classifier or a decoder. [default: exports/STUDY/....py]
        allow_collapsed: Also export a model that gives every example the same answer.
        push: Also upload it to the Hugging Face hub, with the login of `hf auth login`; a new
            repository is private.
        public: With --push: make the repository public.
        tell: called with a sentence before what takes long.

    Raises:
        StudyError: no such cell, an ambiguous one, a recommendation without trained weights, a
            run that has collapsed, or nobody is logged in to the hub.
        StoreError: the run has not ended, its weights were not kept, or nothing can be written.
        MethodError: the run cannot take this form, or has no script.
        NetworkError: the export is written, but could not be pushed.
    """
    study = study_input.load_study(study)  # before torch is imported
    from paretune.exporting import card, export_selection
    from paretune.exporting.export_run import write_export
    from paretune.exporting.formats import explain_forms
    from paretune.exporting.restore import TaskSignature, load_or_retrain
    from paretune.exporting.training_script import render_script
    from paretune.preparation import ProcessCache

    if public and push is None:
        raise StudyError(
            f"needs {spell_option('push')}.",
            where=spell_option("public", True),
            remedy=f"Add {spell_option('push', 'OWNER/NAME')}.",
        )
    weighty = {"form": form != "auto", "push": push is not None, "train_again": train_again}
    if script and any(weighty.values()):
        option = next(name for name, there in weighty.items() if there)
        raise StudyError(
            f"is not used with {spell_option('script', True)}, which exports no weights.",
            where=spell_option(option),
            remedy="Leave out one.",
        )
    results = load_results(study, store)
    cell, task_cells = export_selection.select_cell(
        results.study, results.records, task, model, method, limits_of(results.study.limits)
    )
    record = export_selection.select_record(cell, seed)
    warning = export_selection.refuse_collapsed(record, cell, allowed=allow_collapsed)
    run = record.run
    if run.method.is_command:
        if push is not None or script:
            raise StudyError(
                "what a command made is written as it is, without a card or a script.",
                where=spell_option("script", True) if script else spell_option("push", push),
                remedy="Leave the option out.",
            )
        return _unpack_artifact(record, results, output, [warning] if warning else [])
    caches = ProcessCache()
    offline = not online
    with Store.open(results.folder) as opened:
        dataset = load_dataset_or_outline(
            opened,
            results.study,
            run.task,
            lambda spec: caches.dataset(pin_dataset(spec, offline=offline)),
        )
    source = caches.source(run.model, offline=offline)
    if script:
        name = Path("exports", results.study.study, f"{make_file_name(*run.cell)}.py")
        file = name if output is None else Path(output)
        text = render_script(results.study, record, source, caches)
        file.parent.mkdir(parents=True, exist_ok=True)
        study_input.write_output(file, text, overwrite=False)
        return ExportResult(file, "script", run, notes=(warning,) if warning else ())
    signature = TaskSignature.of(run, dataset)
    form = export_selection.select_form(form, explain_forms(run, signature, source), run)
    target = Path("exports", results.study.study, make_file_name(*run.cell))
    target = target if output is None else Path(output)
    check_target(target)
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
        weights = load_or_retrain(record, opened, train_again=train_again, tell=tell)
    with atomic_folder(target) as folder:
        text, difference, answers = write_export(exported, weights, folder)
        notes = [f"Warning: {sentence}" for sentence in exported.warnings]
        notes += [results.missing_runs] if results.missing_runs else []
        notes += card.warn_before_publishing(form, folder, target, source)
    if form == "paretune" and is_local_folder(source):
        try:
            remember_path(source)
        except OSError as error:
            notes.append(f"Where the base lies could not be noted ({error}): load it by base=.")
    url = None
    if push is not None:
        tell(f"Uploading to {push}.")
        url = push_folder(target, push, public=public)
    lines = card.render_loading_lines(form, signature, target)
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
        public=public,
    )


def _unpack_artifact(
    record: Record, results: StudyResults, output: Path | str | None, notes: Sequence[str]
) -> ExportResult:
    """Write what the command of a run made, as it was, into a new folder."""
    from paretune.exporting.restore import load_or_retrain

    run = record.run
    target = Path("exports", results.study.study, make_file_name(*run.cell))
    target = target if output is None else Path(output)
    check_target(target)
    with Store.open(results.folder) as opened:
        content = load_or_retrain(record, opened, train_again=False)
    with atomic_folder(target) as folder, tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
    return ExportResult(target, "artifact", run, notes=tuple(notes))


def load(folder: Path | str, *, base: str | None = None, online: bool = False) -> tuple[Any, Any]:
    """The model with its method applied, ready to predict, and its tokenizer.

    Args:
        folder: what ``paretune export --form paretune`` made.
        base: the base model: a folder, a hub name, ``package:NAME``. Needed if it was a folder on
            another machine, or has moved.
        online: the base may be downloaded from the hub.

    Raises:
        MethodError: no such folder, or another base than it was trained on.
        ModelError: the base cannot be found.
    """
    from paretune.exporting.restore import open_native_folder, read_native_folder

    base_fields = read_native_folder(Path(folder))["base"]
    revision = (
        base_fields["revision"]
        if base is None and not base_fields["name"].startswith("package:")
        else None
    )
    name = base or base_fields["name"]
    if base is None and base_fields.get("folder"):
        name = recall_path(base_fields["weights_hash"], base_fields["name"], Path(folder))
    spec = ModelSpec(name=name, revision=revision)
    restored = open_native_folder(Path(folder), resolve_source(spec, offline=not online))
    return restored.loaded.model, restored.loaded.tokenizer
