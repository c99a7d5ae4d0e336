"""Runs with compiled passes get the losses of runs without; the extra changes rounding alone."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load
from support.rotation import in_turns

from paretune.errors import StoreError
from paretune.exporting.weights import load_or_retrain
from paretune.models.kernels import policy
from paretune.store.prediction_codec import decode_predictions, encode_predictions
from paretune.store.record import Record
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training.runs.job import Outcome
from paretune.training.trainer import train_run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="needs numba: pip install numba"
)
METHODS = ("lora", "full", "bitfit", "layer_norm", "prompt", "prefix", "houlsby", "pfeiffer")


@pytest.mark.parametrize(
    ("family", "method", "kind"),
    in_turns(
        [
            *(("bert", method, "pair") for method in METHODS),
            *(("roberta", method, "classification") for method in METHODS[:6]),
            *((family, "lora", "multiple_choice") for family in ("distilbert", "modernbert")),
        ],
        days=2,
    ),
)
def test_losses_of_a_run_are_those_of_the_plain_path(
    family: str,
    method: str,
    kind: str,
    tmp_path: Path,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 steps with dropout, fp32, within 1e-5; and the record says which way it was."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    training = {"dropout": 0.1, "max_steps": 20}
    run = tiny_run(
        tiny_task(tmp_path, kind), tiny_model(family), method, training=training, learning_rate=1e-3
    )

    def trained(switch: str) -> tuple[list[float], Outcome]:
        monkeypatch.setenv(policy.VARIABLE, switch)
        losses: list[float] = []
        left = train_run(run, checkpoint=tmp_path / "x", report=lambda p: losses.append(p["loss"]))
        return losses, left

    (plain, before), (fast, after) = trained("0"), trained("1")
    assert len(set(fast)) == 20 and fast == pytest.approx(plain, abs=1e-5)
    assert before.measured["environment"]["compiled"] is None
    assert after.measured["environment"]["compiled"] == f"numba {policy.numba_version()}"
    assert trained("1")[0] == fast  # the same bits again


def test_a_run_is_trained_again_the_way_it_was(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same bits by the way that its record names, by the other to the same answers."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), training={"dropout": 0.1})
    with policy.override_kernels(on=True):
        left = train_run(run, checkpoint=tmp_path / "x", report=silent)
    result = {"predictions": sha256(left.blobs["predictions"]).hexdigest()}
    then = {"environment": {**left.measured["environment"], "threads": 1}}
    kept = {result["predictions"]: left.blobs["predictions"]}
    store: Any = SimpleNamespace(read_blob=kept.__getitem__)
    record = Record("x", run, "done", None, None, result, then)
    with policy.override_kernels(on=False):
        assert load_or_retrain(record, store, train_again=True) == left.blobs["weights"]
        then["environment"]["compiled"] = None
        # As on another processor, or after a fleet: other bits.
        (ours, theirs) = (
            load(blob)
            for blob in (load_or_retrain(record, store, train_again=True), left.blobs["weights"])
        )
        assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-3)
        answers = decode_predictions(left.blobs["predictions"], "here")
        turned = tuple((int(answer) + 1) % 3 for answer in answers["test"].prediction)
        answers["test"] = replace(answers["test"], prediction=turned)
        kept[result["predictions"]] = encode_predictions(answers)
        with pytest.raises(StoreError, match="answers differently"):
            load_or_retrain(record, store, train_again=True)
