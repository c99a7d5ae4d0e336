"""The card of an exported model: what it is, how to open it, what it scores, what it cost."""

from __future__ import annotations

import io
from collections.abc import Sequence

from ruamel.yaml import YAML

from paretune import metrics
from paretune.analysis.cells import Cell
from paretune.analysis.statistics.score_interval import score_interval
from paretune.exporting import loading_snippets
from paretune.exporting.restore import TaskSignature
from paretune.models.sources.resolve import ModelSource
from paretune.reporting.text.formatting import (
    format_bytes,
    format_examples,
    format_interval,
    format_seconds,
    format_units,
    pluralise,
)
from paretune.store.record import Record
from paretune.study import Study
from paretune.terminal.sanitise import sanitise_line


def render_model_card(
    study: Study,
    cell: Cell,
    cells: Sequence[Cell],
    record: Record,
    task: TaskSignature,
    source: ModelSource,
    form: str,
    licence: str,
    program: str,
    encoding: Sequence[str],
    warnings: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    Args:
        study: which trained it.
        cell: of the exported run.
        cells: all of the task, for the baselines.
        record: the exported run.
        task: its kind and labels.
        source: the base.
        form: in which it was exported.
        licence: of the data.
        program: opens it and answers (:func:`paretune.exporting.loading_snippets.render_program`).
        encoding: how a row becomes what it takes.
        warnings: what whoever uses it must know first.
    """
    run = record.run
    # A folder's path means nothing to whoever reads this elsewhere; the study calls it by a label.
    base = source.name if source.revision or source.name.startswith("package:") else run.model.key
    lines = [
        f"# {sanitise_line(cell.method)} for {sanitise_line(cell.task)}",
        "",
        f"`{sanitise_line(base)}` trained by {sanitise_line(run.method.key)} on "
        f"`{sanitise_line(cell.task)}` by [paretune](https://pypi.org/project/paretune/). "
        f"Licence of the data: {sanitise_line(licence)}.",
        "",
        *(line for warning in warnings for line in (f"> **Warning**: {warning}", "")),
        "## Using it",
        "Run it where this card lies, or with the path of the folder as `FOLDER`.",
        "",
        "```python",
        program,
        "```",
        "",
        *encoding,
        *loading_snippets.describe_labels(form, task),
        *loading_snippets.describe_base(form, source),
        "",
        "## What it scores",
        *_score_lines(study, cell, cells, record),
        "",
        *_cost_lines(cell),
        "## How it was trained",
        f"Seed {run.seed} of {pluralise(len(cell.final), 'final run')}, chosen by its score on "
        "the selection part, never by the test part.",
        "",
        "```yaml",
        _settings_yaml(record).strip(),
        "```",
        "",
        "```",
        f"paretune run STUDY_FILE    # study {sanitise_line(study.study)}, {study.study_hash}",
        f"paretune export STUDY_FILE --task {sanitise_line(cell.task)} --model "
        f"{sanitise_line(cell.model)} --method {sanitise_line(cell.method)} --seed {run.seed} "
        f"--form {form}{' --allow-collapsed' if warnings else ''}",
        "```",
        "",
    ]
    return "\n".join(lines)


def _score_lines(study: Study, cell: Cell, cells: Sequence[Cell], record: Record) -> list[str]:
    """The cell's score and those of the baselines, each with interval, examples and seeds."""
    lines = [
        f"On the test part; score: {metrics.get(cell.metric).title}, with its 95% interval.",
        "",
    ]
    lines += ["| method | score | examples | seeds |", "|---|---|---|---|"]
    beside = [c for c in cells if c.baseline and c.model in ("-", cell.model) and c is not cell]
    for one in (cell, *beside):
        if one.interval is not None:
            found = one.interval
            lines.append(
                f"| {sanitise_line(one.method)} | {format_interval(found)} | {format_units(found)} "
                f"| {found.n_seeds} |"
            )
    answers = record.predictions.get("test")
    # What a seed would have done otherwise is not known of one.
    if answers is not None and answers.uid:
        own = score_interval([answers], cell.metric)
        lines += [
            "",
            f"This run alone: {format_interval(own)} on {format_examples(own)}, one seed: its "
            "interval is over the examples only.",
        ]
    if cell.selected_on_test:
        lines += ["", "Selected on the test part: these scores are too good to be compared."]
    return lines


def _cost_lines(cell: Cell) -> list[str]:
    """Peak memory and step time of the solo measurement, where there is one."""
    if not cell.cost:
        return []
    measured = cell.cost[-1].measured
    peak = measured.get("phases", {}).get("train", {}).get("peak_bytes")
    step = measured.get("step_seconds")
    said = []
    if peak is not None:
        said.append(f"{format_bytes(peak)} at its peak in training")
    if step is not None:
        said.append(f"{format_seconds(step['median'], step['q1'], step['q3'])} a step")
    if not said:
        return []
    conditions = (
        f"{measured.get('device')}, {measured.get('threads')} threads, batch "
        f"{measured.get('batch_size')}, {measured.get('length')} tokens"
    )
    return ["## What it cost", f"{', '.join(said)} (one solo measurement: {conditions}).", ""]


def _settings_yaml(record: Record) -> str:
    run = record.run
    form = {
        "method": {"name": run.method.name, **run.method.options},
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "training": run.training.model_dump(mode="json", exclude_none=True),
        "steps": record.result.get("steps"),
        "best_step": record.result.get("best_step"),
    }
    yaml, out = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(form, out)
    return out.getvalue()
