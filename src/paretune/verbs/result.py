"""The result of a verb: a value that prints itself, dumps itself as JSON and shows itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic_core import to_jsonable_python

from paretune.errors import ParetuneError
from paretune.study import Run, Study
from paretune.terminal.notebook import html_code
from paretune.terminal.rich_console import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType


Item = TypeVar("Item")
TEXT_WIDTH = 100
"""Columns of :class:`Result` as text, where no terminal says how many it has."""


class Result:
    """The value of a verb; a subclass is a frozen dataclass (``repr=False``).

    Attributes:
        json_fields: fields and properties that its JSON object has; by default all fields.
    """

    json_fields: ClassVar[tuple[str, ...]] = ()

    def describe(self) -> Iterable[RenderableType]:
        """Its description: strings are lines of their own, Rich lays out anything else."""
        return ()

    def show(self, out: Terminal) -> None:
        """Print it on a terminal. Options of the command are keyword arguments of a subclass."""
        for part in self.describe():
            out.print(part, soft_wrap=isinstance(part, str))

    @property
    def failure(self) -> ParetuneError | None:
        """The error that ends the command after its result is printed, if there is one."""
        return None

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return 0 if self.failure is None else self.failure.exit_code

    def to_json(self) -> dict[str, Any]:
        """The fields of its JSON object, as plain values."""
        return _object_of(self, self.json_fields)

    def __str__(self) -> str:
        stream = io.StringIO()
        # Not coloured by FORCE_COLOR, which the kernel of a notebook sets.
        Result.show(self, Terminal(file=stream, width=TEXT_WIDTH, force_terminal=False))
        return stream.getvalue().rstrip("\n")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_code(str(self).splitlines())


Tell = Callable[[Any], None]
"""Called with a sentence, or with a part of the result, while a verb works."""


def tell_nothing(part: Any) -> None:
    """Tell nobody: the default of a verb."""


class ResultList(Result, tuple[Item, ...]):
    """A value for each task, in order."""

    def describe(self) -> Iterable[RenderableType]:
        """Each value, with a blank line between them."""
        described: Any = self  # a subclass whose values are no results has its own method
        for number, item in enumerate(described):
            yield from [""] if number else []
            yield from item.describe()

    def to_json(self) -> dict[str, Any]:
        """The list, as ``tasks``."""
        return {"tasks": [to_json_value(item) for item in self]}


def to_json_value(value: Any) -> Any:
    """Plain values of anything, recursively.

    A dataclass is an object, a study its name, a path a string; NaN and infinity are null. The
    fields of a run stand beside those of the dataclass that has it.
    """
    if isinstance(value, Result):
        return value.to_json()
    if isinstance(value, Study):
        return value.study
    if isinstance(value, Run):  # what identifies it within its study
        task, model, method = value.cell
        outer = None if value.outer is None else value.outer.model_dump()
        seeds = {"stage": value.stage, "seed": value.seed, "fold": value.fold, "outer": outer}
        cell = {"task": task, "model": model, "method": method}
        return {**cell, **seeds, "learning_rate": value.learning_rate}
    if isinstance(value, ParetuneError):
        error = {"kind": type(value).__name__, "what": value.what, "where": value.where}
        return {**error, "remedy": value.remedy, "exit_code": value.exit_code}
    if is_dataclass(value) and not isinstance(value, type):
        return _object_of(value)
    if isinstance(value, Mapping):
        return {str(key): to_json_value(content) for key, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(item) for item in value]
    return to_jsonable_python(value, inf_nan_mode="null", fallback=lambda number: number.item())


def _object_of(value: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """Fields of a dataclass by their names, by default all; those of a run beside them."""
    plain: dict[str, Any] = {}
    for name in names or [field.name for field in fields(value)]:
        content = getattr(value, name)
        json_value = to_json_value(content)
        plain |= json_value if isinstance(content, Run) else {name: json_value}
    return plain
