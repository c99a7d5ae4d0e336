"""What an objective asks of a model: a head, its outputs, and the languages of a translation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadSpec:
    """A head, and what its config says of the task.

    Attributes:
        kind: ``sequence_classification``, ``multiple_choice`` or ``seq2seq_lm``: a head of
            transformers (:mod:`paretune.models.structure.topology` opens it).
        purpose: what the model is to do, for errors: ``classification``.
        logits: outputs for one text; 0 for the checkpoint's own language-model head.
        labels: their names (``id2label``).
        problem_type: as transformers' configs have it.
        languages: of a translation, source and target.
    """

    kind: str
    purpose: str
    logits: int = 0
    labels: tuple[str, ...] = ()
    problem_type: str | None = None
    languages: tuple[str, ...] = ()
