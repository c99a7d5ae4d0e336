"""What changed in the store or was lost is told by every verb that reads it, never shown."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.stored_records import READING_VERBS, tamper
from support.tiny_study import as_file, command, finished as finished_study, load_finals

from paretune.errors import StoreError
from paretune.execution import local
from paretune.execution.progress import Observer
from paretune.store import Store
from paretune.store.blobs import blob_path
from paretune.store.tables import register_checksum_function, write_checksums
from paretune.study import Study
from paretune.verbs.run import run

pytestmark = pytest.mark.filterwarnings("always::paretune.errors.StoredResultsWarning")
VERBS = {
    verb: READING_VERBS.get(verb, ())
    for verb in (*READING_VERBS, "plan", "run")
    if verb != "verify"
}


@pytest.fixture
def copy(tmp_path: Path, finished: Path) -> Path:
    """A copy of it that a test may damage; the data stays where it is."""
    shutil.copytree(finished / "store", tmp_path / "store")
    shutil.copy(finished / "s.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells_a_changed_digit_and_shows_no_result(
    capsys: Any, copy: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    tamper(
        copy / "store",
        "UPDATE runs SET result = replace(result, '\"steps\":2', '\"steps\":3') "
        "WHERE run_id = (SELECT run_id FROM study_runs WHERE run LIKE '%lora%' LIMIT 1)",
    )
    code, out, err = command(capsys, verb, "s.yaml", *VERBS[verb], "--store", copy / "store")
    assert code == 6, out + err
    assert "words x tiny x lora, final, seed 1): its record changed after it was written" in err
    assert "paretune run STUDY --retry" in err
    assert "accuracy" not in out


def test_verify_says_that_all_is_well_or_what_is_not(capsys: Any, copy: Path) -> None:
    arguments = ("verify", copy / "s.yaml", "--store", copy / "store")
    with Store.open(copy / "store") as store:
        store.set_setting("precision/cpu", "fp32")
    code, out, err = command(capsys, *arguments)
    assert (code, err) == (0, "") and "6 ended runs, all as written" in out
    tamper(copy / "store", "UPDATE runs SET measured = '{}' WHERE stage = 'final'")
    tamper(copy / "store", "UPDATE settings SET value = 'x' WHERE key LIKE 'precision/%'")
    code, out, err = command(capsys, *arguments)
    assert code == 6 and "7 problems" in err and out == ""
    assert err.count("): its record changed") == 6 and "setting precision/cpu: its record" in err


def test_run_with_retry_gets_past_a_changed_digit(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(copy / "store", "UPDATE runs SET measured = '{}' WHERE stage = 'final'")
    notes: list[str] = []
    observer = Observer()
    monkeypatch.setattr(observer, "note", notes.append)
    monkeypatch.setattr(local.LocalExecutor, "execute", lambda *args: None)
    with pytest.raises(StoreError, match="its record changed"):
        run(copy / "s.yaml", store=copy / "store", observer=observer)
    run(copy / "s.yaml", store=copy / "store", retry=True, observer=observer)
    assert "Runs that are tried again: 6." in notes


def test_a_wrong_blob_name_is_one_sentence(
    capsys: Any, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _ = load_finals(Study.load(copy / "s.yaml"), copy / "store", "lora")
    tamper(
        copy / "store",
        "UPDATE runs SET result = replace(result, ?, 'no-name') WHERE run_id = ?",
        record.result["predictions"],
        record.run_id,
    )
    code, _, err = command(capsys, "verify", copy / "s.yaml", "--store", copy / "store")
    assert code == 6 and "'no-name', which is no sha256 in hexadecimal digits" in err
    # Where only the name is wrong, and its checksum is right.
    db = sqlite3.connect(copy / "store" / "study.db")
    (trigger,) = db.execute(
        "SELECT sql FROM sqlite_schema WHERE name = 'done_runs_never_change'"
    ).fetchone()
    db.execute("DROP TRIGGER done_runs_never_change")
    register_checksum_function(db)
    write_checksums(db, "runs", "run_id = ?", (record.run_id,))
    db.execute(trigger)
    db.commit()
    db.close()
    code, _, err = command(capsys, "report", copy / "s.yaml", "--store", copy / "store")
    assert code == 6 and "'no-name', which is no sha256 in hexadecimal digits" in err


def test_one_damaged_trial_closes_no_study_and_is_told(
    capsys: Any, tmp_path: Path, tiny_model: Any
) -> None:
    protocol = {"trials": 2, "folds": 1, "seeds": [1]}
    study, folder = finished_study(tmp_path, tiny_model("bert"), protocol=protocol)
    file = as_file(study, tmp_path / "s.yaml")
    with Store.open(folder) as store:
        trial = next(r for r in store.load_records(study.study_hash) if r.run.stage == "tune")
    path = blob_path(folder / "blobs", trial.result["predictions"])
    path.write_bytes(path.read_bytes()[:-1])
    for verb, arguments in VERBS.items():
        if verb in ("run", "export", "track"):
            continue
        code, _, err = command(capsys, verb, file, *arguments, "--store", folder)
        assert code == 0, err
        if verb == "report":
            assert "the predictions of trials are missing or damaged (tiny" in err
    code, _, err = command(capsys, "verify", file, "--store", folder)
    assert code == 6 and f"run {trial.run_id}" in err


def test_verify_finds_damaged_files_that_can_be_computed_again(
    capsys: Any, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETUNE_HOME", str(copy / "home"))
    damaged = [
        copy / "store" / "checkpoints" / "abc.safetensors",
        copy / "home" / "models" / "0123" / "model.safetensors",
    ]
    for path in damaged:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"of another content")
    arguments = ("verify", copy / "s.yaml", "--store", copy / "store")
    code, _, err = command(capsys, *arguments)
    assert code == 6 and "2 problems" in err
    assert "its run starts anew" in err and "converted again" in err
