"""``paretune slobench check`` and ``score``: a submission before it is handed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from paretune.cli.command import add_verb
from paretune.data.finding import Finding
from paretune.errors import DataError, ModelError, StudyError, spell_option
from paretune.study import ModelSpec
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.options import Model, Online
from paretune.verbs.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.analysis.statistics.intervals import Interval
    from paretune_slovene.slobench.kinds import Kind


@dataclass(frozen=True, repr=False)
class CheckedSubmission(Result):
    """A checked submission and its faults.

    Attributes:
        kind: ``superglue``, ``translation``, ``ner`` or ``pos``.
        answers: number of answers by file, or of lines or of words with a tag.
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

    A submission is one set of answers, so the variance over seeds is in no interval.

    Attributes:
        kind: as of :class:`CheckedSubmission`.
        intervals: official scores by SloBench's names, in 0..1, with 95 % over the examples.
        missing: the reason for each score that could not be computed.
        data: what scores were computed from, as phrases.
        sacrebleu_intervals: sacreBLEU's scores by signature, in 0..100; of translations only.
    """

    json_fields: ClassVar = (
        *("kind", "scores", "missing", "data", "sacrebleu", "intervals", "sacrebleu_intervals"),
    )

    kind: Kind
    intervals: dict[str, Interval]
    missing: dict[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    sacrebleu_intervals: dict[str, Interval] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """The official scores without their intervals."""
        return {name: interval.estimate for name, interval in self.intervals.items()}

    @property
    def sacrebleu(self) -> dict[str, float]:
        """SacreBLEU's scores without their intervals."""
        return {name: interval.estimate for name, interval in self.sacrebleu_intervals.items()}

    def describe(self) -> Iterable[RenderableType]:
        """Each score with its interval, or why it cannot be computed."""
        from paretune.reporting.text.formatting import format_examples, format_interval

        yield "As SloBench computes it (0 to 1), with 95 % over this one submission's examples:"
        for name, interval in self.intervals.items():
            yield f"  {name.ljust(18)}{format_interval(interval, 4)}  {format_examples(interval)}"
        for name, why in self.missing.items():
            yield f"  {name.ljust(18)}not computed: {sanitise_line(why)}"
        yield from (f"  with {sanitise_line(line)}" for line in self.data)
        if self.sacrebleu_intervals:
            yield "By sacreBLEU (0 to 100):"
        for signature, interval in self.sacrebleu_intervals.items():
            name, _, rest = signature.partition("|")
            text = f"{format_interval(interval, 2)}  {format_examples(interval)}"
            yield f"  {name.ljust(18)}{text}  {rest}"
        yield "One set of answers: what another seed would change is in no interval."


def check(
    submission: Annotated[Path, typer.Argument()],
    *,
    release: Annotated[Path | None, typer.Option(metavar="PATH")] = None,
) -> CheckedSubmission:
    """Check a submission as SloBench would, before it is handed in.

    Every problem is shown with file, line and remedy; any error ends in exit code 3.

    Args:
        submission: A zip as SloBench takes it.
        release: What it answers: qa_test.zip or a folder with it, or what SloBench wants translated
            or tagged. [default: the SuperGLUE that data fetch fetched]

    Raises:
        DataError: a file is missing or cannot be read; faults inside are findings.
    """
    from paretune_slovene.slobench.kinds import read_submission
    from paretune_slovene.slobench.submission import open_submission
    from paretune_slovene.slobench.superglue_zip import open_release

    reading = read_submission(open_submission(submission), open_release(release))
    return CheckedSubmission(reading.kind, reading.counts, reading.findings)


