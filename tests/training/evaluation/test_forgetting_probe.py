"""Forgetting: losses before and after training are those that ``transformers`` computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_study import small
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from paretune.errors import DataError, StudyError
from paretune.models.sources.resolve import resolve_source
from paretune.models.structure.heads import load_config
from paretune.models.structure.topology import topology_of
from paretune.planning.expand import expand_study
from paretune.planning.prepare import choose_forgetting_text, prepare_study
from paretune.preparation import ProcessCache
from paretune.study import ModelSpec, Run
from paretune.study.run import ForgettingText
from paretune.tasks.forgetting_text import hash_text, read_blocks, read_pairs
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs
from paretune.training import Outcome
from paretune.training.trainer import train_run

BLOCKS = (
    "the cat sat on the water",
    "prices and windows turn into ice",
    "the room has a door and the door has a window",
    "a dog",
)


def text_file(folder: Path) -> ForgettingText:
    path = folder / "general.txt"
    path.write_text("\n\n".join(BLOCKS), encoding="utf-8")
    return ForgettingText(text=str(path), sha256=hash_text(str(path)))


PAIRS = (("mačka", "the cat"), ("pes", "a dog and a cat"))


def pair_file(folder: Path) -> ForgettingText:
    path = folder / "general.tsv"
    rows = [("sl", "en"), *PAIRS]
    path.write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    return ForgettingText(text=str(path), sha256=hash_text(str(path)))


def asking(folder: Path, model: Path, method: str = "lora", **changes: Any) -> Run:
    task = tiny_task(folder / "data", train=24, test=6)
    training = {"backend": "plain", **changes.pop("training", {})}
    return tiny_run(task, model, method, training=training, forgetting=text_file(folder), **changes)


def train(run: Run, folder: Path, caches: ProcessCache | None = None) -> Outcome:
    """Train a run, with its checkpoint in a folder."""
    return train_run(run, checkpoint=folder / "checkpoint", report=silent, caches=caches)


def losses_by_transformers(folder: Path) -> list[float]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sums = []
    for block in BLOCKS:
        ids = torch.tensor([tokenizer(block)["input_ids"]])
        with torch.no_grad():
            sums.append(float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
    return sums


# An LM head that is tied and one that is not, which a classifier leaves in the file.
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt", "gpt2", "gemma2"])
def test_before_is_the_base_models_own_loss(family: str, tiny_model: Any, tmp_path: Path) -> None:
    outcome = train(asking(tmp_path, tiny_model(family)), tmp_path)
    measured = outcome.result["forgetting"]
    assert measured["before"] == pytest.approx(losses_by_transformers(tiny_model(family)), rel=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family))
    lengths = [len(tokenizer(block)["input_ids"]) - 1 for block in BLOCKS]
    assert measured["tokens"] == lengths
    assert measured["after"] != measured["before"]


@pytest.mark.parametrize(("method", "changed"), [("prompt", True), ("head_only", False)])
def test_virtual_tokens_are_of_after_alone_and_a_head_changes_nothing(
    method: str, changed: bool, tiny_model: Any, tmp_path: Path
) -> None:
    measured = train(asking(tmp_path, tiny_model("llama"), method), tmp_path).result["forgetting"]
    expected = losses_by_transformers(tiny_model("llama"))
    assert measured["before"] == pytest.approx(expected, rel=1e-4)
    assert (measured["after"] == measured["before"]) is not changed


def test_full_training_moves_a_tied_head_too(tiny_model: Any, tmp_path: Path) -> None:
    run = asking(tmp_path, tiny_model("gemma3"), "full", learning_rate=1e-4)
    measured = train(run, tmp_path).result["forgetting"]
    before, after = sum(measured["before"]), sum(measured["after"])
    assert after != before and after == pytest.approx(before, rel=0.2)


def test_an_earlier_run_leaves_the_base_losses_and_no_trace(
    tiny_model: Any, tmp_path: Path
) -> None:
    caches, expected = ProcessCache(), losses_by_transformers(tiny_model("llama"))
    for method in ("lora", "full", "prompt"):
        run = asking(tmp_path, tiny_model("llama"), method, learning_rate=1e-3)
        measured = train(run, tmp_path / method, caches).result["forgetting"]
        assert measured["before"] == pytest.approx(expected, rel=1e-4)
    assert len(caches.forgetting) == 1


def test_of_a_translator_it_is_the_loss_of_references(tmp_path: Path) -> None:
    task, model = tiny_pairs(tmp_path / "pairs", train=24, test=4), tiny_marian(tmp_path / "m")
    run = tiny_run(task, model, forgetting=pair_file(tmp_path))
    measured = train(run, tmp_path).result["forgetting"]
    reference = AutoModelForSeq2SeqLM.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    expected = []
    for source, target in PAIRS:
        batch = tokenizer(source, text_target=target, return_tensors="pt")
        with torch.no_grad():
            expected.append(float(reference(**batch).loss) * batch["labels"].shape[1])
    assert measured["before"] == pytest.approx(expected, rel=1e-4)


def test_virtual_tokens_that_leave_no_room_are_noted(tiny_model: Any, tmp_path: Path) -> None:
    options = {"num_virtual_tokens": 100}
    run = asking(tmp_path, tiny_model("gpt2"), "prompt", options=options)
    run = run.model_copy(update={"training": run.training.model_copy(update={"max_length": 256})})
    long = "\n\n".join(" ".join([block] * 12) for block in BLOCKS)
    assert run.forgetting is not None
    Path(run.forgetting.text).write_text(long, encoding="utf-8")
    outcome = train(run, tmp_path)
    assert "forgetting" not in outcome.result
    assert any("100 virtual tokens and 64 of text" in note for note in outcome.result["notes"])


def test_texts_are_read_and_errors_named(tmp_path: Path) -> None:
    blocks = read_blocks(text_file(tmp_path).text, None)
    assert [b.segments[0][0] for b in blocks] == list(BLOCKS)
    assert blocks[1].where == "general.txt line 3"
    table = tmp_path / "t.csv"
    table.write_text("sl,en\nPrva.,First.\nDruga.,Second.\n,Third.\n", encoding="utf-8")
    assert len(read_blocks(str(table), "sl")) == 2 and len(read_blocks(str(table), "en")) == 3
    with pytest.raises(DataError, match="has no column text or de"):
        read_blocks(str(table), "de")
    one = tmp_path / "one.txt"
    one.write_text("Only this.\n", encoding="utf-8")
    with pytest.raises(DataError, match="has 1 paragraphs"):
        read_blocks(str(one), None)
    with pytest.raises(StudyError, match="no sl to de"):
        read_pairs("sl", ("sl", "de"))
    assert [len(read_blocks(name, None)) for name in ("sl", "en")] == [40, 40]
    assert len(read_pairs("en", ("en", "sl"))) == 40
    assert hash_text("sl") != hash_text("en")


def test_planning_asks_language_models_alone(tiny_model: Any, tmp_path: Path) -> None:
    models = [tiny_model("llama"), tiny_model("bert"), tiny_marian(tmp_path / "m")]
    topologies = [topology_of(load_config(resolve_source(ModelSpec(name=str(m))))) for m in models]
    task, pairs = tiny_task(tmp_path / "data"), tiny_pairs(tmp_path / "pairs")
    study = small(tmp_path, models[0], forgetting="en")
    (text,) = prepare_study(study).forgetting.values()
    assert text.sha256 == hash_text("en")
    has_text = [
        [choose_forgetting_text(study, one, topology) is not None for topology in topologies]
        for one in (task, pairs)
    ]
    assert has_text == [[True, False, False], [True, False, True]]


def test_final_runs_of_a_study_are_asked(tiny_model: Any, tmp_path: Path) -> None:
    methods = [{"name": "lora", "rank": 2, "readout": "head"}]
    stages = set()
    for trials in (1, 2):
        protocol = {"trials": trials, "folds": 1, "seeds": [1, 2], "outer": "split"}
        study = small(
            tmp_path, tiny_model("llama"), methods=methods, forgetting="en", protocol=protocol
        )
        for run in (planned.run for planned in expand_study(prepare_study(study), [])):
            trains = run.stage == "final" and run.learning_rate is not None
            assert (run.forgetting is not None) == trains
            stages.add(run.stage)
    assert stages == {"tune", "final", "cost"}
    without = study.model_copy(update={"forgetting": None})
    assert without.study_hash != study.study_hash
    assert "forgetting" not in without.canonical_form()
