"""The cost probe: what it measures of a run, and what it leaves out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_study import say_numbers
from transformers import BertForSequenceClassification

from paretune.execution.cost_probe import measure_cost
from paretune.measuring.training_step import MAX_STEPS, MIN_STEPS
from paretune.store import Claim
from paretune.study import Generation
from paretune.testing.tiny_tasks import tiny_run, tiny_task

MIB = 2**20


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``small_memory(rows)``: more texts take 256 MiB, then raise what CUDA raises."""

    def limit(rows: int) -> None:
        forward = BertForSequenceClassification.forward

        def limited(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
            packing = self.bert.encoder.layer[0].attention.self.packing
            if self.training and len(packing.layout.lengths) > rows:
                tensor = torch.ones(256 * MIB // 4)
                time.sleep(0.05)
                raise torch.OutOfMemoryError(f"CUDA out of memory, {len(tensor)} taken")
            return forward(self, input_ids=input_ids, **kwargs)

        monkeypatch.setattr(BertForSequenceClassification, "forward", limited)

    return limit


def probed(tmp_path: Path, tiny_model: Any, **more: Any) -> Any:
    run = tiny_run(tiny_task(tmp_path / "data"), tiny_model("bert"), stage="cost")
    job = Claim(run, tmp_path / "none")
    return measure_cost(job, **more)


@pytest.mark.parametrize("seconds", [1e9, 0.0], ids=["in time", "no time"])
def test_a_probe_measures_phases_steps_and_answers(
    seconds: float, tmp_path: Path, tiny_model: Any
) -> None:
    """Until the quartiles are close; where there is no time for that, it says how often."""
    outcome = probed(tmp_path, tiny_model, limit_seconds=seconds)
    measured = outcome.measured
    assert outcome.result["outcome"] == "ok" and measured["micro_batch"] == 8
    for timed in (measured["step_seconds"], measured["inference"]["unmerged"]):
        assert timed["q1"] <= timed["median"] <= timed["q3"]
        if seconds:
            assert MIN_STEPS <= timed["n"] <= MAX_STEPS and "timed_out" not in timed
        else:
            assert timed["n"] == 1 and timed["timed_out"] is True
    assert measured["inference"]["unmerged_seconds_per_example"] == pytest.approx(
        measured["inference"]["unmerged"]["median"]
    )
    assert measured["batch_tokens"] > measured["mean_batch_tokens"] > 0
    assert measured["examples_per_second"] * measured["step_seconds"]["median"] == pytest.approx(8)
    assert measured["inference"]["unmerged_seconds_per_example"] > 0
    phases = {*measured["phases"], *(k.split(".")[1] for k in measured["not_measured"] if "." in k)}
    assert phases == {"load", "train", "evaluation"}  # measured, or why not


@pytest.mark.parametrize(
    ("readout", "method"),
    [
        *((readout, "lora") for readout in ("head", "label_words", "text", "instruction")),
        ("text", "untuned"),
    ],
)
def test_a_decoder_is_probed_however_it_answers(
    readout: str, method: str, tmp_path: Path, tiny_model: Any
) -> None:
    task = tiny_task(tmp_path / "data")
    if readout == "instruction":
        task, readout = say_numbers(tmp_path), "text"
    run = tiny_run(
        task,
        tiny_model("llama"),
        method,
        stage="cost",
        readout=readout,
        generation=Generation(max_new_tokens=4) if readout == "text" else None,
        learning_rate=None if method == "untuned" else 1e-2,
    )
    outcome = measure_cost(Claim(run, tmp_path / "none"), limit_seconds=0.0)
    assert outcome.result["outcome"] == "ok", outcome.result
    assert outcome.measured["inference"]["unmerged_seconds_per_example"] > 0
    assert (outcome.measured.get("step_seconds") is None) == (method == "untuned")


def test_an_attempt_that_did_not_fit_is_no_cost_of_the_run(
    tmp_path: Path, tiny_model: Any, small_memory: Any
) -> None:
    small_memory(4)
    outcome = probed(tmp_path, tiny_model)
    assert outcome.result["notes"] == ["out of memory: the micro-batch is halved to 4"]
    assert outcome.measured["micro_batch"] == 4
    assert outcome.measured["phases"]["train"].get("peak_bytes", 0) < 200 * MIB


def test_what_never_fits_is_a_result(tmp_path: Path, tiny_model: Any, small_memory: Any) -> None:
    small_memory(0)
    outcome = probed(tmp_path, tiny_model)
    assert outcome.result["outcome"] == "out_of_memory"
    assert "step_seconds" not in outcome.measured
