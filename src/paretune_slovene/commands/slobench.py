"""``paretune slobench check`` and ``score``: a submission before it is handed in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from paretune.cli.command import add_verb
from paretune.errors import StudyError
from paretune.study import ModelSpec
from paretune.verbs.options import Model, Online
from paretune.verbs.result import Result


def check(
    submission: Annotated[Path, typer.Argument()],
    *,
    release: Annotated[Path | None, typer.Option(metavar="PATH")] = None,
) -> Result:
    """Check a submission as SloBench would, before it is handed in.

    Every problem is shown with file, line and remedy; any error ends in exit code 3.

    Args:
        submission: A zip as SloBench takes it.
        release: What it answers: qa_test.zip or a folder with it, or the file of a translation
            task. [default: the SuperGLUE that data fetch fetched]
    """
    from paretune_slovene.slobench import evaluate

    return evaluate.check(submission, release)


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
) -> Result:
    """Score a submission as SloBench does.

    What cannot be computed says why and how to get what it needs; nothing is fetched.

    Args:
        submission: A zip as SloBench takes it.
        reference: The right answers, in the same form.
        bert_model: For BERTScore: a folder, hub or package:NAME.
        bert_revision: Its commit.
        bert_layer: [default: SloBench's for its models, or the last]
        language: Of a translation: sl or en. [default: sl]
        wordnet: WordNet 3.0's files, for METEOR. [default: found]

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
