"""Whole studies with commands: external data, budgets, shares, Ray, and a kill in the middle."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.command_scripts import (
    FIRST,
    READ,
    answer_first,
    make_study,
    use_command,
    wait_until,
)
from support.tiny_study import as_file

from paretune.errors import MethodError, StoreError, StudyError
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.study import Study
from paretune.verbs.check import check
from paretune.verbs.export import export
from paretune.verbs.report import report
from paretune.verbs.run import run
from paretune.verbs.stores import merge

DIGITS = """
import json, sys
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.naive_bayes import GaussianNB

kind, train, test, out = sys.argv[1:5]
images = load_digits().data

def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]

def look_up(rows):
    assert all(set(row) <= {"id", "label"} for row in rows)
    return images[[int(row["id"]) for row in rows]]

rows, unlabelled = read(train), read(test)
model = GaussianNB() if kind == "bayes" else RidgeClassifier(alpha=1.0)
model.fit(look_up(rows), [row["label"] for row in rows])
with open(f"{out}/predictions.jsonl", "w", encoding="utf-8") as file:
    for row, label in zip(unlabelled, model.predict(look_up(unlabelled))):
        file.write(json.dumps({"id": row["id"], "prediction": label}) + "\\n")
"""
NUMBERS = """
ids = {r["id"]: float(r["id"]) for r in read(test)}
answer([{"id": i, "prediction": 2 * number} for i, number in ids.items()])
"""
LOGS = """
with open("log", "a") as log:
    log.write(f"{sys.argv[5]} {ids[0]}\\n")
