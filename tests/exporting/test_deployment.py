"""Many tasks on one base: each form answers as the run, swaps, and is counted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.tiny_study import as_file, command, finished, small

from paretune.execution.study_runs import add_missing_runs
from paretune.exporting import deployment
from paretune.exporting.deployment import measure, write_task
from paretune.models.sources.resolve import resolve_source
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.tasks import load_dataset
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.forward.passes import Compute

KINDS = ("classification", "multiple_choice", "regression", "label_words", "translation")


def write_hosts(folder: Path, tiny_model: Any, kind: str, method: str, **changes: Any) -> Any:
    """A fresh task in all its forms; a decoder answers by words or scores choices."""
    decoder = kind in ("label_words", "multiple_choice")
    model = tiny_model("llama" if decoder else "bert")
    if kind == "translation":
        task, model = tiny_pairs(folder / "data"), translator_folder("marian", folder / "model")
    else:
        task = tiny_task(folder / "data", "classification" if kind == "label_words" else kind)
    if kind == "label_words":
        changes["readout"] = kind
    run = tiny_run(task, model, method, **changes)
    source = resolve_source(run.model, offline=True)
    compute = Compute.of(run, "cpu")
    return write_task(run, load_dataset(task), source, None, compute, folder / "forms")


@pytest.mark.parametrize("kind", [
    KINDS[0], *(pytest.param(kind, marks=pytest.mark.thorough) for kind in KINDS[1:])
])  # fmt: skip
def test_all_forms_of_a_task_answer_alike(tmp_path: Path, tiny_model: Any, kind: str) -> None:
    hosts = write_hosts(tmp_path, tiny_model, kind, "lora")
    logits = {}
    for host in hosts:
        for _ in range(3):
            host.add()
        host.select(1)
        logits[host.form] = host.answer()
        assert len(host.models) == 3 and len({*map(id, host.models)}) == (
            3 if host.form == "merged" else 1
        )
    assert [*logits] == ["paretune", "peft", "merged"]
    for answer in logits.values():
        torch.testing.assert_close(answer, logits["paretune"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "full", "prefix"])
def test_the_task_that_is_selected_answers(tmp_path: Path, tiny_model: Any, method: str) -> None:
    for host in write_hosts(tmp_path, tiny_model, "classification", method):
        host.add()
        first = host.answer()
        host.add()
        with torch.no_grad():  # the second task becomes another, in what it has of its own
            tensors = {
                "paretune": lambda host=host: host.tensors[1].values(),
                "peft": lambda host=host: [
                    p for n, p in host.models[1].named_parameters() if "task_1" in n
                ],
                "merged": lambda host=host: host.models[1].parameters(),
            }[host.form]()
            for tensor in tensors:
                tensor += 0.1
        second = host.answer()
        host.select(0)
        assert torch.equal(host.answer(), first) and not torch.allclose(first, second)
        host.select(1)
        assert torch.equal(host.answer(), second)


def test_bytes_follow_from_files_and_from_the_tasks_that_were_loaded(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = write_hosts(tmp_path, tiny_model, "classification", "lora")
    monkeypatch.setattr(deployment, "LOADED_BYTES", 1)
    monkeypatch.setattr(deployment, "LIMIT_SECONDS", 0.01)
    base = (hosts[0].source.folder / "model.safetensors").stat().st_size
    for host in hosts:
        readings = iter([1000, 1500, 1700])  # before, with one task, with two
        counter = SimpleNamespace(read_bytes=readings.__next__)
        monkeypatch.setattr(deployment, "choose_counter", lambda device, c=counter: c)
        costs = measure(host, tasks=10, threads=1)
        (file,) = host.folder.glob("*.safetensors")
        shared = 0 if host.form == "merged" else base
        assert costs["disk_bytes"] == 10 * file.stat().st_size + shared
        assert (costs["loaded_tasks"], costs["memory_bytes"]) == (2, 500 + 9 * 200)
        assert min(costs["load_seconds"], costs["swap_seconds"], costs["text_seconds"]) > 0


@pytest.mark.slow
def test_the_verb_says_whose_weights_were_measured(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    """In processes of their own; the weights of one of two methods were not kept."""
    study, store = finished(tmp_path, tiny_model("bert"))
    with Store.open(store) as opened:
        runs = opened.load_statuses(study.study_hash)
        probe = [r.run_id for r in runs if r.run.method.name == "head_only"]
        assert opened.drop_weights(study.study_hash, probe)
    file = as_file(study, tmp_path / "s.yaml")
    arguments = ("deploy", file, "--store", store, "--tasks", "2", "--devices", "cpu")
    code, out, err = command(capsys, *arguments, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["task"], result["tasks"], result["device"]) == ("tiny", 2, "cpu")
    measured = [(cost["method"], cost["form"], cost["weights"]) for cost in result["costs"]]
    assert measured == [
        *(("lora", form, "trained") for form in ("paretune", "peft", "merged")),
        *(("head_only", form, "fresh") for form in ("paretune", "merged")),
    ]
    assert all(cost["memory_bytes"] > 0 for cost in result["costs"])


def test_what_cannot_be_measured_is_refused(tmp_path: Path, tiny_model: Any, capsys: Any) -> None:
    study = small(tmp_path, tiny_model("bert"))
    with Store.open(tmp_path / "store", create=True) as store:
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        add_missing_runs(prepare_study(study).in_store(store, "cpu"), store)
    arguments = ("deploy", as_file(study, tmp_path / "s.yaml"), "--store", tmp_path / "store")
    code, _, err = command(capsys, *arguments)
    assert code == 2 and "no ended final run on words that trained a model" in err
    code, _, err = command(capsys, *arguments, "--task", "none")
    assert code == 2 and 'has no task "none". It has words.' in err
