"""What ``--json`` prints: one object, on standard output or in a file.

Its fields by verb are in docs/json_shapes.py; a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.errors import ParetuneError
from paretune.terminal import echo, echo_json
from paretune.terminal.sanitise import dump_json
from paretune.verbs.study_input import write_output

if TYPE_CHECKING:
    from paretune.study import Run


FORMAT = 1
"""Increased when a field is removed or changes its meaning."""


def write_result(verb: str, result: Mapping[str, Any], output: Path | None = None) -> None:
    """Print the object of a verb with the fields that all have, or write it to a file."""
    from importlib.metadata import version

    write_json({"format": FORMAT, "paretune": version("paretune"), "verb": verb, **result}, output)


def write_json(result: Mapping[str, Any], output: Path | None) -> None:
    """Print an object that has its own form, or write it to a file.

    Raises:
        StudyError: the file cannot be written.
    """
    value = to_json_value(result)
    if output is None:
        echo_json(value)
        return
    write_output(output, f"{dump_json(value)}\n", overwrite=True)
    echo(f"JSON: {output}", error=True)


def to_json_value(value: Any) -> Any:
    """Dataclasses as objects, paths as strings, NaN and infinity as null; recursively."""
    if isinstance(value, ParetuneError):
        return {
            "kind": type(value).__name__,
            "what": value.what,
            "where": value.where,
            "remedy": value.remedy,
            "exit_code": value.exit_code,
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):  # numpy's too
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return value


def run_fields(run: Run) -> dict[str, Any]:
    """What identifies a run within its study."""
    task, model, method = run.cell
    return {
        "task": task,
        "model": model,
        "method": method,
        "stage": run.stage,
        "seed": run.seed,
        "fold": run.fold,
        "outer": None if run.outer is None else run.outer.model_dump(),
        "learning_rate": run.learning_rate,
    }
