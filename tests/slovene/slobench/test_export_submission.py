"""From a study to a zip for SloBench: complete, checked, by the right run, or nothing at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.slobench import UNLABELLED, keep_records, release, six
from support.tiny_study import as_file, command, finish

from paretune import metrics
from paretune.errors import DataError, StoreError, StudyError
from paretune.exporting.restore import predict
from paretune.preparation import ProcessCache
from paretune.reporting.text.formatting import format_examples, format_interval
from paretune.store import Store
from paretune.tasks import available, load_dataset
from paretune.terminal.plural import pluralise
from paretune.verbs import report as reports
from paretune_slovene.commands.slobench import check
from paretune_slovene.slobench import superglue_zip
from paretune_slovene.slobench.export_submission import export_slobench
from paretune_slovene.slobench.kinds import ask_superglue
from paretune_slovene.slobench.official_scores import LABELS
from paretune_slovene.slobench.submission_card import list_notes
from paretune_slovene.slobench.superglue_submission import NAMES

COUNTS = {task: UNLABELLED * (4 if task == "MultiRC" else 1) for task in LABELS}


@pytest.fixture(scope="module")
def done(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """A study of all six, run once, its store, and its release."""
    folder = tmp_path_factory.mktemp("six")
    source = release(folder / "data")
    # A rate at which answers differ: a constant would hide a wrong order.
    methods = [{"name": "lora", "rank": 2, "learning_rates": [5e-2]}]
    training = {"max_steps": 12, "eval_every": 12, "max_length": 48, "precision": "fp32"}
    study = six(folder, tiny_model("bert"), source, methods=methods, training=training)
    finish(study, folder / "store", costs=0).close()
    return study, folder / "store", source


@pytest.fixture
def nothing_half(tmp_path: Path) -> Iterator[None]:
    """What is refused leaves no file."""
    before = sorted(tmp_path.iterdir())
    yield
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.wide
def test_every_row_is_answered_and_the_check_accepts_it(done: Any, tmp_path: Path) -> None:
    study, store, source = done
    notes: list[str] = []
    submission = export_slobench(study, store=store, output=tmp_path / "a", tell=notes.append)
    seen = check(tmp_path / "a" / "superglue.zip", release=source)
    assert seen.findings == () and seen.answers == COUNTS
    assert {part.name: part.rows for part in submission.parts} == COUNTS
    assert len(notes) == 6 and notes[0].startswith("BoolQ: 7 rows by boolq-sl x tiny x ")
    with zipfile.ZipFile(tmp_path / "a" / "superglue.zip") as archive:
        lines = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    kinds = {name: json.loads(rows[0]).get("label") for name, rows in lines.items()}
    assert kinds["BoolQ.jsonl"] in ("true", "false") and kinds["WSC.jsonl"] in ("True", "False")
    assert kinds["COPA.jsonl"] in (0, 1) and type(kinds["COPA.jsonl"]) is int
    questions = json.loads(lines["MultiRC.jsonl"][1])["passage"]["questions"]
    assert [q["idx"] for q in questions] == [2, 3]
    assert [a["idx"] for q in questions for a in q["answers"]] == [4, 5, 6, 7]
    export_slobench(study, store=store, output=tmp_path / "b")
    zips = [(tmp_path / name / "superglue.zip").read_bytes() for name in "ab"]
    assert zips[0] == zips[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_the_restored_run_answers_as_it_did_when_it_was_scored(done: Any) -> None:
    study, store, _ = done
    caches, kinds = ProcessCache(), set()
    with Store.open(store) as stored:
        for record in stored.load_records(study.study_hash, predictions=True):
            if record.run.stage != "final":
                continue
            kept = record.result.get("weights")
            dataset = caches.dataset(record.run.task)
            labels, _ = predict(
                record.run, dataset, dataset.test, caches, stored.read_blob(kept) if kept else None
            )
            assert labels == record.predictions["test"].prediction, record.run.cell
            if len(set(labels)) > 1:
                kinds.add(dataset.kind)
    assert {"pair", "multiple_choice", "answer_set"} <= kinds  # not all are constants


def test_labels_are_spelled_by_their_place() -> None:
    """The built-in tasks list their labels in the order in which SloBench's are listed here."""
    same = {"MultiRC": {"false": 0, "true": 1}, "COPA": {"0": 0, "1": 1}}
    for capital in ("BoolQ", "WSC"):
        same[capital] = dict(zip(("false", "true"), LABELS[capital], strict=True))
    assert same["WSC"] == {"false": "False", "true": "True"}
    for name, task in NAMES.items():
        ours = available()[name].labels
        assert tuple(same.get(task, {}).get(label, label) for label in ours) == LABELS[task]


