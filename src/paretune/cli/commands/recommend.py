"""``paretune recommend``: the cheapest configuration whose expected loss is small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, Quiet, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import console


@dataclass(frozen=True)
class BudgetOptions:
    """What a configuration may cost, and which cost counts."""

    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Peak memory in training: 4GiB.")
    ] = None
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="To train one run alone: 10min.")
    ] = None
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What is saved of a run: 20MB.")
    ] = None
    within: Annotated[
        str | None,
        typer.Option(metavar="POINTS", help="Expected loss that is accepted: 1pt (of 100)."),
    ] = None
    proven: Annotated[
        bool,
        typer.Option("--proven", help="Only what is proven better than every baseline."),
    ] = False
    by: Annotated[
        str,
        typer.Option(help="The cost: memory, time, step, parameters, saved or inference."),
    ] = "memory"


@with_option_groups
def recommend(
    study: StudyArguments,
    budget: BudgetOptions,
    json: JsonOptions,
    store: StoreFolder = None,
    task: Annotated[str | None, typer.Option(help="This task only.")] = None,
    quiet: Quiet = False,
) -> None:
    """Say which method to take within a budget, and why.

    The cheapest whose expected loss against the best is at most 1 point (--within), baselines
    included, with the chances that it is the best, worse, or below the best free baseline.
    """
    from paretune.verbs.recommend import recommend as recommend_within

    out = console()
    advices = recommend_within(
        study.load(), store=store, task=task, called=study.as_typed(), **vars(budget)
    )
    if json.as_json:
        write_result("recommend", {"tasks": advices}, json.output)
        return
    for i, advice in enumerate(advices):
        if quiet:
            out.print(advice.lines[0], soft_wrap=True)
            continue
        if i:
            out.print()
        for line in (*advice.lines, *advice.warnings, *advice.explanations):
            out.print(line)
        if advice.changes:
            out.print("What would change it:")
        for sentence in advice.changes:
            out.print(f"- {sentence}")
        if advice.command:
            out.print(advice.command, soft_wrap=True)
