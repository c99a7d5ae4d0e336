"""Cells of made-up records, as tests of recommendations ask for them."""

from __future__ import annotations

from collections.abc import Iterable

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.store.record import Record, RunStatus
from paretune.study import Study
from support import fake_records as fake


def topic_cells(
    study: Study, records: Iterable[Record] | None = None, states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """The cells of the task ``topics``; of all records of the study by default."""
    records = fake.whole(study) if records is None else records
    return [c for c in group_into_cells(study, records, states) if c.task == "topics"]


def mostly_collapsed(tfidf: float) -> tuple[Study, list[Record]]:
    """Full fine-tuning and LoRA with four seeds each, seven of which answer a constant."""
    study = fake.study(methods=["full", "lora"], protocol={"seeds": [1, 2, 3, 4], "folds": 1})
    records = [*fake.cell(study, "majority", None), *fake.cell(study, "tfidf", tfidf)]
    for name in ("full", "lora"):
        for seed in study.protocol.seeds:
            learned = (name, seed) == ("lora", 4)
            part = fake.answers(0.99, seed=seed) if learned else fake.constant()
            run = fake.make_run(study, "final", name, seed)
            records.append(fake.record(run, {"test": part}, result={"steps": 60}))
    return study, records
