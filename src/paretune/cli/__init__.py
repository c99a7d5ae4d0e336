"""The command line: what is called what. A verb is imported when it is called."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from paretune import plugins
from paretune.cli.command import add_verb
from paretune.errors import (
    INTERRUPTED,
    ModelError,
    OutputClosedError,
    ParetuneError,
    StudyError,
    first_line,
    use_command_line,
)
from paretune.measuring.processor import limit_threads_to_quota
from paretune.terminal import (
    detach_output,
    echo,
    sanitise_tracebacks_and_warnings,
)

VERBS: Mapping[str, tuple[str, str]] = {
    "demo": ("paretune.verbs.shipped:demo", "Show a small comparison on sample data."),
    "tune": (
        "paretune.verbs.tune:tune",
        "Compare methods on a data file, and export the best.",
    ),
    "new": ("paretune.verbs.new:new", "Write a commented study file for a data file."),
    "check": ("paretune.verbs.check:check", "Check data, models and methods before a run."),
    "plan": ("paretune.verbs.plan:plan", "Predict the time and memory of a study."),
    "run": ("paretune.verbs.run:run", "Run a study, or continue it."),
    "watch": ("paretune.verbs.watch:watch", "Follow a study while it runs."),
    "report": ("paretune.verbs.report:report", "Show the results of a study, and write a page."),
    "judge": (
        "paretune.verbs.judge:judge",
        "Compare runs that were trained elsewhere, by their answers.",
    ),
    "recommend": (
        "paretune.verbs.recommend:recommend",
        "Say which method to take within a budget, and why.",
    ),
    "next": (
        "paretune.verbs.recommend:find_next_steps",
        "Say what may raise the score most, from what has run.",
    ),
    "compare": ("paretune.verbs.compare:compare", "Compare two methods, or all methods with one."),
    "export": (
        "paretune.verbs.export:export",
        "Write a trained model that other libraries open.",
    ),
    "verify": ("paretune.verbs.stores:verify", "Compare every stored result with its checksum."),
    "merge": (
        "paretune.verbs.stores:merge",
        "Bring the results of several machines together.",
    ),
    "ls": ("paretune.verbs.shipped:ls", "List tasks, methods, models and studies."),
    "doctor": (
        "paretune.verbs.doctor:doctor",
        "Show what this machine and installation can do.",
    ),
    "data sample": (
        "paretune.verbs.shipped:sample",
        "Copy the files of a sample task, to try things on.",
    ),
}
"""Functions by what they are called, and the first sentence of their help.

A function is imported when its verb is called. A verb may have two words.
"""
SECTIONS: Mapping[str, Sequence[str]] = {
    "Start here": ("demo", "tune"),
    "Step by step": ("new", "check", "plan", "run", "watch"),
    "Answers": ("report", "judge", "recommend", "next", "compare", "export"),
}
"""Sections of the help, with verbs by their purpose; all others come after them."""
DATA_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".gz", ".xlsx")
STUDY_ENDINGS = (".yaml", ".yml")
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("train", "fit", "finetune", "fine-tune", "start", "benchmark"), "run"),
    **dict.fromkeys(("init", "create"), "new"),
    **dict.fromkeys(("validate", "lint", "audit"), "check"),
    **dict.fromkeys(("estimate", "dry-run"), "plan"),
    **dict.fromkeys(("status", "progress", "monitor"), "watch"),
    **dict.fromkeys(("eval", "evaluate", "results", "show", "score", "scores"), "report"),
    **dict.fromkeys(("best", "choose", "select", "suggest"), "recommend"),
    **dict.fromkeys(("diff", "versus", "vs", "why"), "compare"),
    **dict.fromkeys(("save", "push", "upload", "predict"), "export"),
    **dict.fromkeys(("list", "methods", "models", "studies"), "ls"),
    **dict.fromkeys(("info", "env", "diagnose"), "doctor"),
    "data": "data sample",
}
"""Names of other programs for a verb."""
CommandLineError: type[Any] = typer.BadParameter.__mro__[2]
"""Typer's errors on the command line; it has a copy of click, or click itself."""


