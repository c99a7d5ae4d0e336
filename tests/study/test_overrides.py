"""Settings on the command line: a study of its own, that every verb finds by the same settings."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, finish, small

from paretune.errors import StudyError
from paretune.store import Store
from paretune.study import Study
from paretune.study.study_file import StudyFile

TEXT = """study: s
tasks: [cb, {name: rte, limit: {train: 50}}]
models: m
methods:
  - lora
  - {name: lora, label: wide, rank: 64}
training: {epochs: 4, batch_size: 8}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_they_are_the_study_that_the_file_would_be(file: Path, tmp_path: Path) -> None:
    overrides = (
        "training.epochs=3",
        "protocol.seeds=[1,2]",
        "methods.wide.rank=16",
        "methods.1.alpha=4",
        "tasks.cb.limit.train=10",
        "training.micro_batch=null",
    )
    study = Study.load(file, overrides)
    edited = TEXT.replace("epochs: 4", "epochs: 3").replace("rank: 64", "rank: 16")
    edited = edited.replace("  - lora\n", "  - {name: lora, alpha: 4}\n")
    edited = edited.replace("[cb,", "[{name: cb, limit: {train: 10}},")
    file.write_text(f"{edited}protocol: {{seeds: [1, 2]}}\n", encoding="utf-8")
    plain = Study.load(file)
    assert study.canonical_form() == plain.canonical_form() and study.study_hash == plain.study_hash
    assert study.overrides == overrides and plain.overrides == ()
    assert Study.load(file, ["methods=[full]"]).methods[0].name == "full"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("training.epohcs=3", 'training.epohcs=3: unknown key "epohcs". Did you mean epochs?'),
        ("trainig.epochs=3", 'trainig.epochs=3: unknown key "trainig". Did you mean training?'),
        ("training.epochs=many", 'epochs=many: "many" is not a whole number.'),
        ("epochs=3", 'epochs=3: unknown key "epochs"'),
        ("training.epochs", 'command line: "training.epochs" is no setting. Write key=value'),
        ("=3", '"=3" is no setting'),
        ("a..b=3", '"a..b=3" is no setting'),
        ("protocol.seeds=[1,2", "the value is not valid YAML. Close brackets"),
        ("methods.loha.rank=3", '"loha" is none of the methods. Did you mean lora?'),
        ("methods.3.rank=3", '"3" is none of the methods. There are: lora, wide; or'),
        ("methods.lora=full", "methods is a list."),
        ("study.x=1", "study is no group of keys."),
        ("tasks.rte.limit.trian=1", 'trian=1: "trian" is not one of train, test, test_shifted.'),
        ("methods.wide.label=../x", "its label \"../x\" holds a slash"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_the_setting(file: Path, overrides: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study.load(file, [overrides])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entry", ["tasks.cb-sl", "tasks.cb", "models.mini", "methods.lora", "methods.1"]
)
def test_entries_go_by_their_names_in_the_tables(entry: str) -> None:
    values = {"tasks": {"name": "cb", "language": "sl"}, "models": "x/mini", "methods": "lora"}
    changed = StudyFile(values, "s").override([f"{entry}.extra=1"])
    section, number, key = next(iter(changed.overrides))
    assert changed.values[section][number][key] == 1 and isinstance(number, int)


def test_twice_is_once_too_often(file: Path) -> None:
    with pytest.raises(StudyError, match=r"training\.epochs is set twice"):
        Study.load(file, ["training.epochs=1", "training.epochs=2"])
    with pytest.raises(StudyError, match="reference: pissa is none of lora"):
        Study.load(file, ["protocol.reference=pissa"])


@pytest.mark.thorough
def test_verbs_find_the_study_by_them(capsys: Any, tmp_path: Path, tiny_model: Any) -> None:
    file = as_file(small(tmp_path, tiny_model("bert")), tmp_path / "small.yaml")
    overrides = ("training.max_steps=1", "protocol.seeds=[3]")
    store = tmp_path / "store"
    study = Study.load(file, overrides)
    finish(study, store, costs=0).close()
    with Store.open(store) as opened:  # as `run` writes it
        opened.save_study(
            study.study_hash, study.study, shlex.join(study.overrides), study.canonical_form()
        )

    code, out, _ = command(capsys, "check", file, "training.max_steps=1")
    assert code == 0 and f"paretune plan {file} training.max_steps=1" in out
    code, out, _ = command(capsys, "plan", file, *overrides, "--store", store)
    assert code == 0 and "6 runs, 4 done" in out
    code, out, err = command(capsys, "report", file, *overrides, "--store", store)
    assert code == 0, out + err
    page = (store / "report.html").read_text(encoding="utf-8")
    assert "# From the command line: training.max_steps=1 protocol.seeds=[3]" in page

    code, _, err = command(capsys, "report", file, "--store", store)
    assert code == 6
    assert "It ran with training.max_steps=1 'protocol.seeds=[3]': use the same settings." in err
    code, _, err = command(capsys, "run", file, "training.epohcs=1", "--store", store)
    assert code == 2 and "Did you mean epochs?" in err
