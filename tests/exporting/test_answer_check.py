"""How many answers of an export are those that were scored, on the terminal and on its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.tiny_study import as_file, command, small, train

from paretune.study import Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.verbs.export import export
from paretune.verbs.report import load_results

TRAINING = {"max_steps": 60, "eval_every": 20, "max_length": 40}


def run_study(folder: Path, model: Path, **changes: Any) -> tuple[Study, Path]:
    study = small(
        folder,
        model,
        methods=[{"name": "lora", "rank": 4, "learning_rates": [2e-2]}],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
        **changes,
    )
    return train(study, folder / "store")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: Any, tiny_model: Any) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("encoder")
    task = tiny_task(folder / "data", test=60).model_dump(exclude_none=True)
    training = {**TRAINING, "precision": "bf16"}
    return run_study(folder, tiny_model("bert"), tasks=[task], training=training)


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["peft", "merged", "paretune"])
def test_a_run_in_bf16_is_asked_in_bf16(encoder: Any, tmp_path: Path, form: str) -> None:
    study, store = encoder
    done = export(study, store=store, method="lora", form=form, output=tmp_path / "out")
    assert '@torch.autocast("cpu", dtype=torch.bfloat16)' in done.card
    assert done.answers.rows == 60
    # Merged weights are rounded together, and a processor without bf16 rounds by the batch.
    assert done.answers.different <= (6 if form == "merged" else 2)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["decoder", "translator"])
def test_decoders_and_translators_answer_as_they_were_scored(
    tmp_path: Path, tiny_model: Any, kind: str
) -> None:
    training = {**TRAINING, "max_steps": 10, "eval_every": 10, "precision": "bf16"}
    changes: dict[str, Any] = {"training": training}
    if kind == "decoder":
        task = {**tiny_task(tmp_path / "data").model_dump(exclude_none=True)}
        changes["tasks"] = [{**task, "readout": "label_words"}]
        model = tiny_model("llama")
    else:
        model = translator_folder("marian", tmp_path / "model")
        changes["tasks"] = [tiny_pairs(tmp_path / "data").model_dump(exclude_none=True)]
        changes["generation"] = {"max_new_tokens": 9}
    study, store = run_study(tmp_path, model, **changes)
    done = export(
        study,
        store=store,
        method="lora",
        form="peft",
        output=tmp_path / "out",
        allow_collapsed=True,
    )
    assert done.answers.rows >= 10 and done.answers.different == 0


@pytest.mark.thorough
def test_answers_that_differ_are_counted_and_a_doubtful_cost_is_one_on_the_card(
    encoder: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = encoder
    results = load_results(study, store)
    records = []
    for record in results.records:
        if record.run.method.name == "lora":
            test = record.predictions["test"]
            other = [(label + 1) % 3 for label in test.prediction[:3]]
            answers = replace(test, prediction=(*other, *test.prediction[3:]))
            record = replace(record, predictions={**record.predictions, "test": answers})
            cost = fake.cost(record.run, 100.0)
            contradicted = {"own_step_seconds": 0.2, "runs": 3, "ratio": 4.2}
            records.append(replace(cost, measured={**cost.measured, "contradicted": contradicted}))
        records.append(record)
    changed = replace(results, records=records)
    monkeypatch.setattr("paretune.verbs.export.load_results", lambda *_: changed)
    file = as_file(study, tmp_path / "study.yaml")
    code, out, err = command(
        capsys, "export", file, "--store", store, "--method", "lora", "-o", tmp_path / "out"
    )
    assert code == 0, err
    sentence = out.partition("The card's program: ")[2].partition(" differ.")[0]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert " of 60 answers on test rows are the scored ones, " in sentence
    assert 2 <= int(sentence.split()[-1]) <= 5 and f"exported: {sentence} differ." in card
    assert "a step, which is in doubt: the machine was busy (one solo measurement" in card
