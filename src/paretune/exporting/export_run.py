"""One export: the model in its form, checked by opening it again, with its card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretune.errors import StoreError
from paretune.exporting import formats, loading_snippets, usage_snippets
from paretune.exporting.answer_check import AnswerCheck, check_answers
from paretune.exporting.exported_run import ExportedRun
from paretune.exporting.model_card import render_model_card
from paretune.exporting.native_folder import write_native_folder
from paretune.exporting.restore import restore_run
from paretune.exporting.serving import describe_serving
from paretune.models.config import quiet_transformers
from paretune.objectives.encoding import pad_batch
from paretune.objectives.readouts import for_readout
from paretune.planning.context import StudyContext
from paretune.training.prepare import PreparedModel

NUM_EXAMPLES = 8
"""Examples whose logits are compared before and after."""
NUM_TEXTS = 2
"""The same of language models, which have a logit for every word at every token."""


@dataclass(frozen=True)
class WrittenExport:
    """What was written, and how it answers when it is opened again.

    Attributes:
        largest_difference: of logits, relative to the largest where that is above 1.
        answers: on test rows, compared with those that were scored.
    """

    card: str
    largest_difference: float
    answers: AnswerCheck


def write_export(
    export: ExportedRun, weights: bytes, context: StudyContext, folder: Path
) -> WrittenExport:
    """Write the model and its card, and open it again.

    Raises:
        MethodError: the run cannot take this form.
        StoreError: the weights do not fit, or logits differ by more than ``formats.TOLERANCE``.
    """
    with quiet_transformers():
        prepared = restore_run(export.run, export.task, export.source, weights)
        batch = _make_batch(export, context, prepared)
        before = formats.compute_logits(prepared.loaded.model, batch)
        # Rendered first, since merging uses the model up.
        usage = usage_snippets.render_usage(export.run, export.dataset, prepared)
        pad_id = loading_snippets.missing_pad_id(export.source, prepared.pad_id)
        program = loading_snippets.render_program(
            export.form, export.task, export.source, usage, pad_id
        )
        encoding = usage_snippets.describe_encoding(export.run, export.dataset, prepared)
        _write_form(export, prepared, folder)
        opened = formats.open_export(export.form, export.task, export.source, folder)
        after = formats.compute_logits(opened, batch)
        tokenizer = prepared.loaded.tokenizer
        answers = check_answers(export, usage, _open_as_the_card(export, opened, folder), tokenizer)
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1.0))
    tolerance = formats.LORA_TOLERANCE if export.form == "lora" else formats.TOLERANCE
    if not difference <= tolerance:
        raise StoreError(
            f"opened again it answers differently (logits off by {difference:.2g}).",
            where=f"export of {' x '.join(export.run.cell)}",
            remedy="This is a defect of paretune or of the library: please report it.",
        )
    serving = describe_serving(export, folder)
    if export.form == "lora":
        encoding = [*encoding, *_describe_conversion(difference)]
    encoding = [*encoding, *_describe_answers(answers)]
    card = render_model_card(export, program, encoding, pad_id, serving)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return WrittenExport(card, difference, answers)


def _open_as_the_card(export: ExportedRun, opened: Any, folder: Path) -> Any:
    """The opened model; an adapter of a quantised base on that base as it is published."""
    if export.form not in loading_snippets.ADAPTERS or export.source.quantisation is None:
        return opened
    published = replace(export.source, quantisation=None)
    return formats.open_export(export.form, export.task, published, folder)


def _describe_answers(answers: AnswerCheck) -> list[str]:
    return ["", f"Asked when it was exported: {answers}."] if answers.rows else []


def _describe_conversion(difference: float) -> list[str]:
    return [
        "",
        "This is a LoRA adapter that PEFT made of another one. It approximates it: of the texts "
        f"that were compared, logits differ by {difference:.1e} of the largest.",
    ]


def _write_form(export: ExportedRun, prepared: PreparedModel, folder: Path) -> None:
    if export.form == "peft":
        formats.write_peft_adapter(export.run, export.task, export.source, prepared, folder)
    elif export.form == "lora":
        formats.write_lora_conversion(export.run, export.task, export.source, prepared, folder)
    elif export.form == "merged":
        formats.write_merged_model(export.run, prepared, folder)
    else:
        write_native_folder(export.run, export.task, export.source, prepared, folder)


def _make_batch(
    export: ExportedRun, context: StudyContext, prepared: PreparedModel
) -> formats.Batch:
    """A few examples of the task, as inputs of the model."""
    from paretune.training.forward.plain import to_tensors

    dataset, run = export.dataset, export.run
    objective = for_readout(dataset.objective, run.readout, dataset.prompt)
    words = objective.head == "causal_lm"  # logits of a whole vocabulary for each token
    examples = list(dataset.test or dataset.train)[: NUM_TEXTS if words else NUM_EXAMPLES]
    encoded = context.caches.encode(
        examples, prepared.loaded, export.source, prepared.max_length, objective.encode
    )
    batch = to_tensors(pad_batch(encoded, range(len(examples)), prepared.pad_id), "cpu")
    if words:
        batch.pop("labels")
    return batch
