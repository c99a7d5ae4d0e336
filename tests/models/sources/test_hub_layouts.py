"""Models as the hub's cache holds them, by name and offline: check, plan, three steps of a run.

With a few methods: the families' contract tests have the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from support.hub import LAYOUTS, hub_layout
from support.method_contract import serves
from support.open_models import open_model
from support.tiny_study import as_file, command, finish, small, two_files

from paretune.errors import ModelError
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec, Study
from paretune.testing.tiny_tasks import small as small_options
from paretune.testing.translator_folders import tiny_pairs

METHODS = ("full", "lora", "prompt", "untuned")


def study_of(name: str, folder: Any, methods: Iterable[str]) -> Study:
    """Three steps of the methods, on a task that fits the model."""
    task: dict[str, Any]
    if "opus" in name:
        task = tiny_pairs(folder, 24, 6).model_dump(exclude_none=True)
    else:
        train = two_files(folder, 24, 6)
        task = {"name": "words", "kind": "classification", "train": str(train), "text": "text",
                "test": str(folder / "test.csv"), "label": "label"}  # fmt: skip
    requests = [
        {"name": method, **small_options(method)}
        for method in methods
        if serves(method, task["kind"])
    ]
    training = {"max_steps": 3, "eval_every": 3, "batch_size": 4, "max_length": 32}
    return small(
        folder, "", tasks=[task], methods=requests,
        models=[{"name": name, "label": "real"}],
        protocol={"trials": 1, "folds": 1, "seeds": [1]},
        training=training | {"precision": "fp32"},
        **({"generation": {"max_new_tokens": 8}} if "opus" in name else {}),
    )  # fmt: skip


def test_revisions_of_a_cache(tmp_path: Any, monkeypatch: Any) -> None:
    """A branch and the whole commit are the same files; what was not fetched is not guessed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "FacebookAI/xlm-roberta-base"
    snapshot = hub_layout(name, tmp_path)
    for revision in (None, "main", LAYOUTS[name].commit):
        source = resolve_source(ModelSpec(name=name, revision=revision))
        assert (source.folder, source.revision) == (snapshot, LAYOUTS[name].commit)
    for revision in ("v1.0", "f" * 40):
        with pytest.raises(
            ModelError, match=f"the local cache of the hub at revision {revision} lacks it"
        ):
            resolve_source(ModelSpec(name=name, revision=revision))


def test_old_names_of_tensors_load_bit_equal(tmp_path: Any, monkeypatch: Any) -> None:
    """Norms called gamma and beta, and a buffer of positions that nobody has any more."""
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    folder = hub_layout("EMBEDDIA/crosloengual-bert", tmp_path)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert sum(name.endswith(".gamma") for name in state) == 6
    model = open_model(folder).model
    for name, resolved in model.bert.named_parameters(prefix="bert"):
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )
        assert torch.equal(resolved, state[old]), name


@pytest.mark.parametrize("name", LAYOUTS)
def test_by_name_offline_through_everything(
    name: str, capsys: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    hub_layout(name, tmp_path / "cache")
    study = study_of(name, tmp_path / "data", METHODS)
    file = as_file(study, tmp_path / "real.yaml")
    for verb in ("plan", "check"):
        code, out, err = command(capsys, verb, file)
        assert code == 0, out + err
    assert LAYOUTS[name].commit in out
    store = finish(study, tmp_path / "store", costs=0)
    records = store.load_records(study.study_hash)
    store.close()
    ran = {record.run.method.name for record in records if record.run.stage == "final"}
    assert ran >= {method.name for method in study.methods}
    assert {record.outcome for record in records} <= {"ok", "collapsed"}
    assert {record.result["steps"] for record in records if record.result.get("steps")} == {3}
