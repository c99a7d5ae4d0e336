"""On a GPU a micro-batch is one pass: what a CPU finds faster says nothing of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.batches import make_batch

from paretune.data.batch import NEVER_SPLIT, PASS_OVERHEAD_TOKENS, pass_overhead_tokens
from paretune.measuring.costs import estimate_compute_cost
from paretune.measuring.model_shape import ModelShape, TrainedPart
from paretune.models.packing.layout import Packing
from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import Encoded
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.caches import ProcessCache
from paretune.training.forward import select
from paretune.training.forward.passes import Compute
from paretune.training.forward.select import (
    EVALUATION_TOKENS,
    PassSplitter,
    device_kind,
    make_forward,
)
from paretune.training.prepare import prepare

LENGTHS = np.random.default_rng(0).integers(20, 512, 64).tolist()
SHAPE = ModelShape(40_000_000, 10_000_000, 8_000_000, 1_000, 384, 6, 12, 0, packs=False)

PART = TrainedPart(1000)


def examples() -> Encoded:
    ids = [[[1] * n] for n in LENGTHS]
    return Encoded(ids, None, list(LENGTHS), [0] * len(ids), [False] * len(ids))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("micro_batch", "passes"), [(64, 1), (16, 4), (24, 3), (1, 64)])
def test_a_gpu_takes_as_few_passes_as_the_micro_batch_allows(
    packed: bool, micro_batch: int, passes: int
) -> None:
    context = PassContext(packing=Packing() if packed else None)

    def split(device: str, size: int) -> list[list[int]]:
        overhead = pass_overhead_tokens(1, 10, device)
        settings = {"micro_batch": size, "pass_overhead_tokens": overhead}
        batch = make_batch(examples(), range(64), **settings)
        split = PassSplitter(context, device).split_training(batch)
        return [list(micro_batch.indices) for micro_batch in split]

    cut = split("cuda", micro_batch)
    assert sorted(i for one in cut for i in one) == list(range(64))
    assert len(cut) == passes and max(map(len, cut)) <= micro_batch
    assert len(split("cpu", 64)) > 4


def test_the_cost_of_a_pass_by_device() -> None:
    assert pass_overhead_tokens(0, 10, "cpu") == PASS_OVERHEAD_TOKENS < NEVER_SPLIT
    for used, device in ((0, "cuda:1"), (10, "mps")):
        assert pass_overhead_tokens(used, 10, device) == NEVER_SPLIT
    assert EVALUATION_TOKENS[device_kind("cpu")] < EVALUATION_TOKENS[device_kind("cuda:1")]


def test_what_is_predicted_of_a_gpu_is_the_batch_as_asked(tmp_path: Path) -> None:
    run = tiny_run(tiny_task(tmp_path), tmp_path, "lora")
    run = run.model_copy(update={"training": run.training.model_copy(update={"batch_size": 64})})
    cpu, gpu = (
        estimate_compute_cost(run, SHAPE, PART, LENGTHS, 1, device) for device in ("cpu", "cuda")
    )
    assert gpu.saved_bytes > 4 * cpu.saved_bytes
    assert cpu.held_bytes - gpu.held_bytes == 4 * 1000  # the best weights so far


def test_what_is_predicted_of_the_plain_path_is_whole_micro_batches(tmp_path: Path) -> None:
    run = tiny_run(tiny_task(tmp_path), tmp_path, "lora", training={"batch_size": 64})
    training = run.training.model_copy(update={"backend": "plain"})
    plain = run.model_copy(update={"training": training})
    tight, padded = (
        estimate_compute_cost(own, SHAPE, PART, LENGTHS, 1).saved_bytes for own in (run, plain)
    )
    assert padded > 2 * tight
    packs = replace(SHAPE, packs=True)  # as if it were packed, but with the scores of all words
    one_pass = estimate_compute_cost(run, packs, PART, LENGTHS, 1).saved_bytes
    assert padded == one_pass
    words = replace(packs, vocabulary=8000)
    in_chunks, all_words = (
        estimate_compute_cost(own, words, PART, LENGTHS, 1).saved_bytes for own in (run, plain)
    )
    assert all_words > in_chunks


@pytest.mark.parametrize("is_faster", [False, True])
def test_rows_are_filled_up_where_onednn_multiplies(
    is_faster: bool, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 always, in fp32 where the probe found it faster; never off a CPU."""
    monkeypatch.setattr(select, "is_onednn_faster", lambda: is_faster)
    caches = ProcessCache()
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"))
    places = {
        Compute("cpu", "bf16"): select.ONEDNN_ROW_MULTIPLE,
        Compute("cpu", "fp32"): select.ONEDNN_ROW_MULTIPLE if is_faster else 1,
        Compute("cuda", "bf16"): 1,
        Compute("cuda", "fp32"): 1,
    }
    for compute, multiple in places.items():
        caches.drop_model()
        prepared = prepare(run, caches.run_model(run, bf16=False), "cpu")
        make_forward(prepared, compute)
        assert prepared.context.packing is not None
        assert prepared.context.packing.row_multiple == multiple


@pytest.mark.parametrize("family", ["bert", "marian"])
def test_off_a_cpu_dropout_is_torchs(family: str, tmp_path: Path, tiny_model: Any) -> None:
    if family == "marian":
        task, model = tiny_pairs(tmp_path / "data"), translator_folder(family, tmp_path / family)
    else:
        task, model = tiny_task(tmp_path), tiny_model(family)
    run, caches = tiny_run(task, model, training={"dropout": 0.1}), ProcessCache()
    for device, is_seeded in (("cpu", True), ("meta", False)):
        caches.drop_model()
        prepared = prepare(run, caches.run_model(run), "cpu")
        prepared.loaded.model.to(device)
        assert make_forward(prepared, Compute()) and prepared.context.packing is not None
        assert (prepared.context.dropout_rng is not None) == is_seeded
