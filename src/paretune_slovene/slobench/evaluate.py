"""``slobench check`` and ``score``: a submission checked and scored as SloBench does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from paretune.data.finding import Finding
from paretune.errors import DataError, ModelError, StudyError
from paretune.files import data_home
from paretune.study import ModelSpec
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.result import Result
from paretune_slovene.slobench import superglue_zip, translation_submission
from paretune_slovene.slobench.submission import (
    File,
    Submission,
    check_packaging,
    open_submission,
    raise_for_errors,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.analysis.statistics.intervals import Interval

Kind = Literal["superglue", "translation"]


@dataclass(frozen=True, repr=False)
class CheckedSubmission(Result):
    """What is wrong with a submission.

    Attributes:
        kind: ``superglue`` or ``translation``.
        answers: number of answers or lines by file.
        findings: all faults; SloBench accepts a submission with warnings.
    """

    json_fields: ClassVar = ("kind", "answers", "findings", "counts")

    kind: Kind
    answers: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> Counter[str]:
        """Findings by severity."""
        return Counter(finding.severity for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """3 where there are errors."""
        return DataError.exit_code if self.counts["error"] else 0

    def describe(self) -> Iterable[RenderableType]:
        """Each fault, and whether it can be handed in."""
        for finding in self.findings:
            yield f"{finding.severity}: {sanitise_line(finding)}"
        counts = self.counts
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.answers.items())
        faults = f"{pluralise(counts['error'], 'error')}, {pluralise(counts['warning'], 'warning')}"
        yield f"{self.kind} submission: {sizes or 'nothing'}. {faults}."
        if not counts["error"]:
            yield "Ready to be handed in."


@dataclass(frozen=True, repr=False)
class ScoredSubmission(Result):
    """Scores of a submission.

    Attributes:
        kind: ``superglue`` or ``translation``.
        scores: official scores by SloBench's names, in 0..1.
        missing: the reason for each score that could not be computed.
        sacrebleu: sacreBLEU's scores by signature, in 0..100; of translations only.
        intervals: of each of ``scores``, 95 % over the examples. A submission is one set of
            answers, so the variance over seeds is not in them.
    """

    kind: Kind
    scores: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    sacrebleu: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    sacrebleu_intervals: dict[str, Interval] = field(default_factory=dict)

    def describe(self) -> Iterable[RenderableType]:
        """Each score with its interval, or why it cannot be computed."""
        from paretune.reporting.text.formatting import format_examples, format_interval

        yield (
            "As SloBench computes it (0 to 1), with 95 % over the examples of this one submission:"
        )
        for name in self.scores:
            interval = self.intervals[name]
            text = f"{format_interval(interval, 4)}  {format_examples(interval)}"
            yield f"  {name.ljust(18)}{text}"
        for name, why in self.missing.items():
            yield f"  {name.ljust(18)}not computed: {sanitise_line(why)}"
        yield from (f"  with {sanitise_line(line)}" for line in self.data)
        if self.sacrebleu:
            yield "By sacreBLEU (0 to 100):"
        for signature, interval in self.sacrebleu_intervals.items():
            name, _, rest = signature.partition("|")
            text = f"{format_interval(interval, 2)}  {format_examples(interval)}"
            yield f"  {name.ljust(18)}{text}  {rest}"
        yield "One set of answers: what another seed would change is in no interval."


def check(submission: Path, release: Path | None = None) -> CheckedSubmission:
    """Check a submission as SloBench does.

    Args:
        release: what it answers: SuperGLUE's ``qa_test.zip`` or a folder with it, or the one file
            of a translation task, in a zip or alone. None: the Slovene SuperGLUE downloaded by
            ``paretune data fetch superglue-sl``.

    Raises:
        DataError: a file is missing or cannot be read; faults inside are findings.
    """
    opened, rows = open_submission(submission), open_release(release)
    if _kind_of(rows) == "superglue":
        answers, faults = superglue_zip.read_answers(opened, rows)
        counts = {task: len(answers[task]) for task in answers}
        return CheckedSubmission("superglue", counts, (*check_packaging(opened), *faults))
    lines, faults = translation_submission.read_translations(opened, rows)
    counts = {"lines": len(lines)}
    return CheckedSubmission("translation", counts, (*check_packaging(opened), *faults))


def score(
    submission: Path,
    reference: Path,
    *,
    language: str | None = None,
    wordnet: Path | None = None,
    bert: ModelSpec | None = None,
    layer: int | None = None,
    online: bool = False,
) -> ScoredSubmission:
    """Score a submission as SloBench does; it may also be a folder or a file.

    Args:
        reference: the correct ones, in the same form, with labels.
        language: of a translation, ``sl`` (the default) or ``en``.
        wordnet: a folder of WordNet's files, for METEOR.
        bert: the model of BERTScore; without it there is no BERTScore.
        layer: whose output BERTScore compares; None: SloBench's for its models, else the last.

    Raises:
        DataError: a file is missing, or the submission has errors.
        StudyError: what only translations are scored with, for SuperGLUE.
        ModelError: BERTScore's model is not available, or has no such layer.
    """
    opened, references = open_submission(submission), open_submission(reference)
    if _kind_of(references) == "superglue":
        if any(option is not None for option in (language, wordnet, bert, layer)):
            raise StudyError(
                "are SuperGLUE's answers, which have no language, METEOR or BERTScore.",
                where=str(reference),
                remedy="Leave out --language, --wordnet and --bert-model.",
            )
        return _score_superglue(opened, references)
    lines, faults = translation_submission.read_translations(opened, references)
    raise_for_errors(faults)
    reference_lines = translation_submission.read_segments(references)
    scored = _score_translation(lines, reference_lines, language or "sl", wordnet)
    if bert is None:
        scored.missing["BERT score"] = "it needs a model. Name one: --bert-model MODEL."
        return scored
    from paretune_slovene.slobench.submission_intervals import mean_interval

    values, source = _score_bertscore(lines, reference_lines, bert, layer, online=online)
    interval = mean_interval(values)
    return replace(
        scored,
        scores={**scored.scores, "BERT score": interval.estimate},
        intervals={**scored.intervals, "BERT score": interval},
        data=(*scored.data, source),
    )


def open_release(path: Path | None) -> Submission:
    """The release at a path (see :func:`check`), or in CLARIN's layout: one folder per task.

    Raises:
        DataError: there is none.
    """
    if path is None:
        path = data_home() / "superglue-sl"
        if not (path / "qa_test.zip").is_file():
            raise DataError(
                "the release is not there.",
                where=str(path),
                remedy="Run `paretune data fetch superglue-sl`, or name it: --release PATH.",
            )
    for inside in (path / "qa_test.zip", path / "qa_test"):
        if inside.exists():
            return open_submission(inside)
    tasks = {task: path / task / "test.jsonl" for task in superglue_zip.FILES}
    if any(file.is_file() for file in tasks.values()):
        files = [
            File(superglue_zip.FILES[task], f"{task}/test.jsonl", file.read_bytes())
            for task, file in tasks.items()
            if file.is_file()
        ]
        return Submission(path, False, tuple(files), ())
    return open_submission(path)


def _kind_of(release: Submission) -> Kind:
    """SuperGLUE if any of its six files is there."""
    names = {file.name for file in release.files}
    return "translation" if names.isdisjoint(superglue_zip.FILES.values()) else "superglue"


def _score_superglue(submission: Submission, reference: Submission) -> ScoredSubmission:
    from paretune_slovene.slobench.official_scores import score_superglue
    from paretune_slovene.slobench.submission_intervals import superglue_intervals

    answers, faults = superglue_zip.read_answers(submission, reference)
    raise_for_errors(faults)
    references = superglue_zip.read_references(reference)
    return ScoredSubmission(
        "superglue",
        score_superglue(answers, references),
        intervals=superglue_intervals(answers, references),
    )


def _score_translation(
    lines: list[str], references: list[str], language: str, wordnet: Path | None
) -> ScoredSubmission:
    """All scores but BERTScore."""
    from paretune.metrics import signatures
    from paretune.metrics.translation import METRICS, SACREBLEU_NAMES
    from paretune_slovene.slobench.official_scores import score_segments
    from paretune_slovene.slobench.submission_intervals import (
        sacrebleu_intervals,
        segment_intervals,
    )

    segments = score_segments(lines, references, language, wordnet=wordnet)
    missing = dict(segments.missing)
    if "CHRF (avg)" in missing:
        missing["CHRF (corpus)"] = missing["CHRF (avg)"]
    intervals = segment_intervals(segments, len(references))
    own_names = [metric.name for metric in METRICS]
    signed = {
        name: f"{SACREBLEU_NAMES[name]}|{signature}"
        for name, signature in signatures(own_names).items()
    }
    by_name = sacrebleu_intervals(lines, references)
    return ScoredSubmission(
        "translation",
        {name: interval.estimate for name, interval in intervals.items()},
        missing,
        segments.data,
        {signed[metric.name]: metric.compute(references, lines, ()) for metric in METRICS},
        intervals,
        {signature: by_name[SACREBLEU_NAMES[name]] for name, signature in signed.items()},
    )


def _score_bertscore(
    lines: list[str], references: list[str], spec: ModelSpec, layer: int | None, *, online: bool
) -> tuple[list[float], str]:
    """BERTScore's F1 of each line, and its source as a phrase."""
    from paretune.metrics.bertscore import default_layer, score_pairs
    from paretune.models.load import load_headless_encoder
    from paretune.models.sources.resolve import resolve_source

    source = resolve_source(spec, offline=not online)
    model, tokenizer = load_headless_encoder(source)
    num_layers = int(model.config.num_hidden_layers)
    layer = default_layer(source.name, num_layers) if layer is None else layer
    if layer > num_layers:
        raise ModelError(
            f"has no layer {layer}.",
            where=f"model {source.name}",
            remedy=f"Name one of 0 (the embeddings) to {num_layers}.",
        )
    pinned = f"@{source.revision}" if source.revision else f", files {source.weights_hash[:12]}"
    phrase = f"BERTScore F1 of {source.name}{pinned}, layer {layer}, no idf, not rescaled"
    return [
        float(value) for value in score_pairs(lines, references, model, tokenizer, layer)
    ], phrase
