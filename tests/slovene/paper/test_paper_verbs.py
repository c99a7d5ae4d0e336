"""What goes into a paper: why, peft-results, and report's tables and JSON, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake

from paretune.cli import main
from paretune.verbs import report as gathering


def run_main(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = fake.study()
    results = gathering.StudyResults(study, tmp_path, fake.whole(study), [], [])
    monkeypatch.setattr(gathering, "load_results", lambda *_: results)
    monkeypatch.setattr("paretune.verbs.compare.load_results", lambda *_: results)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("gathered")
def test_why_says_it_in_words(capsys: Any) -> None:
    code, out, _ = run_main(capsys, "why", "sample", "full", "lora", "--task", "topics")
    assert code == 0
    assert out.startswith(
        "topics, e5-small\nPeak memory in training: 1.85 GiB with full fine-tuning"
    )
    assert "\n  optimiser states: 895 MiB more" in out
    code, out, err = run_main(capsys, "why", "sample", "full", "nothing")
    assert (code, out) == (2, "") and "It has full, lora, prompt, head_only" in err


@pytest.mark.usefixtures("gathered")
def test_report_writes_tables_and_json(capsys: Any, tmp_path: Path) -> None:
    arguments = ("report", "sample", "--tables", tmp_path / "t")
    code, out, err = run_main(capsys, *arguments, "--json", "--output", tmp_path / "s.json")
    assert (code, out) == (0, "")
    assert f"Table: {tmp_path / 't' / 'scores.tex'}" in err and f"Study: {tmp_path}" in err
    assert json.loads((tmp_path / "s.json").read_text())["format"] == 2
    assert not (tmp_path / "report.html").exists()  # as asked for: nothing but these
    code, out, _ = run_main(capsys, *arguments)
    assert code == 0 and f"Table: {tmp_path / 't' / 'scores.tex'}" in out
    assert (tmp_path / "report.html").exists() and (tmp_path / "t" / "bytes.parquet").exists()


def test_peft_results_asks_for_the_number_of_examples(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for name, right in (("lora", 40), ("ia3", 10)):
        peft_result = {
            "run_info": {"experiment_name": name, "train_config": {"model_id": "m"}},
            "train_info": {"status": "success", "metrics": [{"test accuracy": right / 80}]},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(peft_result))
    code, out, err = run_main(capsys, "peft-results", tmp_path)
    assert (code, out) == (2, "") and "--examples N" in err and "whole parts of 8 ex" in err
    code, out, _ = run_main(
        capsys, "peft-results", tmp_path, "--examples", 80, "--tables", tmp_path / "t"
    )
    assert code == 0
    assert "0.500 [0.393, 0.607]" in out and "It is better than all others" in out
    assert {p.suffix for p in (tmp_path / "t").iterdir()} == {".tex", ".md", ".csv", ".parquet"}
