"""Whether an export answers as its run did when it was scored: the card's ``predict`` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paretune.data.example import Example
from paretune.exporting.exported_run import ExportedRun
from paretune.exporting.usage_snippets import UsageSnippet
from paretune.objectives.readouts import for_readout
from paretune.study import Answer
from paretune.terminal.plural import pluralise

MAX_ROWS = 64
"""Test rows that are asked at most."""
MAX_PROMPTED = 16
"""The same of a language model that is asked by a prompt, row by row."""
BATCH_ROWS = 8
TOLERANCE = 1e-3
"""Largest difference of a number from the recorded one, relative where that is above 1."""


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


def check_answers(
    export: ExportedRun, usage: UsageSnippet, model: Any, tokenizer: Any
) -> AnswerCheck:
    """Answer test rows with the code of the card, and compare with the run's stored answers.

    Args:
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
    namespace: dict[str, Any] = {"model": model, "tokenizer": tokenizer}
    exec("\n".join([*usage.imports, usage.code]), namespace)  # noqa: S102 (what the card shows)
    different = 0
    for start in range(0, len(scored), BATCH_ROWS):
        batch = scored[start : start + BATCH_ROWS]
        examples = [example for example, _ in batch]
        answers = namespace["predict"]([_as_argument(e, usage.example[0]) for e in examples])
        if objective.generates:
            answers = objective.predict(answers, examples, None).prediction
        else:
            answers = [dataset.labels.index(a) if isinstance(a, str) else a for a in answers]
        different += sum(
            not is_same_answer(answer, expected)
            for answer, (_, expected) in zip(answers, batch, strict=True)
        )
    return AnswerCheck(len(scored), different)


def is_same_answer(answer: Answer, recorded: Answer) -> bool:
    """Whether they are equal, numbers within :data:`TOLERANCE`."""
    if isinstance(answer, float) and isinstance(recorded, float):
        return abs(answer - recorded) <= TOLERANCE * max(1.0, abs(recorded))
    return answer == recorded


def _as_argument(example: Example, like: object) -> object:
    """An example as ``predict`` takes it, in the form of the card's own."""
    text, second = example.segments[0]
    match like:
        case str():
            return text
        case dict():
            return dict(zip(like, example.features, strict=True))
        case list():
            return [{"role": role, "content": content} for role, content in example.messages]
        case (_, list()):
            return text, [choice for _, choice in example.segments]
    return text, second
