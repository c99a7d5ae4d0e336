"""Many tasks on one base: each form answers as the run, swaps, and is counted."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.tiny_study import as_file, command, finished, small

from paretune.execution.study_runs import add_missing_runs
from paretune.exporting import deployment
from paretune.exporting.restore import TaskSignature
from paretune.models.sources.resolve import resolve_source
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.tasks import load_dataset
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.forward.passes import Compute

KINDS = ("classification", "multiple_choice", "regression", "label_words", "translation")


def write_hosts(folder: Path, tiny_model: Any, kind: str, method: str, **changes: Any) -> Any:
    """By form what lets a fresh task answer a text, task by task; a decoder answers by words."""
    decoder = kind in ("label_words", "multiple_choice")
    model = tiny_model("llama" if decoder else "bert")
    if kind == "translation":
        task, model = tiny_pairs(folder / "data"), translator_folder("marian", folder / "model")
    else:
        task = tiny_task(folder / "data", "classification" if kind == "label_words" else kind)
    if kind == "label_words":
        changes["readout"] = kind
    run, data = tiny_run(task, model, method, **changes), load_dataset(task)
    source, signature = resolve_source(run.model, offline=True), TaskSignature.of(run, data)
    forms, inputs = deployment.write_forms(run, data, source, folder)
    about = (Compute.of(run, "cpu"), signature, source)

    def answer(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return model(**inputs).logits

    return {form: deployment.host_tasks(*about, folder / form) for form in forms}, answer


@pytest.mark.parametrize("kind", [
    KINDS[0], *(pytest.param(kind, marks=pytest.mark.thorough) for kind in KINDS[1:])
])  # fmt: skip
def test_all_forms_of_a_task_answer_alike(tmp_path: Path, tiny_model: Any, kind: str) -> None:
    hosts, answer = write_hosts(tmp_path, tiny_model, kind, "lora")
    logits = {}
    for form, hosted in hosts.items():
        swaps = [next(hosted) for _ in range(3)]
        logits[form] = answer(swaps[1]())
        assert len({id(swap()) for swap in swaps}) == (3 if form == "merged" else 1)
    assert [*logits] == ["paretune", "peft", "merged"]
    for logit in logits.values():
        torch.testing.assert_close(logit, logits["paretune"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "full", "prefix"])
def test_the_task_that_is_selected_answers(tmp_path: Path, tiny_model: Any, method: str) -> None:
    hosts, answer = write_hosts(tmp_path, tiny_model, "classification", method)
    for form, hosted in hosts.items():
        swaps = [next(hosted), next(hosted)]
        first = answer(swaps[0]())
        changed = dict(swaps[1]().named_parameters())
        if form == "peft":
            changed = {name: p for name, p in changed.items() if "task_1" in name}
        with torch.no_grad():  # the second task becomes another, in what it has of its own
            for tensor in (swaps[1].args[2] if form == "paretune" else changed).values():
                tensor += 0.1
        second = answer(swaps[1]())
        assert torch.equal(answer(swaps[0]()), first) and not torch.allclose(first, second)
        assert torch.equal(answer(swaps[1]()), second)


def test_bytes_follow_from_files_and_from_the_tasks_that_were_loaded(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "LOADED_BYTES", 1)
    monkeypatch.setattr(deployment, "LIMIT_SECONDS", 0.01)
    # Before, with one task, with two; for each form.
    counter = SimpleNamespace(read_bytes=cycle([1000, 1500, 1700]).__next__)
    monkeypatch.setattr(deployment, "choose_counter", lambda device: counter)
    run = tiny_run(tiny_task(tmp_path / "data"), tiny_model("bert"), "lora")
    data, source = load_dataset(run.task), resolve_source(run.model, offline=True)
    files = {}
    for form in deployment.write_forms(run, data, source, tmp_path)[0]:
        (files[form],) = (tmp_path / form).glob("*.safetensors")
    base = (source.folder / "model.safetensors").stat().st_size
    for form, costs in deployment.measure_run(run, data, source, "cpu", tasks=10):
        shared = 0 if form == "merged" else base
        assert costs["disk_bytes"] == 10 * files.pop(form).stat().st_size + shared
        assert (costs["loaded"], costs["memory_bytes"]) == (2, 500 + 9 * 200)
        assert min(costs["load_seconds"], costs["swap_seconds"], costs["text_seconds"]) > 0
    assert not files


@pytest.mark.slow
def test_the_verb_and_the_report_have_the_table(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    study, store = finished(tmp_path, tiny_model("bert"))
    file = as_file(study, tmp_path / "s.yaml")
    arguments = (file, "--store", store, "--json")
    code, out, err = command(capsys, "deploy", *arguments, "--tasks", "2", "--devices", "cpu")
    assert code == 0, err
    result = json.loads(out)
    assert (result["task"], result["tasks"]) == ("tiny", 2)
    assert result["table"]["notes"] == ["cpu, 1 thread, fp32."]
    measured = [(row["method"], row["form"]) for row in result["table"]["rows"]]
    assert measured == [
        *(("lora", form) for form in ("paretune", "peft", "merged")),
        *(("head_only", form) for form in ("paretune", "merged")),
    ]
    assert all(row["text_seconds"]["value"] > 0 for row in result["table"]["rows"])
    _, out, _ = command(capsys, "report", *arguments)
    assert result["table"] in json.loads(out)["tasks"][0]["tables"]


def test_what_cannot_be_measured_is_refused(tmp_path: Path, tiny_model: Any, capsys: Any) -> None:
    study = small(tmp_path, tiny_model("bert"))
    with Store.open(tmp_path / "store", create=True) as store:
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        add_missing_runs(prepare_study(study).in_store(store, "cpu"), store)
    arguments = ("deploy", as_file(study, tmp_path / "s.yaml"), "--store", tmp_path / "store")
    code, _, err = command(capsys, *arguments)
    assert code == 2 and "left a model with scores (none has ended)" in err
    code, _, err = command(capsys, *arguments, "--task", "none")
    assert code == 2 and 'has no task "none". It has words.' in err
