"""``paretune new``: a commented study file, from a data file or from a shipped study."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, with_option_groups
from paretune.terminal import echo
from paretune.verbs.study_draft import DEFAULT_DECODER, DEFAULT_MODEL, draft_study
from paretune.verbs.study_input import write_output

if TYPE_CHECKING:
    from paretune.data.infer import NamedColumns


@dataclass(frozen=True)
class ColumnOptions:
    """What of the data needs no guess: columns, and which rows are the test."""

    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The label's column. [default: guessed]"),
    ] = None
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The text's column. [default: guessed]")
    ] = None
    pair: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The second text's column, if any.")
    ] = None
    source_column: Annotated[
        str | None,
        typer.Option("--source", metavar="COLUMN", help="Of a translation: what to translate."),
    ] = None
    target_column: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="Of a translation: the translation."),
    ] = None
    test: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The test file; none: a part of the rows. [default: test.csv or the like in the "
            "same folder, if columns and labels fit]",
        ),
    ] = None
    drop_unlabelled: Annotated[
        bool, typer.Option("--drop-unlabelled", help="Leave out rows that have no label.")
    ] = False

    def named_columns(self) -> NamedColumns:
        """The columns that the user named; StudyError where they do not go together."""
        from paretune.data.infer import NamedColumns

        return NamedColumns(
            self.label, self.text, self.pair, self.source_column, self.target_column
        )


@with_option_groups
def new(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data file (csv, tsv, jsonl, parquet), or a shipped study's name.",
            show_default=False,
        ),
    ],
    columns: ColumnOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to. [default: NAME.yaml]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"A hub name, a folder, or package:NAME. [default: {DEFAULT_MODEL}; of a "
            f"translation an OPUS-MT model of the hub, of instructions {DEFAULT_DECODER}]",
        ),
    ] = None,
    source_lang: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="LANG", help="The language to translate from. [default: the first]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented study file for a data file.

    Kind, columns and labels are guessed from a data file, each with its reason. Parallel text is a
    table with two columns named after their languages (sl, en), or one of two files (corpus.sl,
    with corpus.en in the same folder). Instructions have the columns of TRL (prompt, completion;
    messages), ShareGPT (conversations) or Alpaca (instruction, input, output). Where a guess is
    wrong or impossible, name the column.
    """
    from paretune.errors import StudyError
    from paretune.verbs.study_input import shipped_studies

    path = Path(source)
    doubts: tuple[str, ...] = ()
    named = columns.named_columns()
    if not path.exists() and source in shipped_studies():
        if columns != ColumnOptions() or model is not None or source_lang is not None:
            raise StudyError(
                "is a shipped study, whose columns and model are settled.",
                where=source,
                remedy="Leave out the options, and change the file that is written.",
            )
        name, content = source, shipped_studies()[source].read_text(encoding="utf-8")
    elif not path.exists() and not path.suffix:
        raise StudyError(
            "neither a data file nor a shipped study.",
            where=source,
            remedy=f"Shipped with paretune: {', '.join(shipped_studies())}.",
        )
    else:
        draft = draft_study(
            path,
            output,
            model,
            named,
            source_lang,
            test=columns.test,
            drop_unlabelled=columns.drop_unlabelled,
        )
        name, content, doubts = draft.name, draft.text, draft.doubts
    target = output or Path(f"{name}.yaml")
    write_output(target, content, overwrite=False)
    if as_json:
        write_result("new", {"file": target, "doubts": doubts})
        return
    echo(f"Written: {target}")
    for doubt in doubts:
        echo(f"  {doubt}")
    echo(f"Next: paretune check {shlex.quote(str(target))}")
