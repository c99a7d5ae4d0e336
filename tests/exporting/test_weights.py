"""Weights within the study's budget: what stays can be exported, what went can be trained again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, finished, load_finals

from paretune.analysis import run_selection
from paretune.analysis.run_selection import selection_key
from paretune.execution.study_runs import drop_excess_weights
from paretune.store import Claim, Store
from paretune.store.blobs import blob_path
from paretune.store.record import Record
from paretune.study import Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.export import export
from paretune.verbs.plan import plan


@pytest.fixture(scope="module")
def done(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """Full fine-tuning and LoRA, three seeds each, all weights kept."""
    return finished(
        tmp_path_factory.mktemp("kept"),
        tiny_model("bert"),
        methods=[
            {"name": "full", "learning_rates": [1e-3]},
            {"name": "lora", "rank": 2, "learning_rates": [2e-2]},
        ],
        protocol={"trials": 1, "folds": 1, "outer": "split", "seeds": [1, 2, 3]},
        training={"max_steps": 20, "eval_every": 20, "max_length": 40, "precision": "fp32"},
    )


@pytest.fixture
def copied(done: Any, tmp_path: Path) -> Any:
    """The same in a store that a test may change."""
    study, store = done
    shutil.copytree(store, tmp_path / "store")
    return study, tmp_path / "store"


def within(study: Study, keep_weights: int) -> Study:
    protocol = study.protocol.model_copy(update={"keep_weights": keep_weights})
    return study.model_copy(update={"protocol": protocol})


def finals(study: Study, store: Path, method: str) -> list[Record]:
    """The method's final runs, the best by its selection score first."""
    return sorted(load_finals(study, store, method), key=selection_key, reverse=True)


@pytest.mark.wide
def test_what_export_takes_stays_and_the_others_are_trained_again_on_asking(
    copied: Any, tmp_path: Path, capsys: Any
) -> None:
    study, store = copied
    full, lora = finals(study, store, "full"), finals(study, store, "lora")
    budget = full[0].result["trained_bytes"] + 40_000
    study = within(study, budget)
    with Store.open(store) as opened:
        dropped = drop_excess_weights(study, opened)
        assert set(dropped) == {full[1].run_id, full[2].run_id}
        assert drop_excess_weights(study, opened) == [], "what fits is left alone"
        assert opened.verify() == []
        weights = [blob_path(opened.folder / "blobs", r.result["weights"]) for r in (*full, *lora)]
        assert [path.exists() for path in weights] == [True, False, False, True, True, True]
    assert sum(p.stat().st_size for p in weights if p.exists()) < budget + 20_000
    done = export(study, store=store, method="full", output=tmp_path / "best")
    assert done.run.seed == full[0].run.seed
    for record in lora:
        export(study, store=store, method="lora", seed=record.run.seed,
               output=tmp_path / f"lora{record.run.seed}", allow_collapsed=True)  # fmt: skip
    file = as_file(study, tmp_path / "study.yaml")
    seed = full[1].run.seed
    arguments = ("export", file, "--store", store, "--method", "full", "--seed", seed, "--output",
             tmp_path / "again", "--allow-collapsed")  # fmt: skip
    code, out, err = command(capsys, *arguments)
    assert (code, out) == (6, "")
    assert "its trained weights were not kept. Add --train-again: the same run gives the" in err
    assert " s of training)" in err and "protocol.keep_weights" in err
    assert not (tmp_path / "again").exists()
    code, out, _ = command(capsys, *arguments, "--train-again")
    assert code == 0 and f"Training again: tiny x tiny x full, seed {seed} (" in out
    assert (tmp_path / "again" / "model.safetensors").is_file()


def test_where_not_even_the_best_fit_the_recommended_come_first(
    copied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = copied
    full, lora = finals(study, store, "full"), finals(study, store, "lora")
    study = within(study, full[0].result["trained_bytes"] + 100)
    real = run_selection.choose

    def choose(*arguments: Any) -> Any:
        choice = real(*arguments)
        (cell,) = [c for c in choice.candidates if c.cell.method == "full"]
        return replace(choice, chosen=cell, best=cell)

    monkeypatch.setattr(run_selection, "choose", choose)
    with Store.open(store) as opened:
        drop_excess_weights(study, opened)
        run_ids = {r.run_id for r in (*full, *lora)} - opened.list_dropped_runs()
    assert run_ids == {full[0].run_id}


def test_a_run_larger_than_the_budget_is_never_written(tmp_path: Path, tiny_model: Any) -> None:
    from paretune.execution.worker import make_executor
    from paretune.execution.worker_settings import WorkerSettings
    from paretune.testing.tiny_tasks import tiny_run

    executor = make_executor(WorkerSettings(keep_bytes=20_000))
    task = tiny_task(tmp_path / "data")
    for method, stage, there in (
        ("lora", "final", True), ("full", "final", False), ("lora", "tune", False),
    ):  # fmt: skip
        run = tiny_run(task, tiny_model("bert"), method, stage=stage)
        left = executor.execute(Claim(run, tmp_path / "x"))
        assert ("weights" in left.blobs) is there
        assert (left.result["trained_bytes"] <= 20_000) is (method == "lora")
        assert not any("not kept" in note for note in left.result["notes"])


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("4GiB", "for all final runs; all are kept."),
        ("200KiB", "for the best of each method; protocol.keep_weights keeps 200 KiB, the best"),
        (
            "100KiB",
            "protocol.keep_weights keeps 100 KiB, the recommended first; `export --train-again` "
            "trains the others once more. 1 method alone takes more than that.",
        ),
    ],
)
def test_plan_shows_the_bytes_before_anything_is_trained(
    done: Any, tmp_path: Path, capsys: Any, budget: str, message: str
) -> None:
    study, store = done
    file = as_file(study, tmp_path / "study.yaml")
    code, out, _ = command(capsys, "plan", file, f"protocol.keep_weights={budget}",
                           "--store", tmp_path / "none")  # fmt: skip
    assert code == 0 and message in " ".join(out.split())
    study_plan = plan(study, store=store)
    trained = [finals(study, store, m) for m in ("full", "lora", "head_only")]
    sizes = [[r.result["trained_bytes"] for r in each] for each in trained]
    predicted = [[r.weight_bytes for r in runs] for runs in study_plan.cells.values()]
    assert sum(map(max, predicted)) == sum(map(max, sizes))
    assert sum(map(sum, predicted)) == sum(map(sum, sizes))
