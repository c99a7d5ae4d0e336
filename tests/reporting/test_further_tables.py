"""Tables of a report beside scores: predictions, model sizes, searches, bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score
from support import fake_records as fake
from support.report_texts import texts_by_method

from paretune import compare
from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.memory_breakdown import break_down_memory
from paretune.reporting import measures
from paretune.reporting.build import build_report
from paretune.reporting.table import Table, column
from paretune.reporting.tables import build_memory_table, build_size_table
from paretune.reporting.text.comparison import explain_memory_difference
from paretune.store.record import Predictions, Record
from paretune.study import Study
from paretune.verbs import report as gathering

MIB = 2**20


def test_without_full_they_are_counted_from_bytes_and_methods_are_taken_off() -> None:
    (task,) = build_report(*fake.two_sizes(methods=("lora",))).tasks
    table = build_size_table(task)
    assert table is not None and "counted from the bytes of weights and buffers" in table.notes[1]
    assert {line[1] for line in table.texts} == {"50.0 M", "150 M"}


@pytest.mark.parametrize("sized", [("small",), ()])
def test_models_of_unknown_size_are_not_compared(sized) -> None:
    (task,) = build_report(*fake.two_sizes(methods=("lora",), sized=sized)).tasks
    assert build_size_table(task) is None


def test_a_note_says_what_the_whole_table_of_words_takes() -> None:
    study, tables = fake.study(), {"rows": 30_522, "trained_rows": 2_000, "spared_bytes": 120 * MIB}
    records = [
        replace(r, result={**r.result, "word_tables": tables})
        if r.run.stage == "cost" and r.run.method.name == "full"
        else r
        for r in fake.whole(study)
    ]
    notes = [note for note in build_report(study, records).notes if "word embeddings" in note]
    assert len(notes) == len(study.tasks) * len(study.models)
    assert "full fine-tuning was measured with" in notes[0]
    assert "2,000 of 30,522 word embeddings" in notes[0] and "takes 120 MiB more" in notes[0]
    assert not any("word embeddings" in n for n in build_report(study, fake.whole(study)).notes)


def test_each_class_has_its_score_interval_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over seeds of scikit-learn's F1 of each label; the most frequent ones."""
    study = fake.study(methods=["lora"])
    records = fake.whole(study)
    runs = [r for r in records if r.run.stage == "final" and r.run.method.name == "lora"]
    tests = [r.predictions["test"] for r in runs if r.run.task.key == study.tasks[0].key]
    expected = np.mean([f1_score(t.label, t.prediction, average=None) for t in tests], axis=0)
    table = build_report(study, records).tasks[0].find_table("classes")
    assert table is not None and table.notes == ()
    counts = np.bincount(tests[0].label)
    assert [c.heading for c in table.columns[1:4]] == [f"{i} ({n})" for i, n in enumerate(counts)]
    (line,) = (line for line in table.values if line["method"] == "lora")
    scores: list[Any] = [line[column.name] for column in table.columns[1:4]]
    assert [score.estimate for score in scores] == pytest.approx(expected)
    assert all(s.low < s.estimate < s.high and s.n_examples == 60 for s in scores)
    monkeypatch.setattr(measures, "MOST_CLASSES", 2)
    cut = build_report(study, records).tasks[0].find_table("classes")
    assert cut is not None and cut.notes == ("2 of 3, the most frequent.",)
    assert len(cut.columns) == len(table.columns) - 1


def test_types_of_entities_and_further_metrics_have_columns() -> None:
    """A type that only an answer has is no class of the test."""
    task = {**fake.own_task("names", metric="entity_f1"), "kind": "token_classification"}
    study = fake.study(tasks=[task])
    true, answer = ("B-PER I-PER O", "B-ORG O O"), ("B-PER I-PER O", "B-LOC O O")
    part = Predictions(("a", "b"), true, answer, ((), ()))
    run = fake.make_run(study, "final", "lora", 1)
    records = [replace(fake.record(run), predictions={"test": part})]
    tables = build_report(study, records).tasks[0].tables
    texts = {}
    for table in (table for table in tables if table.name in ("metrics", "classes")):
        (line,) = table.texts
        texts |= dict(zip([column.heading for column in table.columns], line, strict=True))
    assert {name: text.split()[0] for name, text in texts.items() if " [" in text} == {
        "token accuracy": "0.83", "entity F1": "0.50", "PER (1)": "1.00", "ORG (1)": "0.00"
    }  # fmt: skip
    assert "0.00 [0.00, 0.00]" not in texts.values()


