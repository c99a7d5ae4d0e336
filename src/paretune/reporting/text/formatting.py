"""How numbers and names are written in every output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretune.analysis.baseline_comparison import Standing
    from paretune.analysis.pairwise_ranks import RankRange
    from paretune.analysis.statistics.score_interval import Interval


def format_interval(found: Interval, digits: int | None = None) -> str:
    """``0.71 [0.60, 0.82]``; ``28.4 [26.1, 30.7]`` where the score goes to 100."""
    wanted = _digits(found.highest) if digits is None else digits
    ends = ", ".join(_written(end, wanted) for end in (found.low, found.high))
    return f"{_written(found.estimate, wanted)} [{ends}]"


def format_estimate(found: Interval) -> str:
    """``0.71``; ``28.4`` where the score goes to 100."""
    return _written(found.estimate, _digits(found.highest))


def _digits(highest: float) -> int:
    return 2 if highest <= 1 else 1


def _written(value: float, digits: int) -> str:
    # z: what rounds to nothing has no sign.
    return f"{value:z.{digits}f}" if math.isfinite(value) else "–"


def format_basis(found: Interval) -> str:
    """``56 examples, 3 seeds``: what an interval stands on."""
    return f"{format_examples(found)}, {pluralise(found.n_seeds, 'seed')}"


def format_examples(found: Interval, part: str = "") -> str:
    """``56 examples``; ``145 answers to 33 questions in 3 groups``: how many are independent."""
    several = f" in {pluralise(found.n_clusters, 'group')}" if found.n_clusters else ""
    if found.n_questions:
        asked = pluralise(found.n_questions, "question")
        return f"{pluralise(found.n_examples, f'{part}answer')} to {asked}{several}"
    return f"{pluralise(found.n_examples, f'{part}example')}{several}"


def format_units(found: Interval) -> str:
    """``56``; ``145 in 3``: examples, and the independent groups they are in."""
    several = found.n_clusters or found.n_questions
    return f"{found.n_examples} in {several}" if several else str(found.n_examples)


def format_rank(found: RankRange | None) -> str:
    """``1``, ``2–4``: the ranks that it may have; a dash where it has none (baselines)."""
    if found is None:
        return "–"
    return str(found.best) if found.best == found.worst else f"{found.best}–{found.worst}"


def describe_standing(a: str, b: str, found: Standing) -> str:
    """``full is clearly above lora``: what was decided of a pair, in every output's words."""
    if found == "unclear":
        return f"No clear difference between {a} and {b}"
    return f"{a} is clearly above {b}" if found == "above" else f"{b} is clearly above {a}"


def format_p_value(value: float) -> str:
    """``0.031``, ``<0.001``."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def pluralise(count: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """``full, lora and loha``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def format_rate(value: float | None) -> str:
    """``1e-3``, ``2.5e-5``; a dash for methods without a rate."""
    if value is None:
        return "–"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_bytes(bytes_: float) -> str:
    """Bytes in KiB, MiB or GiB, three digits."""
    for unit, factor in (("KiB", 2**10), ("MiB", 2**20)):
        if bytes_ < 1000 * factor:
            return f"{_three(bytes_ / factor)} {unit}"
    return f"{_three(bytes_ / 2**30)} GiB"


def format_seconds(value: float, low: float | None = None, high: float | None = None) -> str:
    """Seconds in the unit that suits them, three digits: ``840 ms``, ``840 ms (820–900)``."""
    factor, unit = (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1.0, "s")
    if low is None or high is None:
        return f"{_three(value * factor)} {unit}"
    return f"{_three(value * factor)} {unit} ({_three(low * factor)}–{_three(high * factor)})"


def format_parameters(value: float) -> str:
    """``296 k``, ``118 M``."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor * 0.9995:
            return f"{_three(value / factor)} {unit}"
    return f"{value:.0f}"


def _three(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(max(value, 1))))
    return f"{value:.{digits}f}"
