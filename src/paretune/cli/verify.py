"""``paretune verify``: whether a store still says what was written to it. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import asked, give, values
from paretune.cli.options import AsJson, JsonFile, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, overridden
from paretune.terminal import plain, say


def verify(
    study: StudyName,
    overrides: Overrides = None,
    store: StoreFolder = None,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Put damaged records away; `run` makes them again."),
    ] = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Compare every record and every blob of a store with its checksum.

    Names what changed since it was written, and runs that were done and are lost.
    """
    from paretune.errors import StoreError
    from paretune.report.words import counted
    from paretune.verbs.verify import verify as ask

    asked(as_json, output)
    found = ask(overridden(study, overrides), store=store, set_aside=set_aside)
    if as_json:
        give("verify", values(found), output)
        if found.problems:
            raise SystemExit(StoreError.exit_code)
        return
    for what in found.set_aside:
        say(f"set aside: {plain(what)}")
    if found.problems:
        told = "\n".join(f"  {plain(problem)}" for problem in found.problems)
        raise StoreError(
            f"{counted(len(found.problems), 'problem')}:\n{told}\n",
            where=str(found.folder),
            remedy="Restore what is damaged from a copy of the store; without one, --set-aside "
            "puts damaged records away. `paretune run` makes again what is lost or put away.",
        )
    again = "; `paretune run` makes what was set aside again" if found.set_aside else ""
    say(f"{plain(found.folder)}: {counted(found.runs, 'ended run')}, all as written{again}.")