"""


def write_digits(folder: Path, *, label: str = "label") -> dict[str, Any]:
    """The task of 300 images of scikit-learn, by their numbers; the data stay there."""
    from sklearn.datasets import load_digits

    with (folder / "digits.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows(enumerate(load_digits().target[:300]))
    task = {"name": "digits", "kind": "external", "id": "image", "label": label}
    return {**task, "train": str(folder / "digits.csv")}


def list_results(folder: Path, study: Study) -> dict[str, Any]:
    with Store.open(folder) as store:
        records = store.load_records(study.study_hash)
        return {record.run_id: record.result["scores"] for record in records}


def test_images_that_paretune_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(DIGITS, encoding="utf-8")
    words = "{train} {test} {out}"
    commands = [
        use_command(tmp_path, f"{kind} {words}", label=kind, version=kind)
        for kind in ("bayes", "ridge")
    ]
    study = make_study(write_digits(tmp_path), *commands)
    checked = check(study)
    assert checked.can_run, checked
    assert {i.name for i in checked.items if i.kind == "command"} == {"bayes", "ridge"}
    done = run(study, store=tmp_path / "store", workers=1, allow_commands=True)
    assert not done.failed
    with Store.open(tmp_path / "store") as store:
        records = store.load_records(study.study_hash)
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record.run.method.key, []).append(
            record.result["scores"]["test"]["primary"]
        )
    assert set(scores) == {"bayes", "ridge", "majority"}
    assert min(scores["ridge"]) > 0.8 > 0.3 > max(scores["majority"])


def test_numbers_of_rows_that_paretune_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(READ + NUMBERS, encoding="utf-8")
    rows = "".join(f"{number},{2 * number + number % 3}\n" for number in range(60))
    (tmp_path / "sizes.csv").write_text(f"part,size\n{rows}", encoding="utf-8")
    task = {"name": "sizes", "kind": "external_regression", "id": "part", "label": "size"}
    words = "{train} {validation} {test} {out}"
    study = make_study({**task, "train": str(tmp_path / "sizes.csv")}, use_command(tmp_path, words))
    assert not run(study, store=tmp_path / "store", workers=1, allow_commands=True).failed
    with Store.open(tmp_path / "store") as store:
        records = store.load_records(study.study_hash)
    of_command = [r.result["scores"]["test"]["r2"] for r in records if r.run.method.is_command]
    assert len(of_command) == 2 and min(of_command) > 0.9


def test_only_commands_serve_external_data(tmp_path: Path, tiny_model: Any) -> None:
    task = write_digits(tmp_path)
    model = [{"name": str(tiny_model("bert")), "label": "tiny"}]
    for method, message in (
        ("lora", "LoRA needs rows that paretune reads, and of external it reads ids alone."),
        ("tfidf", "TF-IDF serves other tasks, not external."),
    ):
        with pytest.raises(MethodError) as caught:
            prepare_study(make_study(task, method, models=model))
        assert message in str(caught.value)
    with pytest.raises(StudyError, match=r'"models" is missing; only commands need no model'):
        make_study(task, "lora")
    with pytest.raises(StudyError, match="an external task has id and label"):
        make_study({**task, "text": "image"}, use_command(tmp_path, "{test} {out}"))


def test_a_row_of_external_data_is_not_in_train_and_test(tmp_path: Path) -> None:
    task = write_digits(tmp_path)
    (tmp_path / "script.py").write_text("", encoding="utf-8")
    command = use_command(tmp_path, "{test} {out}")
    study = make_study({**task, "test": task["train"]}, command, protocol={"outer": "split"})
    checked = check(study)
    assert not checked.can_run
    assert any(f.code == "leak" for item in checked.items for f in item.findings)


def test_rates_are_those_of_the_study(tmp_path: Path) -> None:
    task = write_digits(tmp_path)
    words = "{test} {out} {learning_rate}"
    with pytest.raises(MethodError, match=r"\{learning_rate\} is named, and no rate"):
        prepare_study(make_study(task, use_command(tmp_path, words)))
    with pytest.raises(MethodError, match="takes no step that could have one"):
        prepare_study(
            make_study(task, use_command(tmp_path, "{test} {out}", learning_rates=[1e-3]))
        )
    study = make_study(
        task,
        use_command(tmp_path, words, learning_rates=[1e-3, 1e-2]),
        protocol={"preset": "trials", "trials": 2},
    )
    planned = expand_study(prepare_study(study), [])
    rates = {one.run.learning_rate for one in planned if one.run.stage == "tune"}
    assert rates == {1e-3, 1e-2}


def test_what_a_command_made_is_exported_as_it_was(tmp_path: Path) -> None:
    right = "answer([{'id': r['id'], 'prediction': 'yes' if 'sat' in r['text'] else 'no'}"
    right += " for r in read(test)])\n"
    artifact = "pathlib.Path(out, 'model').mkdir()\n"
    artifact += "pathlib.Path(out, 'model', 'weights').write_text(sys.argv[5])\n"
    artifact += "pathlib.Path(out, 'result.json').write_text('{\"artifact\": \"model\"}')\n"
    study, store = answer_first(tmp_path, right + artifact), tmp_path / "store"
    run(study, store=store, workers=1, allow_commands=True)
    cells = report(study, store=store).tasks[0].cells
    assert {cell.method for cell in cells} == {"command", "majority", "tfidf"}  # and no probe
    exported = export(study, store=store, method="command", seed=2, output=tmp_path / "exported")
    assert (tmp_path / "exported" / "model" / "weights").read_text() == "2"
    assert exported.form == "artifact"
    first, second = map(str, exported.describe())
    assert first.endswith("(artifact): words x unnamed x command, seed 2.")
    assert second == "It is what the command made, as it was."
    with pytest.raises(StudyError, match="what a command made is written as it is"):
        export(study, store=store, method="command", push="me/model")
    (tmp_path / "empty").mkdir()
    study, store = answer_first(tmp_path / "empty", right), tmp_path / "empty" / "store"
    run(study, store=store, workers=1, allow_commands=True)
    with pytest.raises(StoreError, match="it named no artifact"):
        export(study, store=store, method="command")


@pytest.mark.wide
def test_a_budget_and_shares_come_to_the_same(tmp_path: Path) -> None:
    study = answer_first(tmp_path)
    options: dict[str, Any] = {"workers": 1, "allow_commands": True}
    run(study, store=tmp_path / "whole", budget="5min", **options)
    expected = list_results(tmp_path / "whole", study)
    assert sum(r is not None for r in expected.values()) == len(expected) >= 3
    for index in (1, 2):
        run(study, store=tmp_path / f"share{index}", shard=f"{index}/2", **options)
    merge([tmp_path / "share1", tmp_path / "share2"], tmp_path / "merged")
    assert list_results(tmp_path / "merged", study) == expected


def test_a_task_of_ray_starts_commands_where_it_is_allowed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs ray: pip install "ray>=2.40,<3"')
    from paretune.execution.ray import UnfinishedRuns, train_runs

    prepared = prepare_study(answer_first(tmp_path))
    planned = {p.run_id: p.run for p in expand_study(prepared, []) if p.run.method.is_command}
    (dataset,) = prepared.datasets.values()
    nothing = UnfinishedRuns({}, {})
    result = train_runs(planned, dataset, WorkerSettings(allow_commands=True), nothing)
    assert {record.run_id for record, _ in result.ended} == planned.keys()
    assert {record.state for record, _ in result.ended} == {"done"}
    refused = train_runs(planned, dataset, WorkerSettings(), nothing)
    assert {record.state for record, _ in refused.ended} == {"failed"}


@pytest.mark.wide
def test_a_killed_study_leaves_no_process_and_repeats_the_run_in_hand_alone(
    tmp_path: Path,
) -> None:
    waits = """
import subprocess
if not pathlib.Path("pids").exists():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"],
                             start_new_session=True)
    pathlib.Path("pids.part").write_text(f"{os.getpid()} {child.pid} {os.getppid()}")
    os.rename("pids.part", "pids")
    time.sleep(300)
"""
    study = answer_first(tmp_path, f"{waits}{FIRST}\n{LOGS}")
    file, folder = as_file(study, tmp_path / "study.yaml"), tmp_path / "store"
    words = [sys.executable, "-c", "from paretune.cli import main; main()", "run", str(file)]
    words += ["--store", str(folder), "--workers", "1", "--no-report", "--allow-commands"]
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until((tmp_path / "pids").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(psutil.pid_exists, pids))
    started.kill()
    started.wait()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    assert subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode == 0
    with Store.open(folder) as store:
        statuses = store.load_statuses(study.study_hash)
        assert store.verify() == []
    assert {status.state for status in statuses} == {"done"}
    log = Counter((tmp_path / "log").read_text().splitlines())
    assert len(log) == 2 and set(log.values()) == {1}  # one for each seed
    assert json.dumps(sorted(status.attempt for status in statuses)).endswith("2]")
    assert list((folder / "checkpoints").iterdir()) == []
