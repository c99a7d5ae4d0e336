"""The blocks on searches: what is said of what each has found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from support import fake_records as fake

from paretune.reporting.search import build_search_table
from paretune.study import MethodSpec

LORA = {"name": "lora", "rank": 8}


def row(label: str, score: float, **options: Any) -> Any:
    """A row of the report; with options what a search has found, without a plain method."""
    values: dict[str, Any] = {"name": "auto" if options else "lora", "label": label, **options}
    run = fake.make_run(fake.study(), "final", "lora", 1).model_copy(
        update={"method": MethodSpec.model_validate(values), "learning_rate": 1e-3}
    )
    cell = SimpleNamespace(
        model="m", baseline=False, final=(fake.record(run),) * 3, tuning=(), method=label
    )
    return SimpleNamespace(
        cell=cell,
        title=label,
        model="m",
        names={"label": label},
        interval=SimpleNamespace(estimate=score),
    )


def test_it_is_said_once_whether_a_search_was_worth_it() -> None:
    """A further one of the front is meant to be cheaper, and a control is none of it."""
    rows = [
        row("lora", 0.80),
        row("auto", 0.85, methods=[LORA]),
        row("auto-2", 0.70, methods=[LORA], finalist=2),
        row("auto-random", 0.84, methods=[LORA], sampler="random"),
        row("auto-tuned-lora", 0.83, methods=[LORA], members=["lora"]),
    ]
    grid = build_search_table(rows, [])
    assert grid is not None and [line["label"] for line in grid.rows] == [r.title for r in rows[1:]]
    (note,) = grid.notes
    assert note.startswith(
        "Was the search worth it? auto (3 final runs) is 0.010 above auto-random"
    )
    assert "0.050 above lora, the best method that was set by hand" in note
