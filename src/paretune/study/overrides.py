"""Settings of a study that the command line gives: ``training.epochs=3``. No torch.

A key is a path with dots. In ``tasks``, ``models`` and ``methods`` an entry is named by its name or
label, or by its number from 1: ``methods.lora.rank=16``. A value is YAML.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from paretune.errors import StudyError, suggest
from paretune.study.study_file import KeyPath, refuse_large

LIST_KEYS = ("tasks", "models", "methods")
BACKEND_VARIABLE = "PARETUNE_BACKEND"
EXAMPLE = "Write key=value, as training.epochs=3 or protocol.seeds=[1,2]."


def add_environment(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides, and ``training.backend`` from the environment where they do not set it."""
    backend = os.environ.get(BACKEND_VARIABLE, "")
    key = "training.backend="
    if not backend or any(text.startswith(key) for text in overrides):
        return overrides
    return (f"{key}{backend}", *overrides)


def apply_overrides(
    overrides: Iterable[str], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The values of a study with the overrides in them, and the text of each override by its key.

    Raises:
        StudyError: an override is no ``key=value``, or names an entry that is not there.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(values))
    texts: dict[KeyPath, str] = {}
    for text in overrides:
        key, equals, written = text.partition("=")
        if not equals or not all(key.split(".")):
            raise StudyError(f'"{text}" is no setting.', where="command line", remedy=EXAMPLE)
        place = _set_value(changed, key.split("."), _parse_value(text, written), text)
        if place in texts:
            raise StudyError(f"{key} is set twice.", where="command line", remedy="Keep one.")
        texts[place] = text
    return changed, texts


def _parse_value(text: str, written: str) -> Any:
    try:
        refuse_large(written, text)
        value: Any = YAML(typ="safe", pure=True).load(written) if written.strip() else ""
    except (YAMLError, ValueError, TypeError, RecursionError):
        raise StudyError(
            "the value is not valid YAML.",
            where=text,
            remedy="Close brackets and quotes; for the shell put all of it into '...'.",
        ) from None
    return value


def _set_value(values: dict[str, Any], path: list[str], value: Any, text: str) -> KeyPath:
    """Put the value there; return its key path, with numbers for entries of lists."""
    group: Any = values
    place: list[str | int] = []
    for depth, part in enumerate(path[:-1]):
        if depth == 1 and path[0] in LIST_KEYS:
            group, number = _find_entry(group, part, path[0], text)
            place.append(number)
            continue
        if depth == 0 and part in LIST_KEYS:
            values[part] = as_entries(values.get(part, []))
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


def as_entries(value: Any) -> list[Any]:
    """``methods: [full, lora]`` and ``models: NAME`` in the long form."""
    items = value if isinstance(value, list | tuple) else [value]
    return [{"name": item} if isinstance(item, str) else item for item in items]


def _entry_names(item: dict[str, Any], section: str) -> list[str]:
    """Names of an entry: as in the tables, or as in the file."""
    name = str(item.get("name", ""))
    if section == "tasks":  # the label of a task is a column
        languages = [str(item[k]) for k in ("language", "source_lang", "target_lang") if k in item]
        return ["-".join([name, *languages]), name]
    short = name.rstrip("/").split("/")[-1]
    return [str(name) for name in (item.get("label"), short, name) if name]


def _find_entry(items: list[Any], word: str, section: str, text: str) -> tuple[dict[str, Any], int]:
    numbers = [
        number
        for number, item in enumerate(items)
        if isinstance(item, dict) and word in _entry_names(item, section)
    ]
    if not numbers and word.isdecimal() and 0 < int(word) <= len(items):
        numbers = [int(word) - 1]
    if len(numbers) != 1 or not isinstance(items[numbers[0]], dict):
        names = [_entry_names(item, section)[0] for item in items if isinstance(item, dict)]
        what = "names several" if numbers else "is none"
        suggestion = "" if numbers else suggest(word, names)
        raise StudyError(
            f'"{word}" {what} of the {section}.',
            where=text,
            remedy=suggestion or f"There are: {', '.join(names)}; or give the number, from 1.",
        )
    return items[numbers[0]], numbers[0]
