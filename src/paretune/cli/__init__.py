"""The command line: one file for each verb. Nothing heavy is imported until a verb needs it."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from paretune.errors import ParetuneError

VERBS = (
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
    "export slobench",
    "ls",
    "doctor",
)
GROUPS = ("data", "slobench")
INTERRUPTED = 130


class Verbs(TyperGroup):
    """A verb may have two words where its first alone is a verb too: ``export slobench STUDY``.

    So a study file that is called as the second word is given by its path: ``./slobench``.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb at the beginning of the arguments."""
        if (two := " ".join(args[:2])) in self.commands:
            args = [two, *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="paretune",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in VERBS:
    name = verb.replace(" ", "_").replace("-", "_")
    app.command(verb)(getattr(import_module(f"paretune.cli.{name}"), name))
for group in GROUPS:
    app.add_typer(import_module(f"paretune.cli.{group}").app, name=group)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"paretune {version('paretune')}\n")
        raise typer.Exit


@app.callback(
    epilog="A first look: paretune run sample. Your own data: paretune new FILE, then check, "
    "plan, run and report."
)
def paretune(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Which fine-tuning method is worth it, for your model, your data and your memory?"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; a user's mistake ends in one message and an exit code."""
    try:
        app(arguments, prog_name="paretune")
    except ParetuneError as error:
        from paretune.report.words import plain

        said = "\n".join(plain(line) for line in str(error).splitlines())
        sys.stderr.write(f"error: {said}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone (`paretune ls | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stderr.write("interrupted; the same command continues\n")
        raise
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command continues\n")
        sys.exit(INTERRUPTED)
    sys.exit(0)
