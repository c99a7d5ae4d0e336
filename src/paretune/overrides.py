"""Settings of a study that the command line gives: ``training.epochs=3``. No torch.

A key is a path with dots. In ``tasks``, ``models`` and ``methods`` an entry goes by its name or
label, or by its number from 1: ``methods.lora.rank=16``. A value is YAML.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from paretune.errors import StudyError
from paretune.spellings import canonical_method_name, suggest
from paretune.study_file import KeyPath

LIST_KEYS = ("tasks", "models", "methods")
EXAMPLE = "Write key=value, as training.epochs=3 or protocol.seeds=[1,2]."


def apply_overrides(
    overrides: Iterable[str], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The values of a study with the overrides in them, and where each of these stands.

    Raises:
        StudyError: an override is no ``key=value``, or names an entry that is not there.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(values))
    places: dict[KeyPath, str] = {}
    for text in overrides:
        key, equals, written = text.partition("=")
        if not equals or not all(key.split(".")):
            raise StudyError(f'"{text}" is no setting.', where="command line", remedy=EXAMPLE)
        place = _set_value(changed, key.split("."), _parse_value(text, written), text)
        if place in places:
            raise StudyError(f"{key} is given twice.", where="command line", remedy="Keep one.")
        places[place] = text
    return changed, places


def _parse_value(text: str, written: str) -> Any:
    try:
        value: Any = YAML(typ="safe", pure=True).load(written) if written.strip() else ""
    except (YAMLError, ValueError, TypeError, RecursionError):
        raise StudyError(
            "the value is not valid YAML.",
            where=text,
            remedy="Close brackets and quotes; for the shell put all of it into '...'.",
        ) from None
    return value


def _set_value(values: dict[str, Any], path: list[str], value: Any, text: str) -> KeyPath:
    """Put the value there; the place, with numbers for entries of lists."""
    group: Any = values
    place: list[str | int] = []
    for depth, part in enumerate(path[:-1]):
        if depth == 1 and path[0] in LIST_KEYS:
            group, number = _find_entry(group, part, path[0], text)
            place.append(number)
            continue
        if depth == 0 and part in LIST_KEYS:
            values[part] = _as_entries(values.get(part, []))
        elif not isinstance(group.get(part), dict):
            if group.get(part) is not None:
                raise StudyError(f"{part} is no group of keys.", where=text, remedy=EXAMPLE)
            group[part] = {}
        group = group[part]
        place.append(part)
    if isinstance(group, list):
        raise StudyError(
            f"{path[0]} is a list.",
            where=text,
            remedy=f"Name an entry and its key ({path[0]}.NAME.KEY=...), or give the whole list.",
        )
    group[path[-1]] = value
    return (*place, path[-1])


def _as_entries(given: Any) -> list[Any]:
    items = given if isinstance(given, list) else [given]
    return [{"name": item} if isinstance(item, str) else item for item in items]


def _entry_names(item: dict[str, Any], of: str) -> list[str]:
    """What an entry of a list may be called: as in the tables, or as in the file."""
    name = str(item.get("name", ""))
    if of == "tasks":  # the label of a task is a column
        languages = [str(item[k]) for k in ("language", "source_lang", "target_lang") if k in item]
        return ["-".join([name, *languages]), name]
    short = canonical_method_name(name) if of == "methods" else name.rstrip("/").split("/")[-1]
    return [str(one) for one in (item.get("label"), short, name) if one]


def _find_entry(items: list[Any], word: str, of: str, text: str) -> tuple[dict[str, Any], int]:
    named = [
        number
        for number, item in enumerate(items)
        if isinstance(item, dict) and word in _entry_names(item, of)
    ]
    if not named and word.isdecimal() and 0 < int(word) <= len(items):
        named = [int(word) - 1]
    if len(named) != 1 or not isinstance(items[named[0]], dict):
        there = [_entry_names(item, of)[0] for item in items if isinstance(item, dict)]
        said = "names several" if named else "is none"
        near = "" if named else suggest(word, there)
        raise StudyError(
            f'"{word}" {said} of the {of}.',
            where=text,
            remedy=near or f"There are: {', '.join(there)}; or give the number, from 1.",
        )
    return items[named[0]], named[0]
