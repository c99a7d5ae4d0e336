"""How numbers and names are written in every output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.analysis.outcomes import FailureRate
    from paretune.analysis.pairs import RankRange
    from paretune.analysis.pareto.costs import CostEstimate
    from paretune.analysis.pareto.expected_scores import ChanceName
    from paretune.analysis.statistics.intervals import Interval
    from paretune.reporting.parts import Score
    from paretune.study import Axis


SELECTED_ON_TEST = "selected on the test part"


def format_interval(score: Interval | Score, digits: int | None = None) -> str:
    """``0.71 [0.60, 0.82]``; ``28.4 [26.1, 30.7]`` where the score goes to 100."""
    estimate, low, high = (
        _format_score(value, score.highest, digits)
        for value in (score.estimate, score.low, score.high)
    )
    return f"{estimate} [{low}, {high}]"


def format_estimate(score: Interval | Score) -> str:
    """``0.71``; ``28.4`` where the score goes to 100."""
    return _format_score(score.estimate, score.highest)


def format_point_difference(difference: Interval | Score, *, negated: bool = False) -> str:
    """``+6 points [-8, +20]``: a difference in hundredths of the highest score."""
    scale = (-100 if negated else 100) / difference.highest
    low, high = sorted((difference.low * scale, difference.high * scale))
    return format_points(difference.estimate * scale, low, high, " points")


def format_points(points: float, low: float, high: float, unit: str = "") -> str:
    """``+6 [-8, +20]``: a difference in points; with a decimal where its interval is narrow."""
    digits = 0 if high - low >= 10 else 1
    return f"{points:+z.{digits}f}{unit} [{low:+z.{digits}f}, {high:+z.{digits}f}]"


def format_share(share: float) -> str:
    """``93 %`` of something that is counted; never 0 % or 100 % where a part is there."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def describe_chance(name: ChanceName, event: str) -> str:
    """``likely the best``, ``open whether the best``."""
    return f"open whether {event}" if name == "open" else f"{name} {event}"


def _format_score(value: float, highest: float, digits: int | None = None) -> str:
    if digits is None:
        digits = 2 if highest <= 1 else 1
    # z: a value that rounds to 0 has no sign.
    return f"{value:z.{digits}f}" if math.isfinite(value) else "–"


def format_basis(score: Interval | Score) -> str:
    """``56 examples, 3 seeds``: what an interval is computed on."""
    return f"{format_examples(score)}, {format_runs(score)}"


def format_runs(score: Interval | Score) -> str:
    """``3 seeds``; in cross-validation ``5 folds``, ``4 of 5 folds``, ``5 folds, 2 repeats``."""
    design = score.design
    if not design.is_cross_validation:
        return pluralise(score.n_seeds, "seed")
    repeats = f", {score.n_seeds} repeats" if score.n_seeds > 1 else ""
    some = f"{design.answered} of " if design.answered < design.folds else ""
    return f"{some}{design.folds} folds{repeats}"


def format_n_by_seeds(score: Interval | Score, times: str = "x") -> str:
    """``56 x 3``: examples by seeds; in cross-validation ``306, 5 folds``."""
    if score.design.is_cross_validation:
        return f"{format_units(score)}, {format_runs(score)}"
    return f"{format_units(score)} {times} {score.n_seeds}"


def format_examples(score: Interval | Score, part: str = "") -> str:
    """``56 examples``; ``145 answers to 33 questions in 3 groups``: how many are independent."""
    groups = f" in {pluralise(score.n_clusters, 'group')}" if score.n_clusters else ""
    if score.n_questions:
        questions = pluralise(score.n_questions, "question")
        return f"{pluralise(score.n_examples, f'{part}answer')} to {questions}{groups}"
    return f"{pluralise(score.n_examples, f'{part}example')}{groups}"


def format_units(score: Interval | Score) -> str:
    """``56``; ``145 in 3``: examples, and the independent groups they are in."""
    groups = score.n_clusters or score.n_questions
    return f"{score.n_examples} in {groups}" if groups else str(score.n_examples)


def format_rank(rank: RankRange | None) -> str:
    """``1``, ``2–4``: the possible ranks; a dash where there is none (baselines)."""
    if rank is None:
        return "–"
    return str(rank.best) if rank.best == rank.worst else f"{rank.best}–{rank.worst}"


def describe_failures(name: str, rate: FailureRate) -> str:
    """How many runs failed, and what the true failure rate could be, as a sentence."""
    runs = pluralise(rate.runs, "run")
    if rate.failed:
        true_rate = f"is {100 * rate.low:.0f} to {100 * rate.high:.0f} % (95 % interval)"
    else:
        true_rate = f"could still be as high as {100 * rate.high:.0f} % (95 % limit)"
    return f"Failures of {name}: {rate.failed} of {runs}; the true failure rate {true_rate}."


