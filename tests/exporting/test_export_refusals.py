"""What an export refuses or warns of: models that learnt nothing, places that cannot be written."""

from __future__ import annotations

import os
import re
import resource
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from support.tiny_study import as_file, command, finished, load_finals, small, train

from paretune.analysis.run_selection import sort_by_priority
from paretune.errors import StoreError, StudyError
from paretune.exporting import folder as export_folder
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.export import export

HOSTILE_LABEL = "../models/$(touch PWNED)|`<b>`](javascript:x)"


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """A study of LoRA, labelled as if it wanted to leave its folder, that learnt something."""
    folder = tmp_path_factory.mktemp("learnt")
    study = small(
        folder,
        tiny_model("bert"),
        tasks=[tiny_task(folder / "data").model_dump(exclude_none=True)],
        methods=[{"name": "lora", "rank": 4, "learning_rates": [2e-2], "label": "lo:ra"}],
        protocol={"trials": 1, "folds": 1, "seeds": [1]},
        training={"max_steps": 60, "eval_every": 20, "max_length": 40, "precision": "fp32"},
    )
    # As an older version's study file could have it; this one refuses it there.
    named = study.models[0].model_copy(update={"label": HOSTILE_LABEL})
    study = study.model_copy(update={"models": (named,)})
    return train(study, folder / "store")


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """The same with a rate at which nothing changes: every text gets one answer."""
    study, store = finished(
        tmp_path_factory.mktemp("collapsed"),
        tiny_model("bert"),
        methods=[{"name": "lora", "rank": 2, "learning_rates": [1e-7]}],
        protocol={"trials": 1, "folds": 1, "seeds": [1, 2]},
    )
    assert {record.outcome for record in load_finals(study, store, "lora")} == {"collapsed"}
    return study, store


def test_a_model_that_learnt_nothing_is_exported_on_asking_only(
    collapsed: Any, tmp_path: Path, capsys: Any
) -> None:
    study, store = collapsed
    file = as_file(study, tmp_path / "study.yaml")
    arguments = ("export", file, "--store", store, "--output", tmp_path / "out", "--method", "lora")
    code, out, err = command(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "has collapsed. This model learnt nothing: it gave one and the same answer to all" in err
    assert "Train longer or with a higher rate, or say --allow-collapsed." in err
    assert not (tmp_path / "out").exists()
    code, out, err = command(capsys, *arguments, "--allow-collapsed")
    assert code == 0 and "Warning: This model learnt nothing" in out
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "> **Warning**: This model learnt nothing: it gave one and the same answer to" in card
    assert card.index("**Warning**") < card.index("```python")
    assert "--form peft --allow-collapsed" in card


def test_seeds_that_learnt_something_are_named(learnt: Any, collapsed: Any) -> None:
    from paretune.exporting.export_selection import refuse_collapsed, select_cell, select_record
    from paretune.verbs.report import load_results

    results = load_results(*collapsed)
    cell, _ = select_cell(results.study, results.records, None, None, "lora")
    record = select_record(cell, None)
    other = next(r for r in cell.final if r is not record)
    varied = other.predictions["test"]
    answers = replace(varied, prediction=tuple(i % 2 for i in range(len(varied.uid))))
    mended = replace(other, result={**other.result, "outcome": "ok"}, predictions={"test": answers})
    two = replace(cell, final=(record, mended))
    with pytest.raises(StudyError, match=rf"Seeds that did not: {mended.run.seed} \(seed=\)"):
        refuse_collapsed(record, two, allowed=False)
    assert refuse_collapsed(mended, two, allowed=False) == ""


def test_a_run_that_diverged_is_never_taken(learnt: Any) -> None:
    """It has scores, of the weights before it did, and they were not kept."""
    from paretune.exporting.export_selection import select_cell, select_record
    from paretune.verbs.report import load_results

    results = load_results(*learnt)
    cell, _ = select_cell(results.study, results.records, None, None, "lo:ra")
    (record,) = cell.final
    better = {"selection": {"primary": 1.0, "loss": 0.0}}
    run = record.run.model_copy(update={"seed": 2})
    diverged = replace(record, run=run, result={"outcome": "diverged", "scores": better})
    two = replace(cell, final=(record, diverged))
    assert select_record(two, None) is record
    with pytest.raises(StoreError, match=r"of seed 2 has ended with scores\. Seeds that have: 1\."):
        select_record(two, 2)
    assert [r.run.seed for r in sort_by_priority([record, diverged], [two])] == [1, 2]


def test_names_of_labels_are_in_whatever_opens_the_adapter(learnt: Any, tmp_path: Path) -> None:
    """And ``transformers`` alone goes on opening it: with a config.json beside it could not."""
    study, store = learnt
    done = export(
        study, store=store, method=study.methods[0].key, form="peft", output=tmp_path / "out"
    )
    assert "labels = ['a', 'b', 'c']\n" in done.card and not (tmp_path / "out/config.json").exists()
    names = dict(enumerate("abc"))
    for opener in (
        peft.AutoPeftModelForSequenceClassification,
        transformers.AutoModelForSequenceClassification,
    ):
        opened = opener.from_pretrained(tmp_path / "out", id2label=names)
        assert opened.config.id2label == names and opened.config.num_labels == 3


def test_no_label_leads_out_of_the_folder_of_exports(
    learnt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = learnt
    (tmp_path / "here" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "deeper")
    done = export(study, store=store, method=study.methods[0].key)
    assert done.folder.parent == Path("exports", "small")
    assert done.folder.name.startswith("tiny-models-touch-PWNED-b-javascript+x-lo+ra-")
    (command,) = re.findall("^paretune export STUDY_FILE (.*)$", done.card, re.MULTILINE)
    assert shlex.split(command)[2:6] == ["--model", HOSTILE_LABEL, "--method", "lo:ra"]
    assert f"\n`` {HOSTILE_LABEL} `` trained with lo:ra on `tiny`" in done.card
    folders = [p for p in tmp_path.rglob("*") if p.is_dir() and "ra" in p.name]
    assert folders == [tmp_path / "here" / "deeper" / done.folder]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``full_disk(n)``: from an export's first folder on, no file may grow beyond ``n`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    create = export_folder.create_folder

    def limit_files(size_bytes: int) -> None:
        @contextmanager
        def create_and_limit(target: Path) -> Iterator[Path]:
            with create(target) as folder:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
                yield folder

        monkeypatch.setattr(export_folder, "create_folder", create_and_limit)

    yield limit_files
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", ["peft", "merged", "paretune"])
@pytest.mark.parametrize("size_bytes", [200, 3000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    learnt: Any, tmp_path: Path, form: str, size_bytes: int, full_disk: Any
) -> None:
    study, store = learnt
    full_disk(size_bytes)
    with pytest.raises(StoreError, match=r"out: cannot be written \(File .*\); nothing is left of"):
        export(study, store=store, method=study.methods[0].key, form=form, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_before_anything_is_opened(
    learnt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = learnt
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"):
        export(study, store=store, method=study.methods[0].key, output=tmp_path / "file" / "out")
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode)
    )
    with pytest.raises(StoreError, match="is not a folder that can be written to"):
        export(study, store=store, method=study.methods[0].key, output=tmp_path / "deep" / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
