"""``paretune tune``: one command from a file to an adapter, and a study that fits its budget."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.tiny_study import finished, two_files

import paretune
from paretune.cli import main
from paretune.data.schema_inference.infer_task import NamedColumns
from paretune.errors import StudyError
from paretune.study import Study
from paretune.verbs import time_budget
from paretune.verbs.study_draft import draft_study
from paretune.verbs.time_budget import fit_to_budget

NO_NAMES = NamedColumns(None, None, None, None, None)


@dataclass
class FakePlan:
    """Seconds as a study's rows, rates, seeds and methods make them."""

    study: Study
    seconds_left: float | None
    cells: dict[tuple[str, str, str], tuple[Any, ...]]


@dataclass
class FakeRun:
    seconds: float


COST = {"full": 9.0, "lora": 3.0, "loha": 4.0, "prompt": 5.0}


def draft(folder: Path) -> dict[str, Any]:
    text = draft_study(two_files(folder), None, "some/model", NO_NAMES, None).text
    values: dict[str, Any] = YAML().load(text)
    return values


def fit(values: dict[str, Any], seconds: float, rows: int = 40) -> tuple[list[str], Study]:
    def plan(study: Study) -> Any:
        number = min(rows, (study.tasks[0].limit or {}).get("train", rows))
        parts = study.protocol.trials + len(study.protocol.seeds)
        cells = {
            ("t", "m", method.key): (FakeRun(COST[method.key] * parts * number / 40),)
            for method in study.methods
        }
        return FakePlan(study, sum(runs[0].seconds for runs in cells.values()), cells)

    reduced, predicted = fit_to_budget(
        values, seconds, plan, lambda own: Study.parse(json.loads(json.dumps(own)))
    )
    return reduced, predicted.study


def test_a_study_that_fits_is_left_as_it_is(tmp_path: Path) -> None:
    values = draft(tmp_path)
    before = json.dumps(values)
    assert fit(values, 1000.0)[0] == [] and json.dumps(values) == before


def test_rates_seeds_and_costly_methods_are_given_up_in_turn(tmp_path: Path) -> None:
    reduced, study = fit(draft(tmp_path), 130.0)
    assert reduced == ["one learning rate for each method, untuned"]
    assert (study.protocol.trials, len(study.protocol.seeds)) == (1, 5)
    reduced, study = fit(draft(tmp_path), 60.0)
    assert reduced[1:] == ["3 seeds", "without full"]
    assert [method.key for method in study.methods] == ["lora", "loha", "prompt"]
    reduced, study = fit(draft(tmp_path), 30.0)
    assert reduced[-1] == "without prompt"


def test_rows_go_first_where_there_are_thousands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 20_000
    monkeypatch.setattr(
        time_budget,
        "_count_train_rows",
        lambda plan: min(rows, (plan.study.tasks[0].limit or {}).get("train", rows)),
    )
    reduced, study = fit(draft(tmp_path), 21 * 8 * 130, rows)
    assert reduced == ["the first 5,000 training rows of 20,000"]
    assert study.tasks[0].limit == {"train": 5000}
    reduced, study = fit(draft(tmp_path), 400.0, rows)
    assert reduced[:2] == [
        "the first 5,000 training rows of 20,000",
        "the first 2,000 training rows of 5,000",
    ]
    assert reduced[-1] == "the first 500 training rows of 1,000"
    assert study.tasks[0].limit == {"train": 500} and len(study.methods) == 2


def test_a_budget_that_nothing_fits_into_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"predicted to take 28\.0 s, and the budget is 5\.00 s"):
        fit(draft(tmp_path), 5.0)


def test_a_budget_that_is_no_time_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    two_files(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["tune", "train.csv", "--model", "nowhere", "--budget", "soon"])
    assert end.value.code == 2 and "--budget" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:  # said before anything is trained
        main(["tune", "train.csv", "--model", "nowhere", "--max-memory", "much"])
    assert end.value.code == 2 and "--max-memory" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))


@pytest.mark.slow
def test_from_a_file_to_an_answer_and_again(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Two words tell the labels apart, so that no training is worth it, and it says so."""
    monkeypatch.chdir(tmp_path)
    two_files(tmp_path, 60, 20)
    command = ["tune", "train.csv", "--model", str(tiny_model("bert")), "--budget", "60s"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--workers", "2"])
    out = capsys.readouterr().out
    assert end.value.code == 0, out
    assert "What was guessed" in out and "\n  label: label (" in out and "Predicted: " in out
    assert "take the baseline tfidf" in out
    assert out.endswith("What to take needs no training, so nothing is exported.\n")
    with pytest.raises(SystemExit) as end:
        main([*command, "--json"])
    output = capsys.readouterr()
    # A file called train takes the name of its folder.
    assert end.value.code == 0 and "Continuing with test-from-a-file" in output.err
    assert json.loads(output.out)["folder"] is None


@pytest.mark.slow
@pytest.mark.parametrize("form", ["peft", "merged", "paretune"])
def test_the_two_lines_load_the_export(form: str, tmp_path: Path, tiny_model: Any) -> None:
    study, store = finished(tmp_path, tiny_model("bert"))
    export = paretune.export(
        study, store=store, method="lora", form=form, output=tmp_path / form, allow_collapsed=True
    )
    names: dict[str, Any] = {}
    exec("\n".join(export.loading_lines), names)  # noqa: S102 (as a user pastes them)
    assert names["model"].num_labels == 3
