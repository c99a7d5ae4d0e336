"""Exports: opened by those who know nothing of us, with the logits that the run had."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard
from support.cards import run_program
from support.hub import fake_hub
from support.method_contract import IN_PEFT, MERGED, METHODS
from support.tiny_runs import a_run
from support.tiny_study import load_finals, small, train
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import paretune
from paretune import methods, objectives
from paretune.errors import MethodError, ModelError, StoreError, StudyError
from paretune.exporting import card, export_selection, formats
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.models.sources.resolve import resolve_source
from paretune.store import Store
from paretune.testing.tiny_tasks import small as small_options
from paretune.verbs.export import export as export_if_learnt

TRAINED = [
    name
    for name in METHODS
    if not methods.refusal(methods.get(name), objectives.get("classification"), tabular=False)
]
export = partial(export_if_learnt, allow_collapsed=True)
"""Two steps: some of the runs have learnt nothing, which is no matter here."""
TEXTS = ["The cat sat on the mat.", "Ice turns into water"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """One study of all methods, run once; the model is DistilBERT, whose head has two layers."""
    folder = tmp_path_factory.mktemp("study")
    configs = [{"name": name, **small_options(name)} for name in TRAINED]
    study = small(folder, tiny_model("distilbert"), methods=configs, protocol={
        "trials": 1, "folds": 1, "seeds": [1],
    })  # fmt: skip
    return train(study, folder / "store")


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores: torch.Tensor = model.eval()(**batch).logits
    return scores


def logits_by_the_card(folder: Path) -> torch.Tensor:
    names, _ = run_program(folder)
    return logits(names["model"], names["tokenizer"])


def ours(study: Any, store: Path, method: str, folder: Path) -> torch.Tensor:
    """The run's logits by our own folder and the two-line loader."""
    export(study, store=store, method=method, form="paretune", output=folder)
    model, tokenizer = paretune.load(folder)
    return logits(model, tokenizer)


@pytest.mark.parametrize("method", TRAINED)
def test_every_form_that_can_be_answers_the_same(trained: Any, tmp_path: Path, method: str) -> None:
    study, store = trained
    expected = ours(study, store, method, tmp_path / "own")
    base = study.models[0].name
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    forms = []
    if method in IN_PEFT:
        done = export(study, store=store, method=method, form="peft", output=tmp_path / "peft")
        assert done.largest_difference < 1e-4
        opened = peft.PeftModel.from_pretrained(plain, tmp_path / "peft")
        forms.append(logits(opened, AutoTokenizer.from_pretrained(tmp_path / "peft")))
        auto = peft.AutoPeftModelForSequenceClassification.from_pretrained(
            tmp_path / "peft", num_labels=2
        )
        forms.append(logits(auto, AutoTokenizer.from_pretrained(tmp_path / "peft")))
    else:
        with pytest.raises(MethodError, match=r"It can be: .*paretune"):
            export(study, store=store, method=method, form="peft", output=tmp_path / "peft")
    if method in (*MERGED, "full", "head_only"):
        export(study, store=store, method=method, form="merged", output=tmp_path / "merged")
        opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
        assert opened.config.id2label == {0: "no", 1: "yes"}
        forms.append(logits(opened, AutoTokenizer.from_pretrained(tmp_path / "merged")))
    else:
        with pytest.raises(MethodError, match=r"cannot become a part of|no classifier"):
            export(study, store=store, method=method, form="merged", output=tmp_path / "merged")
    assert len(forms) == 2 * (method in IN_PEFT) + (method in (*MERGED, "full", "head_only"))
    if method == "setfit":
        done = export(study, store=store, method=method, output=tmp_path / "sentences")
        assert (done.form, done.answers.different) == ("sentence_transformers", 0)
        names, _ = run_program(tmp_path / "sentences")
        forms.append(torch.from_numpy(names["model"].encode(TEXTS)))
    for actual in forms:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_card_has_scores_with_their_basis_and_the_command(trained: Any, tmp_path: Path) -> None:
    study, store = trained
    done = export(study, store=store, method="lora", output=tmp_path / "lora")
    card = (tmp_path / "lora" / "README.md").read_text()
    assert card == done.card
    for part in (
        "# LoRA for words",
        "PeftModel.from_pretrained(base, FOLDER)",
        "labels = ['no', 'yes']\nbase = AutoModelForSequenceClassification.from_pretrained(",
        "id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)}",
        "The labels, in the order of the logits: `no`, `yes`; `model.config.id2label` has",
        "| constant answer | 0.50 [",
        "| 20 | 1 seed |",
        "rank: 2",
        "--method lora --seed 1 --form peft",
        "Licence of the data: not stated",
    ):
        assert part in card
    alone = r"This run alone: 0\.\d\d \[[01]\.\d\d, [01]\.\d\d\] on 20 examples, one seed: its "
    assert re.search(alone + "interval is over the examples only", card)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["task_type"] == "SEQ_CLS"


