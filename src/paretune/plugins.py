"""Plug-ins: what installed packages add by entry points. No torch.

An entry point is ``NAME = "package.module:VALUE"``. It is loaded when its name is asked for, once
in each process, so that a broken plug-in never disturbs a study that does not name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from paretune.errors import PluginError, StudyError, suggest

METHODS = "paretune.methods"
TASKS = "paretune.tasks"
METRICS = "paretune.metrics"
SEGMENT_METRICS = "paretune.segment_metrics"
OBJECTIVES = "paretune.objectives"
COMMANDS = "paretune.commands"
STUDIES = "paretune.studies"
PROPOSERS = "paretune.proposers"

T = TypeVar("T")

_registered: dict[str, dict[str, Any]] = {}
"""Values of :func:`registered` by group and name."""


def names(group: str) -> tuple[str, ...]:
    """The names that installed packages offer in a group, sorted; nothing is loaded."""
    installed = {entry.name for entry in _find_entries(group)}
    return tuple(sorted(installed | set(_registered.get(group, {}))))


@contextmanager
def registered(group: str, value: Any) -> Iterator[None]:
    """While it is open, ``value`` is a plug-in of its own name: for tests and notebooks."""
    _registered.setdefault(group, {})[value.name] = value
    try:
        yield
    finally:
        del _registered[group][value.name]


def load(group: str, name: str, expected: type[T]) -> T:
    """The value of a plug-in; ``expected`` is its type, or a runtime-checkable Protocol.

    Raises:
        PluginError: it cannot be loaded, is of another type or has another name, or two packages
            offer the name.
    """
    if name in _registered.get(group, {}):
        registered_value: T = _registered[group][name]
        return registered_value
    entries = [entry for entry in _find_entries(group) if entry.name == name]
    if len(entries) > 1:
        packages = [_package(entry) for entry in entries]
        raise PluginError(
            f"{' and '.join(packages)} offer the same name.",
            where=f'plug-in "{name}" ({group})',
            remedy="Uninstall one of them.",
        )
    (entry,) = entries
    value: Any = _load_entry(entry)
    if not isinstance(value, expected):
        fault = f"is of type {type(value).__name__}, not {expected.__name__}"
        raise _plugin_error(entry, fault)
    stated_name = getattr(value, "name", name)
    if stated_name != name:
        raise _plugin_error(entry, f'is called "{stated_name}", and its entry point "{name}"')
    plugin: T = value
    return plugin


def load_all(group: str, expected: type[T]) -> tuple[dict[str, T], dict[str, PluginError]]:
    """The plug-ins of a group by name, and the errors of those that cannot be used."""
    values: dict[str, T] = {}
    errors: dict[str, PluginError] = {}
    for name in names(group):
        try:
            values[name] = load(group, name, expected)
        except PluginError as error:
            errors[name] = error
    return values, errors


class Registry(Generic[T]):
    """The values of one kind by name: built-in ones first, then those of installed packages.

    Args:
        group: of the entry points.
        noun: what a value is, for errors.
    """

    def __init__(self, group: str, noun: str, expected: type[T], built_in: Iterable[T]) -> None:
        self.group, self.noun, self.expected = group, noun, expected
        self.built_in: dict[str, T] = {getattr(value, "name"): value for value in built_in}  # noqa: B009

    def names(self) -> tuple[str, ...]:
        """Names of all; those of installed packages are not loaded for it."""
        return tuple(dict.fromkeys((*self.built_in, *names(self.group))))

    def get(self, name: str) -> T:
        """The value of this name.

        Raises:
            StudyError: there is none.
            PluginError: an installed package offers it, but it cannot be loaded.
        """
        if name in self.built_in:
            return self.built_in[name]
        if name in names(self.group):
            return load(self.group, name, self.expected)
        remedy = f"{suggest(name, self.names())} There is {', '.join(self.names())}.".lstrip()
        raise StudyError(f'there is no {self.noun} "{name}".', remedy=remedy)


@cache
def _find_entries(group: str) -> tuple[EntryPoint, ...]:
    # A package that is installed twice (a wheel and a source folder) is listed twice.
    distinct = {(entry.name, entry.value): entry for entry in entry_points(group=group)}
    return tuple(distinct.values())


@cache
def _load_entry(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # a plug-in may raise anything while it is imported
        reason = " ".join(str(error).split())
        raise _plugin_error(entry, f"cannot be loaded: {type(error).__name__}: {reason}") from error


def _plugin_error(entry: EntryPoint, fault: str) -> PluginError:
    package = _package(entry)
    return PluginError(
        f"{fault}.",
        where=f'plug-in "{entry.name}" ({entry.value}, of {package})',
        remedy=f"Update the package, or remove it: pip uninstall {package.split()[0]}.",
    )


def _package(entry: EntryPoint) -> str:
    """Name and version of the distribution that an entry point comes from."""
    return "an unnamed package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
