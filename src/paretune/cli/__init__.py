"""The command line: one file for each verb. Nothing heavy is imported until a verb needs it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer

from paretune.errors import ParetuneError

VERBS = ("new", "check", "plan", "run", "report", "ls", "doctor")

app = typer.Typer(
    name="paretune",
    help="Which fine-tuning method is worth it, for your model, your data and your memory?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in VERBS:
    app.command(verb)(getattr(import_module(f"paretune.cli.{verb}"), verb))
app.add_typer(import_module("paretune.cli.data").app, name="data")


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake ends in one message and an exit code."""
    try:
        return app(arguments, standalone_mode=True)
    except ParetuneError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
