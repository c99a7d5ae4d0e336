"""``paretune compare``: two methods of a study, paired on the same examples. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.options import StoreFolder, StudyName


def compare(
    study: StudyName,
    a: Annotated[str, typer.Argument(metavar="A", help="A method or baseline, as in the report.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    store: StoreFolder = None,
) -> None:
    """Compare two methods on every task and model, and say what would decide between them."""
    from rich.console import Console

    from paretune.report import words
    from paretune.report.comparison import comparison
    from paretune.verbs.compare import compare as beside

    console = Console()
    for found in beside(study, a, b, store=store):
        heading = words.plain(f"{found.model} on {found.task}: {found.metric}")
        console.print(heading, style="bold", highlight=False, markup=False)
        said = [f"{words.plain(found.why)}."]
        if found.pair is not None:
            said = list(
                comparison(found.pair, found.pairs, found.needed, found.lost, blind=found.blind)
            )
        for text in said:
            console.print(f"  {text}", highlight=False, markup=False)