def test_the_readme_says_which_run_answered_and_claims_no_test_score(
    done: Any, tmp_path: Path
) -> None:
    study, store, source = done
    submission = export_slobench(study, store=store, output=tmp_path / "out", release=source)
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert readme == submission.readme and str(tmp_path) not in readme and str(source) not in readme
    for part in submission.parts:
        record = part.by.record
        scores = record.result["scores"]
        assert f"| {part.name} | {part.rows} | tiny | {record.run.method.key} |" in readme
        assert f"`{record.run_id}`" in readme
        own, mean = part.by.run_interval, part.by.interval
        assert own is not None and own.estimate == pytest.approx(scores["selection"]["primary"])
        assert own.n_examples == scores["selection"]["n"] and own.n_seeds == 1
        assert mean is not None and mean.estimate == pytest.approx(part.by.mean)
        assert (
            f"| {format_interval(own)} ({metrics.get(part.by.cell.metric).title} on "
            f"{format_examples(own)})" in readme
        )
        assert f"| {format_interval(mean)} ({pluralise(mean.n_seeds, 'seed')}) |" in readme
    assert "that of a run over the examples alone" in readme
    assert "These are no test scores" in readme and "`qa_test.zip::WSC.jsonl`, sha256" in readme


@pytest.mark.usefixtures("nothing_half")
def test_fewer_than_six_tasks_are_refused_before_anything_is_read(
    done: Any, tmp_path: Path
) -> None:
    study, _, _ = done
    four = study.model_copy(update={"tasks": study.tasks[:4]})
    with pytest.raises(StudyError, match=r"4 of the six .* it lacks rte, wsc\. Add to its tasks"):
        export_slobench(four, store=tmp_path / "none", output=tmp_path / "out")


