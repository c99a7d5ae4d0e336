"""``paretune why``: why one method is heavier than another, in words. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import check_json_output, write_result
from paretune.cli.options import AsJson, JsonFile, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import console, sanitise_line


def why(
    study: StudyName,
    method: Annotated[
        str, typer.Argument(metavar="A", help="A method of the study.", show_default=False)
    ],
    other: Annotated[
        str, typer.Argument(metavar="B", help="The method beside it.", show_default=False)
    ],
    overrides: Overrides = None,
    store: StoreFolder = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="Only this task. [default: all]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Only this model. [default: all]")
    ] = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Say why method A takes more or less memory in training than method B.

    The parts (weights, gradients, optimiser states, activations, the rest) by their difference.
    """
    from paretune.verbs.why import why as ask

    out = console()
    check_json_output(as_json, output)
    pairs = ask(
        load_overridden(study, overrides), method, other, store=store, task=task, model=model
    )
    if as_json:
        write_result("why", {"pairs": pairs}, output)
        return
    for place, found in enumerate(pairs):
        title = f"{sanitise_line(found.task)}, {sanitise_line(found.model)}"
        out.print(f"\n{title}" if place else title, style="bold")
        for sentence in found.sentences:
            out.print(sentence)
