"""peft's method_comparison with intervals and tests: a table, and conclusions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from paretune.analysis.statistics.intervals import (
    Interval,
    correct_count,
    newcombe_difference,
    score_test,
    smallest_example_count,
    wilson_interval,
)
from paretune.analysis.statistics.multiple_testing import ALPHA, all_pairs_correction
from paretune.contrib.peft_comparison.result_files import Experiment, read_experiments
from paretune.errors import DataError, StudyError
from paretune.reporting.document import write_file
from paretune.reporting.parts import Amount, Column, Score, Table, TableRow
from paretune.reporting.tables import format_rows
from paretune.reporting.text.formatting import (
    format_basis,
    format_bytes,
    format_interval,
    format_parameters,
    format_seconds,
    join_names,
)
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

SEED_POINTS = 1.5
"""Points by which another seed typically moves an accuracy of a method that trains steadily
(standard deviation; docs/how-it-works/statistics.md)."""
_LEAST_CHANCE = 1e-6


@dataclass(frozen=True)
class ExperimentStanding:
    """One experiment compared with the best of its model.

    Attributes:
        score: its accuracy; None if the file has no test accuracy.
        p_holm: p-value of the difference, corrected over all pairs of the model's experiments,
            since the best was picked by looking.
        p_with_seeds: the same if seeds move each accuracy by :data:`SEED_POINTS`.
    """

    experiment: Experiment
    score: Interval | None
    behind: Interval | None = None
    p_holm: float | None = None
    p_with_seeds: float | None = None

    @property
    def proven_worse(self) -> bool | None:
        """Whether it is proven worse than the best; None without a score."""
        if self.score is None:
            return None
        return self.p_holm is not None and self.p_holm < ALPHA


def rank_experiments(experiments: Sequence[Experiment], n: int) -> tuple[ExperimentStanding, ...]:
    """Every experiment with its interval, model by model, the highest first.

    Args:
        n: number of test examples behind each accuracy.

    Raises:
        DataError: an accuracy is not a whole number of ``n`` examples, or all are of fewer.
    """
    _check_no_smaller_count(experiments, n)
    by_model: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        by_model.setdefault(experiment.model, []).append(experiment)
    return tuple(s for group in by_model.values() for s in _rank_model(group, n))


def suggest_example_count(experiments: Sequence[Experiment]) -> str:
    """What the accuracies imply about the number of test examples; empty for nothing."""
    shares = [e.accuracy for e in experiments if e.accuracy is not None]
    least = smallest_example_count(shares) if shares else None
    if least is None or least == 1:
        return ""
    return f"All accuracies here are whole parts of {least} examples, or of a multiple of that."


def build_table(standings: Sequence[ExperimentStanding]) -> Table:
    """One row for each experiment; its notes are the conclusions."""
    models = dict.fromkeys(standing.experiment.model for standing in standings)
    conclusions = [
        sentence
        for model in models
        for sentence in conclude(model, [s for s in standings if s.experiment.model == model])
    ]
    headings = {
        "label": "experiment",
        "accuracy": "accuracy [95 %]",
        "beside": "beside the best",
        "reserved_bytes": "reserved",
        "train_seconds": "training",
        "saved_bytes": "size",
        "trained_parameters": "trained",
    }
    return Table(
        name="peft-results",
        title="Experiments of peft's method_comparison",
        columns=tuple(Column(name=name, heading=text) for name, text in headings.items()),
        rows=tuple(map(_read_row, standings)),
        notes=(*conclusions, *describe_basis(standings)),
    )


def _rank_model(experiments: Sequence[Experiment], n: int) -> Iterable[ExperimentStanding]:
    counts = [(experiment, _count_correct(experiment, n)) for experiment in experiments]
    scored = [(experiment, count) for experiment, count in counts if count is not None]
    scored.sort(key=lambda pair: (-pair[1], pair[0].name))
    if scored:
        (best, highest), *rest = scored
        yield ExperimentStanding(best, wilson_interval(highest, n))
        all_counts = [count for _, count in scored]
        # The pairs with the highest come first.
        plain = _correct_all_pairs(all_counts, n, 0.0)
        with_seeds = _correct_all_pairs(all_counts, n, SEED_POINTS / 100)
        for i, (experiment, count) in enumerate(rest):
            difference = newcombe_difference(highest, n, count, n)
            yield ExperimentStanding(
                experiment, wilson_interval(count, n), difference, plain[i], with_seeds[i]
            )
    yield from (
        ExperimentStanding(experiment, None) for experiment, count in counts if count is None
    )


def _correct_all_pairs(counts: Sequence[int], n: int, seed_deviation: float) -> list[float]:
    p_values = [score_test(a, n, b, n, seed_deviation) for a, b in combinations(counts, 2)]
    return all_pairs_correction(p_values, len(counts))


def _check_no_smaller_count(experiments: Sequence[Experiment], n: int) -> None:
    """Refuse a multiple of the number that all accuracies are whole parts of.

    Of k times as many examples one accuracy in k is a whole part of the smaller number by chance.
    """
    shares = {e.accuracy for e in experiments if e.accuracy is not None and 0 < e.accuracy < 1}
    least = smallest_example_count(sorted(shares)) if shares else None
    if least is None or least == n or n % least:
        return
    if (least / n) ** len(shares) < _LEAST_CHANCE:
        raise DataError(
            f"all {len(shares)} different accuracies are whole parts of {least:,} examples; of "
            f"{n:,} that cannot be.",
            remedy=f"Give --examples {least}.",
        )


def _count_correct(experiment: Experiment, n: int) -> int | None:
    if experiment.accuracy is None:
        return None
    count = correct_count(experiment.accuracy, n)
    if count is None:
        raise DataError(
            f"its accuracy {experiment.accuracy} is no whole part of {n} examples.",
            where=sanitise_line(experiment.name),
            remedy="Give the number of test examples of these files.",
        )
    return count


def conclude(model: str, standings: Sequence[ExperimentStanding]) -> Iterable[str]:
    """Which experiments of one model there is a verdict for, the best first."""
    scored = [standing for standing in standings if standing.score is not None]
    name = sanitise_line(model) or "this model"
    if not scored or scored[0].score is None:
        yield f"On {name}, no experiment has a test accuracy."
        yield from _describe_other_metrics(standings)
        return
    best, *rest = scored
    yield (
        f"On {name}, the highest of {pluralise(len(scored), 'experiment')} is "
        f"{sanitise_line(best.experiment.name)}, {format_interval(scored[0].score, 3)} "
        f"({format_basis(scored[0].score)})."
    )
    unclear = [standing for standing in rest if not standing.proven_worse]
    if not rest:
        return
    if not unclear:
        yield "It is better than all others (proven at 95 %, of these single runs)."
        return
    with_seeds = sum(
        standing.p_with_seeds is None or standing.p_with_seeds >= ALPHA for standing in rest
    )
    yield (
        f"For {len(unclear)} of the other {len(rest)} there is no verdict against it by "
        f"accuracy. Each is one run: if another seed moves accuracy by {SEED_POINTS} points, it "
        f"is {with_seeds}."
    )
    measured = [s for s in (best, *unclear) if s.experiment.reserved_bytes is not None]
    if len(measured) > 1:
        least = min(measured, key=lambda s: s.experiment.reserved_bytes or 0).experiment
        reserved = format_bytes(least.reserved_bytes or 0)
        yield f"Of these, {sanitise_line(least.name)} took the least memory: {reserved}."


def _describe_other_metrics(standings: Sequence[ExperimentStanding]) -> Iterable[str]:
    """Why what was measured instead of accuracy is not shown."""
    names = dict.fromkeys(name for s in standings for name in s.experiment.other_metrics)
    sizes = {s.experiment.test_size for s in standings} - {None}
    if names:
        over = f" over {max(size for size in sizes if size)} examples" if len(sizes) == 1 else ""
        yield (
            f"There is {join_names([sanitise_line(name) for name in names])} instead, a mean{over} "
            "of one run. Without its single values it has no interval, so it is not shown, and "
            "there is no verdict by it."
        )


def describe_basis(standings: Sequence[ExperimentStanding]) -> Iterable[str]:
    """What intervals and verdicts are over, and what differs between the files."""
    scores = [standing.score for standing in standings if standing.score is not None]
    experiments = [standing.experiment for standing in standings]
    if scores:
        yield (
            f"Intervals: 95 % (Wilson), over {scores[0].n_examples:,} test examples. Each "
            "experiment is one run, so what another seed would change is not in them."
        )
        yield (
            "Verdicts: unpaired, since the files hold no answers, and corrected over all pairs, "
            "since the highest was picked by looking. Paired on the examples, there might be more."
        )
    yield "Memory (largest reserved), time and size: one measurement each, without an interval."
    for what, values in (
        ("cards", {experiment.device for experiment in experiments}),
        ("versions of peft", {experiment.version for experiment in experiments}),
        ("seeds", {str(experiment.seed) for experiment in experiments}),
    ):
        if len(values) > 1:
            names = join_names(sorted(sanitise_line(value or "unknown") for value in values))
            yield f"They come from several {what} ({names}): what differs may be due to that."
    if any(experiment.has_duplicates for experiment in experiments):
        yield "Some experiments have several files: each is a row, under its file's name."
    unscored: dict[str, list[str]] = {}
    for experiment in (s.experiment for s in standings if s.score is None):
        reason = experiment.status
        if experiment.error_message:
            reason = f"{experiment.status}: {experiment.error_message}"
        if not experiment.other_metrics or experiment.error_message:
            name = sanitise_line(experiment.name)
            unscored.setdefault(sanitise_line(reason), []).append(name)
    for reason, names_of_reason in unscored.items():
        yield f"Without a test accuracy ({reason}): {join_names(names_of_reason)}."


def _read_row(standing: ExperimentStanding) -> TableRow:
    experiment, score, behind = standing.experiment, standing.score, standing.behind
    if score is None:
        verdict = "no accuracy" if experiment.other_metrics else sanitise_line(experiment.status)
    elif behind is None:
        verdict = "the highest"
    else:
        words = "worse" if standing.proven_worse else "no verdict"
        verdict = f"{words}, by {format_interval(behind, 3)}"

    def amount(value: float | None, format_: Callable[[float], str]) -> Amount | None:
        return None if value is None else Amount(value=value, text=format_(value))

    return {
        "model": sanitise_line(experiment.model),
        "method": sanitise_line(experiment.name),
        "label": sanitise_line(experiment.name),
        "outcome": sanitise_line(experiment.status),
        "accuracy": format_interval(score, 3) if score else "no score",
        "score": Score.read(score),
        "beside": verdict,
        "behind": behind.estimate if behind else None,
        "behind_low": behind.low if behind else None,
        "behind_high": behind.high if behind else None,
        "p": behind.p if behind else None,
        "p_holm": standing.p_holm,
        "told_apart": standing.proven_worse,
        "reserved_bytes": amount(experiment.reserved_bytes, format_bytes),
        "train_seconds": amount(experiment.seconds, format_seconds),
        "saved_bytes": amount(experiment.size, format_bytes),
        "trained_parameters": amount(experiment.trained, format_parameters),
    }


@dataclass(frozen=True)
class PeftResults:
    """Every experiment compared with the best of its model, and the conclusions."""

    standings: tuple[ExperimentStanding, ...]
    sentences: tuple[str, ...]
    table: Table

    @property
    def titles(self) -> list[str]:
        """The headings of the table."""
        return [column.heading for column in self.table.columns]

    @property
    def texts(self) -> list[list[str]]:
        """Its rows as readers see them."""
        return format_rows(self.table)


def read_results(folder: Path | str, examples: int | None = None) -> PeftResults:
    """Read a folder of result files and find which experiments are proven worse than the best.

    Args:
        examples: number of test examples behind each accuracy; the files do not contain it.

    Raises:
        DataError: there are no result files, one is no JSON, or ``examples`` cannot give an
            accuracy.
        StudyError: ``examples`` is missing, or under 1.
    """
    experiments, ignored = read_experiments(Path(folder))
    if examples is None and all(experiment.accuracy is None for experiment in experiments):
        examples = 1  # there is no accuracy to which it could apply
    if examples is None or examples < 1:
        suggestion = suggest_example_count(experiments)
        raise StudyError(
            "the files do not say of how many test examples an accuracy is, and an interval needs "
            "that.",
            where=str(folder),
            remedy=f"Give it with --examples N. {suggestion}".rstrip(),
        )
    standings = rank_experiments(experiments, examples)
    table = build_table(standings)
    if ignored:
        left_out = f"Left out, since they are no results: {', '.join(ignored)}."
        table = table.model_copy(update={"notes": (*table.notes, left_out)})
    return PeftResults(standings, table.notes, table)


def write_peft_page(results: PeftResults, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all.

    Raises:
        StoreError: it cannot be written there.
    """
    return write_file(path, render_peft_page(results), "the page")


def _read_texts(standing: ExperimentStanding) -> list[str]:
    """The cells of an experiment's row."""
    return format_rows(build_table([standing]))[0]


def render_peft_page(results: PeftResults) -> str:
    """The page as text; everything that comes from the files is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    packages = ("paretune.contrib.peft_comparison", "paretune.reporting")
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["line"] = sanitise_line
    jinja.globals |= {"conclude": conclude, "read_texts": _read_texts, "pluralise": pluralise}
    models: dict[str, list[ExperimentStanding]] = {}
    for standing in results.standings:
        models.setdefault(standing.experiment.model, []).append(standing)
    unclear = sum(s.behind is not None and not s.proven_worse for s in results.standings)
    unscored = sum(s.score is None for s in results.standings)
    headline = (
        f"Of {pluralise(len(results.standings), 'experiment')} there is no verdict by accuracy for "
        f"{unclear} against the best of their model"
        + (f"; {unscored} have no accuracy." if unscored else ".")
    )
    return jinja.get_template("peft.html.j2").render(
        models=models,
        headline=headline,
        titles=results.titles,
        basis=tuple(describe_basis(results.standings)),
    )
