"""Which way a model translates, asked of the model itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load as tensors_of
from support.tiny_study import small

from paretune.planning.checks import DirectionLosses, compare_directions
from paretune.preparation import ProcessCache
from paretune.study import ModelSpec
from paretune.testing.tiny_tasks import tiny_run
from paretune.testing.translator_folders import tiny_marian, tiny_pairs
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run
from paretune.verbs.check import check


def test_half_a_nat_decides() -> None:
    assert DirectionLosses(4.0, 3.4, 64).looks_reversed
    assert (
        not DirectionLosses(4.0, 3.6, 64).looks_reversed
        and not DirectionLosses(2.0, 8.0, 64).looks_reversed
    )


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    """A model that has learnt Slovene to English, and whose tokenizer says nothing of it."""
    folder, task = tiny_marian(tmp_path / "m"), tiny_pairs(tmp_path / "pairs", train=400, test=20)
    bench = ProcessCache()
    training = {"batch_size": 16, "epochs": 12, "max_steps": None, "patience": None}
    run = tiny_run(task, folder, "full", learning_rate=4e-3, training=training)
    outcome = train_run(run, checkpoint=tmp_path / "state", caches=bench)
    prepared = prepare(run, bench.model(run.model, bench.dataset(task)))
    for name, kept in tensors_of(outcome.blobs["weights"]).items():
        prepared.trained[name].data.copy_(kept)
    prepared.loaded.model.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if not k.endswith("_lang")}))
    return folder


@pytest.mark.wide
def test_check_warns_of_a_model_that_translates_backwards(taught: Path, tmp_path: Path) -> None:
    task = tiny_pairs(tmp_path / "asked")
    model = ModelSpec(name=str(taught))
    right = compare_directions(task, model, ProcessCache())
    turned = task.model_copy(update={"source_lang": "en", "target_lang": "sl"})
    wrong = compare_directions(turned, model, ProcessCache())
    assert not right.looks_reversed and wrong.looks_reversed
    assert wrong.requested == pytest.approx(right.reversed, rel=1e-5)
    study = small(tmp_path, taught, tasks=[turned.model_dump(exclude_none=True)])
    findings = [finding for item in check(study).items for finding in item.findings]
    warnings = [finding.what for finding in findings if finding.code == "direction"]
    assert len(warnings) == 1 and "the other way" in warnings[0]
