"""Recognise parallel data for `paretune new`: two columns or files named after languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from paretune.data.checks.language import SCRIPTS, language_code
from paretune.errors import DataError

_SIDES = (("source", "target"), ("src", "tgt"), ("src", "trg"))
_MIN_WORDS = 1.5
"""Words of a text on average: columns of codes may be called ``id`` and ``no`` too."""
NESTED = "translation"


def infer_language_columns(columns: Mapping[str, list[object]]) -> dict[str, str] | None:
    """Keys of a task whose two columns are each other's translation, or None where they are not.

    Languages that the columns do not name are called as the columns are.
    """
    nested = columns.get(NESTED, [])
    if len(columns) == 1 and nested and all(isinstance(v, dict) for v in nested):
        keys = list(nested[0]) if isinstance(nested[0], dict) else []
        return (
            dict(zip(("source_lang", "target_lang"), keys, strict=True)) if len(keys) == 2 else None
        )
    if len(columns) != 2 or not all(map(_is_text, columns.values())):
        return None
    first, second = columns
    if (first.casefold(), second.casefold()) in _SIDES:
        return {"source_lang": first, "target_lang": second}
    one, other = _column_language(first), _column_language(second)
    if one is None or other is None or one == other:
        return None
    task = {"source_lang": one, "target_lang": other}
    if (first, second) != (one, other):
        task |= {"text": first, "label": second}
    return task


def infer_language_files(path: Path) -> dict[str, str] | None:
    """The languages of ``path`` (``corpus.sl``) and of the one other file of that name
    (``corpus.en``).

    None where the extension is not a language. Raises:
        DataError: no such file in the same folder, or several.
    """
    own = path.suffix[1:]
    if own not in SCRIPTS or not path.is_file():
        return None
    others = sorted(
        p.suffix[1:] for p in path.parent.glob("*") if p.stem == path.stem and p != path
    )
    others = [other for other in others if other in SCRIPTS]
    if len(others) != 1:
        raise DataError(
            f"looks like one side of parallel text, with {len(others)} files in other languages "
            "in the same folder.",
            where=str(path),
            remedy=f"Put one in the same folder, named {path.stem}.LANGUAGE (such as "
            f"{path.stem}.en).",
        )
    return {"source_lang": own, "target_lang": others[0]}


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


def _column_language(column: str) -> str | None:
    words = [language_code(word) for word in re.split(r"[\W_]+", column) if word]
    known = [word for word in words if word in SCRIPTS]
    return known[0] if len(known) == 1 else None


def _is_text(values: list[object]) -> bool:
    texts = [v for v in values if isinstance(v, str)]
    words = sum(len(text.split()) for text in texts)
    return len(texts) == len(values) and words >= _MIN_WORDS * len(values)
