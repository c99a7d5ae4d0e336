"""Every method trains a decoder in bf16, by a head and by the words of labels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.chosen import chosen
from support.decoder_walk import TRAINED, WITHOUT_BIAS

from paretune.testing.tiny_models import DECODERS
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training.trainer import train_run

PLACES = [
    pytest.param(method, family, readout, id=f"{method}-{family}-{readout}")
    for family in DECODERS
    for readout in ("head", "label_words")
    for method in (*TRAINED, "full")
    if not (method == "bitfit" and family in WITHOUT_BIAS)
]


@pytest.mark.parametrize(("method", "family", "readout"), chosen(PLACES, 60))
def test_it_trains(method: str, family: str, readout: Any, tiny_model: Any, tmp_path: Path) -> None:
    run = tiny_run(
        tiny_task(tmp_path),
        tiny_model(family),
        method,
        readout=readout,
        learning_rate=1e-3,
        training={"precision": "bf16", "max_steps": 4},
    )
    left = train_run(run, checkpoint=tmp_path / "checkpoint", report=silent)
    assert left.result["outcome"] in ("ok", "collapsed")
    likelihoods = json.loads(left.blobs["predictions"])["test"]["scores"]
    assert all(math.isfinite(value) for row in likelihoods for value in row)
