"""The metadata block of a model card, which the hub reads: base, task, tags and `model-index`."""

from __future__ import annotations

import io
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index
from ruamel.yaml import YAML

from paretune import metrics
from paretune.analysis.statistics.score_interval import Interval, score_interval
from paretune.exporting.exported_run import ExportedRun
from paretune.methods.core.titles import title_of
from paretune.reporting.text.formatting import format_basis, format_interval
from paretune.terminal.sanitise import sanitise_line

LIBRARIES = {
    "peft": "peft",
    "lora": "peft",
    "merged": "transformers",
    "paretune": "paretune",
}
"""By form: the library that opens it."""
PIPELINES = {
    "sequence_classification": "text-classification",
    "multiple_choice": "multiple-choice",
    "seq2seq_lm": "translation",
    "causal_lm": "text-generation",
}
"""By head: the hub's name of the task."""


def render_card_metadata(export: ExportedRun) -> str:
    """The block between two lines of ``---`` at the beginning of a card.

    A licence is not named: it depends on the base, the data and the owner.
    """
    values = _describe_model(export)
    if results := _list_results(export):
        name = sanitise_line(f"{title_of(export.cell.method)} for {export.cell.task}")
        values["model-index"] = _drop_empty(eval_results_to_model_index(name, results))
    yaml, out = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 1 << 20
    yaml.dump(values, out)
    return f"---\n{out.getvalue()}---\n"


def _describe_model(export: ExportedRun) -> dict[str, Any]:
    source, dataset = export.source, export.dataset
    values: dict[str, Any] = {
        "library_name": LIBRARIES[export.form],
        "pipeline_tag": PIPELINES[export.task.objective.head],
        "tags": ["paretune", sanitise_line(export.run.method.name)],
    }
    if source.revision is not None and not source.name.startswith("package:"):
        values["base_model"] = source.name
    if languages := list(dataset.languages or filter(None, [dataset.language])):
        values["language"] = languages
    if export.run.task.dataset:
        values["datasets"] = [export.run.task.dataset]
    return values


def _list_results(export: ExportedRun) -> list[EvalResult]:
    """The score of this run, and the mean of all final runs of its cell."""
    scores: list[tuple[str, Interval]] = []
    predictions = export.record.predictions.get("test")
    if predictions is not None and predictions.uid:
        scores.append(("this model", score_interval([predictions], export.cell.metric)))
    mean = export.cell.interval
    if mean is not None and mean.n_seeds > 1:
        scores.append(("mean of all runs", mean))
    return [_to_result(export, name, score) for name, score in scores]


def _to_result(export: ExportedRun, name: str, score: Interval) -> EvalResult:
    run, metric = export.run, metrics.get(export.cell.metric)
    tested = "cross-validation" if export.cell.design.is_cross_validation else "test"
    return EvalResult(
        task_type=PIPELINES[export.task.objective.head],
        dataset_type=run.task.dataset or sanitise_line(export.cell.task),
        dataset_name=sanitise_line(export.cell.task),
        dataset_split=tested,
        dataset_revision=run.task.revision,
        metric_type=metric.name,
        metric_value=round(score.estimate, 6),
        metric_name=f"{metric.title}, {name}: {format_interval(score)} ({format_basis(score)})",
    )


def _drop_empty(value: Any) -> Any:
    """Without keys that have no value; recursively."""
    if isinstance(value, dict):
        return {key: _drop_empty(one) for key, one in value.items() if one is not None}
    return [_drop_empty(one) for one in value] if isinstance(value, list) else value
