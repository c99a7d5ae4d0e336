"""Activations below all that is trained, computed once: the result is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.chosen import chosen

from paretune.errors import StudyError
from paretune.preparation import ProcessCache
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import trainer
from paretune.training.forward import activation_cache
from paretune.training.forward.activation_cache import budget_bytes
from paretune.training.trainer import train_run

TOP = {"target_modules": ["1.attention.self.query", "1.attention.self.value"]}
CASES = (
    ("bert", "lora", TOP, 1),
    ("bert", "head_only", {}, 2),
    ("bert", "adapterdrop", {"reduction_factor": 8, "drop": 1}, 1),
    ("roberta", "head_only", {}, 2),
    ("distilbert", "head_only", {}, 2),
    ("distilbert", "lora", {"target_modules": ["1.attention.q_lin"]}, 1),
    ("modernbert", "lora", {"target_modules": ["2.attn.Wqkv"]}, 2),
    ("modernbert", "head_only", {}, 3),
    ("llama", "head_only", {}, 2),
    ("gemma3", "lora", {"target_modules": ["1.self_attn.q_proj"]}, 1),
    ("opt", "head_only", {}, 2),
    ("gpt2", "lora", {"target_modules": ["1.attn.c_attn"]}, 1),
)
"""Family, method, options, and how many layers are below."""


@pytest.mark.parametrize(
    ("family", "method", "options", "depth", "kind"),
    chosen([(*case, kind) for case in CASES for kind in ("pair", "multiple_choice")], 6),
)
def test_a_run_from_kept_activations_learns_the_same(
    family: str,
    method: str,
    options: dict[str, Any],
    depth: int,
    kind: str,
    tmp_path: Path,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The head alone is trained with the dropout of the head, and without any below.
    dropout = 0.1 if method == "head_only" else 0.0
    training = {"dropout": dropout, "max_steps": 12, "eval_every": 4}
    run = tiny_run(
        tiny_task(tmp_path, kind), tiny_model(family), method, options=options, training=training
    )
    depths: list[int] = []
    skip_layers = activation_cache.skip_layers

    def note(*arguments: Any) -> None:
        depths.append(arguments[-1])
        skip_layers(*arguments)

    monkeypatch.setattr(activation_cache, "skip_layers", note)
    losses: list[list[float]] = []

    def train(bench: ProcessCache) -> Any:
        losses.append([])
        outcome = train_run(
            run,
            checkpoint=tmp_path / "x",
            report=lambda p: losses[-1].append(p["loss"]),
            caches=bench,
        )
        (loaded,) = bench.loaded.values()  # kept, so it must be as it was
        assert not [m for m in loaded.model.base_model.modules() if "forward" in vars(m)]
        return outcome

    cache = ProcessCache()
    from_cache = train(cache)
    assert depths == [depth]
    before = list(cache.activations.values())
    assert train(cache).result == from_cache.result and list(cache.activations.values()) == before
    monkeypatch.setattr(trainer, "enable_activation_cache", lambda *a: [])
    without = train(ProcessCache())
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(losses[2], abs=1e-5) and len(set(losses[0])) == 12
    for part in ("selection", "test"):
        cached, computed = from_cache.result["scores"][part], without.result["scores"][part]
        assert cached == pytest.approx(computed, abs=1e-4)


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_what_changes_below_is_computed_every_time(
    method: str, tmp_path: Path, tiny_model: Any
) -> None:
    training = {"dropout": 0.0}
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), method, training=training)
    bench = ProcessCache()
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
    assert bench.activations == {} and outcome.result["notes"] == []


@pytest.mark.wide
def test_the_budget_is_kept_and_said(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "head_only", training={"dropout": 0.0})
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "100")
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    (note,) = outcome.result["notes"]
    assert note.startswith("activations of the train part are not kept: 0 MiB are more than")
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "0")
    bench = ProcessCache()
    off = train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
    assert off.result["notes"] == [] and bench.activations == {}
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "much")
    with pytest.raises(StudyError, match='invalid size "much"'):
        budget_bytes()


def test_where_the_disk_cannot_be_written_a_run_goes_on(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "head_only", training={"dropout": 0.0})
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    (note,) = outcome.result["notes"]
    assert "are not kept: " in note and outcome.result["steps"] == 3


def test_the_least_recently_used_make_room(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, model = ProcessCache(), tiny_model("bert")

    def train(kind: str) -> list[Any]:
        task = tiny_task(tmp_path / kind, kind)
        run = tiny_run(task, model, "head_only", training={"dropout": 0.0})
        train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
        return list(bench.activations)

    first = train("pair")
    used_bytes = sum(cached.rows.nbytes for cached in bench.activations.values())
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", str(used_bytes))
    second = train("classification")
    assert first[0] not in second and first != second
    assert sum(cached.rows.nbytes for cached in bench.activations.values()) <= used_bytes
