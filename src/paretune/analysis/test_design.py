"""How a cell's test answers came about: one test part for all seeds, or outer cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

_PHI = 1.5
_PHI_OF_REPEATS_OF_FEW_ROWS = 2.0
_FEW_ROWS = 250
_ROWS_OF_SHARED_VARIANCE = 6000.0
"""So many rows have, together, as much variance of their own as what all folds share: about half a
point of each method from the training set."""


@dataclass(frozen=True)
class TestDesign:
    """The design of the answers that scores are computed from.

    Attributes:
        folds: outer folds, each answered by a run that was trained on the others; 0: every seed
            answers one test part.
        repeats: times that all rows were divided into folds anew.
    """

    __test__ = False  # not a test class for pytest

    folds: int = 0
    repeats: int = 1

    @property
    def is_cross_validation(self) -> bool:
        """Whether rows were answered by runs trained on the other folds."""
        return self.folds > 0

    @property
    def runs(self) -> int:
        """Runs that answer all rows ``repeats`` times; 1 of a split, whatever its seeds."""
        return max(self.folds, 1) * self.repeats

    def phi(self, rows: int) -> float:
        """By how much the variance of ``rows`` independent rows is multiplied; 1 of a split.

        Training sets of folds overlap, and their rows are the test rows of other folds, so errors
        of different rows depend on one another. No unbiased estimate of that variance exists
        (Bengio and Grandvalet 2004). What differs between folds is in the variance of runs
        (:attr:`BootstrapScore.run_variance`); these factors are for what all folds share: 1.5 is
        what real runs needed on average. More repeats average the noise of
        single runs but not what they share, of which small training sets have more. What is shared
        does not shrink with the rows as their own variance does, so its share grows with them.
        """
        if not self.is_cross_validation:
            return 1.0
        few = self.repeats > 1 and rows < _FEW_ROWS
        least = _PHI_OF_REPEATS_OF_FEW_ROWS if few else _PHI
        return max(least, 1 + rows / _ROWS_OF_SHARED_VARIANCE)


SPLIT = TestDesign()
"""One test part that every seed answers."""
