"""``paretune export``: a trained run as a folder that other libraries open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import run_fields, write_result
from paretune.cli.options import (
    AsJson,
    Online,
    StoreFolder,
    StudyArguments,
    TrainAgain,
    with_option_groups,
)
from paretune.errors import StudyError
from paretune.terminal import echo


@dataclass(frozen=True)
class RunSelection:
    """Which final run of a study."""

    task: Annotated[str | None, typer.Option(help="Where the study has several.")] = None
    model: Annotated[str | None, typer.Option(help="Where the study has several.")] = None
    method: Annotated[str | None, typer.Option(help="By default what `recommend` says.")] = None
    seed: Annotated[
        int | None, typer.Option(help="By default that of the best selection score.")
    ] = None


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and where to.

    Raises:
        StudyError: ``--public`` without ``--push``.
    """

    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="A new folder. [default: exports/STUDY/...]"
        ),
    ] = None
    form: Annotated[
        str,
        typer.Option(
            help="peft (an adapter), merged (a whole checkpoint), paretune (our own folder), "
            "lora (LoHa, LoKr and some of PEFT's tuners, converted by PEFT for servers), or auto: "
            "the first that is possible."
        ),
    ] = "auto"
    train_again: TrainAgain = False
    allow_collapsed: Annotated[
        bool,
        typer.Option(
            "--allow-collapsed", help="Also a model that gives every example the same answer."
        ),
    ] = False
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Also upload it to the Hugging Face hub, by the login of `hf auth login`; a new "
            "repository is private.",
        ),
    ] = None
    public: Annotated[bool, typer.Option("--public", help="With --push: everybody may see it.")] = (
        False
    )
    online: Online = False

    def __post_init__(self) -> None:
        if self.public and self.push is None:
            raise StudyError("needs --push.", where="--public", remedy="Add --push OWNER/NAME.")


@with_option_groups
def export(
    study: StudyArguments,
    selection: RunSelection,
    options: ExportOptions,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained model that other libraries open.

    With a model card. The folder is opened again, and its logits and answers are compared with
    the trained model's.
    """
    from paretune.verbs.export import export as export_run

    result = export_run(
        study.load(),
        output=options.output,
        store=store,
        form=options.form,
        train_again=options.train_again,
        allow_collapsed=options.allow_collapsed,
        push=options.push,
        public=options.public,
        online=options.online,
        tell=_print_progress if as_json else echo,
        **vars(selection),
    )
    if as_json:
        fields = {
            "folder": result.folder,
            "form": result.form,
            "run": run_fields(result.run),
            "largest_difference": result.largest_difference,
            "answers": vars(result.answers),
            "notes": result.notes,
            "url": result.url or None,
        }
        write_result("export", fields)
        return
    run = " x ".join(result.run.cell)
    echo(f"Exported: {result.folder} ({result.form}): {run}, seed {result.run.seed}.")
    echo(f"Opened again, its logits differ by {result.largest_difference:.1g} at most.")
    if result.answers.rows:
        echo(f"The card's program: {result.answers}.")
    echo(f"How to open it: {result.folder / 'README.md'}")
    if result.url:
        echo(f"On the hub: {result.url} ({'public' if options.public else 'private'})")
    for note in result.notes:
        echo(note)


def _print_progress(text: str) -> None:
    echo(text, error=True)
