"""The command line: one file for each command. Torch and numpy wait until one needs them."""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from paretune import plugins
from paretune.errors import INTERRUPTED, ParetuneError, StudyError
from paretune.measuring.processor import limit_threads_to_quota
from paretune.terminal import (
    OutputClosedError,
    detach_output,
    echo,
    sanitise_tracebacks_and_warnings,
)

VERBS = (
    "demo",
    "tune",
    "new",
    "check",
    "plan",
    "run",
    "watch",
    "track",
    "report",
    "why",
    "peft-results",
    "recommend",
    "compare",
    "export",
    "verify",
    "merge",
    "ls",
    "doctor",
)
GROUPS = ("data",)
CommandLineError: type[Any] = typer.BadParameter.__mro__[2]
"""Typer's errors on the command line; it has a copy of click, or click itself."""


class Verbs(TyperGroup):
    """The verbs, and those of installed packages (entry point group ``paretune.commands``).

    An entry point points to a function, or to a ``typer.Typer`` of several. A verb may have two
    words whose first is a verb or a group too: ``export slobench STUDY``. A study file with the
    name of the second word is passed by its path: ``./slobench``.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs that can be used."""
        return [*super().list_commands(ctx), *plugins.load_all(plugins.COMMANDS, object)[0]]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb; None where there is none."""
        if cmd_name not in self.commands and cmd_name in plugins.names(plugins.COMMANDS):
            command: Any = plugins.load(plugins.COMMANDS, cmd_name, object)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=cmd_name)
            else:
                app.command(cmd_name)(command)
            self.commands = typer.main.get_group(app).commands
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb at the beginning of the arguments."""
        if (two := " ".join(args[:2])) in plugins.names(plugins.COMMANDS):
            args = [two, *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="paretune",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in VERBS:
    name = verb.replace(" ", "_").replace("-", "_")
    app.command(verb)(getattr(import_module(f"paretune.cli.commands.{name}"), name))
for group in GROUPS:
    app.add_typer(import_module(f"paretune.cli.commands.{group}").app, name=group)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        echo(f"paretune {version('paretune')}")
        raise typer.Exit


@app.callback(
    epilog="A first look: paretune demo. Your own data: paretune tune FILE; step by step: new, "
    "check, plan, run and report."
)
def paretune(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Which fine-tuning method is worth it, for your model, your data and your memory?"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; a user's mistake ends in one message and an exit code."""
    sanitise_tracebacks_and_warnings()
    limit_threads_to_quota()
    try:
        code = _run(arguments)
        if code == INTERRUPTED:
            echo("interrupted; the same command continues", error=True)
    except OutputClosedError:
        code = INTERRUPTED
        detach_output()
    sys.exit(code or 0)


def _run(arguments: list[str] | None) -> Any:
    """The exit code of a command line."""
    try:
        return app(arguments, prog_name="paretune", standalone_mode=False)
    except ParetuneError as error:
        echo(f"error: {error}", error=True)
        return error.exit_code
    except CommandLineError as error:
        echo(_usage(error), error=True)
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        echo(f"error: {str(error.filename)[:80]}...: the name is too long for a file.", error=True)
        return StudyError.exit_code
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # raised by typer while it printed help
            raise OutputClosedError from None
        return end.code
    except KeyboardInterrupt:
        return INTERRUPTED


def _usage(error: Any) -> str:
    """What is wrong with a command line, and how to get help."""
    message = str(error.format_message())
    if error.ctx is None or type(error).__name__ == "NoArgsIsHelpError":
        return message
    end = "" if message.endswith((".", "?")) else "."
    more = f"`{error.ctx.command_path} --help` shows what it takes."
    return f"{error.ctx.get_usage()}\nerror: {message}{end} {more}"
