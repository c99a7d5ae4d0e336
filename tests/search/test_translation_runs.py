"""Which runs a study of translations asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.errors import MethodError
from paretune.planning.prepare import prepare_study
from paretune.search.expand import expand_study, plan_pending_runs
from paretune.study import Study


@pytest.fixture
def study(tmp_path: Path, tiny_model: Any) -> Study:
    """One method on twenty pairs; nothing is opened but the files."""
    for part in ("train", "test"):
        lines = [f"Beseda {part} {i}.\tThe word {part} {i}." for i in range(20)]
        path = tmp_path / f"{part}.tsv"
        path.write_text("\n".join(["sl\ten", *lines]) + "\n", encoding="utf-8")
    raw = {
        "study": "words",
        "tasks": [
            {
                "name": "words",
                "kind": "translation",
                "train": str(tmp_path / "train.tsv"),
                "test": str(tmp_path / "test.tsv"),
                "source_lang": "sl",
                "target_lang": "en",
            }
        ],
        "models": [{"name": str(tiny_model("bert")), "label": "tiny"}],
        "methods": ["full"],
        "protocol": {"seeds": [1, 2], "folds": 1},
        "generation": {"num_beams": 2},
        "training": {"precision": "fp32"},
    }
    return Study.parse(raw)


def test_the_baselines_run_once_without_a_rate(study: Study) -> None:
    runs = [planned.run for planned in expand_study(prepare_study(study), [])]
    assert {r.method.name for r in runs} == {"full", "untuned", "copy_source"}
    copied = [r for r in runs if r.method.name == "copy_source"]
    assert [(r.stage, r.model.name, r.learning_rate) for r in copied] == [("final", "-", None)]
    untuned = [(r.stage, r.seed, r.learning_rate) for r in runs if r.method.name == "untuned"]
    assert untuned == [("final", 1, None), ("cost", 1, None)]
    assert sum(r.stage == "tune" for r in runs if r.method.name == "full") == 3
    assert all(r.generation == study.generation for r in runs)


def test_nothing_of_the_baselines_waits_for_a_rate(study: Study) -> None:
    _, waiting = plan_pending_runs(prepare_study(study), [])
    assert {(r.method.name, r.stage, r.seed) for r in waiting} == {
        ("full", "final", 1),
        ("full", "final", 2),
    }


def test_the_untuned_model_may_be_named_and_the_probe_may_not(study: Study) -> None:
    named = study.model_copy(update={"methods": (*study.methods, *_named("untuned"))})
    assert len(expand_study(prepare_study(named), [])) == len(
        expand_study(prepare_study(study), [])
    )
    with pytest.raises(MethodError, match="head that is drawn for the task"):
        probe = study.model_copy(update={"methods": _named("head_only")})
        expand_study(prepare_study(probe), [])


def _named(name: str) -> Any:
    one = [{"name": name}]
    return Study.parse({"study": "x", "tasks": ["cb"], "models": ["x"], "methods": one}).methods
