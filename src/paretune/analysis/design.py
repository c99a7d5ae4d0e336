"""How test answers came about: one test part, or outer cross-validation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TestDesign:
    """The design of the answers that scores are computed from.

    Attributes:
        folds: outer folds, each answered by a run that was trained on the others; 0: every seed
            answers one test part.
        repeats: times that all rows were divided into folds anew.
        answered: folds whose answers are in the score.
    """

    __test__ = False  # not a test class for pytest

    folds: int = 0
    repeats: int = 1
    answered: int = 0

    @property
    def is_cross_validation(self) -> bool:
        """Whether rows were answered by runs trained on the other folds."""
        return self.folds > 0


SPLIT = TestDesign()
"""One test part that every seed answers."""
