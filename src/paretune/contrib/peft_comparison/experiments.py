"""Experiments of peft's own ``method_comparison``: read, judged, as a table and a page.

Nothing of peft is imported. One JSON for each experiment: ``run_info`` (name, configuration,
error), ``train_info`` (memory, seconds, sizes, status, and under ``metrics`` the last entry's
``test accuracy``), ``meta_info``. Keys of memory begin with ``accelerator_`` in newer files and
with ``cuda_`` in older ones. The number of test examples of an accuracy is in none of them. Files
of ``image-gen`` have no accuracy but ``test dino_similarity``, a mean over
``train_config.test_size`` images. The folders once held several files of one experiment, which
differ by a time in their names.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
)

from paretune.analysis.statistics.intervals import (
    Interval,
    correct_count,
    newcombe_difference,
    score_test,
    smallest_example_count,
    wilson_interval,
)
from paretune.analysis.statistics.multiple_testing import ALPHA, all_pairs_correction
from paretune.errors import DataError, StudyError, spell_option
from paretune.reporting.parts import Amount, Column, Score, Table, TableRow
from paretune.reporting.tables import format_rows
from paretune.reporting.text.escape import open_templates
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

UNKNOWN_SIZE = 99_999_999
"""What the files have as ``file_size`` where the checkpoint could not be saved."""
SEED_POINTS = 1.5
"""Points by which another seed typically moves an accuracy of a method that trains steadily
(standard deviation; docs/how-it-works/statistics.md)."""
_LEAST_CHANCE = 1e-6


def _parse_number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value >= 0 else None


def _parse_count(value: Any) -> int | None:
    number = _parse_number(value)
    return None if number is None or number == UNKNOWN_SIZE else int(number)


Text = Annotated[str, BeforeValidator(lambda value: sanitise_line(str(value or "")))]
Number = Annotated[float | None, BeforeValidator(_parse_number)]
Count = Annotated[int | None, BeforeValidator(_parse_count)]


def _at(*paths: str, default: Any = None) -> Any:
    """A field of the file: at the first of these paths that it has."""
    choices = (AliasPath(*path.split("/")) for path in paths)
    return Field(default, validation_alias=AliasChoices(*choices))


class Experiment(BaseModel, frozen=True):
    """One experiment, compared with the best of its model; None for what its file does not have.

    Attributes:
        name: of the experiment, or of its file if several files have that name.
        metrics: entries by name; ``test accuracy`` is a share.
        reserved_bytes: largest reserved memory.
        size: of the checkpoint, in bytes.
        has_duplicates: another file has the same experiment name.
        score: the accuracy with its interval.
        behind: what the best has more; None of the best itself.
        p_holm: p-value of the difference, corrected over all pairs of the model's experiments,
            since the best was picked by looking.
        p_with_seeds: the same if seeds move each accuracy by :data:`SEED_POINTS`.
    """

    name: Annotated[str, AfterValidator(sanitise_line)] = _at(
        "run_info/experiment_name", default=...
    )
    error_message: Text = _at("run_info/error_msg", default="")
    model: Text = _at("run_info/train_config/model_id", default="")
    seed: Count = _at("run_info/train_config/seed")
    test_size: Count = _at("run_info/train_config/test_size")
    status: Text = _at("train_info/status", default="unknown")
    metrics: tuple[dict[str, Any], ...] = _at("train_info/metrics", default=())
    reserved_bytes: Count = _at("train_info/accelerator_memory_max", "train_info/cuda_memory_max")
    seconds: Number = _at("train_info/train_time")
    size: Count = _at("train_info/file_size")
    trained: Count = _at("train_info/num_trainable_params")
    device: Text = _at("meta_info/system_info/accelerator", "meta_info/system_info/gpu", default="")
    version: Text = _at("meta_info/package_info/peft-version", default="")
    has_duplicates: bool = False
    score: Interval | None = None
    behind: Interval | None = None
    p_holm: float | None = None
    p_with_seeds: float | None = None

    @property
    def accuracy(self) -> float | None:
        """On the test part, 0 to 1."""
        accuracies = [entry["test accuracy"] for entry in self.metrics if "test accuracy" in entry]
        return _parse_number(accuracies[-1]) if accuracies else None

    @property
    def other_metrics(self) -> tuple[str, ...]:
        """Names of other metrics on the test part."""
        names = dict.fromkeys(sanitise_line(name) for entry in self.metrics for name in entry)
        return tuple(n for n in names if n.startswith("test ") and n != "test accuracy")

    @property
    def proven_worse(self) -> bool | None:
        """Whether it is proven worse than the best; None without a score."""
        if self.score is None:
            return None
        return self.p_holm is not None and self.p_holm < ALPHA


def read_experiments(folder: Path) -> tuple[tuple[Experiment, ...], tuple[str, ...]]:
    """The experiments of a folder's ``*.json`` files, by file name, and files that are no results.

    Of one comparison of peft's (``MetaMathQA``), those of its ``results``; of the whole folder
    ``method_comparison``, those of all its comparisons. Texts are free of control characters.

    Raises:
        DataError: no such files, none that is a result, or one that is no JSON.
    """
    patterns = ("*.json", "results/*.json", "*/results/*.json")
    results: dict[Path, Experiment] = {}
    ignored = []
    for path in [path for pattern in patterns for path in sorted(folder.glob(pattern))]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"is not readable JSON ({error}).", where=str(path)) from None
        try:
            experiment = results[path] = Experiment.model_validate(content)
        except ValidationError:
            ignored.append(str(path.relative_to(folder)))
            continue
        if experiment.accuracy is not None and experiment.accuracy > 1:
            raise DataError(
                f"its test accuracy {experiment.accuracy} is no share.", where=str(path)
            )
    if not results:
        names = f"; no run_info.experiment_name in {', '.join(ignored)}" if ignored else ""
        raise DataError(
            f"holds no result files of peft's method_comparison (*.json){names}.",
            where=str(folder),
            remedy="In peft's repository they are in method_comparison/MetaMathQA/results.",
        )
    counts = Counter((experiment.model, experiment.name) for experiment in results.values())
    return tuple(
        experiment.model_copy(update={"name": sanitise_line(path.stem), "has_duplicates": True})
        if counts[experiment.model, experiment.name] > 1
        else experiment
        for path, experiment in results.items()
    ), tuple(ignored)


def judge_folder(
    folder: Path | str, examples: int | None = None
) -> tuple[dict[str, list[Experiment]], Table]:
    """Read a folder of result files and find which experiments are proven worse than the best.

    Args:
        examples: number of test examples behind each accuracy; the files do not contain it.

    Returns:
        The experiments of each model, the highest first, and a table of all; its notes are the
        conclusions.

    Raises:
        DataError: there are no result files, one is no JSON, or ``examples`` cannot give an
            accuracy.
        StudyError: ``examples`` is missing, or under 1.
    """
    experiments, ignored = read_experiments(Path(folder))
    accuracies = [e.accuracy for e in experiments if e.accuracy is not None]
    shares = sorted({accuracy for accuracy in accuracies if 0 < accuracy < 1})
    least = smallest_example_count(shares) if shares else None
    if examples is None and not accuracies:
        examples = 1  # there is no accuracy to which it could apply
    if examples is None or examples < 1:
        implied = (
            f" All accuracies here are whole parts of {least} examples, or of a multiple of that."
        )
        raise StudyError(
            "the files do not say of how many test examples an accuracy is, and an interval needs "
            "that.",
            where=str(folder),
            remedy=f"Give it with {spell_option('examples', 'N')}.{implied if least else ''}",
        )
    # Of k times as many, one accuracy in k is a whole part of the smaller number by chance.
    is_multiple = least is not None and least < examples and examples % least == 0
    if least and is_multiple and (least / examples) ** len(shares) < _LEAST_CHANCE:
        raise DataError(
            f"all {len(shares)} different accuracies are whole parts of {least:,} examples; of "
            f"{examples:,} that cannot be.",
            remedy=f"Give {spell_option('examples', least)}.",
        )
    models: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        models.setdefault(experiment.model, []).append(experiment)
    models = {model: _rank_model(group, examples) for model, group in models.items()}
    return models, _build_table(models, ignored)


def _rank_model(experiments: Sequence[Experiment], n: int) -> list[Experiment]:
    """Every experiment with its interval, the highest first, those without an accuracy last."""
    scored: list[tuple[int, Experiment]] = []
    for experiment in experiments:
        if experiment.accuracy is None:
            continue
        count = correct_count(experiment.accuracy, n)
        if count is None:
            raise DataError(
                f"its accuracy {experiment.accuracy} is no whole part of {n} examples.",
                where=experiment.name,
                remedy="Give the number of test examples of these files.",
            )
        scored.append((count, experiment))
    scored.sort(key=lambda pair: (-pair[0], pair[1].name))
    counts = [count for count, _ in scored]
    # Of the best itself nothing; the pairs with it come first.
    plain, with_seeds = (
        [None, *all_pairs_correction(p_values, len(counts))]
        for shift in (0.0, SEED_POINTS / 100)
        for p_values in [[score_test(a, n, b, n, shift) for a, b in combinations(counts, 2)]]
    )
    judged = [
        experiment.model_copy(
            update={
                "score": wilson_interval(count, n),
                "behind": newcombe_difference(counts[0], n, count, n) if place else None,
                "p_holm": plain[place],
                "p_with_seeds": with_seeds[place],
            }
        )
        for place, (count, experiment) in enumerate(scored)
    ]
    return [*judged, *(e for e in experiments if e.accuracy is None)]


def conclude(model: str, experiments: Sequence[Experiment]) -> Iterable[str]:
    """Which experiments of one model there is a verdict for, the best first."""
    scored = [experiment for experiment in experiments if experiment.score is not None]
    name = model or "this model"
    if not scored or scored[0].score is None:
        yield f"On {name}, no experiment has a test accuracy."
        metrics = list(dict.fromkeys(m for e in experiments for m in e.other_metrics))
        sizes = {experiment.test_size for experiment in experiments} - {None}
        if metrics:
            over = f" over {sizes.pop()} examples" if len(sizes) == 1 else ""
            yield (
                f"There is {join_names(metrics)} instead, a mean{over} of one run. Without its "
                "single values it has no interval, so it is not shown, and there is no verdict by "
                "it."
            )
        return
    best, *rest = scored
    yield (
        f"On {name}, the highest of {pluralise(len(scored), 'experiment')} is {best.name}, "
        f"{format_interval(scored[0].score, 3)} ({format_basis(scored[0].score)})."
    )
    unclear = [experiment for experiment in rest if not experiment.proven_worse]
    if not rest:
        return
    if not unclear:
        yield "It is better than all others (proven at 95 %, of these single runs)."
        return
    with_seeds = sum(e.p_with_seeds is None or e.p_with_seeds >= ALPHA for e in rest)
    yield (
        f"For {len(unclear)} of the other {len(rest)} there is no verdict against it by "
        f"accuracy. Each is one run: if another seed moves accuracy by {SEED_POINTS} points, it "
        f"is {with_seeds}."
    )
    memory = {e.name: e.reserved_bytes for e in (best, *unclear) if e.reserved_bytes is not None}
    if len(memory) > 1:
        least = min(memory, key=memory.__getitem__)
        yield f"Of these, {least} took the least memory: {format_bytes(memory[least])}."


def describe_basis(experiments: Sequence[Experiment]) -> Iterable[str]:
    """What intervals and verdicts are over, and what differs between the files."""
    scores = [experiment.score for experiment in experiments if experiment.score is not None]
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
            names = join_names(sorted(value or "unknown" for value in values))
            yield f"They come from several {what} ({names}): what differs may be due to that."
    if any(experiment.has_duplicates for experiment in experiments):
        yield "Some experiments have several files: each is a row, under its file's name."
    unscored: dict[str, list[str]] = {}
    for experiment in experiments:
        error = experiment.error_message
        if experiment.score is None and (error or not experiment.other_metrics):
            reason = f"{experiment.status}: {error}" if error else experiment.status
            unscored.setdefault(reason, []).append(experiment.name)
    for reason, without in unscored.items():
        yield f"Without a test accuracy ({reason}): {join_names(without)}."


def _build_table(models: Mapping[str, Sequence[Experiment]], ignored: Sequence[str]) -> Table:
    experiments = [experiment for group in models.values() for experiment in group]
    conclusions = [text for model, group in models.items() for text in conclude(model, group)]
    left_out = [f"Left out, since they are no results: {', '.join(ignored)}."] if ignored else []
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
        rows=tuple(map(_read_row, experiments)),
        notes=(*conclusions, *describe_basis(experiments), *left_out),
    )


def _read_row(experiment: Experiment) -> TableRow:
    score, behind = experiment.score, experiment.behind
    if score is None:
        verdict = "no accuracy" if experiment.other_metrics else experiment.status
    elif behind is None:
        verdict = "the highest"
    else:
        words = "worse" if experiment.proven_worse else "no verdict"
        verdict = f"{words}, by {format_interval(behind, 3)}"

    def amount(value: float | None, format_: Callable[[float], str]) -> Amount | None:
        return None if value is None else Amount(value=value, text=format_(value))

    return {
        "model": experiment.model,
        "method": experiment.name,
        "label": experiment.name,
        "outcome": experiment.status,
        "accuracy": format_interval(score, 3) if score else "no score",
        "score": Score.read(score),
        "beside": verdict,
        "behind": behind.estimate if behind else None,
        "behind_low": behind.low if behind else None,
        "behind_high": behind.high if behind else None,
        "p": behind.p if behind else None,
        "p_holm": experiment.p_holm,
        "told_apart": experiment.proven_worse,
        "reserved_bytes": amount(experiment.reserved_bytes, format_bytes),
        "train_seconds": amount(experiment.seconds, format_seconds),
        "saved_bytes": amount(experiment.size, format_bytes),
        "trained_parameters": amount(experiment.trained, format_parameters),
    }


def render_page(models: Mapping[str, Sequence[Experiment]], table: Table) -> str:
    """The page as text; everything that comes from the files is escaped."""
    jinja = open_templates("paretune.contrib.peft_comparison", "paretune.reporting", html=True)
    experiments = [experiment for group in models.values() for experiment in group]
    texts = iter(format_rows(table))
    return jinja.get_template("peft.html.j2").render(
        models=[
            (model, list(conclude(model, group)), [(e, next(texts)) for e in group])
            for model, group in models.items()
        ],
        total=pluralise(len(experiments), "experiment"),
        unclear=sum(e.behind is not None and not e.proven_worse for e in experiments),
        unscored=sum(e.score is None for e in experiments),
        titles=[column.heading for column in table.columns],
        basis=list(describe_basis(experiments)),
        pluralise=pluralise,
    )
