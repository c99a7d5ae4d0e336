"""What is said of data files that are not what a study's runs were trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.tiny_study import as_file, command, finished, small

from paretune.errors import DataError
from paretune.store import Store
from paretune.study import Study
from paretune.tasks import load_dataset
from paretune.verbs.stored_audit import (
    find_changed_data,
    load_dataset_or_outline,
    save_trained_data,
)

EDITED = 1_600_000_000


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Study, Store]]:
    study = small(tmp_path, tmp_path / "model")
    with Store.open(tmp_path / "store", create=True) as store:
        save_trained_data(store, study, {t.key: load_dataset(t) for t in study.tasks})
        yield study, store


def findings(study: Study, store: Store) -> list[str]:
    records = [fake.record(fake.make_run(study, "final", "lora", seed)) for seed in (1, 2)]
    return [str(finding) for finding in find_changed_data(store, study, records)]


def edit(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, (EDITED, EDITED))


def test_an_edited_file_is_named_with_its_time_and_what_run_would_do(
    kept: tuple[Study, Store], tmp_path: Path
) -> None:
    study, store = kept
    assert findings(study, store) == []
    (tmp_path / "train.csv").write_text((tmp_path / "train.csv").read_text() + "\n")
    assert findings(study, store) == [], "the same rows are the same data"
    edit(tmp_path / "train.csv", "train 0,", "train zero,")
    (finding,) = findings(study, store)
    assert finding.startswith(f"{tmp_path / 'train.csv'}: is not what these runs were trained on")
    assert "(edited 2020-09-1" in finding and "would train 2 runs on words anew" in finding
    edit(tmp_path / "test.csv", "test 2,", "test two,")
    assert len(findings(study, store)) == 2
    (tmp_path / "train.csv").write_text("no,table\n")
    assert len(findings(study, store)) == 2, "data that cannot be read has changed"


def test_a_file_that_is_gone_is_named_and_the_store_knows_its_labels(
    kept: tuple[Study, Store], tmp_path: Path
) -> None:
    study, store = kept
    (tmp_path / "train.csv").unlink()
    (finding,) = findings(study, store)
    assert finding.startswith(f"{tmp_path / 'train.csv'}: is gone;")
    outline = load_dataset_or_outline(store, study, study.tasks[0], load_dataset)
    assert outline.labels == ("no", "yes") and outline.test == ()
    (example,) = outline.train
    assert example.segments == (("A text.", None),)
    store.set_setting(f"data/{study.study_hash}", "{}")
    with pytest.raises(DataError, match="no such file"):
        load_dataset_or_outline(store, study, study.tasks[0], load_dataset)


@pytest.mark.thorough
@pytest.mark.filterwarnings("always::paretune.errors.StoredResultsWarning")
def test_every_verb_that_reads_results_says_so_and_works_without_the_file(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    study, folder = finished(
        tmp_path, tiny_model("bert"), protocol={"trials": 1, "folds": 1, "seeds": [1]}
    )
    with Store.open(folder) as store:
        save_trained_data(store, study, {t.key: load_dataset(t) for t in study.tasks})
    file = as_file(study, tmp_path / "study.yaml")
    train = Path(str(study.tasks[0].train))
    train.write_text(train.read_text().replace("\na", "\nc", 1).replace(",a\n", ",d\n"))
    verbs = {
        "report": (),
        "recommend": (),
        "compare": ("lora", "majority"),
        "export": ("--method", "lora", "--allow-collapsed"),
    }
    for state in ("is not what these runs were trained on", "is gone"):
        for verb, arguments in verbs.items():
            output = ("-o", tmp_path / state.replace(" ", "-")) if verb == "export" else ()
            typed = (verb, file, *arguments, *output, "--store", folder)
            code, out, err = command(capsys, *typed)
            assert code == 0, err
            assert err.startswith(f"warning: {train}: {state}") and state not in out
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert state in page
        train.unlink(missing_ok=True)
    cards = [path.read_text() for path in tmp_path.glob("is-*/README.md")]
    assert len(cards) == 2 and all("labels = ['a', 'b', 'c']" in card for card in cards)
