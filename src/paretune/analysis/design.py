"""How test answers came about: one test part, or outer cross-validation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TestDesign:
    """The design of the answers that scores are computed from.

    Attributes:
        folds: number of outer folds, each answered by a run trained on the rest; with 0 every seed
            answers one test part.
        repeats: how many times all rows were divided into folds anew.
        answered: number of folds whose answers are in the score.
    """

    __test__ = False  # pytest must not collect it

    folds: int = 0
    repeats: int = 1
    answered: int = 0

    @property
    def is_cross_validation(self) -> bool:
        """Whether runs answered rows of a fold that they were not trained on."""
        return self.folds > 0


SPLIT = TestDesign()
"""A design with one test part that every seed answers."""
