"""The clauses of a method's contract, and how a test says which of them it proves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

CLAUSES = {
    "S": "starts where its file says: at the base model bit for bit, or away from it",
    "T": "trains the tensors that it declares; their count is the formula's",
    "H": "the whole head is trained, kept and counted",
    "F": "frozen tensors keep their bits",
    "G": "every trained tensor gets a gradient, and moves",
    "N": "through the whole model in float64, gradients are those of finite differences",
    "L": "saved and loaded, a run answers bit for bit as it did",
    "M": "merged into a plain checkpoint, opened by `transformers`: the same logits",
    "U": "taken out, it leaves the base bit for bit, and a next run on it is not disturbed",
    "X": "PEFT opens the export, head included, with the same logits, saves it, and it comes back",
    "Z": "without effect, it is the base",
    "P": "padding and batch size do not change logits",
}

EXCUSED, NOTE = "excused", "note"
"""Properties of a test: why a clause does not apply, or in which form it is proven."""

TestT = TypeVar("TestT", bound=Callable[..., None])


def clause(letters: str) -> Callable[[TestT], TestT]:
    """Mark a test as the proof of a clause; ``*`` stands for all of them."""

    def mark(test: TestT) -> TestT:
        test.clauses = letters  # type: ignore[attr-defined]
        return test

    return mark
