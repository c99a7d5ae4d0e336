"""``paretune slobench check`` and ``score``: a submission before it is handed in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from paretune.cli.json_output import check_json_output, to_json_value, write_json, write_result
from paretune.cli.options import AsJson, JsonFile, Online
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
def check(
    submission: Submission,
    release: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="What it answers: qa_test.zip or a folder with it, or the file of a translation "
            "task. [default: the SuperGLUE that data fetch fetched]",
        ),
    ] = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Look at a submission as SloBench would, before it does.

    Every fault is named with file, line and remedy; any error ends in exit code 3.
    """
    from paretune.contrib.slobench.evaluate import check as look
    from paretune.errors import DataError
    from paretune.reporting.text.formatting import pluralise

    check_json_output(as_json, output)
    checked = look(submission, release)
    if as_json:
        errors, warnings = (checked.counts[severity] for severity in ("error", "warning"))
        told = {**to_json_value(checked), "errors": errors, "warnings": warnings}
        write_result("slobench check", told, output)
        if errors:
            raise SystemExit(DataError.exit_code)
        return
    for finding in checked.findings:
        echo(f"{finding.severity}: {sanitise_line(finding)}")
    sizes = ", ".join(f"{name} {count:,}" for name, count in checked.answers.items())
    errors, warnings = (checked.counts[severity] for severity in ("error", "warning"))
    said = f"{pluralise(errors, 'error')}, {pluralise(warnings, 'warning')}"
    echo(f"{checked.kind} submission: {sizes or 'nothing'}. {said}.")
    if errors:
        raise SystemExit(DataError.exit_code)
    echo("Ready to be handed in.")


@app.command()
def score(
    submission: Submission,
    reference: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="The right answers, in the same form.", show_default=False
        ),
    ],
    language: Annotated[
        Literal["sl", "en"], typer.Option(help="Of a translation: sl or en.", metavar="LANGUAGE")
    ] = "sl",
    wordnet: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="WordNet 3.0's files, for METEOR. [default: found]"),
    ] = None,
    bert_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="For BERTScore: a folder, hub or package:NAME."),
    ] = None,
    bert_revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Its commit.")] = None,
    bert_layer: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="[default: SloBench's for its models, or the last]"),
    ] = None,
    online: Online = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Score a submission as SloBench does.

    What cannot be computed says why and how to get what it needs; nothing is fetched.
    """
    from paretune.contrib.slobench.evaluate import score as compute
    from paretune.reporting.text.formatting import format_examples, format_interval
    from paretune.study import ModelSpec

    bert = ModelSpec(name=bert_model, revision=bert_revision) if bert_model else None
    check_json_output(as_json, output)
    got = compute(
        submission, reference, language=language, wordnet=wordnet, bert=bert, layer=bert_layer,
        online=online,
    )  # fmt: skip
    if as_json:
        # TER has no highest value, so of one line its interval has no upper end: null.
        write_json(to_json_value(got), output)
        return
    echo("As SloBench computes it (0 to 1), with 95 % over the examples of this one submission:")
    for name in got.scores:
        found = got.intervals[name]
        shown = f"{format_interval(found, 4)}  {format_examples(found)}"
        echo(f"  {name.ljust(18)}{shown}")
    for name, why in got.missing.items():
        echo(f"  {name.ljust(18)}not computed: {sanitise_line(why)}")
    for line in got.data:
        echo(f"  with {sanitise_line(line)}")
    if got.sacrebleu:
        echo("By sacreBLEU (0 to 100):")
    for signature, found in got.sacrebleu_intervals.items():
        name, _, rest = signature.partition("|")
        shown = f"{format_interval(found, 2)}  {format_examples(found)}"
        echo(f"  {name.ljust(18)}{shown}  {rest}")
    echo("One set of answers: what another seed would change is in no interval.")