class Verbs(TyperGroup):
    """The verbs, and those of installed packages (entry point group ``paretune.commands``).

    An entry point points to a function, or to a ``typer.Typer`` of several. A verb may have two
    words: ``export slobench STUDY``. A study file with the name of the second word is passed by
    its path: ``./slobench``.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs that can be used."""
        return [*VERBS, *plugins.load_all(plugins.COMMANDS, object)[0]]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb; None where there is none. Of the core only name and help."""
        if cmd_name not in self.commands and cmd_name in plugins.names(plugins.COMMANDS):
            plugin = plugins.load(plugins.COMMANDS, cmd_name, object)
            self.commands[cmd_name] = load_command(cmd_name, plugin)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb at the beginning of the arguments, and import it."""
        if (two := " ".join(args[:2])) in (*VERBS, *plugins.names(plugins.COMMANDS)):
            args = [two, *args[2:]]
        if args[0] in VERBS:
            self.commands[args[0]] = load_command(args[0], load_verb(args[0]))
        elif not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            refuse_near_miss(args)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the verbs by :data:`SECTIONS`, each with its first sentence in full."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        placed = [verb for verbs in SECTIONS.values() for verb in verbs]
        rest = [verb for verb in commands if verb not in placed]
        width = max(map(len, commands))
        for title, verbs in {**SECTIONS, "More": rest}.items():
            with formatter.section(title):
                formatter.write_dl(
                    (verb.ljust(width), (commands[verb].help or "").partition("\n\n")[0])
                    for verb in verbs
                )


APPEARANCE: Mapping[str, Any] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(name="paretune", cls=Verbs, no_args_is_help=True, **APPEARANCE)
for name, (_, first_sentence) in VERBS.items():
    # Listed with its help; resolve_command puts the function in its place.
    app.command(name, help=first_sentence)(lambda: None)


def load_verb(name: str) -> Any:
    """The function of a verb of the core."""
    return EntryPoint(name, VERBS[name][0], plugins.COMMANDS).load()


def load_command(name: str, verb: Any) -> Any:
    """The command of a function, or of a ``typer.Typer``."""
    group = typer.Typer(**APPEARANCE)
    group.callback()(lambda: None)
    if isinstance(verb, typer.Typer):
        group.add_typer(verb, name=name)
    else:
        add_verb(group, name, verb, name)
    return typer.main.get_group(group).commands[name]


def _print_version(requested: bool) -> None:
    if requested:
        echo(f"paretune {version('paretune')}")
        raise typer.Exit


@app.callback()
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
        with use_command_line():
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
        message = str(error.format_message())
        if error.ctx is not None and type(error).__name__ != "NoArgsIsHelpError":
            end = "" if message.endswith((".", "?")) else "."
            help_line = f"`{error.ctx.command_path} --help` shows what it takes."
            message = f"{error.ctx.get_usage()}\nerror: {message}{end} {help_line}"
        echo(message, error=True)
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
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust code: no Exception
            raise
        echo(
            f"error: a library of the tokenizer stopped ({first_line(error)}). "
            "tokenizer.json is damaged, or not to be trusted.",
            error=True,
        )
        return ModelError.exit_code


def refuse_near_miss(words: Sequence[str]) -> None:
    """Name the command that was meant, where the words of a command line tell it.

    Args:
        words: from the first on, which names no command.

    Raises:
        StudyError: the first is a file, or another program's word for a command.
    """
    first, rest = words[0].lower(), words[1:]
    if first.endswith(DATA_ENDINGS):
        what = f"{words[0]} is a data file."
        suggested = ["tune", *words]
    elif first.endswith(STUDY_ENDINGS):
        what = f"{words[0]} is a study file."
        suggested = ["run", *words]
    elif first in SYNONYMS:
        verb = SYNONYMS[first]
        if verb == "run" and any(word.lower().endswith(DATA_ENDINGS) for word in rest):
            verb = "tune"
        what = f"there is no command {words[0]}."
        suggested = [*verb.split(), *rest]
    else:
        return
    suggestion = shlex.join(["paretune", *suggested])
    if suggested == ["run"]:
        suggestion = "paretune tune DATA, or: paretune run STUDY"
    raise StudyError(what, remedy=f"Did you mean: {suggestion}")
