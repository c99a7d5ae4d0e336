"""Turns pydantic's errors about a study into sentences: where, what, and what to do. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from paretune.errors import StudyError
from paretune.study.aliases import KEY_ALIASES, KEY_HINTS, suggest
from paretune.study.specs import FrozenModel
from paretune.study.study_file import KeyPath, StudyFile

SINGULAR = {"tasks": "task", "models": "model", "methods": "method"}
NAME_RULE = "begins with a letter or digit and holds letters, digits, dots, - and _ only"
MAX_FAULTS = 20
"""So many faults are named; more of them have one cause."""
_TYPE_MESSAGES = {
    "missing": "is missing",
    "int": "is not a whole number",
    "float": "is not a number",
    "string": "is not a text",
    "bool": "is neither true nor false",
    "tuple": "is not a list; write it in [brackets]",
    "model": "is not a group of keys and values",
    "mapping": "is not a group of keys and values",
    "dict": "is not a group of keys and values",
    "invalid_key": "is a key that is not a word",
    "finite": "is not a finite number",
}
"""Messages by the beginning of pydantic's type of error."""
_BOUND_MESSAGES = {
    "greater_than_equal": ("is less than", "ge"),
    "greater_than": ("is not above", "gt"),
    "less_than_equal": ("is more than", "le"),
    "less_than": ("is not below", "lt"),
}


def build_study_error(
    error: ValidationError,
    model: type[BaseModel],
    file: StudyFile,
    overrides: Mapping[KeyPath, str],
) -> StudyError:
    """The error of a study, one line for each fault.

    Args:
        file: its values and the lines where they stand.
        overrides: text of each override of the command line, by its key.
    """
    faults = []
    for fault in error.errors(include_url=False):
        place: KeyPath = tuple(part for part in fault["loc"] if part != "[key]")
        what, remedy = _describe_fault(fault, place, model)
        outer = place[:-1] if fault["type"] in ("missing", "extra_forbidden") else place
        number, line = _find_line(place, file, overrides)
        # The text of an override is its own place.
        at = "" if line in overrides.values() else _describe_place(outer, file)
        where = ": ".join(part for part in (line, at) if part)
        faults.append((number, " ".join(part for part in (f"{where}: {what}.", remedy) if part)))
    faults.sort(key=lambda pair: pair[0])
    lines = list(dict.fromkeys(line for _, line in faults))
    if len(lines) > MAX_FAULTS:
        lines[MAX_FAULTS:] = [f"and {len(lines) - MAX_FAULTS} faults more."]
    return StudyError("\n".join(lines))


def refuse_unusual_values(
    values: Any, file: StudyFile, overrides: Mapping[KeyPath, str], place: KeyPath = ()
) -> None:
    """Refuse what no setting can be and no hash or file can hold, wherever it stands.

    Raises:
        StudyError: a number that is not finite or beyond 64 bits, or half a surrogate pair.
    """
    items: Any = ()
    what = ""
    if isinstance(values, Mapping):
        items = values.items()
    elif isinstance(values, list | tuple):
        items = enumerate(values)
    elif isinstance(values, float) and not math.isfinite(values):
        what = f"{values} is not a finite number"
    elif isinstance(values, int) and abs(values) >= 1 << 63:
        what = "a number has more than 64 bits"
    elif isinstance(values, str) and any("\ud800" <= c <= "\udfff" for c in values):
        what = "half a surrogate pair (\\ud800 to \\udfff) is not a character"
    if what:
        where = ": ".join(filter(None, (_find_line(place, file, overrides)[1],
                                        _describe_place(place, file))))  # fmt: skip
        raise StudyError(f"{what}.", where=where)
    for key, value in items:
        refuse_unusual_values(key, file, overrides, place)
        refuse_unusual_values(value, file, overrides, (*place, key))


def _find_line(
    place: KeyPath, file: StudyFile, overrides: Mapping[KeyPath, str]
) -> tuple[int, str]:
    """The line of a place, or the nearest around it, as a number and as text."""
    for key, text in overrides.items():
        if key[: len(place)] == place or place[: len(key)] == key:
            return 0, text
    for end in range(len(place), -1, -1):
        for spelling in _iterate_spellings(place[:end]):
            if spelling in file.lines:
                line = file.lines[spelling]
                return line, f"{file.where} line {line}" if end else file.where
    return 0, file.where


