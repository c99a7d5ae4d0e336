"""Whether a cell is better than its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.score_interval import Interval

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
        note: why there is no verdict, if the reason is not a missing baseline.
    """

    standing: Standing | Literal["none"]
    comparisons: tuple[BaselineComparison, ...]
    missing: tuple[str, ...] = ()
    note: str = ""

    @property
    def summary(self) -> str:
        """A phrase for a table: ``no verdict against tfidf; better than majority``."""
        if not self.comparisons:
            return self.note or "no baseline to compare with yet"
        if self.standing == "above" and not self.missing:
            return "better than every baseline"
        phrases = {
            "below": "worse than",
            "unclear": "no verdict against",
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
        return f"{text} ({', '.join(self.missing)} not there yet)" if self.missing else text

    @property
    def above_all(self) -> bool:
        """Proven better than every baseline, none of which is missing."""
        return self.standing == "above" and not self.missing

    def _join_baselines(self, standing: str) -> str:
        return ", ".join(c.baseline for c in self.comparisons if c.standing == standing)


def verdict_of(
    comparisons: Sequence[BaselineComparison], missing: Sequence[str] = (), note: str = ""
) -> Verdict:
    """Above only if above each baseline; below if below any; otherwise unclear.

    Args:
        comparisons: with each baseline.
        missing: baselines that have no score yet.
        note: why a comparison is without a verdict.
    """
    standings = {comparison.standing for comparison in comparisons}
    standing: Standing | Literal["none"] = "unclear"
    if not comparisons:
        standing = "none"
    elif "below" in standings:
        standing = "below"
    elif standings == {"above"}:
        standing = "above"
    return Verdict(standing, tuple(comparisons), tuple(missing), note)
