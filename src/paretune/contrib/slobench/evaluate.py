"""``slobench``: a submission looked at as SloBench would, before it is handed in, and scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from paretune.contrib.slobench import superglue_zip, translation_zip
from paretune.contrib.slobench.submission import File, Submission, check_packaging, open_submission
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.sources.cache_dir import data_home
from paretune.errors import DataError, ModelError
from paretune.study import ModelSpec

if TYPE_CHECKING:
    from paretune.analysis.statistics.score_interval import Interval

Kind = Literal["superglue", "translation"]


@dataclass(frozen=True)
class CheckedSubmission:
    """What was looked at.

    Attributes:
        kind: ``superglue`` or ``translation``.
        answers: how many answers or lines each file has.
        findings: everything that is wrong; a warning does not make SloBench refuse it.
    """

    kind: Kind
    answers: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> Counter[str]:
        """Findings by severity."""
        return Counter(finding.severity for finding in self.findings)


@dataclass(frozen=True)
class ScoredSubmission:
    """Scores of a submission.

    Attributes:
        kind: ``superglue`` or ``translation``.
        scores: SloBench's own numbers under its names, in 0..1.
        intervals: of each of them, 95 % over the examples that were answered. A submission is one
            set of answers: what another seed would change is in none.
        missing: what was not computed, and why.
        data: with what data and which versions.
        sacrebleu: sacreBLEU's scores in 0..100 by signature; of translations only.
        sacrebleu_intervals: of each of these.
    """

    kind: Kind
    scores: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    sacrebleu: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    sacrebleu_intervals: dict[str, Interval] = field(default_factory=dict)


def check(submission: Path, release: Path | None = None) -> CheckedSubmission:
    """Look at a submission as SloBench would.

    Args:
        submission: the zip that is to be handed in.
        release: what it answers: SuperGLUE's ``qa_test.zip`` or a folder with it, or the one file
            of a translation task, in a zip or alone. None: the Slovene SuperGLUE that
            ``paretune data fetch superglue-sl`` fetched.

    Raises:
        DataError: a file is missing or cannot be read; what is wrong inside is a finding.
    """
    return check_opened(open_submission(submission), open_release(release))


def check_opened(given: Submission, wanted: Submission) -> CheckedSubmission:
    """The same of what has been read."""
    kind, answers, found = _read(given, wanted)
    return CheckedSubmission(kind, answers, (*check_packaging(given), *found))


def score(
    submission: Path,
    reference: Path,
    *,
    language: str = "sl",
    wordnet: Path | None = None,
    bert: ModelSpec | None = None,
    layer: int | None = None,
    online: bool = False,
) -> ScoredSubmission:
    """Score a submission as SloBench does; it may also be a folder or a file.

    Args:
        submission: answers or translations, complete.
        reference: the right ones, in the same form, with labels.
        language: of a translation, ``sl`` or ``en``.
        wordnet: a folder of WordNet's files, for METEOR.
        bert: the model of BERTScore; without it there is none.
        layer: whose output BERTScore compares; None: SloBench's for its models, else the last.
        online: BERTScore's model may be fetched.

    Raises:
        DataError: a file is missing, or the submission has errors.
        ModelError: BERTScore's model cannot be had, or has no such layer.
    """
    given, right = open_submission(submission), open_submission(reference)
    from paretune.contrib.slobench import submission_intervals as with_intervals

    if _kind(right) == "superglue":
        from paretune.contrib.slobench.official_scores import score_superglue

        answers, found = superglue_zip.read_answers(given, right)
        _refuse_errors(found)
        known = superglue_zip.read_references(right)
        return ScoredSubmission(
            "superglue",
            score_superglue(answers, known),
            intervals=with_intervals.superglue_intervals(answers, known),
        )
    from paretune.contrib.slobench.official_scores import score_segments
    from paretune.metrics import signatures
    from paretune.metrics.translation import METRICS, SACREBLEU_NAMES

    ours, found = translation_zip.read_translations(given, right)
    _refuse_errors(found)
    theirs = translation_zip.read_segments(right)
    parts = score_segments(ours, theirs, language, wordnet=wordnet)
    missing, data = dict(parts.missing), parts.data
    intervals = with_intervals.segment_intervals(parts, len(theirs))
    if "CHRF (avg)" in missing:
        missing["CHRF (corpus)"] = missing["CHRF (avg)"]
    if bert is None:
        missing["BERT score"] = "it needs a model. Name one: --bert-model MODEL."
    else:
        values, said = _score_bertscore(ours, theirs, bert, layer, online=online)
        intervals["BERT score"] = with_intervals.mean_interval(values)
        data = (*data, said)
    signed = {m.name: f"{SACREBLEU_NAMES[m.name]}|{signatures([m.name])[m.name]}" for m in METRICS}
    by_name = with_intervals.sacrebleu_intervals(ours, theirs)
    return ScoredSubmission(
        "translation",
        {name: one.estimate for name, one in intervals.items()},
        missing,
        data,
        {signed[metric.name]: metric.compute(theirs, ours, ()) for metric in METRICS},
        intervals,
        {signature: by_name[SACREBLEU_NAMES[name]] for name, signature in signed.items()},
    )


def open_release(asked: Path | None) -> Submission:
    """The release at a place as :func:`check` takes it, or in CLARIN's layout, a folder a task.

    Raises:
        DataError: there is none.
    """
    if asked is None:
        asked = data_home() / "superglue-sl"
        if not (asked / "qa_test.zip").is_file():
            raise DataError(
                "the release is not there.",
                where=str(asked),
                remedy="Run `paretune data fetch superglue-sl`, or name it: --release PATH.",
            )
    for inside in (asked / "qa_test.zip", asked / "qa_test"):
        if inside.exists():
            return open_submission(inside)
    tasks = {task: asked / task / "test.jsonl" for task in superglue_zip.FILES}
    if any(path.is_file() for path in tasks.values()):
        files = [
            File(superglue_zip.FILES[task], f"{task}/test.jsonl", path.read_bytes())
            for task, path in tasks.items()
            if path.is_file()
        ]
        return Submission(asked, False, tuple(files), ())
    return open_submission(asked)


def _read(given: Submission, wanted: Submission) -> tuple[Kind, dict[str, int], list[Finding]]:
    kind = _kind(wanted)
    if kind == "superglue":
        answers, found = superglue_zip.read_answers(given, wanted)
        return kind, {task: len(rows) for task, rows in answers.items()}, found
    text, found = translation_zip.read_translations(given, wanted)
    return kind, {"lines": len(text)}, found


def _kind(wanted: Submission) -> Kind:
    """SuperGLUE if any of its six files is there."""
    names = {file.name for file in wanted.files}
    return "translation" if names.isdisjoint(superglue_zip.FILES.values()) else "superglue"


def _refuse_errors(found: list[Finding]) -> None:
    raise_for_findings([finding for finding in found if finding.severity == "error"])


def _score_bertscore(
    ours: list[str], theirs: list[str], spec: ModelSpec, layer: int | None, *, online: bool
) -> tuple[list[float], str]:
    """BERTScore's F1 of each line, and what made it."""
    from paretune.metrics.bertscore import default_layer, score_pairs
    from paretune.models.headless_encoder import load_headless_encoder
    from paretune.models.sources.resolve import resolve_source

    source = resolve_source(spec, offline=not online)
    model, tokenizer = load_headless_encoder(source)
    layers = int(model.config.num_hidden_layers)
    layer = default_layer(source.name, layers) if layer is None else layer
    if layer > layers:
        raise ModelError(
            f"has no layer {layer}.",
            where=f"model {source.name}",
            remedy=f"Name one of 0 (the embeddings) to {layers}.",
        )
    pinned = f"@{source.revision}" if source.revision else f", files {source.weights_hash[:12]}"
    said = f"BERTScore F1 of {source.name}{pinned}, layer {layer}, no idf, not rescaled"
    return [float(value) for value in score_pairs(ours, theirs, model, tokenizer, layer)], said
