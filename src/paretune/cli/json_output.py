"""What ``--json`` gives: one object, on standard output or in a file.

Its fields by verb are in :mod:`paretune.cli.json_shapes` (and so in docs/json.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.errors import ParetuneError, StudyError
from paretune.terminal import echo, echo_json
from paretune.terminal.sanitise import dump_json

if TYPE_CHECKING:
    from paretune.study import Run

FORMAT = 1
"""It grows when a field is removed or means something else."""


def check_json_output(as_json: bool, output: Path | None) -> bool:
    """Whether JSON is wanted, of a verb that has nothing else to write into a file.

    Raises:
        StudyError: a file is named and nothing goes into it.
    """
    if output is not None and not as_json:
        raise StudyError("goes with --json.", where="--output", remedy="Add --json.")
    return as_json


def write_result(verb: str, found: Mapping[str, Any], output: Path | None = None) -> None:
    """Write the object to standard output, or to a file."""
    from importlib.metadata import version

    write_json({"format": FORMAT, "paretune": version("paretune"), "verb": verb, **found}, output)


def write_json(found: Mapping[str, Any], output: Path | None) -> None:
    """Write an object that has its own form.

    Raises:
        StudyError: the file cannot be written.
    """
    plain = to_json_value(found)
    if output is None:
        echo_json(plain)
        return
    try:
        output.write_text(f"{dump_json(plain)}\n", encoding="utf-8")
    except OSError as error:
        raise StudyError(
            f"cannot be written ({error.strerror}).",
            where=str(output),
            remedy="Name another file with --output.",
        ) from None
    echo(f"JSON: {output}", error=True)


def to_json_value(found: Any) -> Any:
    """Plain values: dataclasses as objects, paths as texts, what is no number as null."""
    if isinstance(found, ParetuneError):
        return {
            "kind": type(found).__name__,
            "what": found.what,
            "where": found.where,
            "remedy": found.remedy,
            "exit_code": found.exit_code,
        }
    if is_dataclass(found) and not isinstance(found, type):
        return {field.name: to_json_value(getattr(found, field.name)) for field in fields(found)}
    if isinstance(found, Mapping):
        return {str(key): to_json_value(value) for key, value in found.items()}
    if isinstance(found, list | tuple | set | frozenset):
        return [to_json_value(value) for value in found]
    if isinstance(found, Path):
        return str(found)
    if hasattr(found, "item"):
        found = found.item()  # numpy's numbers
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found


def run_fields(run: Run) -> dict[str, Any]:
    """Which run it is."""
    task, model, method = run.cell
    return {
        "task": task,
        "model": model,
        "method": method,
        "stage": run.stage,
        "seed": run.seed,
        "fold": run.fold,
        "learning_rate": run.learning_rate,
    }
