"""``paretune compare``: two methods of a study, paired on the same examples. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import check_json_output, write_result
from paretune.cli.options import AsJson, JsonFile, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import console, sanitise_line


def compare(
    study: StudyName,
    a: Annotated[str, typer.Argument(metavar="A", help="A method or baseline, as in the report.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    overrides: Overrides = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Compare two methods on every task and model, and say what would decide between them."""
    from paretune.reporting.text.pair_comparison import describe_pair
    from paretune.verbs.compare import compare as beside

    check_json_output(as_json, output)
    out = console()
    compared = beside(load_overridden(study, overrides), a, b, store=store)
    if as_json:
        write_result("compare", {"tasks": compared}, output)
        return
    for found in compared:
        heading = sanitise_line(f"{found.model} on {found.task}: {found.metric}")
        out.print(heading, style="bold")
        said = [f"{sanitise_line(found.why)}."]
        if found.pair is not None:
            said = list(describe_pair(found.pair, found.needed, found.lost, blind=found.blind))
        for text in said:
            out.print(f"  {text}")