def methods_of(study: Study, records: list[Record]) -> list[Cell]:
    """The cells of the methods on the first task."""
    cells = group_into_cells(study, records)
    return [cell for cell in cells if cell.task == study.tasks[0].key and not cell.baseline]


def changed(records: list[Record], method: str, **measured: Any) -> list[Record]:
    """The records, with the cost of one method measured otherwise."""
    study = fake.study()
    others = [r for r in records if not (r.run.stage == "cost" and r.run.method.key == method)]
    run = fake.make_run(study, "cost", method, 1)
    base = fake.cost(run, fake.MEGABYTES[method])
    return [*others, fake.record(base.run, measured={**base.measured, **measured})]


def explain(cell: Cell, reference: Cell) -> list[str]:
    a, b = break_down_memory(cell.cost), break_down_memory(reference.cost)
    assert a is not None and b is not None
    return [*explain_memory_difference(cell.method, a, reference.method, b)]


def test_memory_says_what_makes_a_comparison_unfair_or_impossible() -> None:
    study = fake.study()
    records = changed(fake.whole(study), "lora", batch_size=4, not_measured={})
    full, lora, prompt = methods_of(study, records)
    assert "not measured under the same conditions (batch 16 against 4)" in " ".join(
        explain(full, lora)
    )
    near = changed(records, "prompt", phases={"train": {"peak_bytes": 880 * 2**20}})
    cells = methods_of(study, near)
    assert "cannot be separated" in " ".join(explain(cells[1], cells[2]))
    shut = changed(records, "prompt", phases={}, not_measured={"phases": "the counter is shut"})
    prompt = methods_of(study, shut)[2]
    assert explain(full, prompt) == []


def test_the_table_says_what_it_stands_on_and_what_it_cannot_tell() -> None:
    study = fake.study()
    longer = {**fake.cost(fake.make_run(study, "cost", "lora", 1), 1.0).measured["components"]}
    longer["activations_bytes"] = 10**9
    records = changed(fake.whole(study), "lora", components=longer)
    grid = build_memory_table(build_report(study, records).tasks[0])
    assert grid is not None
    assert grid.above.startswith("One solo measurement each, in a fresh process.")
    texts = texts_by_method(grid)
    assert texts["full fine-tuning"] == [
        "448 MiB", "449 MiB", "898 MiB", "28.6 MiB", "66.7 MiB", "1.85 GiB"
    ]  # fmt: skip
    assert texts["LoRA"][3:5] == ["in the rest", "418 MiB"]
    assert any("room for under the peak" in n and "954 MiB for LoRA" in n for n in grid.notes)
    assert build_memory_table(build_report(study, []).tasks[0]) is None


def test_compare_names_what_takes_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake.study()
    results = gathering.StudyResults(study, Path(), fake.whole(study), [], [])
    monkeypatch.setattr("paretune.verbs.compare.load_results", lambda *_: results)
    for answer in compare(study, "full", "lora"):
        assert answer.memory_parts[0].part == "optimizer"
        assert answer.memory[0].startswith("Peak memory in training: 1.85 GiB with full")
    assert all(not answer.memory for answer in compare(study, "full", "majority"))
    assert all(not answer.memory for answer in compare(study, than="full"))


def test_two_columns_never_fold_into_one_and_what_is_no_text_has_its_text() -> None:
    row = {column("score", "score [95 %]"): 0.5, column("score", "n x seeds"): 60}
    with pytest.raises(ValueError, match="table t: two columns are called score"):
        Table.collect("t", "T", [row])
    study = fake.study()
    (task, *_) = build_report(study, fake.whole(study)).to_json()["tasks"]
    for table in task["tables"]:
        for row in table["rows"]:
            assert {head["name"] for head in table["columns"]} <= set(row)
            objects = [cell for cell in row.values() if isinstance(cell, dict)]
            assert objects and all(cell["text"] != cell["value"] for cell in objects)
            assert all(set(cell) == {"value", "text"} for cell in objects)
