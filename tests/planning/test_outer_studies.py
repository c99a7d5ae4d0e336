"""Small real studies in outer cross-validation, for every kind of task: every row is answered
once, by a run that was trained without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from support.tiny_study import finished, superglue

from paretune.analysis.cells import group_into_cells
from paretune.data.split import labelled_rows
from paretune.reporting.build import build_report
from paretune.store import Store
from paretune.tasks import load_dataset
from paretune.testing.tiny_tasks import KINDS, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs

PROTOCOL = {"trials": 1, "folds": 1, "seeds": [1, 2], "outer": 2}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "answer_set", "translation"])
def test_every_row_is_answered_once(kind: str, tmp_path: Path, tiny_model: Any) -> None:
    model, generation = tiny_model("bert"), dict[str, Any]()
    if kind == "answer_set":
        source = str(superglue(tmp_path / "superglue", "folders"))
        task: dict[str, Any] = {"name": "multirc", "language": "sl", "source": source}
    elif kind == "translation":
        (tmp_path / "task").mkdir()
        task = tiny_pairs(tmp_path / "task").model_dump(exclude_none=True)
        model, generation = tiny_marian(tmp_path / "marian"), {"num_beams": 1, "max_new_tokens": 8}
    else:
        task = tiny_task(tmp_path / "task", kind).model_dump(exclude_none=True)
    study, folder = finished(
        tmp_path, model, tasks=[task], protocol=PROTOCOL, generation=generation
    )
    rows = labelled_rows(load_dataset(study.tasks[0]))
    with Store.open(folder) as store:
        records = store.load_records(study.study_hash, predictions=True)
    cells = {cell.method: cell for cell in group_into_cells(study, records)}
    baselines = {"untuned", "copy_source"} if kind == "translation" else {"head_only"}
    assert {"lora", *baselines} <= cells.keys()
    for cell in cells.values():
        assert (cell.design.folds, cell.finished) == (2, True)
        assert {r.run.outer.index for r in cell.final if r.run.outer} == {0, 1}
        answered = [uid for r in cell.final for uid in r.predictions["test"].uid]
        assert sorted(answered) == sorted(e.uid for e in rows)
        for record in cell.final:
            tested, selection = record.predictions["test"], record.predictions.get("selection")
            assert selection is None or not {*tested.uid} & {*selection.uid}
        if kind == "answer_set" and cell.run_scores is not None:
            assert cell.run_scores.units == len({e.group for e in rows})  # passages whole
        if kind == "translation":  # BLEU counts over the whole corpus: folds are not averaged
            (answers,) = cell.shown_answers
            assert cell.interval is not None
            pooled = sacrebleu.corpus_bleu(list(answers.prediction), [list(answers.label)])
            assert cell.interval.estimate == pytest.approx(pooled.score, abs=1e-6)
    assert build_report(study, records).tasks[0].methods[0].method == "lora"
