"""``deploy``: what it takes to hold many tasks on one base, by method and form of export."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.errors import MethodError, StudyError, require_name
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs import study_input
from paretune.verbs.options import Devices, Name, StoreFolder, StudyLike, Threads
from paretune.verbs.report import load_results
from paretune.verbs.result import Result, Tell, tell_nothing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.exporting.deployment import HostingCost

FORMS = {"paretune": "paretune", "peft": "PEFT", "merged": "merged"}


@dataclass(frozen=True, repr=False)
class Deployment(Result):
    """What it takes on this machine to hold so many tasks.

    Attributes:
        task: of the study, whose labels each has, and one of whose texts is answered.
        tasks: how many.
        device: that answers.
        threads: of the process.
        costs: for each method and form: model, method, form, weights (``trained``, or ``fresh``
            where none were kept), precision, disk_bytes, memory_bytes, loaded_tasks (of which the
            memory follows), load_seconds, swap_seconds, text_seconds.
    """

    task: str
    tasks: int
    device: str
    threads: int
    costs: tuple[HostingCost, ...]

    def describe(self) -> Iterable[RenderableType]:
        """A table for each model, and what its columns are."""
        from rich.table import Table
        from rich.text import Text

        from paretune.methods.core.titles import title_of
        from paretune.reporting.text.formatting import format_bytes, format_seconds

        for model in dict.fromkeys(cost.model for cost in self.costs):
            yield f"{self.tasks} tasks like {self.task} on {model}"
            table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
            for title in ("  method", "form", "weights"):
                table.add_column(title, no_wrap=title != "  method", overflow="fold")
            for title in ("disk", "memory", "load", "swap", "a text"):
                table.add_column(title, justify="right", no_wrap=True)
            for cost in self.costs:
                seconds = (cost.load_seconds, cost.swap_seconds, cost.text_seconds)
                cells = [
                    f"  {sanitise_line(title_of(cost.method))}",
                    FORMS[cost.form],
                    cost.weights,
                ]
                cells += map(format_bytes, (cost.disk_bytes, cost.memory_bytes))
                cells += map(format_seconds, seconds)
                if cost.model == model:
                    table.add_row(*map(Text, cells))
            yield table
        yield "Disk, memory: of all tasks and the base. Load: of one, from a file in the cache."
        yield f"A text: of one pass, on {self.device} with {pluralise(self.threads, 'thread')}."


def deploy(
    study: StudyLike,
    *,
    tasks: Annotated[int, typer.Option(metavar="N", min=2)] = 10,
    task: Name | None = None,
    threads: Threads = 1,
    devices: Devices = "auto",
    store: StoreFolder = None,
    tell: Tell = tell_nothing,
) -> Deployment:
    """Measure what many tasks on one base take.

    Bytes on disk and in memory, seconds to load, to swap and to answer: of every trained method, in
    each form of export, with the study's own weights where they were kept.

    Args:
        tasks: How many are in memory at once.
        task: Of the study, that they are like. [default: the first]
        tell: called with a sentence before each method.

    Raises:
        StudyError: no such study, task or device, or nothing was trained.
        StoreError: the store is missing or damaged, or never ran this study.
        MethodError: a measurement was killed, or a script that has no
            ``if __name__ == "__main__":`` calls it.
    """
    study = study_input.load_study(study)  # before torch is imported
    task = task or study.tasks[0].key
    require_name("task", task, [spec.key for spec in study.tasks], f"study {study.study}")
    from paretune.exporting.deployment import HostingCost, measure_alone, write_task
    from paretune.measuring.devices import resolve_devices
    from paretune.store import Store
    from paretune.tasks import pin_dataset
    from paretune.training.caches import ProcessCache
    from paretune.training.forward.passes import Compute

    device, caches, costs = resolve_devices(devices)[0], ProcessCache(), []
    results = load_results(study, store)
    finals = [
        record
        for record in results.records
        if (record.run.cell[0], record.run.stage) == (task, "final")
        and record.run.learning_rate is not None  # it trains something
    ]
    if not finals:
        raise StudyError(
            f"has no ended final run on {task} that trained a model.",
            where=f"study {study.study}",
            remedy="`paretune run` trains them.",
        )
    with Store.open(results.folder) as opened:
        dropped = opened.list_dropped_runs()
        with_weights = [r for r in finals if "weights" in r.result and r.run_id not in dropped]
        for record in {r.run.cell: r for r in (*finals, *with_weights)}.values():
            run = record.run
            stored = record.result.get("weights") if record in with_weights else None
            weights = None if stored is None else opened.read_blob(stored)
            tell(f"Measuring {run.method.key} on {run.model.key}.")
            dataset = caches.dataset(pin_dataset(run.task, offline=True))
            place, source = Compute.of(run, device), caches.source(run.model)
            with tempfile.TemporaryDirectory() as folder:
                for host in write_task(run, dataset, source, weights, place, Path(folder)):
                    try:
                        measured = measure_alone(host, tasks, threads)
                    except BrokenProcessPool as error:
                        raise MethodError(
                            f"the process that held {tasks} tasks was killed ({error}).",
                            where=f"{run.method.key}, {host.form}",
                            remedy="Hold fewer: --tasks.",
                        ) from error
                    kind = "fresh" if weights is None else "trained"
                    cell = (run.model.key, run.method.key, host.form, kind, run.training.precision)
                    costs.append(HostingCost(*cell, **measured))
    return Deployment(task, tasks, device, threads, tuple(costs))
