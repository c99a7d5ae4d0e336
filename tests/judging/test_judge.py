"""Runs that were trained elsewhere get the report that the same answers get in a study."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import fake_records as fake

import paretune
from paretune.analysis.cells import group_into_cells
from paretune.errors import DataError, ParetuneError, StudyError
from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.store import Store
from paretune.store.record import Record
from paretune.study import NO_MODEL, OuterFold, Study

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "docs" / "gallery"
Rows = list[dict[str, Any]]


def export_answers(records: Iterable[Record]) -> Rows:
    """The test answers of final runs as rows."""
    rows = []
    for record in records:
        run, answers = record.run, record.predictions.get("test")
        if run.stage != "final" or answers is None:
            continue
        for place, uid in enumerate(answers.uid):
            row: dict[str, Any] = {
                "task": run.task.key,
                "model": run.model.key,
                "method": run.method.key,
                "seed": run.seed,
                "id": uid,
                "label": f"class {answers.label[place]}",
                "prediction": f"class {answers.prediction[place]}",
            }
            if run.outer is not None:
                row["fold"] = run.outer.index
            rows.append(row)
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list({name: 0 for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    return path


def answer(method: str, quality: float, seed: int = 1, n: int = 120, **columns: Any) -> Rows:
    part = fake.answers(quality, n=n, seed=seed + int(1000 * quality))
    return [
        {"method": method, "seed": seed, "id": uid, "label": f"c{a}", "prediction": f"c{b}"}
        | columns
        for uid, a, b in zip(part.uid, part.label, part.prediction, strict=True)
    ]


def judge(tmp_path: Path, rows: Rows, **options: Any) -> Report:
    return paretune.judge(write_rows(tmp_path / "rows.csv", rows), **options)


def read_claims(report: Report) -> dict[str, Any]:
    """Scores, pairs, ranks and verdicts, by what they are of."""
    claims: dict[str, Any] = {}
    for task in report.tasks:
        for cell in task.cells:
            if cell.score is not None:
                values = cell.score.estimate, cell.score.low, cell.score.high
                verdict = cell.verdict and cell.verdict.summary
                claims[task.key, cell.model, cell.method] = (values, cell.rank, verdict)
        for pair in task.pairs:
            gap = pair.difference
            numbers = gap.estimate, gap.low, gap.high, pair.p, pair.p_holm
            claims[task.key, pair.model, pair.a, pair.b] = (numbers, pair.standing)
    return claims


def test_the_answers_of_a_study_get_the_report_of_the_study(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("topics"), fake.own_task("moods")])
    records = fake.whole(study, {"full": 0.85, "lora": 0.8, "prompt": 0.5})
    expected = build_report(study, records)
    judged = judge(tmp_path, export_answers(records))
    claims = read_claims(judged)
    assert claims == read_claims(expected) and len(claims) > 20
    assert [line.verdict for line in judged.over_tasks if line.comparison.reference != "full"] == [
        line.verdict for line in expected.over_tasks if line.comparison.reference != "full"
    ]


def test_folds_are_judged_as_those_of_a_study(tmp_path: Path) -> None:
    study = fake.study(
        tasks=[fake.own_task("topics")],
        methods=["full", "lora"],
        protocol={"outer": 3, "seeds": [1, 2, 3, 4, 5, 6]},
    )
    records = []
    for method, quality in (("full", 0.85), ("lora", 0.6)):
        for place, seed in enumerate(study.protocol.seeds):
            outer = OuterFold.at(place, 3)
            whole = fake.answers(quality, n=90, seed=seed)
            part = fake.take(whole, range(outer.index, 90, 3))
            run = fake.make_run(study, "final", method, seed, outer=outer)
            records.append(fake.record(run, {"test": part}))
    rows = export_answers(records)
    expected = read_claims(build_report(study, records))
    judged = read_claims(judge(tmp_path, rows))
    pair = ("topics", "e5-small", "full", "lora")
    assert judged[pair] == expected[pair]
    assert judged[pair[:3]][0] == expected[pair[:3]][0]
    # A seed for all folds of a repeat says the same.
    again = [row | {"seed": (row["seed"] - 1) // 3} for row in rows]
    assert read_claims(judge(tmp_path, again)) == judged


def test_a_method_may_have_one_seed_for_all_folds_and_another_one_for_each(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("topics")], methods=["lora"])
    study = study.model_copy(update={"protocol": study.protocol.model_copy(update={"outer": 3})})
    levels = {"lora": 0.9, "untuned": 0.5}
    records = fake.draw_records(study, levels, np.random.default_rng(1), rows=90)
    rows = export_answers(records)
    again = [row | ({"seed": 1} if row["method"] == "untuned" else {}) for row in rows]
    assert again != rows
    assert read_claims(judge(tmp_path, again)) == read_claims(judge(tmp_path, rows))


@pytest.mark.slow
@pytest.mark.parametrize("archive", sorted(GALLERY.glob("*.tar.xz")), ids=lambda path: path.name)
def test_answers_of_the_gallery_are_judged_as_its_reports_do(archive: Path, tmp_path: Path) -> None:
    name = archive.name.partition(".")[0]
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    study = Study.load(ROOT / "examples" / f"{name}.yaml")
    with Store.open(tmp_path / name) as store:
        loaded = store.load_study_records(study)
    # Answers to the selection part, which also tell a constant answer, are in no file of answers.
    records = [
        replace(r, predictions={part: a for part, a in r.predictions.items() if part == "test"})
        if r.run.stage == "final"
        else r
        for r in loaded
    ]
    expected = build_report(study, records)
    finals = [record for cell in group_into_cells(study, records) for record in cell.final]
    for metric in {task.metric for task in expected.tasks}:
        tasks = [task.key for task in expected.tasks if task.metric == metric]
        rows = export_answers(r for r in finals if r.run.task.key in tasks)
        reference = study.protocol.reference
        judged = read_claims(judge(tmp_path, rows, metric=metric, reference=reference))
        claims = {key: claim for key, claim in read_claims(expected).items() if key[0] in tasks}
        assert judged == claims and len(claims) > 20


def test_a_run_of_each_method_is_judged_as_these_very_models(tmp_path: Path, capsys: Any) -> None:
    rows = [*answer("new", 0.9), *answer("old", 0.5)]
    report = judge(tmp_path, rows, page=tmp_path / "page.html")
    scope = "differences between training runs are in none of these intervals"
    assert scope in report.study.scope and scope in str(report).splitlines()[0]
    (pair,) = report.tasks[0].pairs
    assert pair.standing == "above" and pair.mcnemar_p is not None
    (proof,) = report.tasks[0].advice.list_details("proof")
    assert proof.text.startswith("Proven better than every other model")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert scope in text and "every baseline" not in text and "unnamed" not in text
    # Of several runs of a method the claims are of methods, and one run proves nothing.
    report = judge(tmp_path, [*rows, *answer("new", 0.9, seed=2)])
    (pair,) = report.tasks[0].pairs
    assert report.study.scope == "" and pair.standing == "unclear"


def test_facts_that_the_files_lack_are_absent(tmp_path: Path) -> None:
    rows = [*answer("a", 0.9), *answer("a", 0.9, 2), *answer("b", 0.6), *answer("b", 0.6, 2)]
    report = judge(tmp_path, rows, page=tmp_path / "page.html")
    task = report.tasks[0]
    assert not task.fronts and task.next_steps is None and task.advice.command == ""
    assert report.study.settings == {} and report.study.yaml == "" and report.facts == ()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for words in (
        "batch",
        "learning rate",
        "peak memory",
        "STUDY",
        "paretune export",
        "Environment",
    ):
        assert words not in page, words


def test_costs_of_runs_stand_beside_their_scores(tmp_path: Path) -> None:
    rows = [
        row
        for method, quality, gib in (("a", 0.8, 4), ("b", 0.79, 1))
        for seed in (1, 2)
        for row in answer(method, quality, seed, seconds=10.0 * seed, peak_bytes=gib * 2**30 + seed)
    ]
    task = judge(tmp_path, rows).tasks[0]
    assert {front.axis for front in task.fronts} == {"memory", "time"}
    points = {(front.axis, p.method): p for front in task.fronts for p in front.points}
    memory = points["memory", "b"].cost
    time = points["time", "a"].cost
    assert memory.value == 2**30 + 1.5 and not memory.predicted
    assert time.value == 15.0 and time.measurements == 2


def test_a_reference_is_the_only_thing_that_is_asked_about(tmp_path: Path) -> None:
    rows = [*answer("a", 0.6), *answer("b", 0.7), *answer("c", 0.5)]
    plain, asked_of_a = (judge(tmp_path, rows, reference=name) for name in (None, "a"))
    p_values = [
        next(p.p_holm for p in report.tasks[0].pairs if {p.a, p.b} == {"a", "b"})
        for report in (plain, asked_of_a)
    ]
    assert p_values[1] < p_values[0]
    with pytest.raises(StudyError, match='has no method "d"'):
        judge(tmp_path, rows, reference="d")


def test_numbers_texts_and_scores_of_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    numbers = [
        {"method": m, "id": i, "label": f"{i / 7:.3f}", "prediction": f"{i / 7 + e:.3f}"}
        for m, scale in (("a", 0.5), ("b", 5.0))
        for i, e in enumerate(rng.normal(0, scale, 60))
    ]
    task = judge(tmp_path, numbers).tasks[0]
    assert task.metric == "r2" and task.pairs[0].standing == "above"
    texts = [
        {"method": m, "id": i, "label": f"the answer {i}", "prediction": f"The answer {i + k}."}
        for m, k in (("a", 0), ("b", 1))
        for i in range(40)
    ]
    with pytest.raises(DataError, match="rather texts than classes"):
        judge(tmp_path, texts)
    task = judge(tmp_path, texts, metric="exact_match").tasks[0]
    assert [cell.score.estimate for cell in task.cells] == [1.0, 0.0]
    scores = [
        {"method": m, "id": i, "score": i % k / (k - 1)}
        for m, k in (("a", 5), ("b", 2))
        for i in range(40)
    ]
    task = judge(tmp_path, scores).tasks[0]
    assert task.metric == "mean_score" and task.pairs[0].difference.estimate == 0
    right = [
        {"method": m, "id": i, "score": int(i % k > 0)}
        for m, k in (("a", 9), ("b", 2))
        for i in range(90)
    ]
    task = judge(tmp_path, right).tasks[0]
    assert task.metric == "share_right" and task.pairs[0].mcnemar_p < 0.05
    # Nothing but right answers is no failure.
    all_right = [{"method": m, "id": i, "score": 1} for m in "ab" for i in range(20)]
    assert judge(tmp_path, all_right).tasks[0].cells[0].outcomes == {"ok": 1}


def test_tables_files_and_outputs_of_libraries_say_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [*answer("a", 0.9), *answer("b", 0.6)]
    frame = pandas.DataFrame(rows)
    expected = read_claims(paretune.judge(frame))
    frame.to_parquet(tmp_path / "rows.parquet")
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    for name in ("rows.parquet", "rows.jsonl"):
        assert read_claims(paretune.judge(tmp_path / name)) == expected
    folder = tmp_path / "folder" / "inside"
    folder.mkdir(parents=True)
    for method in "ab":
        part = [row for row in rows if row["method"] == method]
        write_rows(folder / f"{method}.csv", part)
    assert read_claims(paretune.judge(tmp_path / "folder")) == expected

    def predict(method: str) -> Any:
        part = [row for row in rows if row["method"] == method]
        answers = np.array([int(row["prediction"][1:]) for row in part])
        labels = np.array([int(row["label"][1:]) for row in part])
        return SimpleNamespace(predictions=np.eye(3)[answers], label_ids=labels)

    report = paretune.judge({"a": predict("a"), "b": [predict("b")]})
    assert read_claims(report) == expected


def test_samples_of_lm_evaluation_harness(tmp_path: Path) -> None:
    for folder, right in (("org__base", 2), ("org__lora-seed1", 5), ("org__lora-seed2", 6)):
        (tmp_path / folder).mkdir()
        lines = [
            {
                "doc_id": i,
                "target": 0,
                "filtered_resps": [["-1.0", "False"]],
                "filter": "none",
                "metrics": ["acc", "acc_norm"],
                "acc": float(i % right > 0),
                "acc_norm": 1.0,
            }
            for i in range(60)
        ]
        path = tmp_path / folder / "samples_arc_easy_2026-01-02T03-04-05.678901.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    report = paretune.judge(tmp_path)
    (task,) = report.tasks
    assert task.key == "arc_easy" and task.metric == "share_right"
    assert {c.method: len(c.runs) for c in task.cells} == {"base": 1, "lora": 2}
    assert [f.what[:28] for f in report.findings] == ["of each row acc is the score"]
    again = paretune.judge(tmp_path, metric="acc_norm")
    assert [cell.score.estimate for cell in again.tasks[0].cells] == [1.0, 1.0]
    # Older versions name no metrics.
    old = tmp_path / "old" / "samples_copa.jsonl"
    old.parent.mkdir()
    lines = [{"doc_id": i, "target": 3, "acc": i % 2 == 0} for i in range(9)]
    old.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (task,) = paretune.judge(old).tasks
    assert task.key == "copa" and task.cells[0].score.estimate == pytest.approx(5 / 9)
    with pytest.raises(DataError, match="It has acc"):
        paretune.judge(tmp_path, metric="bleu")


A, B = answer("a", 0.9, n=20), answer("b", 0.6, n=20)
FAULTS: dict[str, tuple[Rows, str]] = {
    "no column": ([{"id": 1, "label": "x", "prediction": "x"}], "no row has method"),
    "rows that are missing": ([*A, *B[:-3]], r"b \(seed 1\) lacks 3 of 20 rows .* test-17"),
    "two labels": ([*A, {**B[0], "label": "c9"}, *B[1:]], "test-0 has the label"),
    "twice": ([*A, A[0]], "answers test-0 twice, first at rows.csv line 2"),
    "no answer": ([*A, {**B[0], "prediction": ""}], "line 22: has no prediction"),
    "not a number": (
        [{"method": "a", "id": 1, "score": "nan"}, {"method": "a", "id": 2, "score": "1"}],
        'has the score "nan"',
    ),
    "some folds": ([{**row, "fold": 0} for row in A] + [{**B[0], "fold": ""}], "has no fold, and"),
    "some clusters": ([*A, {**B[0], "cluster": 1}], "has no cluster, and"),
    "an example": ([*A[:1], *B[:1]], "has one example, or one cluster"),
    "a cluster": ([{**row, "cluster": "all"} for row in A], "has one example, or one cluster"),
    "no test": ([{**row, "split": "train"} for row in A], "no row is of split test, only of train"),
    "a score out of range": (
        [{"method": "a", "id": i, "score": 7} for i in (1, 2)],
        "not between 0 and 1",
    ),
    "other costs": ([{**row, "seconds": place} for place, row in enumerate(A)], "other seconds"),
    "a seed": ([{**A[0], "seed": 1.5}], "no whole number"),
    "two folds": (
        [
            row
            for fold in (0, 1)
            for row in [{**r, "fold": fold} for r in A[10 * fold : 10 * fold + 11]]
        ],
        "answers test-10 in fold 1, and again in fold|answers test-10 in fold 0, and again in fold",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_sentence(tmp_path: Path, fault: str) -> None:
    rows, sentence = FAULTS[fault]
    with pytest.raises(ParetuneError, match=sentence):
        judge(tmp_path, rows)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "answers.xlsx").write_bytes(b"x")
    (tmp_path / "nothing").mkdir()
    sentences = {
        "empty.csv": "is empty",
        "torn.parquet": "is not readable Parquet",
        "answers.xlsx": "is not one that is read",
        "nothing": "holds no file that ends with",
        "nowhere.csv": "no such file or folder",
    }
    for name, sentence in sentences.items():
        with pytest.raises(DataError, match=sentence):
            paretune.judge(tmp_path / name)
    with pytest.raises(DataError, match="a int holds no answers"):
        paretune.judge(3)
    with pytest.raises(StudyError, match='has no metric "acuracy"'):
        judge(tmp_path, A, metric="acuracy")


def test_a_study_of_judged_runs_is_not_trained(tmp_path: Path) -> None:
    study = fake.study(protocol={"preset": "judged", "seeds": [1]})
    assert study.is_judged and NO_MODEL.key == "-"
    with pytest.raises(StudyError, match="were trained elsewhere"):
        from paretune.study.presets import load_preset

        preset = load_preset("judged")
        assert preset is not None
        preset.expand(study)


def test_names_of_methods_are_only_names(tmp_path: Path) -> None:
    """Nothing of paretune's methods is done with them; what one is written as is noted."""
    report = judge(tmp_path, [*answer("auto", 0.9), *answer("lora", 0.6), *answer("<b>/x", 0.5)])
    assert [cell.method for cell in report.tasks[0].cells] == ["auto", "lora", "<b>/x"]
    assert [finding.what.split()[0] for finding in report.findings] == ["auto"]
    alone = judge(tmp_path, answer("lora", 0.8), page=tmp_path / "page.html")
    (proof,) = alone.tasks[0].advice.list_details("proof")
    assert proof.text == "There is nothing to compare it with."
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "baseline" not in page.split("</style>")[1].split("<script")[0]


