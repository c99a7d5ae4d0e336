"""Activations below all that is trained, computed once: the result is the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.chosen import chosen
from support.joint_runs import together

from paretune import objectives
from paretune.errors import StudyError
from paretune.files import activation_cache_home, part_path
from paretune.models.load import load_model
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import trainer
from paretune.training.caches import ProcessCache
from paretune.training.forward import activation_cache
from paretune.training.forward.activation_cache import (
    budget_bytes,
    count_frozen_layers,
    load_or_compute,
)
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
    training = {"dropout": 0.0, "max_steps": 12, "eval_every": 4}
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

    def train() -> Any:
        losses.append([])
        bench = ProcessCache()
        outcome = train_run(
            run,
            checkpoint=tmp_path / "x",
            report=lambda p: losses[-1].append(p["loss"]),
            caches=bench,
        )
        (loaded,) = bench.loaded.values()  # kept, so it must be as it was
        assert not [m for m in loaded.model.base_model.modules() if "forward" in vars(m)]
        return outcome

    with_trunk = train()
    assert depths == [depth]
    assert train().result == with_trunk.result  # from the files that the first left
    monkeypatch.setattr(trainer, "enable_activation_cache", lambda *a: [])
    without = train()
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(losses[2], abs=1e-5) and len(set(losses[0])) == 12
    for part in ("selection", "test"):
        ours, theirs = with_trunk.result["scores"][part], without.result["scores"][part]
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("lora", {}),  # all layers
        ("head_only", {"training": {"dropout": 0.1}}),
        ("prompt", {}),
        ("prefix", {}),
    ],
)
def test_what_changes_below_is_computed_every_time(
    method: str, changes: dict[str, Any], tmp_path: Path, tiny_model: Any, home: Path
) -> None:
    changes = {"training": {"dropout": 0.0}, **changes}
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), method, **changes)
    before = set(activation_cache_home().glob("*"))
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert set(activation_cache_home().glob("*")) == before and outcome.result["notes"] == []


@pytest.mark.wide
def test_the_budget_is_kept_and_said(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "head_only", training={"dropout": 0.0})
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "100")
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    (note,) = outcome.result["notes"]
    assert note.startswith("activations of the train part are not kept: 0 MiB are more than")
    for one in together([run, run.model_copy(update={"seed": 2})], tmp_path).values():
        assert one.result["notes"] == [note]  # a fleet says it in the same words
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "0")
    off = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert off.result["notes"] == [] and not activation_cache_home().exists()
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "much")
    with pytest.raises(StudyError, match='invalid size "much"'):
        budget_bytes()


def test_where_the_disk_cannot_be_written_a_run_goes_on(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "trunk").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "head_only", training={"dropout": 0.0})
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    (note,) = outcome.result["notes"]
    assert "cannot be written" in note and outcome.result["steps"] == 3


def test_the_oldest_file_goes_first_and_none_is_half_written(tmp_path: Path) -> None:
    def fill(write: Any) -> None:
        write(2, np.full((2, 8), 7, np.uint32))  # in any order
        write(0, np.full((2, 8), 7, np.uint32))

    def load(name: str, rows: int = 4) -> Any:
        # 4 rows of 8 float32 are 128 bytes, with a header of 128 and a checksum of 32.
        return load_or_compute(tmp_path, name, [0, rows], 8, torch.float32, 700, fill)

    for age, name in enumerate(("a", "b")):
        kept = load(name)
        assert kept.rows_of([0]).shape == (4, 1, 8) and (kept.rows == 7).all()
        os.utime(tmp_path / f"{name}.npy", (age, age))
    load("a")  # used now: b is the oldest
    load("c")
    assert {p.name for p in tmp_path.iterdir()} == {"a.npy", "c.npy"}
    assert isinstance(load("d", 100), str)

    def broken(write: Any) -> None:
        write(0, np.ones((2, 8), np.uint32))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_compute(tmp_path, "e", [0, 4], 8, torch.float32, 700, broken)
    assert {p.name for p in tmp_path.iterdir()} <= {"a.npy", "c.npy"}


def test_what_other_processes_write_counts_in_the_budget_unless_they_are_gone(
    tmp_path: Path,
) -> None:
    def load(name: str) -> Any:
        fill = lambda write: write(0, np.full((4, 8), 7, np.uint32))  # noqa: E731
        return load_or_compute(tmp_path, name, [0, 4], 8, torch.float32, 700, fill)

    load("a")
    load("b")
    being_written = part_path(tmp_path / "x.npy")  # by this process, which lives
    being_written.write_bytes(bytes(288))
    gone = tmp_path / being_written.name.replace(f"-{os.getpid()}-", "-1-")
    gone.write_bytes(bytes(10_000))
    load("c")
    assert {p.name for p in tmp_path.iterdir()} == {"c.npy", being_written.name}


@pytest.mark.parametrize("at", [0, 40, 200, -1, None])
def test_a_damaged_file_is_computed_again(tmp_path: Path, at: int | None) -> None:
    computed: list[str] = []

    def load() -> Any:
        def fill(write: Any) -> None:
            computed.append("again")
            write(0, np.arange(32, dtype=np.uint32).reshape(4, 8))

        return load_or_compute(tmp_path, "a", [0, 4], 8, torch.float32, 700, fill)

    whole = load().rows.tolist()
    path = tmp_path / "a.npy"
    content = bytearray(path.read_bytes())
    if at is None:
        del content[150:]
    else:
        content[at] ^= 1
    path.write_bytes(content)
    assert load().rows.tolist() == load().rows.tolist() == whole
    assert computed == ["again", "again"]


def test_rows_come_back_as_they_were() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        hidden = torch.randn(5, 1, 4, dtype=dtype)
        cached = activation_cache.CachedActivations(
            activation_cache.to_integers(hidden), [0, 2, 2, 5], dtype
        )
        assert torch.equal(cached.rows_of([0, 2]), hidden)
        assert torch.equal(cached.rows_of([2, 0]), torch.cat([hidden[2:], hidden[:2]]))


def test_names_tell_texts_apart() -> None:
    def name(*texts: list[int]) -> str:
        return activation_cache.cache_key("w", 1, texts=texts)

    assert len({name([1, 2], [3]), name([1], [2, 3]), name([1, 2, 3]), name([3], [1, 2])}) == 4
    assert name([1]) == name([1]) and activation_cache.cache_key("v", 1, texts=[[1]]) != name([1])


def test_the_lowest_trained_layer(tiny_model: Any) -> None:
    loaded = load_model(
        resolve_source(ModelSpec(name=str(tiny_model("bert")))),
        objectives.get("pair").head_spec(("a", "b")),
    )
    names = [name for name, _ in loaded.model.named_parameters()]
    lowest = {name: count_frozen_layers(loaded.anatomy, [name]) for name in names}
    for name, depth in lowest.items():
        expected = (
            0 if "embeddings" in name or "layer.0." in name else 1 if "layer.1." in name else 2
        )
        assert depth == expected, name
    assert count_frozen_layers(loaded.anatomy, []) == 2
    assert count_frozen_layers(loaded.anatomy, names) == 0
    assert np.unique(list(lowest.values())).tolist() == [0, 1, 2]
