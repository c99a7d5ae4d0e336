"""Sentences for pydantic's errors about a study: where, what, and what to do. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from paretune.errors import StudyError, suggest
from paretune.study.study_file import KeyPath, StudyFile

SINGULAR = {"tasks": "task", "models": "model", "methods": "method"}
NAME_RULE = "begins with a letter or digit and holds letters, digits, dots, - and _ only"
MAX_FAULTS = 20
"""The most faults that are named; more of them have one cause."""
_MESSAGES = {
    "greater_than_equal": "is less than {ge}",
    "greater_than": "is not above {gt}",
    "less_than_equal": "is more than {le}",
    "less_than": "is not below {lt}",
    "int": "is not a whole number",
    "float": "is not a number",
    "string_pattern_mismatch": "is no name",
    "string": "is not a text",
    "bool": "is neither true nor false",
    "tuple": "is not a list; write it in [brackets]",
    "model": "is not a group of keys and values",
    "mapping": "is not a group of keys and values",
    "dict": "is not a group of keys and values",
    "invalid_key": "is a key that is not a word",
    "finite": "is not a finite number",
}
"""Messages by the beginning of pydantic's type of error; the first that fits is used."""

SYNONYMS: Mapping[str, str] = {
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "max_seq_length": "max_length",
    "warmup_ratio": "warmup_fraction",
    "gradient_checkpointing": "activation_checkpointing",
    "model_name_or_path": "name",
    **dict.fromkeys(("r", "lora_r", "lora_rank"), "rank"),
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
}
"""Names in PEFT and transformers of paretune's keys."""
KEY_HINTS: Mapping[str, str] = {
    **dict.fromkeys(
        ("learning_rate", "learning_rates", "lr"),
        "learning rates belong to a method: {name: lora, learning_rates: [1e-4, 3e-4, 1e-3]}",
    ),
    "lr_scheduler_type": "write schedule: linear, cosine or constant, after the warm-up",
    "warmup_steps": "write the share of all steps: warmup_fraction",
    "gradient_accumulation_steps": "batch_size is the whole batch of a step, micro_batch the part "
    "of it that is computed at once",
    **dict.fromkeys(("bf16", "fp16"), "write precision: bf16, fp32 or auto"),
    **dict.fromkeys(
        ("seed", "seeds"), "seeds belong to the protocol: protocol: {seeds: [1, 2, 3, 4, 5]}"
    ),
    **dict.fromkeys(
        ("load_in_4bit", "load_in_8bit", "quantization_config"),
        "write quantisation: nf4 (or int8) beside the model's name",
    ),
}
"""What to write instead of a key that does not exist."""


def build_study_error(
    error: ValidationError, model: type[BaseModel], file: StudyFile
) -> StudyError:
    """Build the error of a study with one line for each fault, in the order of the file's lines."""
    faults = []
    for fault in read_faults(error, model, file.values):
        where = file.locate(fault.place, _describe_place(fault.group, file))
        line, _ = file.find_line(fault.place)
        faults.append((line, f"{where}: {fault.what}. {fault.remedy}".strip()))
    faults.sort(key=lambda pair: pair[0])
    lines = list(dict.fromkeys(line for _, line in faults))
    if len(lines) > MAX_FAULTS:
        lines[MAX_FAULTS:] = [f"and {len(lines) - MAX_FAULTS} faults more."]
    return StudyError("\n".join(lines))


class Fault(NamedTuple):
    """A fault of a value: the path of keys, what is wrong (without a full stop), and what to do."""

    place: KeyPath
    what: str
    remedy: str
    is_of_key: bool
    """Whether the last key itself is at fault: it is unknown, or missing."""

    @property
    def group(self) -> KeyPath:
        """The keys to name with the fault: an unknown key is reported with its group."""
        return self.place[:-1] if self.is_of_key else self.place


def read_faults(error: ValidationError, model: type[BaseModel], values: Any) -> list[Fault]:
    """Return the faults that pydantic finds in ``values``, in the words of paretune.

    A value that fits none of several possible types is one fault.
    """
    faults: dict[tuple[KeyPath, bool], list[tuple[str, str]]] = {}
    for entry in error.errors(include_url=False):
        place: KeyPath = tuple(part for part in entry["loc"] if part != "[key]")
        is_of_key = entry["type"] in ("missing", "extra_forbidden")
        what, remedy = _describe_fault(entry, place, model)
        if not is_of_key:  # pydantic adds the types of a union to the keys
            inside, inner = list[str | int](), values
            for part in place:
                with suppress(KeyError, IndexError, TypeError):  # the type of a union is not a key
                    inner = inner[part]
                    inside.append(part)
            place = tuple(inside)
        faults.setdefault((place, is_of_key), []).append((what, remedy))
    return [
        Fault(
            place,
            ", ".join(dict.fromkeys(what for what, _ in parts)),
            " ".join(dict.fromkeys(remedy for _, remedy in parts if remedy)),
            is_of_key,
        )
        for (place, is_of_key), parts in faults.items()
    ]


