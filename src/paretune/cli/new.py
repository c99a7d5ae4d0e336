"""``paretune new``: a commented study file, from a data file or from a shipped study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.cli.json_output import give
from paretune.cli.options import AsJson
from paretune.cli.study_text import DEFAULT_MODEL, quoted, study_text
from paretune.terminal import plain, say

if TYPE_CHECKING:
    from paretune.data.sniff import Named


def new(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data file (csv, tsv, jsonl, parquet), or a shipped study's name.",
            show_default=False,
        ),
    ],
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
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The label's column. [default: guessed]"),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The text's column. [default: guessed]")
    ] = None,
    pair: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The second text's column, if any.")
    ] = None,
    source_column: Annotated[
        str | None,
        typer.Option("--source", metavar="COLUMN", help="Of a translation: what to translate."),
    ] = None,
    target_column: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="Of a translation: the translation."),
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

    From a data file, kind, columns and labels are guessed, and each guess says why. Parallel
    text is a table with two columns called by their languages (sl, en), or one of two files
    (corpus.sl, with corpus.en beside it). Where a guess is wrong or cannot be made, name the
    column.
    """
    from paretune.data.sniff import Named
    from paretune.errors import StudyError
    from paretune.verbs.places import shipped

    path = Path(source)
    doubts: list[str] = []
    if not path.exists() and source in shipped():
        name, content = source, shipped()[source].read_text(encoding="utf-8")
    elif not path.exists() and not path.suffix:
        raise StudyError(
            "neither a data file nor a shipped study.",
            where=source,
            remedy=f"Shipped with paretune: {', '.join(shipped())}.",
        )
    else:
        if (source_column is None) != (target_column is None):
            raise StudyError("--source and --target go together.", remedy="Name both columns.")
        named = Named(label, text, pair, source_column, target_column)
        name, content, doubts = _from_data(path, output, model, named, source_lang)
    target = output or Path(f"{name}.yaml")
    try:
        with target.open("x", encoding="utf-8") as handle:
            handle.write(content)
    except FileExistsError:
        raise StudyError(
            "is already there, and is left alone.",
            where=str(target),
            remedy="Name another file with --output.",
        ) from None
    except OSError as error:
        raise StudyError(
            f"cannot be written ({error.strerror}).",
            where=str(target),
            remedy="Name another file with --output.",
        ) from None
    if as_json:
        give("new", {"file": target, "doubts": doubts})
        return
    say(f"Written: {target}")
    for doubt in doubts:
        say(f"  {doubt}")
    say(f"Next: paretune check {target}")


def _from_data(
    path: Path, output: Path | None, model: str | None, named: Named, source_lang: str | None
) -> tuple[str, str, list[str]]:
    """The study's name and text, and what was guessed with doubt."""
    from paretune.data.sniff import sniff
    from paretune.data.sniff_pairs import turned
    from paretune.errors import StudyError
    from paretune.study import Study

    found = sniff(path, named)
    folder = (output or Path("x")).absolute().parent
    translates = found.task["kind"] == "translation"
    if source_lang is not None and not translates:
        raise StudyError(
            "is no parallel text, so there is nothing to translate from.",
            where=str(path),
            remedy="Leave out --from.",
        )
    task = turned(found.task, source_lang) if source_lang else dict(found.task)
    for key in ("train", "test"):
        if key in task:
            task[key] = _beside(Path(str(task[key])), folder)
    # A column's name may hold anything; in a comment it must stay on its line.
    reasons = {key: plain(reason) for key, reason in found.reasons.items()}
    lines = [f"  - {_item('name', task.pop('name'))}   # {reasons['name']}"]
    for key, value in task.items():
        reason = reasons.get(key, "")
        lines.append(f"    {_item(key, value)}" + (f"   # {reason}" if reason else ""))
    if "features" in task:
        shown = ", ".join(f"{{{c}}}" for c in found.task["features"])  # type: ignore[attr-defined]
        lines.append(f"    # template: '...'   # a sentence of your own with {plain(shown)} in it")
    if "test" not in task:
        lines.append("    # test: FILE   # none found beside: a seeded fifth of train is used")
    name = str(found.task["name"])
    languages = (str(task["source_lang"]), str(task["target_lang"])) if translates else None
    text = study_text(name, lines, str(task["kind"]), languages, model)
    Study.parse(_parsed(text), base=folder)
    doubts = [plain(f"{k}: {found.task[k]}: {found.reasons[k]}") for k in found.doubts]
    return name, text, doubts


def _parsed(text: str) -> dict[str, object]:
    from ruamel.yaml import YAML

    loaded: dict[str, object] = YAML(typ="safe", pure=True).load(text)
    return loaded


def _beside(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _item(key: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{key}: [{', '.join(quoted(v) for v in value)}]"
    return f"{key}: {quoted(value)}"
