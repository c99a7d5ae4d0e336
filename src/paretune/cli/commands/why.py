"""``paretune why``: why one method takes more memory than another. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import console, sanitise_line


@with_option_groups
def why(
    study: StudyArguments,
    method: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A method of the study, or METHOD@MODEL.", show_default=False
        ),
    ],
    other: Annotated[
        str, typer.Argument(metavar="B", help="The method to compare it with.", show_default=False)
    ],
    json: JsonOptions,
    store: StoreFolder = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="Only this task. [default: all]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Only this model. [default: all]")
    ] = None,
) -> None:
    """Explain why one method needs more memory.

    Lists what methods A and B hold in training (weights, gradients, optimizer states, activations,
    the rest) by their difference. METHOD@MODEL compares models too: lora@gemma-nf4 and lora@gemma.
    """
    from paretune.verbs.why import why as explain_memory

    out = console()
    pairs = explain_memory(study.load(), method, other, store=store, task=task, model=model)
    if json.as_json:
        write_result("why", {"pairs": pairs}, json.output)
        return
    for i, pair in enumerate(pairs):
        title = f"{sanitise_line(pair.task)}, {sanitise_line(pair.model)}"
        out.print(f"\n{title}" if i else title, style="bold")
        for sentence in pair.sentences:
            out.print(sentence)
