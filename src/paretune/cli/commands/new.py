"""``paretune new``: a commented study file, from a data file or from a shipped study."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.option_groups import with_option_groups
from paretune.cli.options import AsJson
from paretune.cli.output_files import write_output
from paretune.cli.study_template import DEFAULT_MODEL, quote_yaml, render_study_file
from paretune.terminal import echo, sanitise_line

if TYPE_CHECKING:
    from paretune.data.schema_inference.infer_task import NamedColumns


@dataclass(frozen=True)
class ColumnOptions:
    """Columns that need no guess."""

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

    def named_columns(self) -> NamedColumns:
        """The columns that the user named.

        Raises:
            StudyError: one side of a translation is named without the other.
        """
        from paretune.data.schema_inference.infer_task import NamedColumns
        from paretune.errors import StudyError

        if (self.source_column is None) != (self.target_column is None):
            raise StudyError("--source and --target go together.", remedy="Name both columns.")
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
            "translation an OPUS-MT model of the hub]",
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
    """Write a commented study file, to read, change and run.

    Kind, columns and labels are guessed from a data file, each with its reason. Parallel text is a
    table with two columns named after their languages (sl, en), or one of two files (corpus.sl,
    with corpus.en in the same folder). Where a guess is wrong or impossible, name the column.
    """
    from paretune.errors import StudyError
    from paretune.verbs.study_input import shipped_studies

    path = Path(source)
    doubts: list[str] = []
    if not path.exists() and source in shipped_studies():
        name, content = source, shipped_studies()[source].read_text(encoding="utf-8")
    elif not path.exists() and not path.suffix:
        raise StudyError(
            "neither a data file nor a shipped study.",
            where=source,
            remedy=f"Shipped with paretune: {', '.join(shipped_studies())}.",
        )
    else:
        named = columns.named_columns()
        name, content, doubts = _draft_study(path, output, model, named, source_lang)
    target = output or Path(f"{name}.yaml")
    write_output(target, content, overwrite=False)
    if as_json:
        write_result("new", {"file": target, "doubts": doubts})
        return
    echo(f"Written: {target}")
    for doubt in doubts:
        echo(f"  {doubt}")
    echo(f"Next: paretune check {shlex.quote(str(target))}")


def _draft_study(
    path: Path, output: Path | None, model: str | None, named: NamedColumns, source_lang: str | None
) -> tuple[str, str, list[str]]:
    """The study's name and text, and the guesses to look at."""
    from paretune import objectives
    from paretune.data.schema_inference.infer_parallel import set_source_language
    from paretune.data.schema_inference.infer_task import infer_task
    from paretune.errors import StudyError
    from paretune.study import Study

    inferred = infer_task(path, named)
    folder = (output or Path("x")).absolute().parent
    translates = objectives.get(str(inferred.task["kind"])).between_languages
    if source_lang is not None and not translates:
        raise StudyError(
            "is not parallel text, so it has no language to translate from.",
            where=str(path),
            remedy="Leave out --from.",
        )
    task = set_source_language(inferred.task, source_lang) if source_lang else dict(inferred.task)
    for key in ("train", "test"):
        if key in task:
            task[key] = _relative_path(Path(str(task[key])), folder)
    # A column name may hold line breaks; in a comment it must stay on its line.
    reasons = {key: sanitise_line(reason) for key, reason in inferred.reasons.items()}
    lines = [f"  - {_format_item('name', task.pop('name'))}   # {reasons['name']}"]
    for key, value in task.items():
        reason = reasons.get(key, "")
        lines.append(f"    {_format_item(key, value)}" + (f"   # {reason}" if reason else ""))
    if "features" in task:
        placeholders = ", ".join(f"{{{c}}}" for c in inferred.task["features"])  # type: ignore[attr-defined]
        lines.append(
            f"    # template: '...'   # a sentence of your own with "
            f"{sanitise_line(placeholders)} in it"
        )
    if "test" not in task:
        lines.append("    # test: FILE   # no test file found: a seeded fifth of train is used")
    name = str(inferred.task["name"])
    languages = (str(task["source_lang"]), str(task["target_lang"])) if translates else None
    text = render_study_file(name, lines, str(task["kind"]), languages, model)
    Study.parse(_parse_yaml(text), base=folder)
    doubts = [
        sanitise_line(f"{k}: {inferred.task[k]}: {inferred.reasons[k]}") for k in inferred.uncertain
    ]
    return name, text, doubts


def _parse_yaml(text: str) -> dict[str, object]:
    from ruamel.yaml import YAML

    values: dict[str, object] = YAML(typ="safe", pure=True).load(text)
    return values


def _relative_path(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _format_item(key: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{key}: [{', '.join(quote_yaml(v) for v in value)}]"
    return f"{key}: {quote_yaml(value)}"
