"""Parallel text: a table, TMX, or two files of plain text."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from paretune.data.language import language_code
from paretune.data.rows import EXTENSIONS, Row, list_members, read_bytes, read_rows, read_text
from paretune.errors import DataError
from paretune.files import expand_home

Pair = tuple[str, str]
"""Two languages, files or columns: that of the source and that of the target."""
_FORMATTING = ("bpt", "ept", "ph", "it", "ut")
"""Elements of TMX that hold no text."""
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def read_pairs(
    path: str, target: str | None, languages: Pair, columns: Pair
) -> tuple[list[Row], str]:
    """The rows of a corpus, and what the report calls its files.

    Args:
        path: a table, which keeps its own columns; a TMX file; a file of plain text with
            ``target``; or what :func:`resolve_pair_files` resolves.
        target: the second file.
        columns: of the rows of what is no table.

    Raises:
        DataError: nothing of that kind is there, or it cannot be read.
    """
    if target is None and path.lower().endswith(".tmx"):
        return read_units(path, languages, columns), Path(path).name
    files = resolve_pair_files(path, target, languages)
    if files is None:
        return read_rows(path), Path(path).name
    return read_line_pairs(*files, columns), " and ".join(Path(file).name for file in files)


def resolve_pair_files(train: str, target: str | None, languages: Pair) -> Pair | None:
    """The two files that a study names, or None where it names a table.

    ``target`` names the second file itself. Without it, a ``train`` without a table's ending is a
    stem to which the languages are appended (``corpus`` for ``corpus.sl`` and ``corpus.en``, or
    ``data.zip::corpus``), and a zip without a member may hold one such pair, as OPUS publishes it.

    Raises:
        DataError: a table was given a second file, or a zip holds several pairs, or none.
    """
    outer, _, member = train.partition("::")
    zipped = PurePosixPath(outer).suffix.lower() == ".zip"
    table = PurePosixPath(member if zipped else outer).suffix.lower() in EXTENSIONS
    if target is not None:
        if table:
            raise DataError(
                "is a table, which holds both languages.",
                where=train,
                remedy="Remove the second file, or name two files of plain text.",
            )
        return train, target
    if table:
        return None
    source_end, target_end = (f".{language}" for language in languages)
    if zipped and not member:
        inside = sorted(list_members(expand_home(outer)))
        if any(PurePosixPath(file).suffix.lower() in EXTENSIONS for file in inside):
            return None
        stems = [file.removesuffix(source_end) for file in inside if file.endswith(source_end)]
        stems = [stem for stem in stems if stem + target_end in inside]
        if len(stems) != 1:
            raise DataError(
                f"holds {'several pairs' if stems else 'no pair'} of files in {languages[0]} and "
                f"{languages[1]}.",
                where=outer,
                remedy=f"It holds {', '.join(inside) or 'nothing'}: name one as "
                f"{Path(outer).name}::NAME, without the language.",
            )
        member = stems[0]
    stem = f"{outer}::{member}" if member else outer
    source, target = stem + source_end, stem + target_end
    if not zipped and not any(expand_home(file).is_file() for file in (source, target)):
        raise DataError(
            f"is not a table ({', '.join(EXTENSIONS)}), and there are no {Path(source).name} and "
            f"{Path(target).name}.",
            where=stem,
            remedy="Name a table, the two files without their languages' endings, or both files "
            "as train and train_target (test and test_target).",
        )
    return source, target


def read_line_pairs(source: str, target: str, columns: Pair) -> list[Row]:
    """Rows with two columns, one for each line; the place is the line of the first file.

    Raises:
        DataError: a file is missing, empty or not UTF-8, or their lines are not equally many.
    """
    sides, names = [], []
    for path in (source, target):
        text, name = read_text(path)
        if not text:
            raise DataError("is empty.", where=name, remedy="Give a file with at least one line.")
        lines = text.removesuffix("\n").split("\n")
        sides.append([line.removesuffix("\r") for line in lines])
        names.append(name)
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"has {len(sides[0])} lines, {names[1]} has {len(sides[1])}: they do not belong "
            "together line by line.",
            where=names[0],
            remedy="Align them again; an empty line in one must be there in the other too.",
        )
    return [
        Row(dict(zip(columns, pair, strict=True)), f"{names[0]} line {number}")
        for number, pair in enumerate(zip(*sides, strict=True), 1)
    ]


def read_units(path: str, languages: Pair, columns: Pair) -> list[Row]:
    """Rows of the units that have both languages, counted from 1 over all units.

    ``sl`` finds ``sl-SI`` and ``SLV`` too. Raises:
        DataError: missing, not well-formed, with entity definitions, or without such units.
    """
    data, name = read_bytes(path)
    present: set[str] = set()
    rows = []
    try:
        # A document type may define entities that grow without bound when they are put in; without
        # them, and since outside files are never read, the standard library's parser is safe.
        if b"<!ENTITY" in data:
            raise ValueError("it defines entities, which are not read")
        elements = ElementTree.iterparse(io.BytesIO(data), events=("end",))  # noqa: S314
        units = (element for _, element in elements if element.tag == "tu")
        for number, unit in enumerate(units, 1):
            texts = {}
            for variant in unit.iter("tuv"):
                language = language_code(variant.get(_LANG) or variant.get("lang") or "")
                if (segment := variant.find("seg")) is not None:
                    texts[language] = " ".join(_element_text(segment).split())
            present |= texts.keys()
            source, target = (texts.get(language_code(language)) for language in languages)
            if source is not None and target is not None:
                rows.append(Row({columns[0]: source, columns[1]: target}, f"{name} unit {number}"))
            unit.clear()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(
            f"is not well-formed TMX ({error}).", where=name, remedy="Export or copy it again."
        ) from None
    if not rows:
        raise DataError(
            f"has no unit in {languages[0]} and {languages[1]}.",
            where=name,
            remedy=f"Its languages are {', '.join(sorted(present)) or 'none'}.",
        )
    return rows


def _element_text(element: ElementTree.Element) -> str:
    inside = (element.text or "") + "".join(_element_text(e) + (e.tail or "") for e in element)
    return "" if element.tag in _FORMATTING else inside