@pytest.mark.usefixtures("nothing_half")
def test_a_task_without_an_ended_run_is_named(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store, _ = done
    gather = keep_records(lambda r: r.run.task.name not in ("cb", "wsc"))
    monkeypatch.setattr(reports, "load_results", gather)
    with pytest.raises(StoreError, match=r"no final run has ended .* on cb-sl, wsc-sl"):
        export_slobench(study, store=store, output=tmp_path / "out")


def test_baselines_answer_where_no_model_has_and_it_is_told(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store, source = done
    gather = keep_records(lambda record: record.run.model.name == "-")
    monkeypatch.setattr(reports, "load_results", gather)
    submission = export_slobench(study, store=store, output=tmp_path / "out")
    assert {part.by.record.run.method.name for part in submission.parts} <= {"majority", "tfidf"}
    assert submission.readme.count("No model has ended a run, so a baseline answers") == 6
    assert check(tmp_path / "out" / "superglue.zip", release=source).findings == ()


def test_a_damaged_or_other_release_is_refused(done: Any, tmp_path: Path) -> None:
    study, store, source = done
    good = (source / "qa_test.zip").read_bytes()
    torn = tmp_path / "torn.zip"
    torn.write_bytes(good[: len(good) // 2])
    five, other = tmp_path / "five.zip", tmp_path / "other.zip"
    with (
        zipfile.ZipFile(source / "qa_test.zip") as old,
        zipfile.ZipFile(five, "w") as lacking,
        zipfile.ZipFile(other, "w") as longer,
    ):
        for name in old.namelist():
            if name != "CB.jsonl":
                lacking.writestr(name, old.read(name))
            more = b'\n{"idx": 7, "premise": "a", "hypothesis": "b"}' * (name == "RTE.jsonl")
            longer.writestr(name, old.read(name) + more)
    for path, message in (
        (torn, "is not a readable zip"),
        (five, "holds no CB.jsonl"),
        (other, "RTE.jsonl of the release, task rte-sl: 1 of 8 rows are not in the study's data"),
        (tmp_path / "none.zip", "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            export_slobench(study, store=store, output=tmp_path / "out", release=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["five.zip", "other.zip", "torn.zip"]


@pytest.mark.usefixtures("nothing_half")
def test_what_does_not_read_back_is_not_left_behind(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store, _ = done
    render = superglue_zip.render_answers

    def short(task: str, answers: Any) -> str:
        return render(task, dict(list(answers.items())[task == "RTE" :]))

    monkeypatch.setattr(superglue_zip, "render_answers", short)
    with pytest.raises(DataError, match=r"answers 6 of 7; missing: idx 0"):
        export_slobench(study, store=store, output=tmp_path / "out")


def test_data_that_changed_since_is_noticed(done: Any, tmp_path: Path) -> None:
    study, store, source = done
    kept = (source / "qa_train.zip").read_bytes()
    try:
        with zipfile.ZipFile(source / "qa_train.zip") as old:
            texts = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(source / "qa_train.zip", "w") as new:
            for name, text in texts.items():
                new.writestr(name, text.replace(b"door 3", b"window 3"))
        with pytest.raises(StoreError, match="are not those it was trained with"):
            export_slobench(study, store=store, output=tmp_path / "out")
    finally:
        (source / "qa_train.zip").write_bytes(kept)
    assert not (tmp_path / "out").exists()


def test_what_a_reader_would_not_expect_is_noted(done: Any, tmp_path: Path) -> None:
    study, store, source = done
    rte = ask_superglue("RTE", load_dataset(study.tasks[4]), superglue_zip.open_release(source))
    assert rte.render([0] * UNLABELLED)[1] == ["Every row got the same answer, entailment."]
    assert rte.render([0, 1] * 3 + [0])[1] == []
    by = export_slobench(study, store=store, output=tmp_path / "out").parts[0].by
    calm = replace(by, failed_seeds=0)
    assert list_notes(calm, cut=0, rows=9) == ()
    on_test = by.record.run.model_copy(update={"selection": "test"})
    odd = replace(
        by, seeds=2, failed_seeds=1, cell=replace(by.cell, expected_runs=5),
        record=replace(by.record, run=on_test),
    )  # fmt: skip
    assert list_notes(odd, cut=3, rows=1200) == (
        "Of 5 seeds, 2 have ended so far.",
        "1 run failed: diverged, out of memory or constant; not in the mean.",
        "Chosen on the published validation part, as the study's protocol has it.",
        "3 of 1,200 rows were cut to 48 tokens at most.",
    )


def test_where_the_report_recommends_something_else_the_export_says_so(
    done: Any, tmp_path: Path
) -> None:
    study, store, _ = done
    submission = export_slobench(study, store=store, output=tmp_path / "out")
    differences = []
    for part, task in zip(submission.parts, reports.report(study, store=store).tasks, strict=True):
        notes = [note for note in part.notes if note.startswith("`export slobench` takes ")]
        advice = task.advice
        assert advice is not None
        same = (advice.model, advice.method) == (part.by.cell.model, part.by.cell.method)
        assert len(notes) == (not same), (advice, part)
        in_report = [n for t in task.tables if t.name == "slobench" for n in t.notes]
        assert in_report == (notes if advice.take else [])
        differences += notes
    readme = submission.readme.replace("\\", "")
    assert differences and all(note in readme for note in differences)


def test_the_command_line(done: Any, tmp_path: Path, capsys: Any) -> None:
    study, store, source = done
    # A study file that is called as the verb's second word is named by its path.
    file = as_file(study, tmp_path / "slobench")
    arguments = ("export", "slobench", file, "--store", store, "--output", tmp_path / "out")
    code, out, err = command(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "MultiRC: 28 rows by multirc-sl x tiny x" in out
    assert f"Ready to be handed in: {tmp_path / 'out' / 'superglue.zip'} (63 rows, read back" in out
    code, out, _ = command(
        capsys, "slobench", "check", tmp_path / "out" / "superglue.zip", "--release", source
    )
    assert code == 0 and out.endswith("Ready to be handed in.\n")
    code, _, err = command(capsys, *arguments)
    assert code == 2 and "already exists" in err
    options = ("--task", "cb-sl", "--method", "lora", "--output", tmp_path / "one")
    code, out, err = command(capsys, "export", file, "--store", store, *options)
    assert code == 0, err
    assert (tmp_path / "one" / "README.md").is_file()
