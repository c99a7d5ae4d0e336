"""peft's method_comparison with our statistics laid over it: a table, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paretune.analysis.statistics.binomial import (
    correct_count,
    newcombe_difference,
    smallest_example_count,
    wilson_interval,
)
from paretune.analysis.statistics.multiple_testing import ALPHA, holm_correction
from paretune.analysis.statistics.score_interval import Interval
from paretune.contrib.peft_comparison.result_files import Experiment
from paretune.errors import DataError
from paretune.reporting.tables.column_types import TABLES
from paretune.reporting.tables.study_tables import Table, Value, interval_values
from paretune.reporting.text.formatting import (
    format_basis,
    format_bytes,
    format_interval,
    format_parameters,
    format_seconds,
    join_names,
    pluralise,
)
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class ExperimentStanding:
    """One experiment beside the best of its model.

    ``score`` is None where the file has no test accuracy. ``behind``: the best's share less this
    one's; ``p_holm`` its p-value, corrected over the experiments of the model. Both are None for
    the best itself.
    """

    experiment: Experiment
    score: Interval | None
    behind: Interval | None = None
    p_holm: float | None = None

    @property
    def clearly_below(self) -> bool | None:
        """Whether it is clearly below the best; None without a score."""
        if self.score is None:
            return None
        return self.p_holm is not None and self.p_holm < ALPHA


def rank_experiments(found: Sequence[Experiment], n: int) -> tuple[ExperimentStanding, ...]:
    """Every experiment with its interval, model by model, the highest first.

    Args:
        found: the experiments.
        n: number of test examples that each accuracy is a share of.

    Raises:
        DataError: an accuracy is no whole part of ``n`` examples.
    """
    models: dict[str, list[Experiment]] = {}
    for one in found:
        models.setdefault(one.model, []).append(one)
    return tuple(standing for group in models.values() for standing in _standings(group, n))


def _standings(group: Sequence[Experiment], n: int) -> Iterable[ExperimentStanding]:
    right = {id(one): _right(one, n) for one in group}
    ended = [(one, k) for one in group if (k := right[id(one)]) is not None]
    ended.sort(key=lambda pair: (-pair[1], pair[0].name))
    if ended:
        best, most = ended[0]
        behind = [newcombe_difference(most, n, k, n) for _, k in ended[1:]]
        yield ExperimentStanding(best, wilson_interval(most, n))
        for (one, k), gap, p in zip(
            ended[1:], behind, holm_correction([g.p for g in behind]), strict=True
        ):
            yield ExperimentStanding(one, wilson_interval(k, n), gap, p)
    yield from (ExperimentStanding(one, None) for one in group if right[id(one)] is None)


def _right(one: Experiment, n: int) -> int | None:
    if one.accuracy is None:
        return None
    found = correct_count(one.accuracy, n)
    if found is None:
        raise DataError(
            f"its accuracy {one.accuracy} is no whole part of {n} examples.",
            where=sanitise_line(one.name),
            remedy="Give the number of test examples of these files.",
        )
    return found


def suggest_example_count(found: Sequence[Experiment]) -> str:
    """What the accuracies themselves say of the number of test examples; empty for nothing."""
    shares = [one.accuracy for one in found if one.accuracy is not None]
    least = smallest_example_count(shares) if shares else None
    if least is None or least == 1:
        return ""
    return f"All accuracies here are whole parts of {least} examples, or of a multiple of that."


def write_sentences(found: Sequence[ExperimentStanding]) -> tuple[str, ...]:
    """What may be concluded of each model, and what the numbers stand on."""
    models = dict.fromkeys(one.experiment.model for one in found)
    said = [
        sentence
        for model in models
        for sentence in _conclusions(model, [s for s in found if s.experiment.model == model])
    ]
    return (*said, *_basis(found))


def _conclusions(model: str, found: Sequence[ExperimentStanding]) -> Iterable[str]:
    ended = [one for one in found if one.score is not None]
    name = sanitise_line(model) or "this model"
    if not ended or ended[0].score is None:
        yield f"On {name}, no experiment has a test accuracy."
        yield from _other_measures(found)
        return
    yield (
        f"On {name}, the highest of {pluralise(len(ended), 'experiment')} is "
        f"{sanitise_line(ended[0].experiment.name)}, {format_interval(ended[0].score, 3)} "
        f"({format_basis(ended[0].score)})."
    )
    equal = [one for one in ended[1:] if not one.clearly_below]
    others = len(ended) - 1
    if not others:
        return
    if not equal:
        yield "It is clearly above all others."
        return
    yield f"Of the other {others}, {len(equal)} cannot be told apart from it by accuracy."
    weighed = [one for one in [ended[0], *equal] if one.experiment.reserved_bytes is not None]
    if len(weighed) > 1:
        least = min(weighed, key=lambda one: one.experiment.reserved_bytes or 0)
        reserved = format_bytes(least.experiment.reserved_bytes or 0)
        yield f"Of these, {sanitise_line(least.experiment.name)} took the least memory: {reserved}."


def _other_measures(found: Sequence[ExperimentStanding]) -> Iterable[str]:
    """Why what is there instead of an accuracy is not shown."""
    names = dict.fromkeys(name for one in found for name in one.experiment.other_metrics)
    tested = {one.experiment.test_size for one in found} - {None}
    if names:
        over = f" over {max(t for t in tested if t)} examples" if len(tested) == 1 else ""
        yield (
            f"There is {join_names([sanitise_line(name) for name in names])} instead, a mean{over} "
            "of one run. Without its single values it has no interval, so it is not shown, and "
            "nothing is told apart by it."
        )


def _basis(found: Sequence[ExperimentStanding]) -> Iterable[str]:
    scores = [one.score for one in found if one.score is not None]
    if scores:
        yield (
            f"Intervals: 95 % (Wilson), over {scores[0].n_examples:,} test examples. Each "
            "experiment is one run, so what another seed would change is not in them."
        )
        yield (
            "Told apart: unpaired, since the files hold no answers, and corrected over the "
            "experiments (Holm). Paired on the examples, more might be told apart."
        )
    yield "Memory (largest reserved), time and size: one measurement each, without an interval."
    for what, values in (
        ("cards", {one.experiment.device for one in found}),
        ("versions of peft", {one.experiment.version for one in found}),
        ("seeds", {str(one.experiment.seed) for one in found}),
    ):
        if len(values) > 1:
            names = join_names(sorted(sanitise_line(v or "unknown") for v in values))
            yield f"They come from several {what} ({names}): what differs may be due to that."
    if any(one.experiment.has_duplicates for one in found):
        yield "Some experiments have several files: each is a row, under its file's name."
    lost: dict[str, list[str]] = {}
    for given in (one.experiment for one in found if one.score is None):
        why = f"{given.status}: {given.error_message}" if given.error_message else given.status
        if not given.other_metrics or given.error_message:
            lost.setdefault(sanitise_line(why), []).append(sanitise_line(given.name))
    for why, experiments in lost.items():
        yield f"Without a test accuracy ({why}): {join_names(experiments)}."


def build_table(found: Sequence[ExperimentStanding]) -> Table:
    """One row for each experiment."""
    title, columns = TABLES["peft-results"]
    return Table(
        name="peft-results",
        title=title,
        columns=columns,
        values=tuple(tuple(_values(one).get(name) for name in columns) for one in found),
        titles=("experiment", "accuracy [95 %]", "beside the best", "reserved", "training", "size",
                "trained"),
        texts=tuple(_texts(one) for one in found),
        notes=write_sentences(found),
    )  # fmt: skip


def _values(one: ExperimentStanding) -> dict[str, Value]:
    given, score, behind = one.experiment, one.score, one.behind
    return {
        "model": sanitise_line(given.model),
        "method": sanitise_line(given.name),
        "outcome": sanitise_line(given.status),
        **interval_values(score),
        **_behind(behind),
        "p_holm": one.p_holm,
        "told_apart": one.clearly_below,
        "reserved_bytes": given.reserved_bytes,
        "train_seconds": given.seconds,
        "saved_bytes": given.size,
        "trained_parameters": given.trained,
    }


def _behind(found: Interval | None) -> dict[str, Value]:
    if found is None:
        return {}
    ends = {"behind_low": found.low, "behind_high": found.high}
    return {"behind": found.estimate, **ends, "p": found.p}


def _texts(one: ExperimentStanding) -> tuple[str, ...]:
    given = one.experiment
    if one.score is None:
        beside = "no accuracy" if given.other_metrics else sanitise_line(given.status)
    elif one.behind is None:
        beside = "the highest"
    else:
        clear = "below" if one.clearly_below else "not told apart"
        beside = f"{clear}, by {format_interval(one.behind, 3)}"
    return (
        sanitise_line(given.name),
        format_interval(one.score, 3) if one.score else "no score",
        beside,
        "–" if given.reserved_bytes is None else format_bytes(given.reserved_bytes),
        "–" if given.seconds is None else format_seconds(given.seconds),
        "–" if given.size is None else format_bytes(given.size),
        "–" if given.trained is None else format_parameters(given.trained),
    )
