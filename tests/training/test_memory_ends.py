"""Micro-batches do not change a step; where memory ends they are halved, and it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load as from_bytes
from support.batches import make_batch
from transformers import BertForSequenceClassification

from paretune.objectives.encoding import pad_batch
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import Outcome, TrainerOptions
from paretune.training.caches import ProcessCache
from paretune.training.forward import select
from paretune.training.forward.passes import Compute, to_tensors
from paretune.training.forward.select import enable_packing, forward_for
from paretune.training.interruption import is_out_of_memory, loses_device
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``small_memory(rows)``: training on more sequences raises what CUDA raises; None mends it.

    Returns the sequences of each pass from then on.
    """
    forward = BertForSequenceClassification.forward
    state: dict[str, Any] = {"rows": None, "passes": []}

    def limited(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
        inputs = input_ids if input_ids is not None else kwargs["inputs_embeds"]
        if self.training:
            packing = getattr(self.bert.encoder.layer[0].attention.self, "packing", None)
            rows = len(inputs) if packing is None else len(packing.layout.lengths)
            state["passes"].append(rows)
            if state["rows"] is not None and rows > state["rows"]:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", limited)

    def limit(rows: int | None) -> list[int]:
        passes: list[int] = []
        state.update(rows=rows, passes=passes)
        return passes

    return limit


def tensors(outcome: Outcome) -> dict[str, list[float]]:
    return {n: t.flatten().tolist() for n, t in from_bytes(outcome.blobs["weights"]).items()}


def same_but_for_notes(one: Outcome, two: Outcome) -> bool:
    """The weights' blob names the run, and so the micro-batch that was asked for."""
    results = [{**o.result, "notes": None} for o in (one, two)]
    return (
        results[0] == results[1]
        and one.blobs["predictions"] == two.blobs["predictions"]
        and tensors(one) == tensors(two)
    )


HALVED = "out of memory: the micro-batch is halved to {}, accumulation doubled"


@pytest.mark.parametrize("way", ["padded", "tight-buckets", "packed"])
@pytest.mark.parametrize("kind", ["pair", "multiple_choice"])
def test_gradients_of_a_step_do_not_depend_on_micro_batches_and_buckets(
    kind: str, way: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float64, against one plain pass over the whole padded batch."""
    if way == "tight-buckets":  # a pass costs nothing: only examples of one length together
        cut = select.split_by_length
        monkeypatch.setattr(select, "split_by_length", lambda n, i, m, *_: cut(n, i, m, 0))
    settings = {"dropout": 0.0, "max_grad_norm": None}
    run = tiny_run(tiny_task(tmp_path, kind), tiny_model("bert"), training=settings)
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    with torch.no_grad():
        for parameter in prepared.injection.parameters.values():
            parameter.normal_(0, 0.2)
    loaded.model.double().train()
    data = bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64)
    rows = [3, 17, 8, 0, 21, 11, 5, 30]
    assert len({data.lengths[i] for i in rows}) > 3  # buckets have something to do
    labels = torch.tensor([data.labels[i] for i in rows])
    loss = F.cross_entropy(
        loaded.model(**to_tensors(pad_batch(data, rows, 0), "cpu")).logits, labels
    )
    plain = torch.autograd.grad(loss, list(prepared.trained.values()))
    assert way != "packed" or enable_packing(prepared)
    forward = forward_for(loaded, prepared.context, Compute())
    for micro_batch in (1, 2, 3, 8):
        batch = make_batch(data, rows, kind, seed=run.seed, micro_batch=micro_batch)
        losses = accumulate_gradients(batch, forward)
        assert losses.sum().item() == pytest.approx(loss.item(), abs=1e-12)
        for parameter, gradient in zip(prepared.trained.values(), plain, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-10)
            parameter.grad = None


def test_memory_that_ends_late_starts_over_with_the_smaller_micro_batch(
    small_memory: Any, tmp_path: Path, tiny_model: Any
) -> None:
    """The checkpoint of the larger micro-batch must not leak into the new beginning."""
    settings = {"max_steps": 6, "eval_every": 2}
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), training=settings)
    smaller = run.model_copy(
        update={"training": run.training.model_copy(update={"micro_batch": 2})}
    )
    small_memory(None)
    expected = train_run(smaller, checkpoint=tmp_path / "a", report=silent)
    heard: list[dict[str, Any]] = []

    def report(progress: dict[str, Any]) -> None:
        heard.append(progress)
        if len(heard) == 3:
            small_memory(2)

    outcome = train_run(
        run, checkpoint=tmp_path / "b", report=report, options=TrainerOptions(checkpoint_seconds=0)
    )
    assert [p.get("step") for p in heard[:3]] == [1, 2, 3]  # checkpointed at micro-batch 8
    notes = [p["note"] for p in heard if "note" in p]
    assert outcome.result["notes"] == notes == [HALVED.format(4), HALVED.format(2)]
    assert outcome.result["micro_batch"] == 2 and expected.result["notes"] == []
    assert same_but_for_notes(outcome, expected)


def test_a_resumed_run_keeps_the_micro_batch_it_had_come_to(
    small_memory: Any, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), training={"max_steps": 6})
    small_memory(2)
    whole = train_run(run, checkpoint=tmp_path / "a", report=silent)

    def kill(progress: dict[str, Any]) -> None:
        if progress.get("step") == 4:
            raise KeyboardInterrupt

    small_memory(2)
    with pytest.raises(KeyboardInterrupt):
        train_run(
            run,
            checkpoint=tmp_path / "b",
            report=kill,
            options=TrainerOptions(checkpoint_seconds=0),
        )
    small_memory(None)  # now there would be room for more
    steps: list[dict[str, Any]] = []
    again = train_run(run, checkpoint=tmp_path / "b", report=steps.append)
    assert [p["step"] for p in steps if "step" in p] == [5, 6]  # what was told is kept
    assert (again.result, again.blobs) == (whole.result, whole.blobs)


def test_a_worker_that_was_killed_for_memory_starts_smaller(
    small_memory: Any, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"))
    heard = small_memory(None)
    outcome = train_run(run, checkpoint=tmp_path / "a", report=silent, halvings=2)
    assert outcome.result["micro_batch"] == 2 and max(heard) == 2
    assert outcome.result["notes"] == [HALVED.format(4), HALVED.format(2)]
    least = train_run(run, checkpoint=tmp_path / "b", report=silent, halvings=40)
    assert least.result["micro_batch"] == 1


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_does_not_fit_at_all_is_a_result(
    method: str, small_memory: Any, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), method)
    bench = ProcessCache()
    small_memory(0)
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
    assert outcome.result == {
        "outcome": "out_of_memory",
        "micro_batch": 1,
        "notes": ["out of memory even with a micro-batch of 1"],
    }
    assert outcome.blobs == {} and outcome.measured["wall_seconds"]["load"] > 0
    small_memory(None)
    after = train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
    alone = train_run(run, checkpoint=tmp_path / "y", report=silent)
    assert (after.result, after.blobs) == (alone.result, alone.blobs)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(h)`"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasC`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("expected scalar type Float"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_say_that_memory_has_ended(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) == memory and not loses_device(error)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_other_cuda_errors_take_the_process_its_gpu(message: str) -> None:
    error = RuntimeError(message)
    assert loses_device(error) and not is_out_of_memory(error)
    try:
        try:
            raise error
        finally:
            raise ValueError("while it was undone")
    except ValueError as later:
        assert loses_device(later)
    assert not loses_device(RuntimeError("shapes do not match"))
