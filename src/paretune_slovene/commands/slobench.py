"""``paretune slobench check`` and ``score``: a submission before it is handed in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from paretune.cli.command import add_verb
from paretune.errors import StudyError
from paretune.study import ModelSpec
from paretune.verbs.options import Online
from paretune.verbs.result import Result

Submission = Annotated[
    Path,
    typer.Argument(metavar="SUBMISSION", help="A zip as SloBench takes it.", show_default=False),
]


def check(
    submission: Submission,
    *,
    release: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="What it answers: qa_test.zip or a folder with it, or the file of a translation "
            "task. [default: the SuperGLUE that data fetch fetched]",
        ),
    ] = None,
) -> Result:
    """Check a submission as SloBench would, before it is handed in.

    Every problem is shown with file, line and remedy; any error ends in exit code 3.
    """
    from paretune_slovene.slobench import evaluate

    return evaluate.check(submission, release)


def score(
    submission: Submission,
    *,
    reference: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="The right answers, in the same form.", show_default=False
        ),
    ],
    bert_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="For BERTScore: a folder, hub or package:NAME."),
    ] = None,
    bert_revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Its commit.")] = None,
    bert_layer: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="[default: SloBench's for its models, or the last]"),
    ] = None,
    language: Annotated[
        Literal["sl", "en"] | None,
        typer.Option(help="Of a translation: sl or en. [default: sl]", metavar="LANGUAGE"),
    ] = None,
    wordnet: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="WordNet 3.0's files, for METEOR. [default: found]"),
    ] = None,
    online: Online = False,
) -> Result:
    """Score a submission as SloBench does.

    What cannot be computed says why and how to get what it needs; nothing is fetched.

    Raises:
        StudyError: the commit or layer of BERTScore's model without the model.
    """
    from paretune_slovene.slobench import evaluate

    if bert_model is None and (bert_revision, bert_layer) != (None, None):
        raise StudyError("names no model.", where="BERTScore", remedy="Add --bert-model MODEL.")
    return evaluate.score(
        submission,
        reference,
        language=language,
        wordnet=wordnet,
        bert=ModelSpec(name=bert_model, revision=bert_revision) if bert_model else None,
        layer=bert_layer,
        online=online,
    )


app = typer.Typer(no_args_is_help=True, help="Check and score what is handed in to SloBench.")
add_verb(app, "slobench check", check)
add_verb(app, "slobench score", score)
