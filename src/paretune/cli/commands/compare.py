"""``paretune compare``: two methods of a study, paired on the same examples. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.option_groups import with_option_groups
from paretune.cli.options import JsonOptions, StoreFolder, StudyArguments
from paretune.terminal import console, sanitise_line


@with_option_groups
def compare(
    study: StudyArguments,
    a: Annotated[str, typer.Argument(metavar="A", help="A method or baseline, as in the report.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    json: JsonOptions,
    store: StoreFolder = None,
) -> None:
    """Compare two methods on every task and model, and say what would decide between them."""
    from paretune.reporting.text.pair_comparison import describe_pair
    from paretune.verbs.compare import compare as compare_methods

    out = console()
    results = compare_methods(study.load(), a, b, store=store)
    if json.as_json:
        write_result("compare", {"tasks": results}, json.output)
        return
    for result in results:
        heading = f"{result.model} on {result.task}: {result.metric}"
        out.print(sanitise_line(heading), style="bold")
        sentences = [f"{sanitise_line(result.why)}."]
        if result.pair is not None:
            sentences = list(
                describe_pair(result.pair, result.needed, result.lost, blind=result.blind)
            )
        for sentence in sentences:
            out.print(f"  {sentence}")
