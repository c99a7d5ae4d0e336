"""The card of an exported model: what it is, how to open it, what it scores, what it cost."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence

from ruamel.yaml import YAML

from paretune import metrics
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.statistics.score_interval import score_interval
from paretune.exporting import loading_snippets
from paretune.exporting.card_metadata import render_card_metadata
from paretune.exporting.exported_run import ExportedRun
from paretune.methods.core.titles import title_of
from paretune.reporting.text.escape import escape_markdown, markdown_code
from paretune.reporting.text.formatting import (
    format_bytes,
    format_examples,
    format_interval,
    format_runs,
    format_seconds,
    format_units,
)
from paretune.store.record import Record
from paretune.study import Run
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


def render_model_card(
    export: ExportedRun,
    program: str,
    encoding: Sequence[str],
    pad_id: int | None = None,
    serving: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    Args:
        program: loads the export and predicts with it
            (:func:`paretune.exporting.loading_snippets.render_program`).
        encoding: how a row becomes the model's input, as paragraphs.
        pad_id: the padding token of a base whose config names none.
        serving: commands for servers (:mod:`paretune.exporting.serving`), as lines.
    """
    run, cell, source = export.run, export.cell, export.source
    # A folder's path means nothing on another machine; the study has a label for it.
    base = source.name if source.revision or source.name.startswith("package:") else run.model.key
    again = ["--task", cell.task, "--model", cell.model, "--method", cell.method]
    again += ["--seed", str(run.seed), "--form", export.form]
    again += ["--allow-collapsed"] if export.warnings else []
    lines = [
        render_card_metadata(export),
        f"# {escape_markdown(title_of(cell.method))} for {escape_markdown(cell.task)}",
        "",
        f"{markdown_code(base)} trained with {escape_markdown(title_of(run.method.key))} on "
        f"{markdown_code(cell.task)} by paretune. "
        f"Licence of the data: {escape_markdown(export.dataset.licence)}.",
        "",
        *(line for warning in export.warnings for line in (f"> **Warning**: {warning}", "")),
        "## Using it",
        "Run it where this card lies, or with the path of the folder as `FOLDER`.",
        "",
        "```python",
        program,
        "```",
        "",
        *encoding,
        *loading_snippets.describe_labels(export.form, export.task, pad_id),
        *loading_snippets.describe_base(export.form, source),
        "",
        *serving,
        "## What it scores",
        *_score_lines(export),
        "",
        *_cost_lines(cell),
        "## How it was trained",
        f"Seed {run.seed} of {pluralise(len(cell.final), 'final run')}, chosen by its score on "
        "the selection part, never by the rows that are tested.",
        "",
        "```yaml",
        _settings_yaml(export.record).strip(),
        "```",
        "",
        "```",
        f"paretune run STUDY_FILE    # study {sanitise_line(export.study.study)}, "
        f"{export.study.study_hash}",
        sanitise_line(f"paretune export STUDY_FILE {shlex.join(again)}"),
        "```",
        "",
    ]
    return "\n".join(lines)


def _score_lines(export: ExportedRun) -> list[str]:
    """The scores of the cell and of the baselines, each with interval, examples and seeds."""
    cell = export.cell
    metric = metrics.get(cell.metric)
    tested = "all rows, fold by fold" if cell.design.is_cross_validation else "the test part"
    lines = [f"On {tested}; score: {metric.title}, with its 95% interval.", ""]
    lines += ["| method | score | examples | runs |", "|---|---|---|---|"]
    baselines = [
        other
        for other in export.task_cells
        if other.baseline and other.model in (NO_MODEL, cell.model) and other is not cell
    ]
    for one in (cell, *baselines):
        score = one.interval
        if score is not None:
            lines.append(
                f"| {escape_markdown(title_of(one.method))} | {format_interval(score)} "
                f"| {format_units(score)} | {format_runs(score)} |"
            )
    predictions = export.record.predictions.get("test")
    # One run says nothing about the variance over seeds.
    if predictions is not None and predictions.uid:
        own = score_interval([predictions], cell.metric)
        lines += [
            "",
            f"This run alone: {format_interval(own)} on {format_examples(own)}"
            f"{_describe_fold(export.record.run)}, one seed: its interval is over the examples "
            "only.",
        ]
    if cell.selected_on_test:
        lines += ["", "Selected on the test part: these scores are too good to be compared."]
    return lines


def _describe_fold(run: Run) -> str:
    """Which rows the run has never seen, where it was trained on all others."""
    if run.outer is None:
        return ""
    return f" of outer fold {run.outer.index + 1} of {run.outer.folds}, which it has not seen"


def _cost_lines(cell: Cell) -> list[str]:
    """Peak memory and step time of the solo measurement, if there is one."""
    if not cell.cost:
        return []
    measured = cell.cost[-1].measured
    peak = measured.get("phases", {}).get("train", {}).get("peak_bytes")
    step = measured.get("step_seconds")
    costs = []
    if peak is not None:
        costs.append(f"{format_bytes(peak)} at its peak in training")
    if step is not None:
        costs.append(f"{format_seconds(step['median'], step['q1'], step['q3'])} a step")
        if cell.cost[-1].step_in_doubt:
            costs[-1] += ", which is in doubt: the machine was busy"
    if not costs:
        return []
    conditions = (
        f"{measured.get('device')}, {measured.get('threads')} threads, batch "
        f"{measured.get('batch_size')}, {measured.get('length')} tokens"
    )
    return ["## What it cost", f"{', '.join(costs)} (one solo measurement: {conditions}).", ""]


def _settings_yaml(record: Record) -> str:
    run = record.run
    settings = {
        "method": {"name": run.method.name, **run.method.options},
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "training": run.training.model_dump(mode="json", exclude_none=True),
        "steps": record.result.get("steps"),
        "best_step": record.result.get("best_step"),
    }
    yaml, out = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 1 << 20  # no line of it begins inside a text, which could end the block
    yaml.dump(settings, out)
    return out.getvalue()