def format_p_value(value: float) -> str:
    """``0.031``, ``<0.001``."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """``full, lora and loha``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def format_rate(value: float | None) -> str:
    """``1e-3``, ``2.5e-5``; a dash for methods without a learning rate."""
    if value is None:
        return "–"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_bytes(size: float) -> str:
    """Bytes in KiB, MiB or GiB, three digits."""
    for unit, factor in (("KiB", 2**10), ("MiB", 2**20)):
        if size < 1000 * factor:
            return f"{_three_digits(size / factor)} {unit}"
    return f"{_three_digits(size / 2**30)} GiB"


def format_part(size: float | None) -> str:
    """Bytes of one part of a whole; ``0`` for none, a dash where they are not known."""
    if size is None:
        return "–"
    return format_bytes(size) if size else "0"


def format_seconds(value: float, low: float | None = None, high: float | None = None) -> str:
    """Seconds in µs, ms or s, three digits: ``840 ms``, ``840 ms (820–900)``."""
    factor, unit = (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1.0, "s")
    unit = unit if value else "s"
    text = f"{_three_digits(value * factor)} {unit}"
    if low is None or high is None:
        return text
    return f"{text} ({_three_digits(low * factor)}–{_three_digits(high * factor)})"


def format_parameters(value: float) -> str:
    """``296 k``, ``118 M``."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor * 0.9995:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{value:.0f}"


def _three_digits(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(max(value, 1)))) if value else 0
    return f"{value:.{digits}f}"


def _format_duration(value: float) -> str:
    """Seconds, from two minutes on minutes, from two hours on hours."""
    if value < 120:
        return format_seconds(value)
    return f"{value / 3600:.1f} h" if value >= 7200 else f"{value / 60:.1f} min"


class CostWords(NamedTuple):
    """How a cost is named and written in every output.

    ``title`` in full; ``heading`` of a narrow column, empty where reports do not show the cost;
    phrases for the ``least`` of it, an ``amount`` of it and a ``share`` of another's; ``units`` of
    a chart's axis, smallest first; ``write`` puts a value with its unit.
    """

    title: str
    heading: str
    least: str
    amount: str
    share: str
    units: Mapping[str, float]
    write: Callable[[float], str]

    def choose_unit(self, values: Sequence[float]) -> tuple[str, float]:
        """The unit of an axis that suits its largest value, and its factor."""
        fitting = [unit for unit in self.units.items() if max(values) >= unit[1]]
        return fitting[-1] if fitting else next(iter(self.units.items()))


_BYTES = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_LONG_TIMES = {"s": 1.0, "min": 60.0, "h": 3600.0}
_SHORT_TIMES = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
COST_WORDS: dict[Axis, CostWords] = {
    "memory": CostWords(
        "peak memory in training", "peak memory",
        "the least peak memory", "peak memory", "memory", _BYTES, format_bytes,
    ),
    "time": CostWords(
        "time to train", "to train",
        "the shortest training", "to train", "training time", _LONG_TIMES, _format_duration,
    ),
    "step": CostWords(
        "time of a step", "",
        "the shortest step", "a step", "time of a step", _SHORT_TIMES, format_seconds,
    ),
    "parameters": CostWords(
        "trained parameters", "trained", "the fewest trained parameters",
        "trained parameters", "trained parameters", _COUNTS, format_parameters,
    ),
    "saved": CostWords(
        "saved bytes", "saved",
        "the fewest saved bytes", "saved", "saved bytes", _BYTES, format_bytes,
    ),
    "inference": CostWords(
        "inference time per example", "inference", "the fastest inference",
        "an example in inference", "inference time", _SHORT_TIMES, format_seconds,
    ),
    "forgetting": CostWords(
        "forgetting", "forgetting", "the least forgetting",
        "forgetting", "forgetting", {"nats": 1.0}, lambda nats: f"{nats:.3f} nats",
    ),
}  # fmt: skip


def format_cost(axis: Axis, cost: CostEstimate) -> str:
    """``870 MiB peak memory``; ``... (mean of 3 measurements)``."""
    text = f"{COST_WORDS[axis].write(cost.value)} {COST_WORDS[axis].amount}"
    if cost.predicted:
        return f"{text} (predicted)"
    if cost.measurements < 2:
        return text
    return f"{text} (mean of {cost.measurements} measurements)"
