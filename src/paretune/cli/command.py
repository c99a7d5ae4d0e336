"""A verb as a command: its options from its signature, its output from its result.

What the shell has and Python has not is added here: settings ``KEY=VALUE`` behind the study,
``--json`` with ``--output``, progress on the terminal, and exit codes.
"""

from __future__ import annotations

import builtins
import inspect
import re
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from importlib.metadata import version
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from paretune.errors import StudyError
from paretune.terminal import console, echo
from paretune.terminal.sanitise import dump_json
from paretune.verbs.options import AsJson, JsonFile, Overrides
from paretune.verbs.result import Result
from paretune.verbs.study_input import load_study, write_output

FORMAT = 3
"""Format of the JSON objects; it increases when a field is removed or changes its meaning."""
SHORT_NAMES = {"output": ("-o",), "quiet": ("-q",)}
COMPATIBLE = frozenset(("quiet", "once", "report", "output"))
"""Options of how a result is shown that may stand beside ``--json`` and ``--quiet``."""


def add_verb(
    app: typer.Typer, words: str, verb: Callable[..., Any], name: str | None = None
) -> None:
    """Make a function a command: one that returns a result, or one that typer reads as it is.

    Args:
        app: the group that it belongs to.
        words: that call it.
        name: in its group; the last word by default.
    """
    returns = inspect.signature(verb).return_annotation
    plain = returns in (None, "None", inspect.Signature.empty)
    app.command(name or words.split()[-1])(verb if plain else as_command(words, verb))


def as_command(name: str, verb: Callable[..., Any]) -> Callable[..., None]:
    """The function that typer reads.

    Parameters of the verb without an option or argument of typer are left to Python; of these,
    ``observer`` and ``tell`` are given what shows progress on the terminal. Options of how the
    result is shown are the keyword arguments of its class's ``show``, which several classes share.

    Args:
        name: words that call it.
        verb: a function whose result is a :class:`~paretune.verbs.result.Result`.
    """
    verb_options = _read_parameters(verb)
    result_class, _ = _split_hint(_read_hints(verb)["return"])
    show_options = _read_parameters(result_class.show)
    parameters = {**verb_options, **show_options}
    added: dict[str, tuple[Any, Any]] = {"as_json": (False, AsJson)}
    if "output" not in parameters:
        added["json_file"] = (None, JsonFile)
    if "study" in verb_options:
        added["overrides"] = (None, Overrides)
    for option, (default, hint) in added.items():
        parameters[option] = inspect.Parameter(
            option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint
        )

    def call(**values: Any) -> None:
        as_json, quiet = values["as_json"], values.get("quiet", False)
        if values.get("json_file") is not None and not as_json:
            raise StudyError("needs --json.", where="--output", remedy="Add --json.")
        if (overrides := values.get("overrides")) and "study" in verb_options:
            values["study"] = load_study(values["study"], overrides)
        options = {option: values[option] for option in show_options}
        arguments = {option: values[option] for option in verb_options}
        for option in () if not (as_json or quiet) else {*options} - COMPATIBLE:
            if options[option] != show_options[option].default:
                raise StudyError(
                    f"shows nothing beside {'--json' if as_json else '--quiet'}.",
                    where=f"--{option.replace('_', '-')}",
                    remedy="Leave out one of them.",
                )
        out = console()

        def tell(part: str | Result) -> None:
            if isinstance(part, str) and not quiet:
                echo(part, error=as_json)
            elif isinstance(part, Result) and not as_json:
                part.show(out, **options)

        with ExitStack() as stack:
            if "tell" in inspect.signature(verb).parameters:
                arguments["tell"] = tell
            if "observer" in inspect.signature(verb).parameters:
                from paretune.execution.progress import open_observer

                progress = open_observer(error=as_json, quiet=quiet)
                arguments["observer"] = stack.enter_context(progress)
            result: Result = verb(**arguments)
        if as_json:
            value = result.to_json()
            if "format" not in value:  # a report has its own
                value = {"format": FORMAT, "paretune": version("paretune"), "verb": name, **value}
            if (file := values.get("json_file") or options.get("output")) is None:
                echo(dump_json(value))
            else:
                write_output(file, f"{dump_json(value)}\n", overwrite=True)
                echo(f"JSON: {file}", error=True)
        else:
            result.show(out, **options)
        if result.failure is not None:
            raise result.failure
        if result.exit_code:
            raise SystemExit(result.exit_code)

    # typer reads resolved types; an argument that takes all remaining words is the last.
    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    call.__doc__ = re.split(r"\n\n\s*(?:Args|Returns|Raises):", inspect.getdoc(verb) or "")[0]
    return call


def _read_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that the command line has, with the types that it passes.

    Their help stands under ``Args:`` in the docstring, that of shared options in
    :mod:`paretune.verbs.options`. A flag that is off by default has no ``--no-``.
    """
    hints = _read_hints(function)
    # The texts of Args: by parameter, without sentences that begin with "In Python".
    arguments = (inspect.getdoc(function) or "").partition("Args:\n")[2]
    arguments = re.split(r"\n\n(?:Returns|Raises):", arguments)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", arguments, re.MULTILINE)
    help_texts = {
        name: re.sub(r" ?\bIn Python.*?\.(?= [A-Z]|$)", "", " ".join(text.split()))
        for name, text in entries
    }
    parameters = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = _split_hint(hints.get(name))
        if info is None:
            continue
        info = copy(info)
        info.help = help_texts.get(name, info.help)
        if parameter.default is inspect.Parameter.empty:
            info.show_default = False
        if isinstance(info, ArgumentInfo):
            info.metavar = info.metavar or name.upper()
        named = isinstance(info, OptionInfo) and info.default is not ...
        if not named and (parameter.default is False or name in SHORT_NAMES):
            info.param_decls = (f"--{name.replace('_', '-')}", *SHORT_NAMES.get(name, ()))
        parameters[name] = parameter.replace(
            annotation=Annotated[kind, info], kind=inspect.Parameter.KEYWORD_ONLY
        )
    return parameters


def _read_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of parameters and result; of what only type checkers import, Any."""

    class Names(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return Any

    names = Names({**vars(builtins), **inspect.unwrap(function).__globals__})
    return get_type_hints(function, localns=names, include_extras=True)


def _split_hint(hint: Any) -> tuple[Any, ParameterInfo | None]:
    """The type that the command line passes, and what typer knows of it; None: not an option.

    Of a union the first type, and None where it is among them; of a sequence a list.
    """
    if get_origin(hint) is Annotated:
        kind, *metadata = get_args(hint)
        info = next((entry for entry in metadata if isinstance(entry, ParameterInfo)), None)
        return _split_hint(kind)[0], info
    if get_origin(hint) in (Union, types.UnionType):
        members = get_args(hint)
        first, info = _split_hint(members[0])
        return (first | None if type(None) in members else first), info
    if get_origin(hint) is Sequence:
        return list[_split_hint(get_args(hint)[0])[0]], None  # type: ignore[misc]
    return hint, None
