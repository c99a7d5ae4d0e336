"""``paretune export``: a trained run as a folder that others open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import run_fields, write_result
from paretune.cli.options import AsJson, Online, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import echo


def export(
    study: StudyName,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Made anew. [default: exports/STUDY/...]"
        ),
    ] = None,
    store: StoreFolder = None,
    task: Annotated[str | None, typer.Option(help="Where the study has several.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the study has several.")] = None,
    method: Annotated[
        str | None, typer.Option(help="The one of the highest score by default.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="That of the best selection score by default.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            help="peft (an adapter), merged (a whole checkpoint), paretune (our own folder), or "
            "auto: the first that can be."
        ),
    ] = "auto",
    train_again: Annotated[
        bool, typer.Option("--train-again", help="Where the weights were not kept.")
    ] = False,
    allow_collapsed: Annotated[
        bool,
        typer.Option(
            "--allow-collapsed", help="Also a model that gives every example the same answer."
        ),
    ] = False,
    online: Online = False,
    as_json: AsJson = False,
) -> None:
    """Write a final run as a folder that others open, with a card.

    What was written is opened again, and its logits are compared.
    """
    from paretune.verbs.export import export as write

    done = write(
        load_overridden(study, overrides),
        to=output, store=store, task=task, model=model, method=method, seed=seed, form=form,
        train_again=train_again, allow_collapsed=allow_collapsed, online=online,
        tell=_progress if as_json else echo,
    )  # fmt: skip
    if as_json:
        told = ("folder", "form", "largest_difference", "notes")
        write_result("export", {**{n: getattr(done, n) for n in told}, "run": run_fields(done.run)})
        return
    run = " x ".join(done.run.cell)
    echo(
        f"Exported: {done.folder} ({done.form}): {run}, seed {done.run.seed}.\n"
        f"Opened again, its logits differ by {done.largest_difference:.1g} at most.\n"
        f"How to open it: {done.folder / 'README.md'}" + "".join(f"\n{note}" for note in done.notes)
    )


def _progress(text: str) -> None:
    echo(text, error=True)
