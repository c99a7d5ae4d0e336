"""``bench/search.py``: searches beside one another by the true fronts of what each has found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


def cell(method: str, score: float, parameters: int, name: str = "auto") -> Any:
    values = score + np.linspace(-0.3, 0.3, 41)[None]
    record = SimpleNamespace(trained_parameters=parameters, measured={})
    return SimpleNamespace(
        name=name,
        method=method,
        run_scores=SimpleNamespace(estimate=score, values=values),
        final=(record,),
        cost=(),
        tuning=(),
    )


def test_a_search_is_its_front_and_differences_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import search

    cells = [
        cell("tpe", 0.9, 1000),
        cell("tpe-2", 0.8, 100),
        cell("random", 0.8, 1000),
        cell("random-2", 0.79, 1000),
        cell("majority", 0.5, 0, name="majority"),
        cell("lora", 0.99, 10, name="lora"),
    ]
    areas = search.measure_areas(cells)
    assert set(areas) == {"tpe", "random"}  # three rows of a search are one, others are none
    tens, end = np.log(10), 0.1
    whole = 0.3 * tens + 0.4 * end
    assert areas["tpe"][0] == pytest.approx(1.0)
    assert areas["random"][0] == pytest.approx(0.3 * end / whole)
    first, second = search.describe_task("routing", [areas, areas])
    gap = 1 - areas["random"][0]
    assert first.startswith(f"routing tpe: 1.000 of the area of all, +{gap:.3f} [+")
    assert first.endswith(f"against random (+{gap:.3f}, +{gap:.3f})") and "against" not in second
    first, second = search.describe_task("routing", [areas], "tpe")
    assert "against" not in first and second.endswith("against tpe")
