"""``paretune slobench check`` and ``score``: a submission before it is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from paretune.cli.json_output import to_json_value, write_json, write_result
from paretune.cli.options import JsonOptions, Online, with_option_groups
from paretune.errors import StudyError
from paretune.terminal import echo, sanitise_line

app = typer.Typer(no_args_is_help=True)

Submission = Annotated[
    Path,
    typer.Argument(metavar="SUBMISSION", help="A zip as SloBench takes it.", show_default=False),
]


@app.callback()
def slobench() -> None:
    """Check and score what is handed in to SloBench."""


@app.command()
@with_option_groups
def check(
    submission: Submission,
    json: JsonOptions,
    release: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="What it answers: qa_test.zip or a folder with it, or the file of a translation "
            "task. [default: the SuperGLUE that data fetch fetched]",
        ),
    ] = None,
) -> None:
    """Check a submission as SloBench would, before it is handed in.

    Every problem is shown with file, line and remedy; any error ends in exit code 3.
    """
    from paretune.errors import DataError
    from paretune.terminal.plural import pluralise
    from paretune_slovene.slobench.evaluate import check as check_submission

    result = check_submission(submission, release)
    errors, warnings = (result.counts[severity] for severity in ("error", "warning"))
    if json.as_json:
        fields = {**to_json_value(result), "errors": errors, "warnings": warnings}
        write_result("slobench check", fields, json.output)
        if errors:
            raise SystemExit(DataError.exit_code)
        return
    for finding in result.findings:
        echo(f"{finding.severity}: {sanitise_line(finding)}")
    sizes = ", ".join(f"{name} {count:,}" for name, count in result.answers.items())
    counts = f"{pluralise(errors, 'error')}, {pluralise(warnings, 'warning')}"
    echo(f"{result.kind} submission: {sizes or 'nothing'}. {counts}.")
    if errors:
        raise SystemExit(DataError.exit_code)
    echo("Ready to be handed in.")


@dataclass(frozen=True)
class BertScoreOptions:
    """The model of BERTScore; without one there is no BERTScore.

    Raises:
        StudyError: its commit or layer without the model.
    """

    bert_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="For BERTScore: a folder, hub or package:NAME."),
    ] = None
    bert_revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Its commit.")] = None
    bert_layer: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="[default: SloBench's for its models, or the last]"),
    ] = None

    def __post_init__(self) -> None:
        if self.bert_model is None and (self.bert_revision, self.bert_layer) != (None, None):
            raise StudyError("names no model.", where="BERTScore", remedy="Add --bert-model MODEL.")


@app.command()
@with_option_groups
def score(
    submission: Submission,
    reference: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="The right answers, in the same form.", show_default=False
        ),
    ],
    bert: BertScoreOptions,
    json: JsonOptions,
    language: Annotated[
        Literal["sl", "en"] | None,
        typer.Option(help="Of a translation: sl or en. [default: sl]", metavar="LANGUAGE"),
    ] = None,
    wordnet: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="WordNet 3.0's files, for METEOR. [default: found]"),
    ] = None,
    online: Online = False,
) -> None:
    """Score a submission as SloBench does.

    What cannot be computed says why and how to get what it needs; nothing is fetched.
    """
    from paretune.reporting.text.formatting import format_examples, format_interval
    from paretune.study import ModelSpec
    from paretune_slovene.slobench.evaluate import score as score_submission

    model = None
    if bert.bert_model:
        model = ModelSpec(name=bert.bert_model, revision=bert.bert_revision)
    result = score_submission(
        submission,
        reference,
        language=language,
        wordnet=wordnet,
        bert=model,
        layer=bert.bert_layer,
        online=online,
    )
    if json.as_json:
        # TER has no highest value, so of one line its interval has no upper end: null.
        write_json(to_json_value(result), json.output)
        return
    echo("As SloBench computes it (0 to 1), with 95 % over the examples of this one submission:")
    for name in result.scores:
        interval = result.intervals[name]
        text = f"{format_interval(interval, 4)}  {format_examples(interval)}"
        echo(f"  {name.ljust(18)}{text}")
    for name, why in result.missing.items():
        echo(f"  {name.ljust(18)}not computed: {sanitise_line(why)}")
    for line in result.data:
        echo(f"  with {sanitise_line(line)}")
    if result.sacrebleu:
        echo("By sacreBLEU (0 to 100):")
    for signature, interval in result.sacrebleu_intervals.items():
        name, _, rest = signature.partition("|")
        text = f"{format_interval(interval, 2)}  {format_examples(interval)}"
        echo(f"  {name.ljust(18)}{text}  {rest}")
    echo("One set of answers: what another seed would change is in no interval.")
