"""What is wrong with a study, in sentences: where, what, and what to do. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from paretune.errors import StudyError
from paretune.spellings import KEY_ALIASES, KEY_HINTS, suggest
from paretune.study_file import KeyPath, StudyFile

SINGULAR = {"tasks": "task", "models": "model", "methods": "method"}
NAME_RULE = "begins with a letter or digit and holds letters, digits, dots, - and _ only"
MAX_FAULTS = 20
"""So many faults are named; more of them come from one cause."""
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
"""What is said of pydantic's types of error, by what they begin with."""


def build_study_error(
    error: ValidationError,
    model: type[BaseModel],
    file: StudyFile,
    overridden: Mapping[KeyPath, str],
) -> StudyError:
    """The error of a study, one line for each fault.

    Args:
        error: pydantic's.
        model: of the whole study.
        file: its values and the lines where they stand.
        overridden: places that the command line set, with what was written there.
    """
    found = []
    for fault in error.errors(include_url=False):
        place: KeyPath = tuple(part for part in fault["loc"] if part != "[key]")
        what, remedy = _describe_fault(fault, place, model)
        at = _describe_place(
            place[:-1] if fault["type"] in ("missing", "extra_forbidden") else place, file
        )
        number, home = _find_line(place, file, overridden)
        if home in overridden.values():
            at = ""  # what was typed says where it stands
        where = ": ".join(part for part in (home, at) if part)
        found.append((number, " ".join(part for part in (f"{where}: {what}.", remedy) if part)))
    found.sort(key=lambda pair: pair[0])
    lines = list(dict.fromkeys(line for _, line in found))
    if len(lines) > MAX_FAULTS:
        lines[MAX_FAULTS:] = [f"and {len(lines) - MAX_FAULTS} faults more."]
    return StudyError("\n".join(lines))


def _find_line(
    place: KeyPath, file: StudyFile, overridden: Mapping[KeyPath, str]
) -> tuple[int, str]:
    """The line where a place is, or the nearest around it, and how to call it."""
    for of, text in overridden.items():
        if of[: len(place)] == place or place[: len(of)] == of:
            return 0, text
    for end in range(len(place), -1, -1):
        for spelled in _iterate_spellings(place[:end]):
            if spelled in file.lines:
                line = file.lines[spelled]
                return line, f"{file.where} line {line}" if end else file.where
    return 0, file.where


def _iterate_spellings(place: KeyPath) -> Iterator[KeyPath]:
    """A place, and what it may be called in the file instead."""
    yield place
    if place:
        for word in (
            word for words in KEY_ALIASES for word, own in words.items() if own == place[-1]
        ):
            yield (*place[:-1], word)


def _describe_place(place: KeyPath, file: StudyFile) -> str:
    """``task 2 "topics", key text``; ``training.epochs``."""
    if not place:
        return ""
    head, *rest = place
    if head in SINGULAR and rest and isinstance(rest[0], int):
        number, rest = rest[0], rest[1:]
        called = _describe_entry(str(head), file.values.get(str(head)), number)
        said = f"{SINGULAR[str(head)]} {number + 1}{called}"
        key = _join_keys(rest)
        return f"{said}, key {key}" if key else said
    return _join_keys(place)


def _describe_entry(section: str, items: Any, number: int) -> str:
    """Its label or name; the label of a task is a column."""
    name = items[number] if isinstance(items, list | tuple) and number < len(items) else items
    if isinstance(name, Mapping):
        label = None if section == "tasks" else name.get("label")
        name = label or name.get("name")
    fit = isinstance(name, str) and len(name) < 80 and name.isprintable()
    return f' "{name}"' if fit else ""


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
        near = suggest(str(value), words.split(", ")) if isinstance(value, str) else ""
        return f"{_format_value(value)} is not one of {words}", near
    bounds = {
        "greater_than_equal": ("is less than", "ge"),
        "greater_than": ("is not above", "gt"),
        "less_than_equal": ("is more than", "le"),
        "less_than": ("is not below", "lt"),
    }
    if kind in bounds:
        words, key = bounds[kind]
        return f"{_format_value(value)} {words} {limits[key]}", ""
    if kind in ("too_long", "string_too_long"):
        length, unit = len(value), "entries" if kind == "too_long" else "characters"
        return f"{length} {unit} are more than {limits['max_length']}", ""
    if kind in ("too_short", "string_too_short"):
        return "is empty", "Name at least one."
    if kind == "string_pattern_mismatch":
        return f"{_format_value(value)} is no name", f"A name {NAME_RULE}."
    for begins, said in _TYPE_MESSAGES.items():
        if kind.startswith(begins):
            return f"{_format_value(value)} {said}", ""
    return (
        f"{_format_value(value)} is not what belongs here",
        "See `paretune new` for the keys there are.",
    )


def _describe_unknown_key(key: str, place: KeyPath, model: type[BaseModel]) -> tuple[str, str]:
    said = f'unknown key "{key}"'
    if len(place) > 1 and key in KEY_HINTS:
        return said, f"{KEY_HINTS[key][0].upper()}{KEY_HINTS[key][1:].rstrip('.?')}" + (
            "?" if KEY_HINTS[key].endswith("?") else "."
        )
    owner = _find_model(model, place[:-1])
    if owner is None:
        return said, ""
    near = suggest(key, owner.model_fields, getattr(owner, "ALIASES", {}))
    return said, near or f"There are: {', '.join(owner.model_fields)}."


def _find_model(model: type[BaseModel], place: KeyPath) -> type[BaseModel] | None:
    """The class of the group of keys at a place."""
    found: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            return None
        if part not in found.model_fields:
            return None
        found = next(_nested_models(found.model_fields[part].annotation), None)
    return found if isinstance(found, type) else None


def _nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes of keys in a field's type: of ``tuple[TaskSpec, ...]`` that of a task."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _nested_models(inner)


def _format_value(value: Any) -> str:
    """A value as the file has it, cut where it is long."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    return text if len(text) <= 60 else f"{text[:57]}..."
