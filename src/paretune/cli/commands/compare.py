"""``paretune compare``: two methods of a study, paired on the same examples. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import console, sanitise_line

if TYPE_CHECKING:
    from paretune.verbs.compare import ComparisonResult


@with_option_groups
def compare(
    study: StudyArguments,
    a: Annotated[str, typer.Argument(metavar="A", help="A method or baseline: lora, tfidf.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    json: JsonOptions,
    store: StoreFolder = None,
) -> None:
    """Compare two methods, and say what would decide.

    On every task and model of the study, paired on the same examples.
    """
    from paretune.reporting.text.pair_comparison import describe_pair
    from paretune.verbs.compare import compare as compare_methods

    out = console()
    results = compare_methods(study.load(), a, b, store=store)
    if json.as_json:
        write_result("compare", {"tasks": [_json_fields(one) for one in results]}, json.output)
        return
    for result in results:
        heading = f"{result.model} on {result.task}: {result.metric}"
        out.print(sanitise_line(heading), style="bold")
        sentences = [f"{sanitise_line(result.why)}."]
        if result.pair is not None:
            sentences = list(describe_pair(result.pair, result.sample_size, result.failed_seeds))
        for sentence in sentences:
            out.print(f"  {sentence}")


def _json_fields(result: ComparisonResult) -> dict[str, Any]:
    return {
        "task": result.task,
        "model": result.model,
        "metric": result.metric,
        "pair": result.pair,
        "needed": result.sample_size,
        "lost": result.failed_seeds,
        "blind": result.single_seed,
        "why": result.why,
    }