def test_what_is_there_is_never_overwritten(trained: Any, tmp_path: Path) -> None:
    study, store = trained
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep")
    with pytest.raises(StudyError, match="already exists"):
        export(study, store=store, method="lora", output=tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["precious.txt"]


def test_wrong_names_are_answered_with_those_there_are(trained: Any, tmp_path: Path) -> None:
    study, store = trained
    for options, message in (
        ({"task": "other"}, r"It has words"),
        ({"model": "other"}, r"It has tiny"),
        ({"method": "other"}, r'has no method "other"\. It has adapterdrop, bitfit, '),
        ({"method": "tfidf"}, r"tfidf is a baseline without a model: it trains nothing that could"),
        ({"method": "majority"}, r"What can be exported: adapterdrop, bitfit, "),
        ({"seed": 9, "method": "lora"}, r"Seeds that have: 1"),
        ({"form": "onnx", "method": "lora"}, r"It has auto, peft, merged, "),
    ):
        with pytest.raises((StudyError, StoreError), match=message):
            export(study, store=store, output=tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_a_full_run_that_was_not_kept_is_trained_again(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = trained
    expected = ours(study, store, "full", tmp_path / "kept")
    (record,) = load_finals(study, store, "full")
    weightless = {k: v for k, v in record.result.items() if k != "weights"}
    monkeypatch.setattr(
        export_selection, "select_record", lambda cell, seed: replace(record, result=weightless)
    )
    with pytest.raises(StoreError, match="Add train_again=True"):
        export(study, store=store, method="full", output=tmp_path / "no")
    export(study, store=store, method="full", train_again=True, output=tmp_path / "again")
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    again = logits(opened, AutoTokenizer.from_pretrained(tmp_path / "again"))
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)


def test_our_folder_refuses_another_base(trained: Any, tmp_path: Path, tiny_model: Any) -> None:
    study, store = trained
    export(study, store=store, method="prefix", output=tmp_path / "own")
    assert (tmp_path / "own" / "paretune.json").is_file()
    with pytest.raises(MethodError, match="was trained on other files"):
        paretune.load(tmp_path / "own", base=str(tiny_model("bert")))
    with pytest.raises(MethodError, match="is no folder that paretune exported"):
        paretune.load(tmp_path)


def test_a_stack_is_merged_if_all_its_members_are() -> None:
    """So that ``auto`` takes our own folder where one of them cannot be."""
    task = TaskSignature(kind="pair", labels=("no", "yes"))
    for members, reason in (
        (["lora", "ia3"], ""),
        (["lora", "houlsby"], "houlsby cannot be merged"),
    ):
        run = a_run(method="stack", methods=members)
        assert formats.explain_forms(run, task)["merged"] == reason


def test_the_card_opens_a_base_that_lies_in_a_package(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "site" / "held_model" / "deep" / "model"
    shutil.copytree(tiny_model("bert"), inside)
    about = tmp_path / "site" / "held_model-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: held-model\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    study = small(
        tmp_path,
        inside,
        models=["package:held-model"],
        protocol={"trials": 1, "folds": 1, "seeds": [1]},
    )
    train(study, tmp_path / "store")
    expected = ours(study, tmp_path / "store", "lora", tmp_path / "own")
    own = (tmp_path / "own" / "README.md").read_text()
    assert "in the Python package `held-model==1.2`" in own and "find_spec" not in own
    export(study, store=tmp_path / "store", method="lora", form="peft", output=tmp_path / "peft")
    card = (tmp_path / "peft" / "README.md").read_text()
    assert "# pip install held-model==1.2" in card and str(tmp_path) not in card
    assert "from_pretrained('package:" not in card
    torch.testing.assert_close(logits_by_the_card(tmp_path / "peft"), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits_by_the_card(tmp_path / "own"), expected, rtol=0, atol=1e-5)


def test_the_card_has_what_the_hub_reads_and_is_pushed(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = trained
    hub = fake_hub(monkeypatch)
    output = tmp_path / "x"
    done = export(study, store=store, method="lora", form="peft", output=output, push="owner/words")
    assert done.url == "https://hub/owner/words" and hub.private["owner/words"]
    uploaded = hub.files["owner/words"]
    assert uploaded.keys() == {p.name for p in output.iterdir()}
    assert not [name for name, data in uploaded.items() if study.models[0].name.encode() in data]
    card = ModelCard(uploaded["README.md"].decode())
    described = card.data.to_dict()
    assert described["library_name"] == "peft"
    assert described["pipeline_tag"] == "text-classification"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type) == ("words", "accuracy")
    assert "this model: " in result.metric_name and "20 examples, 1 seed" in result.metric_name
    assert 0 <= result.metric_value <= 1


def places(folder: Path, text: str) -> list[str]:
    """The files of an export that hold a text."""
    paths = [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]
    return sorted(p.name for p in paths)


def test_only_the_adapters_config_names_a_path_and_this_is_said(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    study, store = trained
    here = Path(study.models[0].name)
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    done = {
        form: export(study, store=store, method="lora", form=form, output=tmp_path / form)
        for form in ("peft", "merged", "paretune")
    }
    assert capfd.readouterr() == ("", "")  # nothing of progress either
    assert here.is_absolute() and Path(study.tasks[0].train).is_absolute()
    for text in (str(here), str(Path(study.tasks[0].train).parent)):
        assert places(tmp_path / "merged", text) == places(tmp_path / "paretune", text) == []
    assert places(tmp_path / "peft", str(here)) == ["adapter_config.json"]
    export(study, store=store, method="prompt", form="peft", output=tmp_path / "prompt")
    assert places(tmp_path / "prompt", str(here)) == ["adapter_config.json"]
    unfinished, note = done["peft"].notes
    assert unfinished == "20 of 42 runs are not done: this is the answer so far."
    assert f"is a path of this machine ({here})" in note
    assert str(tmp_path / "peft" / "adapter_config.json") in note
    assert "That is a path of one machine" in done["peft"].card
    assert done["merged"].notes == done["paretune"].notes == (unfinished,)
    config = tmp_path / "peft" / "adapter_config.json"
    settings = json.loads(config.read_text()) | {"base_model_name_or_path": ""}
    config.write_text(json.dumps(settings))
    plain = AutoModelForSequenceClassification.from_pretrained(here, num_labels=2)
    opened = peft.PeftModel.from_pretrained(plain, tmp_path / "peft")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "peft")
    expected = logits(*paretune.load(tmp_path / "paretune"))
    torch.testing.assert_close(logits(opened, tokenizer), expected, rtol=0, atol=1e-5)


def test_our_folder_asks_for_a_base_that_a_machine_does_not_know(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = trained
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    moved = tmp_path / "moved"
    shutil.copytree(study.models[0].name, moved)
    export(study, store=store, method="lora", form="paretune", output=tmp_path / "own")
    expected = logits(*paretune.load(tmp_path / "own"))
    (base_file,) = (tmp_path / "home" / "bases").iterdir()
    assert base_file.name == resolve_source(study.models[0]).weights_hash
    base_file.write_text(f"{tmp_path / 'gone'}\n")
    with pytest.raises(ModelError, match=r"was .*gone and is gone.*\n?.*base=PLACE"):
        paretune.load(tmp_path / "own")
    base_file.unlink()
    with pytest.raises(ModelError, match='its base "tiny" is a folder that this machine does not'):
        paretune.load(tmp_path / "own")
    actual = logits(*paretune.load(tmp_path / "own", base=str(moved)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "own" / "README.md"))  # a file: not a folder
    done = export(study, store=store, method="lora", form="paretune", output=tmp_path / "again")
    assert "could not be noted" in done.notes[-1]


def test_a_folder_of_another_format_is_refused(trained: Any, tmp_path: Path) -> None:
    study, store = trained
    export(study, store=store, method="lora", form="paretune", output=tmp_path / "own")
    path = tmp_path / "own" / "paretune.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(MethodError, match=r"is of format 1; this version reads 2"):
        paretune.load(tmp_path / "own")


def test_weights_with_an_axis_of_runs_are_those_without(trained: Any) -> None:
    """Version 0.2 stored the tensors of a method with a leading axis of length 1."""
    study, store = trained
    (record,) = load_finals(study, store, "lora")
    with Store.open(store) as opened:
        tensors = safetensors.torch.load(opened.read_blob(record.result["weights"]))
    task = TaskSignature(kind="classification", labels=("no", "yes"))

    def restore(axis: tuple[int, ...]) -> dict[str, torch.Tensor]:
        stored = {n: t[axis].clone() if ".lora." in n else t for n, t in tensors.items()}
        weights = safetensors.torch.save(stored)
        trained = restore_run(record.run, task, resolve_source(study.models[0]), weights).trained
        return {name: p.detach() for name, p in trained.items()}

    for name, tensor in restore((None,)).items():
        assert torch.equal(tensor, tensors[name])
    with pytest.raises(StoreError, match="do not fit the method"):
        restore((slice(0, 1),))


def test_a_base_of_the_hub_is_named_with_its_revision(trained: Any, tmp_path: Path) -> None:
    """In the card and in PEFT's config, so that nothing names a place on this machine."""
    study, store = trained
    (record,) = load_finals(study, store, "lora")
    with Store.open(store) as opened:
        weights = opened.read_blob(record.result["weights"])
    task = TaskSignature(kind="classification", labels=("no", "yes"))
    here = resolve_source(study.models[0])
    source = replace(here, name="owner/name", revision="a" * 40)
    code = card.render_program("peft", task, source, "", "A text.")
    assert f"from_pretrained(\n    'owner/name', revision='{'a' * 40}', dtype=" in code
    with warnings.catch_warnings(record=True) as peft_warnings:
        warnings.simplefilter("always")
        formats.write_peft_adapter(
            record.run, task, source, restore_run(record.run, task, here, weights), tmp_path
        )
    assert not [w for w in peft_warnings if "fetch remote file" in str(w.message)], "no network"
    config = (tmp_path / "adapter_config.json").read_text()
    assert str(here.folder) not in config
    settings = json.loads(config)
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("owner/name", "a" * 40)