def _iterate_spellings(place: KeyPath) -> Iterator[KeyPath]:
    """A place, and what it may be called in the file instead."""
    yield place
    if place:
        for aliases in KEY_ALIASES:
            for alias, name in aliases.items():
                if name == place[-1]:
                    yield (*place[:-1], alias)


def _describe_place(place: KeyPath, file: StudyFile) -> str:
    """``task 2 "topics", key text``; ``training.epochs``."""
    if not place:
        return ""
    section, *rest = place
    if section in SINGULAR and rest and isinstance(rest[0], int):
        number, rest = rest[0], rest[1:]
        name = _describe_entry(str(section), file.values.get(str(section)), number)
        entry = f"{SINGULAR[str(section)]} {number + 1}{name}"
        key = _join_keys(rest)
        return f"{entry}, key {key}" if key else entry
    return _join_keys(place)


def _describe_entry(section: str, items: Any, number: int) -> str:
    """Its label or name in quotes; the label of a task is a column."""
    name = items[number] if isinstance(items, list | tuple) and number < len(items) else items
    if isinstance(name, Mapping):
        label = None if section == "tasks" else name.get("label")
        name = label or name.get("name")
    fits = isinstance(name, str) and len(name) < 80 and name.isprintable()
    return f' "{name}"' if fits else ""


def _join_keys(place: Collection[str | int]) -> str:
    words = ".".join(str(part) for part in place if isinstance(part, str))
    numbers = [part + 1 for part in place if isinstance(part, int)]
    return f"{words}, entry {numbers[0]}" if numbers and words else words


def _describe_fault(fault: Any, place: KeyPath, model: type[BaseModel]) -> tuple[str, str]:
    """What is wrong, without a full stop, and what to do."""
    kind, limits, value = str(fault["type"]), fault.get("ctx", {}), fault.get("input")
    if kind == "extra_forbidden":
        return _describe_unknown_key(str(place[-1]), place, model)
    if kind == "missing":
        return f'the key "{place[-1]}" is missing', ""
    if kind == "value_error":
        return str(limits.get("error", fault["msg"])).rstrip("."), ""
    if kind == "literal_error":
        words = limits["expected"].replace("'", "").replace(" or ", ", ")
        suggestion = suggest(str(value), words.split(", ")) if isinstance(value, str) else ""
        return f"{_format_value(value)} is not one of {words}", suggestion
    if kind in _BOUND_MESSAGES:
        words, key = _BOUND_MESSAGES[kind]
        return f"{_format_value(value)} {words} {limits[key]}", ""
    if kind in ("too_long", "string_too_long"):
        length, unit = len(value), "entries" if kind == "too_long" else "characters"
        return f"{length} {unit} are more than {limits['max_length']}", ""
    if kind in ("too_short", "string_too_short"):
        return "is empty", "Name at least one."
    if kind == "string_pattern_mismatch":
        return f"{_format_value(value)} is no name", f"A name {NAME_RULE}."
    for prefix, message in _TYPE_MESSAGES.items():
        if kind.startswith(prefix):
            return f"{_format_value(value)} {message}", ""
    return f"{_format_value(value)} is not valid here", "See `paretune new` for the keys there are."


def _describe_unknown_key(key: str, place: KeyPath, model: type[BaseModel]) -> tuple[str, str]:
    what = f'unknown key "{key}"'
    if len(place) > 1 and key in KEY_HINTS:
        hint = KEY_HINTS[key]
        end = "?" if hint.endswith("?") else "."
        return what, f"{hint[0].upper()}{hint[1:].rstrip('.?')}{end}"
    group = _find_model(model, place[:-1])
    if group is None:
        return what, ""
    aliases = group.ALIASES if issubclass(group, FrozenModel) else {}
    suggestion = suggest(key, group.model_fields, aliases)
    return what, suggestion or f"There are: {', '.join(group.model_fields)}."


def _find_model(model: type[BaseModel], place: KeyPath) -> type[BaseModel] | None:
    """The class of the group of keys at a place."""
    group: type[BaseModel] | None = model
    for part in place:
        if isinstance(part, int):
            continue
        if group is None or part not in group.model_fields:
            return None
        group = next(_nested_models(group.model_fields[part].annotation), None)
    return group


def _nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The groups of keys in a field's type: of ``tuple[TaskSpec, ...]`` that of a task."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _nested_models(inner)


def _format_value(value: Any) -> str:
    """A value as the file has it, cut where it is long."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    return text if len(text) <= 60 else f"{text[:57]}..."
