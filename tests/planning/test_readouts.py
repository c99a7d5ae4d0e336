"""How the methods of a study have a model answer, and what stands beside them on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import finished, small

from paretune.analysis.cells import group_into_cells
from paretune.data.prompt import draw_shots
from paretune.errors import MethodError
from paretune.planning.checks import run_dry_steps
from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.preparation import ProcessCache
from paretune.store import Store
from paretune.study import Run, Study
from paretune.testing.tiny_tasks import tiny_run, tiny_task

LANGUAGE = ["untuned", "few_shot"]


def study_on(folder: Path, model: Path, kind: str = "pair", **changes: Any) -> Study:
    task = tiny_task(folder / "data", kind).model_dump(exclude_none=True) | changes.pop("task", {})
    return small(folder, model, tasks=[task], **changes)


def readouts(study: Study) -> dict[str, str]:
    return {cell.method.key: cell.readout for cell in prepare_study(study).cells}


@pytest.mark.parametrize(
    ("family", "kind", "expected"),
    [
        *(
            ("llama", kind, {"lora": "label_words", **dict.fromkeys(LANGUAGE, "label_words")})
            for kind in ("classification", "pair", "multiple_choice")
        ),
        ("llama", "regression", {"lora": "head"}),
        ("bert", "pair", {"lora": "head"}),
    ],
)
def test_a_decoder_answers_labels_by_their_words_and_all_else_is_answered_by_a_head(
    family: str, kind: str, expected: dict[str, str], tmp_path: Path, tiny_model: Any
) -> None:
    by_method = readouts(study_on(tmp_path, tiny_model(family), kind))
    assert by_method == {"head_only": "head", **expected}


def test_a_method_names_its_readout_and_else_its_task_does(tmp_path: Path, tiny_model: Any) -> None:
    methods = [{"name": "lora"}, {"name": "lora", "label": "words", "readout": "label_words"}]
    study = study_on(tmp_path, tiny_model("llama"), methods=methods, task={"readout": "head"})
    assert readouts(study) == {
        "lora": "head",
        "words": "label_words",
        "head_only": "head",
        **dict.fromkeys(LANGUAGE, "label_words"),  # they can have no new head
    }


@pytest.mark.parametrize(
    ("family", "method", "task", "message"),
    [
        ("bert", {"name": "lora", "readout": "label_words"}, {}, "an encoder does not answer"),
        ("bert", {"name": "lora"}, {"readout": "text"}, "an encoder does not answer"),
        ("llama", {"name": "head_only", "readout": "label_words"}, {}, "linear probe"),
        ("llama", {"name": "untuned", "readout": "head"}, {}, "untuned model"),
        ("bert", {"name": "few_shot"}, {}, "few-shot"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    family: str,
    method: dict[str, Any],
    task: dict[str, Any],
    message: str,
    tmp_path: Path,
    tiny_model: Any,
) -> None:
    study = study_on(tmp_path, tiny_model(family), methods=[method], task=task)
    with pytest.raises(MethodError, match=message):
        expand_study(prepare_study(study), [])


def test_a_study_of_an_encoder_and_a_decoder_gives_each_what_it_can(
    tmp_path: Path, tiny_model: Any
) -> None:
    models = [{"name": str(tiny_model(f)), "label": f} for f in ("bert", "llama")]
    methods = [{"name": "lora"}, {"name": "few_shot", "k": 2}]
    study = study_on(tmp_path, tiny_model("bert"), models=models, methods=methods)
    runs = [planned.run for planned in expand_study(prepare_study(study), [])]
    by_model = {
        name: {(r.method.key, r.readout) for r in runs if r.model.key == name}
        for name in ("bert", "llama")
    }
    assert by_model["bert"] == {("lora", "head"), ("head_only", "head")}
    assert by_model["llama"] == {
        ("lora", "label_words"),
        ("few_shot", "label_words"),
        ("untuned", "label_words"),
        ("head_only", "head"),
    }
    shots = [r for r in runs if r.method.name == "few_shot" and r.stage == "final"]
    assert [r.seed for r in shots] == [1, 2] and shots[0].method.options == {"k": 2}
    assert len([r for r in runs if r.method.name == "untuned" and r.stage == "final"]) == 1


def test_no_weights_are_read_for_a_baseline_that_trains_nothing(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    load = ProcessCache.run_model

    def record(cache: ProcessCache, run: Run, **options: Any) -> Any:
        opened.append(run.method.key)
        return load(cache, run, **options)

    monkeypatch.setattr(ProcessCache, "run_model", record)
    study = study_on(tmp_path, tiny_model("llama"), methods=["few_shot"])
    prepared = prepare_study(study)
    runs = [planned.run for planned in expand_study(prepared, [])]
    dry = {step.run.method.key: step for step in run_dry_steps(prepared, runs)}
    assert dry["few_shot"].summary == dry["untuned"].summary == "trains nothing"
    assert opened == ["head_only"]


def test_the_prompt_is_part_of_what_a_run_is_where_it_reads_it(
    tmp_path: Path, tiny_model: Any
) -> None:
    ids: list[dict[tuple[str, str, int], str]] = []
    for task in ({}, {"prompt": "{text} / {text_pair} ->"}):
        study = study_on(tmp_path, tiny_model("llama"), task=task)
        planned = expand_study(prepare_study(study), [])
        ids.append({(p.run.method.key, p.run.stage, p.run.seed): p.run_id for p in planned})
    changed = {key[0] for key, own in ids[0].items() if ids[1][key] != own}
    assert changed == {"lora", *LANGUAGE}


def test_solved_examples_come_from_the_training_part_by_seed_the_labels_in_turn(
    tmp_path: Path, tiny_model: Any
) -> None:
    study = study_on(tmp_path, tiny_model("llama"))
    (task,), (model,) = study.tasks, study.models
    caches = ProcessCache()
    drawn = []
    for seed in (1, 2):
        parts = caches.parts(tiny_run(task, Path(model.name), "few_shot", seed=seed))
        shots = draw_shots(parts.train, 6, seed)
        assert sorted(str(e.label) for e in shots[:3]) == ["0", "1", "2"]
        assert shots == draw_shots(parts.train, 6, seed)
        assert not {e.uid for e in shots} & {e.uid for e in (*parts.selection, *parts.test)}
        drawn.append(shots)
    assert drawn[0] != drawn[1]
    assert len(draw_shots(parts.train[:4], 6, 1)) == 4


def test_a_study_of_a_decoder_from_its_plan_to_its_report(tmp_path: Path, tiny_model: Any) -> None:
    methods = [
        {"name": "lora", "rank": 2},
        {"name": "lora", "rank": 2, "label": "by-head", "readout": "head"},
        {"name": "few_shot", "k": 3},
    ]
    training = {"max_steps": 2, "max_length": 48, "precision": "fp32", "backend": "plain"}
    task = tiny_task(tmp_path / "choices", "multiple_choice").model_dump(exclude_none=True)
    study, folder = finished(
        tmp_path, tiny_model("qwen3"), methods=methods, training=training, tasks=[task]
    )
    records = Store.open(folder).load_records(study.study_hash, predictions=True)
    cells = {cell.method: cell for cell in group_into_cells(study, records)}
    assert set(cells) >= {"lora", "by-head", "few_shot", "untuned", "head_only"}
    assert all(len(c.final) == c.expected_runs and c.interval for c in cells.values())
    assert len(cells["untuned"].final) == 1 and len(cells["few_shot"].final) == 2
    assert cells["untuned"].failures is None and cells["few_shot"].failures is None
    scores = cells["lora"].final[0].predictions["test"].scores
    assert all(len(row) == 2 and max(row) < 0 for row in scores)  # log-likelihoods of two choices