def score(
    submission: Annotated[Path, typer.Argument()],
    *,
    reference: Annotated[Path, typer.Option(metavar="PATH")],
    bert_model: Model | None = None,
    bert_revision: Annotated[str | None, typer.Option(metavar="COMMIT")] = None,
    bert_layer: Annotated[int | None, typer.Option(metavar="N", min=0)] = None,
    language: Annotated[Literal["sl", "en"] | None, typer.Option(metavar="LANGUAGE")] = None,
    wordnet: Annotated[Path | None, typer.Option(metavar="FOLDER")] = None,
    online: Online = False,
) -> ScoredSubmission:
    """Score a submission as SloBench does.

    What cannot be computed says why and how to get what it needs; nothing is fetched.

    Args:
        submission: A zip as SloBench takes it; a folder or a file too.
        reference: The right answers, in the same form.
        bert_model: For BERTScore: a folder, hub or package:NAME.
        bert_revision: Its commit.
        bert_layer: [default: SloBench's for its models, or the last]
        language: Of a translation: sl or en. [default: sl]
        wordnet: WordNet 3.0's files, for METEOR. [default: found]

    Raises:
        DataError: a file is missing, or the submission has errors.
        StudyError: what only translations are scored with, for others; or the commit or layer of
            BERTScore's model without the model.
        ModelError: BERTScore's model is not available, or has no such layer.
    """
    from paretune_slovene.slobench import superglue_zip, tag_submission
    from paretune_slovene.slobench.kinds import find_kind, read_submission
    from paretune_slovene.slobench.official_scores import score_superglue
    from paretune_slovene.slobench.submission import open_submission, raise_for_errors
    from paretune_slovene.slobench.translation_submission import read_segments

    if bert_model is None and (bert_revision, bert_layer) != (None, None):
        raise StudyError(
            "names no model.",
            where="BERTScore",
            remedy=f"Add {spell_option('bert_model', 'MODEL')}.",
        )
    opened, references = open_submission(submission), open_submission(reference)
    kind = find_kind(references)
    if kind != "translation" and any((language, wordnet, bert_model)):
        raise StudyError(
            "is no translation, which alone has a language, METEOR and BERTScore.",
            where=str(reference),
            remedy=f"Leave out {spell_option('language')}, {spell_option('wordnet')} and "
            f"{spell_option('bert_model')}.",
        )
    reading = read_submission(opened, references)
    raise_for_errors([finding for finding in reading.findings if finding.code != "not-a-zip"])
    if kind == "superglue":
        right = superglue_zip.read_references(references)
        return ScoredSubmission(kind, score_superglue(reading.answers, right))
    if kind != "translation":
        tags, faults = tag_submission.read_tags(references, references)
        raise_for_errors(faults)
        return ScoredSubmission(kind, tag_submission.score_tags(reading.answers, tags))
    bert = ModelSpec(name=bert_model, revision=bert_revision) if bert_model else None
    translated = (reading.answers, read_segments(references), language or "sl", wordnet)
    return _score_translation(*translated, bert, bert_layer, online=online)


def _score_translation(
    lines: list[str],
    references: list[str],
    language: str,
    wordnet: Path | None,
    bert: ModelSpec | None,
    layer: int | None,
    *,
    online: bool,
) -> ScoredSubmission:
    import numpy as np

    from paretune.analysis.statistics.intervals import confidence_interval
    from paretune.analysis.statistics.scores import score_means, score_runs
    from paretune.metrics import signatures
    from paretune.metrics.translation import SACREBLEU_NAMES
    from paretune_slovene.slobench.official_scores import make_text_predictions, score_translations

    texts = [make_text_predictions(lines, references)]
    scores = score_translations(texts, language, wordnet=wordnet)
    intervals, missing, data = dict(scores.intervals), dict(scores.missing), scores.data
    if "CHRF (avg)" in intervals:  # SloBench shows one score under two names
        intervals["CHRF (corpus)"] = intervals["CHRF (avg)"]
    else:
        missing["CHRF (corpus)"] = missing["CHRF (avg)"]
    if bert is None:
        missing["BERT score"] = (
            f"it needs a model. Name one: {spell_option('bert_model', 'MODEL')}."
        )
    else:
        values, source = _compute_bertscore(lines, references, bert, layer, online=online)
        intervals["BERT score"] = confidence_interval(score_means(texts, [np.array(values)]))
        data = (*data, source)
    by_sacrebleu = {
        f"{SACREBLEU_NAMES[name]}|{signature}": confidence_interval(score_runs(texts, name))
        for name, signature in signatures(list(SACREBLEU_NAMES)).items()
    }
    return ScoredSubmission("translation", intervals, missing, data, by_sacrebleu)


def _compute_bertscore(
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
    return [*map(float, score_pairs(lines, references, model, tokenizer, layer))], phrase


app = typer.Typer(no_args_is_help=True, help="Check and score what is handed in to SloBench.")
add_verb(app, "slobench check", check)
add_verb(app, "slobench score", score)
