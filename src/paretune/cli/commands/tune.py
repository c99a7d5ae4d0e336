"""``paretune tune``: from a data file to an exported adapter, in one command."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.commands.new import DEFAULT_MODEL, ColumnOptions, draft_study
from paretune.cli.commands.report import show_report
from paretune.cli.json_output import write_output, write_result
from paretune.cli.options import AsJson, WorkerOptions, with_option_groups
from paretune.errors import RunsFailedError, StudyError
from paretune.terminal import console, echo, error_stream

if TYPE_CHECKING:
    from paretune.study import Study
    from paretune.verbs.export import ExportResult

_PEFT_CLASSES = {
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
}


@with_option_groups
def tune(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A data file (csv, tsv, jsonl, parquet).", show_default=False
        ),
    ],
    columns: ColumnOptions,
    workers: WorkerOptions,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"A hub name, a folder, or package:NAME. [default: {DEFAULT_MODEL}, English]",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="For the whole comparison: 30min. Where it is too short, rows, rates, seeds and "
            "methods are given up, and it says which.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Peak memory in training: 4GiB.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The export. [default: exports/STUDY/...]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare fine-tuning methods on a data file, and export what to take.

    Guesses columns and labels and says what it guessed (as `new`), trains and measures (as `run`),
    answers (as `recommend`) and writes the adapter (as `export`). The study file that it writes can
    be read, changed and run again; the same command continues.
    """
    from paretune.execution.progress.observer import open_observer
    from paretune.study import Study
    from paretune.verbs.export import export
    from paretune.verbs.recommend import recommend
    from paretune.verbs.report import load_results
    from paretune.verbs.run import run

    name, text, doubts = draft_study(data, None, model, columns.named_columns(), None)
    file = Path(f"{name}.yaml")
    if file.exists():
        _say(f"Continuing with {file} as it is.", as_json)
    else:
        _say(f"What was guessed, also in {file}:", as_json)
        for doubt in doubts or ["columns and labels are beyond doubt"]:
            _say(f"  {doubt}", as_json)
        if budget is not None:
            text = _fit(text, budget, workers, as_json)
        write_output(file, text, overwrite=False)
    study = Study.load(file)
    with open_observer(error_stream() if as_json else None) as observer:
        result = run(study, observer=observer, **vars(workers))
    (advice,) = recommend(study, called=str(file), max_memory=max_memory)
    exported = None
    if advice.command:
        exported = export(
            study,
            method=advice.method,
            to=output,
            train_again=True,
            online=workers.online,
            tell=lambda sentence: _say(sentence, as_json),
        )
    if as_json:
        folder = None if exported is None else exported.folder
        write_result("tune", {"file": file, "advice": advice, "folder": folder})
    else:
        show_report(load_results(study, None).build_report(), result.folder, str(file))
        _show_end(study, exported)
    if failed := result.summary.failed:
        raise RunsFailedError(
            f"{len(failed)} runs stopped with an error.",
            remedy=f"`paretune run --retry {shlex.quote(str(file))}` tries them again.",
        )


def _fit(text: str, budget: str, workers: WorkerOptions, as_json: bool) -> str:
    """The study file, reduced so that it fits the budget; its comments stay."""
    from ruamel.yaml import YAML

    from paretune.reporting.text.formatting import format_seconds
    from paretune.study import Study
    from paretune.study.quantities import parse_duration
    from paretune.verbs.plan import plan
    from paretune.verbs.time_budget import fit_to_budget

    seconds = parse_duration(budget, "--budget")
    yaml = YAML()  # round trip: keeps comments, and makes plain values of any text
    yaml.preserve_quotes = True
    yaml.width = 200
    values: dict[str, Any] = yaml.load(text)
    reduced, predicted = fit_to_budget(
        values,
        seconds,
        lambda study: plan(study, **vars(workers)),
        lambda own: Study.parse(json.loads(json.dumps(own))),
    )
    if reduced:
        _say(f"To stay within {budget}: {'; '.join(reduced)}.", as_json)
    _say(f"Predicted: {format_seconds(predicted.seconds_left or 0.0)}.", as_json)
    out = io.StringIO()
    yaml.dump(values, out)
    return out.getvalue()


def _show_end(study: Study, exported: ExportResult | None) -> None:
    """Where the export lies and how it is loaded."""
    out = console()
    if exported is None:
        out.print("What to take needs no training, so nothing is exported.")
        return
    out.print(f"Exported: {exported.folder} ({exported.form})", soft_wrap=True)
    for line in loading_lines(study, exported):
        out.print(f"  {line}", soft_wrap=True)


def loading_lines(study: Study, exported: ExportResult) -> tuple[str, ...]:
    """The two lines that load an export; the card's program has the rest.

    Raises:
        StudyError: the export's task is none of the study.
    """
    from paretune.models.structure.heads import AUTO_CLASSES
    from paretune.tasks import load_dataset

    task = next((one for one in study.tasks if one.key == exported.run.task.key), None)
    if task is None:
        raise StudyError(f"has no task {exported.run.task.key}.", where=f"study {study.study}")
    dataset, folder = load_dataset(task), repr(str(exported.folder))
    objective = dataset.objective
    peft_class = _PEFT_CLASSES.get(objective.peft_task_type or "")
    if exported.form == "peft" and peft_class is not None:
        labels = f", num_labels={len(dataset.labels)}" if objective.problem_type else ""
        return (
            f"from peft import {peft_class}",
            f"model = {peft_class}.from_pretrained({folder}{labels})",
        )
    if exported.form == "merged":
        auto_class = AUTO_CLASSES[objective.head].name
        return (
            f"from transformers import {auto_class}",
            f"model = {auto_class}.from_pretrained({folder})",
        )
    if exported.form == "paretune":
        return "import paretune", f"model, tokenizer = paretune.load({folder})"
    return (f"# the program in {exported.folder / 'README.md'} loads it",)


def _say(text: str, as_json: bool) -> None:
    echo(text, error=as_json)