def refuse_unusual_values(file: StudyFile, values: Any, place: KeyPath = ()) -> None:
    """Refuse values that no setting can have and no hash or file can hold, wherever they stand.

    Raises:
        StudyError: a number is not finite or beyond 64 bits, or a text has half a surrogate pair.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            refuse_unusual_values(file, key, place)
            refuse_unusual_values(file, value, (*place, key))
        return
    if isinstance(values, list | tuple):
        for number, value in enumerate(values):
            refuse_unusual_values(file, value, (*place, number))
        return
    what = ""
    if isinstance(values, float) and not math.isfinite(values):
        what = f"{values} is not a finite number"
    elif isinstance(values, int) and abs(values) >= 1 << 63:
        what = "a number has more than 64 bits"
    elif isinstance(values, str) and any("\ud800" <= c <= "\udfff" for c in values):
        what = "half a surrogate pair (\\ud800 to \\udfff) is not a character"
    if what:
        where = ": ".join(filter(None, (file.find_line(place)[1], _describe_place(place, file))))
        raise StudyError(f"{what}.", where=where)


def _describe_place(place: KeyPath, file: StudyFile) -> str:
    """Format a place: ``task 2 "topics", key text``; ``training.epochs``."""
    if not place:
        return ""
    section, *rest = place
    if section in SINGULAR and rest and isinstance(rest[0], int):
        number, rest = rest[0], rest[1:]
        items = file.values.get(str(section))
        name = items[number] if isinstance(items, list | tuple) and number < len(items) else items
        if isinstance(name, Mapping):  # the label of a task is a column
            label = None if section == "tasks" else name.get("label")
            name = label or name.get("name")
        entry = f"{SINGULAR[str(section)]} {number + 1}"
        if isinstance(name, str) and len(name) < 80 and name.isprintable():
            entry += f' "{name}"'
        key = _join_keys(rest)
        return f"{entry}, key {key}" if key else entry
    return _join_keys(place)


def _join_keys(place: Collection[str | int]) -> str:
    words = ".".join(str(part) for part in place if isinstance(part, str))
    numbers = [part + 1 for part in place if isinstance(part, int)]
    return f"{words}, entry {numbers[0]}" if numbers and words else words


def _describe_fault(fault: Any, place: KeyPath, model: type[BaseModel]) -> tuple[str, str]:
    """Return what is wrong, without a full stop, and what to do."""
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
    if kind in ("too_long", "string_too_long"):
        length, unit = len(value), "entries" if kind == "too_long" else "characters"
        return f"{length} {unit} are more than {limits['max_length']}", ""
    if kind in ("too_short", "string_too_short"):
        return "is empty", "Name at least one."
    message = next((m for prefix, m in _MESSAGES.items() if kind.startswith(prefix)), "")
    if not message:
        what, remedy = "is not valid here", "See `paretune new` for the keys there are."
        return f"{_format_value(value)} {what}", remedy
    remedy = f"A name {NAME_RULE}." if kind == "string_pattern_mismatch" else ""
    return f"{_format_value(value)} {message.format(**limits)}", remedy


def _describe_unknown_key(key: str, place: KeyPath, model: type[BaseModel]) -> tuple[str, str]:
    what = f'unknown key "{key}"'
    # Find the class of the group of keys that the key stands in.
    group = model
    for part in place[:-1]:
        if isinstance(part, int):
            continue
        annotation = group.model_fields[part].annotation if part in group.model_fields else None
        inner = next(_nested_models(annotation), None)
        if inner is None:
            return what, ""
        group = inner
    if hint := {**KEY_HINTS, **getattr(group, "HINTS", {})}.get(key):
        return f"{what}: {hint}", ""
    keys = group.model_fields
    if (name := SYNONYMS.get(key)) in keys:
        return what, f"Did you mean {name}?"
    return what, suggest(key, keys) or f"There are: {', '.join(keys) or 'none'}."


def _nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the classes of key groups in a field's type: TaskSpec of ``tuple[TaskSpec, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _nested_models(inner)


def _format_value(value: Any) -> str:
    """Format a value as the file has it, cut where it is long."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    return text if len(text) <= 60 else f"{text[:57]}..."
