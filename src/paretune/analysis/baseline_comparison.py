"""Whether a cell is better than its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.score_interval import Interval
from paretune.methods.core.titles import title_of

Standing = Literal["above", "unclear", "below"]


def standing_of(difference: Interval, p_holm: float) -> Standing:
    """Above or below if the corrected p-value is under 0.05, otherwise unclear."""
    if p_holm >= ALPHA:
        return "unclear"
    return "above" if difference.estimate > 0 else "below"


@dataclass(frozen=True)
class BaselineComparison:
    """A cell's score minus that of one baseline.

    ``p_holm`` is corrected over its family; ``standing`` is the verdict on the pair.
    """

    baseline: str
    difference: Interval
    p_holm: float
    standing: Standing


@dataclass(frozen=True)
class Verdict:
    """A cell compared with all its baselines.

    Attributes:
        standing: proven better than all, proven worse than one, or unclear; none without a
            comparison.
        comparisons: with each baseline that has a score.
        missing: names of baselines without a score.
        note: why it is undecided, if the reason is not a missing baseline.
        of_trained: whether runs failed, so that the verdict is of those that trained.
    """

    standing: Standing | Literal["none"]
    comparisons: tuple[BaselineComparison, ...]
    missing: tuple[str, ...] = ()
    note: str = ""
    of_trained: bool = False

    @property
    def summary(self) -> str:
        """A phrase for a table: ``undecided against TF-IDF; better than constant answer``."""
        if not self.comparisons:
            return self.note or "no baseline has a score yet"
        if self.standing == "above" and not self.missing:
            condition = ", of runs that trained" if self.of_trained else ""
            return f"better than every baseline{condition}"
        phrases = {
            "below": "worse than",
            "unclear": "undecided against",
            "above": "better than",
        }
        parts = [
            f"{words} {names}"
            for standing, words in phrases.items()
            if (names := self._join_baselines(standing))
        ]
        if self.note:
            parts.append(self.note)
        text = "; ".join(parts)
        if not self.missing:
            return text
        return f"{text} (no score yet of {', '.join(map(title_of, self.missing))})"

    @property
    def above_all(self) -> bool:
        """Proven better than every baseline, none of which is missing."""
        return self.standing == "above" and not self.missing

    def _join_baselines(self, standing: str) -> str:
        return ", ".join(title_of(c.baseline) for c in self.comparisons if c.standing == standing)


def verdict_of(
    comparisons: Sequence[BaselineComparison],
    missing: Sequence[str] = (),
    note: str = "",
    *,
    of_trained: bool = False,
) -> Verdict:
    """Above only if above each baseline; below if below any; otherwise unclear.

    Args:
        comparisons: with each baseline.
        missing: baselines that have no score yet.
        note: why a comparison is undecided.
        of_trained: whether runs failed.
    """
    standings = {comparison.standing for comparison in comparisons}
    standing: Standing | Literal["none"] = "unclear"
    if not comparisons:
        standing = "none"
    elif "below" in standings:
        standing = "below"
    elif standings == {"above"}:
        standing = "above"
    return Verdict(standing, tuple(comparisons), tuple(missing), note, of_trained)
