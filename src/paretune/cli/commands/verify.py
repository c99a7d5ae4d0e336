"""``paretune verify``: whether a store still says what was written to it. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import check_json_output, to_json_value, write_result
from paretune.cli.options import AsJson, JsonFile, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import echo, sanitise_line


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
    from paretune.reporting.text.formatting import pluralise
    from paretune.verbs.verify import verify as ask

    check_json_output(as_json, output)
    found = ask(load_overridden(study, overrides), store=store, set_aside=set_aside)
    if as_json:
        write_result("verify", to_json_value(found), output)
        if found.problems:
            raise SystemExit(StoreError.exit_code)
        return
    for what in found.set_aside:
        echo(f"set aside: {sanitise_line(what)}")
    if found.problems:
        told = "\n".join(f"  {sanitise_line(problem)}" for problem in found.problems)
        raise StoreError(
            f"{pluralise(len(found.problems), 'problem')}:\n{told}\n",
            where=str(found.folder),
            remedy="Restore what is damaged from a copy of the store; without one, --set-aside "
            "puts damaged records away. `paretune run` makes again what is lost or put away.",
        )
    again = "; `paretune run` makes what was set aside again" if found.set_aside else ""
    echo(
        f"{sanitise_line(found.folder)}: {pluralise(found.runs, 'ended run')}, all as written{again}."
    )
