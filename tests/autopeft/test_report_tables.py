"""What a report says of searches."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from support import fake_records as fake

from paretune.study import MethodSpec
from paretune_autopeft.report_tables import TABLE

LORA = {"name": "lora", "rank": 8}


def row(label: str, score: float, **options: Any) -> Any:
    """A row of the report; with options what a search has found, without a plain method."""
    values: dict[str, Any] = {"name": "auto" if options else "lora", "label": label, **options}
    run = fake.make_run(fake.study(), "final", "lora", 1).model_copy(
        update={"method": MethodSpec.model_validate(values), "learning_rate": 1e-3}
    )
    cell = SimpleNamespace(
        model="m",
        baseline=False,
        final=(fake.record(run),) * 3,
        tuning=(),
        interval=SimpleNamespace(estimate=score),
    )
    report = SimpleNamespace(title=label, model="m", method=label, label=label, baseline=False)
    return SimpleNamespace(cell=cell, report=report)


def test_it_is_said_once_whether_a_search_was_worth_it() -> None:
    """A further one of the front is meant to be cheaper, and a control is none of it."""
    rows = [
        row("lora", 0.80),
        row("auto", 0.85, methods=[LORA]),
        row("auto-2", 0.70, methods=[LORA], finalist=2),
        row("auto-random", 0.84, methods=[LORA], sampler="random"),
        row("auto-tuned-lora", 0.83, methods=[LORA], members=["lora"]),
    ]
    grid = TABLE.build(fake.study().tasks[0], rows, [])
    assert grid is not None and [line["label"] for line in grid.rows] == [
        r.report.title for r in rows[1:]
    ]
    (note,) = grid.notes
    assert note.startswith(
        "Was the search worth it? auto (3 final runs) is 0.010 above auto-random"
    )
    assert "0.050 above lora, the best method that was set by hand" in note


def test_reading_a_search_needs_no_model_library() -> None:
    code = (
        "import sys, paretune_autopeft.proposer, paretune_autopeft.report_tables\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
