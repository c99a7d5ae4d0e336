"""Whether a cell is better than the baselines beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.score_interval import Interval

Standing = Literal["above", "unclear", "below"]


def standing_of(difference: Interval, p_holm: float) -> Standing:
    """What a difference says: clear where the corrected p-value is under 0.05."""
    if p_holm >= ALPHA:
        return "unclear"
    return "above" if difference.estimate > 0 else "below"


@dataclass(frozen=True)
class BaselineComparison:
    """A cell beside one baseline: the difference, and what it says after Holm's correction."""

    baseline: str
    difference: Interval
    p_holm: float

    @property
    def standing(self) -> Standing:
        """Above or below where the corrected p-value is under 0.05."""
        return standing_of(self.difference, self.p_holm)


@dataclass(frozen=True)
class Verdict:
    """What may be said of a cell beside its baselines. ``missing`` are those not there yet.

    ``note`` says why there is no verdict, where that is not for want of baselines.
    """

    standing: Standing | Literal["none"]
    comparisons: tuple[BaselineComparison, ...]
    missing: tuple[str, ...] = ()
    note: str = ""

    @property
    def summary(self) -> str:
        """One phrase for a table."""
        if not self.comparisons:
            return self.note or "no baseline to stand beside yet"
        if self.standing == "above":
            text = "clearly above every baseline"
            if self.missing:
                names = ", ".join(a.baseline for a in self.comparisons)
                text = f"clearly above {names}"
        elif self.standing == "below":
            text = f"clearly below {_join_baselines(self.comparisons, 'below')}"
        else:
            text = f"no clear difference from {_join_baselines(self.comparisons, 'unclear')}"
        return f"{text} ({', '.join(self.missing)} not there yet)" if self.missing else text

    @property
    def above_all(self) -> bool:
        """Clearly above every baseline, and none of them is missing."""
        return self.standing == "above" and not self.missing


def verdict_of(against: Sequence[BaselineComparison], missing: Sequence[str] = ()) -> Verdict:
    """What decided pairs say together: above only if above each; below if below any; else unclear.

    Args:
        against: the cell beside each baseline.
        missing: baselines that should stand beside it and have no scores yet.
    """
    standings = {a.standing for a in against}
    standing: Standing | Literal["none"] = "unclear"
    if not against:
        standing = "none"
    elif "below" in standings:
        standing = "below"
    elif standings == {"above"}:
        standing = "above"
    return Verdict(standing, tuple(against), tuple(missing))


def _join_baselines(against: Sequence[BaselineComparison], standing: Standing) -> str:
    return ", ".join(a.baseline for a in against if a.standing == standing)