def test_constant_answers_have_no_score_to_compare(tmp_path: Path) -> None:
    dead = [{**row, "method": "dead", "prediction": "c0"} for row in A]
    advice = judge(tmp_path, [*A, *dead]).tasks[0].advice
    assert advice is not None
    proof, warning = advice.list_details("proof", "warning")[:2]
    assert proof.text == "Not proven better than every other model: no score of dead."
    assert "1 of 2 seeds gives every example" in warning.text


def test_scores_of_single_runs_are_refused_with_the_reason(tmp_path: Path) -> None:
    """In the layout of peft's method_comparison, whose 94 results have one seed and no answers."""
    folder = tmp_path / "method_comparison"
    results = folder / "MetaMathQA" / "results"
    results.mkdir(parents=True)
    (folder / "MetaMathQA" / "default_training_params.json").write_text('{"seed": 0}')
    (results / "broken.json").write_text("{")
    for name, accuracy in (("lora--rank32", 0.48), ("ia3--default", 0.41)):
        content = {
            "run_info": {"experiment_name": name, "train_config": {"seed": 0}},
            "train_info": {"status": "success", "metrics": [{"test accuracy": accuracy}]},
            "meta_info": {},
        }
        (results / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    for source in (folder, results / "lora--rank32.json"):
        with pytest.raises(
            DataError, match="one accuracy of one run, without the answers"
        ) as refusal:
            paretune.judge(source)
        assert "Train each with several seeds" in str(refusal.value)
    with pytest.raises(DataError, match="is not one that is read"):
        paretune.judge(folder / "MetaMathQA" / "default_training_params.json")
