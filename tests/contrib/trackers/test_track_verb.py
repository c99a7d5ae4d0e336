"""``paretune track`` on the command line, with TensorBoard."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.loaded_modules import list_loaded
from support.stored_records import stored, study_file
from support.tiny_study import command

from paretune.store import Store

pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")


def test_it_says_what_it_did_and_follows_to_the_end(tmp_path: Path, capsys: Any) -> None:
    fake_study = fake.study(tasks=[fake.own_task("topics")], methods=["lora"])
    study = study_file(fake_study, tmp_path / "s.yaml")
    *records, last = fake.whole(study)
    folder = tmp_path / "store"
    arguments = ("track", tmp_path / "s.yaml", "--store", folder, "--to", "tensorboard", "--output")
    with stored(study, records, folder, [(last.run_id, last.run)]):
        code, out, _ = command(capsys, *arguments, tmp_path / "tb")
        cells = 4  # majority, tfidf, lora, head_only: all their final runs have ended
        assert (code, out.split(";")[0]) == (0, f"{len(records) + cells} mirrored, 0 there before")

        def end() -> None:
            with Store.open(folder) as store:
                claim = store.claim("test", study.study_hash)
                assert claim is not None
                store.finish(claim, {"outcome": "ok"}, {}, {})

        worker = threading.Timer(1.5, end)
        worker.start()
        code, out, _ = command(capsys, *arguments, tmp_path / "tb", "--follow", "--every", "0.2")
        worker.join()
        before = len(records) + cells
        counts = [line.split(";")[0] for line in out.splitlines()]
        assert code == 0 and counts == [
            f"0 mirrored, {before} there before",
            f"1 mirrored, {before} there before",
        ]


def test_it_needs_no_torch(tmp_path: Path) -> None:
    fake_study = fake.study(tasks=[fake.own_task("topics")], methods=["lora"])
    study = study_file(fake_study, tmp_path / "s.yaml")
    stored(study, fake.cell(study, "lora", 0.7), tmp_path / "store").close()
    words = ("track", tmp_path / "s.yaml", "--store", tmp_path / "store", "--to", "tensorboard")
    command = (*words, "--output", tmp_path / "tb")
    modules = ("torch", "tensorflow", "transformers", "peft")
    assert list_loaded(command, modules=modules) == ([0], [])
