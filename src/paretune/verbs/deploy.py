"""``deploy``: what it takes to hold many tasks on one base, by method and form of export."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.errors import require_name
from paretune.terminal.plural import pluralise
from paretune.verbs import study_input
from paretune.verbs.options import Devices, Name, StoreFolder, StudyLike, Threads
from paretune.verbs.report import load_results
from paretune.verbs.result import Result, Tell, tell_nothing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.reporting.parts import Table


@dataclass(frozen=True, repr=False)
class Deployment(Result):
    """What it takes on this machine to hold so many tasks.

    Attributes:
        task: of the study, whose labels each has, and one of whose texts is answered.
        tasks: how many.
        table: as the report has it: a row for each model, method and form, with loaded (tasks of
            which the memory follows), disk_bytes, memory_bytes, load_seconds, swap_seconds and
            text_seconds, each as value and text; its notes are the conditions.
    """

    task: str
    tasks: int
    table: Table

    def describe(self) -> Iterable[RenderableType]:
        """The table."""
        from paretune.reporting.text.terminal import TableLayout

        yield TableLayout(self.table, len({row["model"] for row in self.table.rows}) > 1)


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
    each form of export. The report has the table, too, if the store can be written to.

    Args:
        tasks: How many are in memory at once.
        task: Of the study, that they are like. [default: the first]
        tell: called with a sentence before each method.

    Raises:
        StudyError: no such study, task or device, or nothing was trained.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    study = study_input.load_study(study)  # before torch is imported
    task = task or study.tasks[0].key
    require_name("task", task, [spec.key for spec in study.tasks], f"study {study.study}")
    import torch

    from paretune.analysis.cells import group_into_cells
    from paretune.exporting.deployment import measure_run
    from paretune.exporting.export_selection import has_weights, no_ended_run
    from paretune.measuring.devices import resolve_devices
    from paretune.methods.core.titles import title_of
    from paretune.reporting.parts import LABEL, Amount, RowValues, Table, column
    from paretune.reporting.text.formatting import format_bytes, format_seconds
    from paretune.store import Store
    from paretune.tasks import pin_dataset
    from paretune.training.caches import ProcessCache

    device, results = resolve_devices(devices)[0], load_results(study, store)
    cells = [cell for cell in group_into_cells(study, results.records) if cell.task == task]
    trained = [cell for cell in cells if has_weights(cell)]
    if not trained:
        raise no_ended_run(study, cells, f"any method on {task}")
    torch.set_num_threads(threads)
    caches, rows = ProcessCache(), list[RowValues]()
    for cell in trained:
        run, model, method = cell.final[0].run, cell.model, cell.method
        tell(f"Measuring {method} on {model}.")
        source, dataset = caches.source(run.model), caches.dataset(pin_dataset(run.task))
        for form, measured in measure_run(run, dataset, source, device, tasks):
            row: RowValues = {"model": model, "method": method, LABEL: title_of(method)}
            row[column("form")] = form
            for name, value in measured.items():
                heading, _, unit = name.partition("_")
                text = format_bytes(value) if unit == "bytes" else format_seconds(value)
                row[column(name, heading)] = Amount(value=value, text=text) if unit else value
            rows.append(row)
    precisions = sorted({cell.final[0].run.training.precision for cell in trained})
    table = Table.collect(
        "deployment",
        f"{tasks} tasks on one base",
        rows,
        above="Disk and memory: of all tasks and the base; memory follows from the tasks that were "
        "loaded. Load: of one more, from a file in the cache. Swap: until another answers. Text: "
        "one pass over one text.",
        notes=[f"{device}, {pluralise(threads, 'thread')}, {' and '.join(precisions)}."],
    )
    with Store.open(results.folder) as opened:
        if opened.is_writable:
            opened.set_setting(f"deployment/{study.study_hash}/{task}", table.model_dump_json())
    return Deployment(task, tasks, table)
