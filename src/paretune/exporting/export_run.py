"""One export: the model in its form, checked by opening it again, with its card.

The card's ``predict`` is asked test rows, and has to answer as the run did when it was scored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretune.answers import Answer
from paretune.data.example import Dataset
from paretune.errors import StoreError
from paretune.exporting import card, formats
from paretune.exporting.card import ExportedRun
from paretune.exporting.restore import is_same_answer, restore_run
from paretune.metrics.classification import LABEL_SET, write_label_set
from paretune.models.structure.heads import load_config, quiet_transformers
from paretune.models.structure.topology import topology_of
from paretune.objectives.example import Example
from paretune.objectives.readouts import for_readout
from paretune.terminal.plural import pluralise

NUM_EXAMPLES = 8
"""Examples whose logits are compared before and after."""
NUM_TEXTS = 2
"""The number for language models, which have a logit for every word at every token."""
MAX_ROWS = 64
"""Test rows that are asked at most."""
MAX_PROMPTED = 16
"""The number for a language model that is asked by a prompt, row by row."""
BATCH_ROWS = 8


@dataclass(frozen=True)
class AnswerCheck:
    """How many test rows the export was asked, and to how many it gives another answer."""

    rows: int
    different: int

    def __str__(self) -> str:
        same = self.rows - self.different
        differ = f", {self.different} differ" if self.different else ""
        return (
            f"{same} of {pluralise(self.rows, 'answer')} on test rows are the scored ones{differ}"
        )


def write_export(
    export: ExportedRun, weights: bytes, folder: Path
) -> tuple[str, float, AnswerCheck]:
    """Write the model and its card, and open it again.

    Returns:
        The card; the largest difference of logits, relative to the largest where that is above 1;
        and how it answers test rows.

    Raises:
        MethodError: the run cannot take this form.
        StoreError: the weights do not fit, or logits differ by more than ``formats.TOLERANCE``.
    """
    run, task, source, form = export.run, export.task, export.source, export.form
    with quiet_transformers():
        prepared = restore_run(run, task, source, weights)
        # Logits of a whole vocabulary for each token are large.
        count = NUM_TEXTS if task.objective.head == "causal_lm" else NUM_EXAMPLES
        examples = (export.dataset.test or export.dataset.train)[:count]
        batch = formats.make_batch(run, export.dataset, examples, prepared)
        before = formats.compute_logits(prepared.loaded.model, batch)
        # Rendered first, since merging uses the model up.
        predict, example = card.render_predict(run, export.dataset, prepared, form)
        max_length, config = prepared.max_length, load_config(source)
        pad_id = None  # where the config of a decoder names none, that of its tokenizer
        if topology_of(config).pooled_token == -1 and getattr(config, "pad_token_id", None) is None:
            pad_id = prepared.loaded.pad_id
        tokenizer = prepared.loaded.tokenizer
        formats.WRITERS[form](run, task, source, prepared, folder)
        opened = formats.open_export(form, task, source, folder)
        after = formats.compute_logits(opened, batch)
        if form in card.ADAPTERS and source.quantisation is not None:
            # The card opens it on the published base, too.
            opened = formats.open_export(form, task, replace(source, quantisation=None), folder)
        answers = check_answers(export, predict, example, opened, tokenizer)
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1.0))
    if not difference <= (formats.LORA_TOLERANCE if form == "lora" else formats.TOLERANCE):
        raise StoreError(
            f"opened again it answers differently (logits off by {difference:.2g}).",
            where=f"export of {' x '.join(run.cell)}",
            remedy="This is a defect of paretune or of the library: please report it.",
        )
    text = card.render_card(
        export,
        card.render_program(form, task, source, predict, example, pad_id),
        folder,
        max_length=max_length,
        pad_id=pad_id,
        difference=difference,
        answers=answers,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return text, difference, answers


def _read_answer(answer: Any, dataset: Dataset) -> Answer:
    """The answer of a card's code to a row, in the form of records."""
    if dataset.objective.predicts_labels and isinstance(answer, str):
        return dataset.labels.index(answer)
    if dataset.objective.target_types == (LABEL_SET,):
        return write_label_set(label in answer for label in dataset.labels)
    value: Answer = answer
    return value


def check_answers(
    export: ExportedRun, predict: str, argument: Any, model: Any, tokenizer: Any
) -> AnswerCheck:
    """Answer test rows with the code of the card, and compare with the run's stored answers.

    Args:
        predict, argument: of :func:`paretune.exporting.card.render_predict`.
        model, tokenizer: of the export, opened as its card opens them.

    Returns:
        Counts; of no row where the data are not here as they were trained on.
    """
    dataset, run = export.dataset, export.run
    stored = export.record.predictions.get("test")
    objective = for_readout(dataset.objective, run.readout, dataset.prompt)
    limit = MAX_ROWS if run.readout == "head" else MAX_PROMPTED
    by_uid = {example.uid: example for example in (*dataset.train, *dataset.test)}
    pairs = zip(stored.uid, stored.prediction, strict=True) if stored else ()
    scored = [(by_uid[uid], answer) for uid, answer in pairs if uid in by_uid][:limit]
    if not dataset.objective.draws_head and not objective.generates:
        scored = []  # the function writes answers, and the run has scored those of the data
    namespace: dict[str, Any] = {"model": model, "tokenizer": tokenizer}
    exec(f"import re\nimport torch\n{predict}", namespace)  # noqa: S102 (what the card shows)
    # Of a row of a table the sentence: only that has its numbers as the file writes them ("2.0").
    namespace["sentence"] = str
    different = 0
    for start in range(0, len(scored), BATCH_ROWS):
        batch = scored[start : start + BATCH_ROWS]
        examples = [example for example, _ in batch]
        answers = namespace["predict"]([_as_argument(e, argument) for e in examples])
        if objective.generates:
            answers = objective.predict(answers, examples, None).prediction
        else:
            answers = [_read_answer(answer, dataset) for answer in answers]
        different += sum(
            not is_same_answer(answer, expected)
            for answer, (_, expected) in zip(answers, batch, strict=True)
        )
    return AnswerCheck(len(scored), different)


def _as_argument(example: Example, like: object) -> object:
    """An example as ``predict`` takes it, in the form of the card's own."""
    text, second = example.segments[0]
    match like:
        case str() | dict():
            return text
        case list():
            return [{"role": role, "content": content} for role, content in example.messages]
        case (_, list()):
            return text, [choice for _, choice in example.segments]
    return text, second
