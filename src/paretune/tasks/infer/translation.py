"""Two languages: columns of a table, or two files of plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from paretune.data.language import CODES, language_code
from paretune.errors import DataError
from paretune.tasks.infer.draft import InferredTask, NamedColumns, start_draft
from paretune.tasks.readers import NESTED_COLUMN
from paretune.tasks.shapes import ID, Columns

_SIDES = (("source", "target"), ("src", "tgt"), ("src", "trg"))


def draft_parallel_files(file: Path) -> InferredTask | None:
    """A translation from a file (``corpus.sl``) and the only one of that name (``corpus.en``).

    None where the extension is not a language. Raises:
        DataError: no such file in the same folder, or several.
    """
    language = file.suffix[1:]
    if language not in CODES or not file.is_file():
        return None
    siblings = (p for p in file.parent.glob("*") if p.stem == file.stem and p != file)
    rest = sorted(p.suffix[1:] for p in siblings if p.suffix[1:] in CODES)
    if len(rest) != 1:
        raise DataError(
            f"looks like one side of parallel text, with {len(rest)} files in other languages in "
            "the same folder.",
            where=str(file),
            remedy=f"Put one in the same folder, named {file.stem}.LANGUAGE (such as "
            f"{file.stem}.en).",
        )
    return _start_translation(file.with_suffix(""), (language, *rest), "called by its language")


def draft_translation(file: Path, columns: Columns, named: NamedColumns) -> InferredTask | None:
    """A translation, by the columns that the user named, or two that are each other's.

    Languages that the columns do not name are called as the columns are.
    """
    if named.source and named.target:
        return _start_translation(file, named.columns, "as you said")
    if named != NamedColumns():
        return None
    columns = {n: c for n, c in columns.items() if not (ID.fullmatch(n) and c.is_unique)}
    reason = "named by its column"
    if list(columns) == [NESTED_COLUMN]:
        first, *rest = columns[NESTED_COLUMN].values
        if isinstance(first, dict) and len(first) == 2 and all(isinstance(v, dict) for v in rest):
            return _start_translation(file, [*map(str, first)], reason)
        return None
    # Columns of codes may be called ``id`` and ``no`` too.
    if len(columns) != 2 or not all(c.is_text and c.words >= 1.5 for c in columns.values()):
        return None
    source, target = columns
    if (source.casefold(), target.casefold()) in _SIDES:
        return _start_translation(file, (source, target), reason)
    codes = [
        [code for word in re.split(r"[\W_]+", name) if (code := language_code(word)) in CODES]
        for name in columns
    ]
    if codes[0] == codes[1] or any(len(of_column) != 1 for of_column in codes):
        return None
    languages = [code for (code,) in codes]
    draft = _start_translation(file, languages, reason)
    if languages != [source, target]:
        draft.task |= {"text": source, "label": target}
    return draft


def _start_translation(file: Path, languages: Sequence[str], reason: str) -> InferredTask:
    """A translation, from a table or from the stem of two files."""
    rows = "both languages" if file.suffix else "without the ending: one file a language"
    draft = start_draft(file, "translation", "two texts, called by their languages", rows)
    exchange = f"{reason}; exchange the two for the other direction, or say --from"
    draft.add("source_lang", languages[0], exchange)
    draft.add("target_lang", languages[1], reason)
    return draft


def set_source_language(task: Mapping[str, object], source_lang: str) -> dict[str, object]:
    """The task from ``source_lang`` into its other language.

    Raises:
        DataError: it has no such language.
    """
    languages = (str(task["source_lang"]), str(task["target_lang"]))
    if source_lang == languages[0]:
        return dict(task)
    if source_lang != languages[1]:
        raise DataError(
            f'does not hold the language "{source_lang}".',
            where=str(task["train"]),
            remedy=f"It holds {languages[0]} and {languages[1]}.",
        )
    exchanged = {"source_lang": "target_lang", "target_lang": "source_lang"}
    if "text" in task:
        exchanged |= {"text": "label", "label": "text"}
    return {key: task[exchanged.get(key, key)] for key in task}
