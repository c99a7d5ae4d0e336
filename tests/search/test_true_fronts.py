"""``bench/search.py``: searches beside one another by the true fronts of what each has found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paretune import run
from paretune.store import Store
from paretune.study import Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.report import load_results


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


@pytest.mark.slow
def test_the_trials_of_each_search_are_found_in_the_store(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``precision: auto``, which the store resolves: a run of another precision is another."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import search

    small = {"name": "auto", "members": ["lora", "ia3"], "groups": 2, "budget": 0.5}
    small |= {"controls": False}
    study = Study.parse(
        {
            "study": "tiny",
            "tasks": [tiny_task(tmp_path / "data").model_dump(exclude_none=True)],
            "models": [{"name": str(tiny_model("bert")), "label": "tiny"}],
            "methods": [
                {**small, "label": "improvement"},
                {**small, "label": "random", "sampler": "random"},
            ],
            "protocol": {"seeds": [1], "folds": 1, "outer": "split", "keep_weights": 0},
            "training": {"max_steps": 2, "batch_size": 4, "max_length": 16},
        }
    )
    run(study, store=tmp_path / "store", workers=1)
    results = load_results(study, tmp_path / "store")
    with Store.open(tmp_path / "store") as store:
        seconds = search.sum_seconds(results, store, study.tasks[0].key)
    assert set(seconds) == {"improvement", "random"}
    trained = [record.train_seconds for record in results.records if record.run.stage == "tune"]
    assert 0 < max(trained) <= max(seconds.values()) <= sum(trained) + 1e-6
    assert min(seconds.values()) > 0
