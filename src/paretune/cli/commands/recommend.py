"""``paretune recommend``: the cheapest configuration that is as good, as far as can be told."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import check_json_output, write_result
from paretune.cli.options import AsJson, JsonFile, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden, study_command
from paretune.terminal import console


def recommend(
    study: StudyName,
    overrides: Overrides = None,
    store: StoreFolder = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Peak memory in training, as 4GiB.")
    ] = None,
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="To train one run alone, as 10min.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What is saved of a run, as 20MB.")
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS", help="How much of the score may be given up, as 1pt (of 100)."
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="What is cheap: memory, time, step, parameters, saved or inference."),
    ] = "memory",
    task: Annotated[str | None, typer.Option(help="This task only.")] = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Say which configuration to take within a budget, why, and what would change it.

    The cheapest of those clearly above every baseline that the best is not clearly above; where
    there is none, the highest that scores above the baselines, as a guess.
    """
    from paretune.verbs.recommend import recommend as weigh

    out = console()

    def say(text: str = "", *, soft_wrap: bool = False) -> None:
        out.print(text, soft_wrap=soft_wrap)

    check_json_output(as_json, output)
    found = weigh(
        load_overridden(study, overrides), called=study_command(study, overrides), store=store,
        max_memory=max_memory, max_time=max_time, max_bytes=max_bytes,
        within=within, by=by, task=task,
    )  # fmt: skip
    if as_json:
        write_result("recommend", {"tasks": found}, output)
        return
    for place, advice in enumerate(found):
        if place:
            say()
        for text in (*advice.warnings, *advice.reasons):
            say(text)
        if advice.changes:
            say("What would change it:")
        for text in advice.changes:
            say(f"- {text}")
        if advice.command:
            say(advice.command, soft_wrap=True)
