"""What ``check`` counts, how it ends, and what it does not do before the data was read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.loaded_modules import list_loaded
from support.tiny_study import as_file, command, small, two_files

from paretune.study import Study, TaskSpec

TASK = {"name": "t", "kind": "classification", "train": "train.csv", "test": "test.csv",
        "text": "text", "label": "label", "labels": ["no", "yes"]}  # fmt: skip


def make_study_file(folder: Path, train: str = "", **changes: Any) -> Path:
    """A study file beside ``train.csv`` and ``test.csv``; ``train`` is appended to the former."""
    two_files(folder)
    with (folder / "train.csv").open("a", encoding="utf-8") as handle:
        handle.write(f"\n{train}")
    raw = {"study": "s", "tasks": [{**TASK, **changes.pop("task", {})}], "models": ["./nowhere"],
           "methods": ["lora"], **changes}  # fmt: skip
    path = folder / "s.yaml"
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


UNREADABLE = {
    "a label that is not listed": ({"train": "a cat,maybe"}, 1),
    "several faults of one kind": ({"train": "\n".join(f"cat {i},maybe" for i in range(9))}, 1),
    "faults of two kinds": ({"train": "a cat,maybe\na dog,"}, 2),
    "a missing column, in both files": ({"task": {"text": "words"}}, 2),
    "two missing columns": ({"task": {"text": "words", "label": "mark"}}, 4),
    "an empty file": ({"task": {"train": "empty.csv"}}, 1),
    "no file": ({"task": {"train": "none.csv"}}, 1),
    "a ragged row": ({"train": "a cat,no,more"}, 1),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_errors_are_counted_as_they_are_told_and_the_last_line_says_that_it_cannot_run(
    case: str, tmp_path: Path, capsys: Any
) -> None:
    changes, errors = UNREADABLE[case]
    file = make_study_file(tmp_path, **changes)
    (tmp_path / "empty.csv").touch()
    code, out, err = command(capsys, "check", file)
    assert (code, err) == (3, "")
    *lines, last = out.splitlines()
    assert sum("ERROR" in line for line in lines) == errors
    match = re.match(r"(\d+) errors?, 0 warnings, 0 notes: the study cannot run", last)
    assert match and int(match[1]) == errors
    assert "Failed: task t." in last and "were not tried without the data" in last
    assert "model" not in "".join(lines)  # the folder of the model is not there, and nobody asked


def test_quiet_leaves_errors_and_the_last_line(tmp_path: Path, capsys: Any) -> None:
    file = make_study_file(tmp_path, "a cat,maybe")
    code, out, _ = command(capsys, "check", file, "--quiet")
    assert code == 3
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "task t", "  ERROR", "1 error, 0 warnings, 0 notes",
    ]  # fmt: skip


def test_no_model_library_is_loaded_before_the_data_was_read(tmp_path: Path) -> None:
    """A bad row is told in the time that reading takes."""
    file = make_study_file(tmp_path, "a cat,maybe")
    assert list_loaded(["check", file]) == ([3], [])


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
def test_a_wrong_option_is_told_with_its_line_before_a_model_is_opened(
    verb: str, tmp_path: Path, capsys: Any
) -> None:
    """The folder of the model is not there, and nobody asked for it."""
    file = make_study_file(tmp_path)
    text = file.read_text("utf-8")
    for methods, line, fault in (
        ('["full", {"name": "lora",\n"rnak": 8}]', 2, 'method lora: unknown key "rnak".'),
        ('[\n"full",\n"lorra"]', 3, 'method "lorra" is not known. Did you mean lora?'),
        ('["full", {"name": "stack",\n"methods": ["lora"]}]', 1, "at least two methods"),
    ):
        file.write_text(text.replace('["lora"]', methods), "utf-8")
        code, out, err = command(capsys, verb, file)
        assert code == 5 and f"{file} line {line}: " in out + err and fault in out + err
        assert "nowhere" not in out + err
    if verb == "check":
        assert out.endswith("Failed: method stack. No model was opened.\n")
    code, out, err = command(capsys, verb, file, "methods=[{name: lora, rank: 0}]")
    assert code == 5 and "methods=[{name: lora, rank: 0}]: 0 is less than 1." in out + err


def test_a_setting_that_a_loss_does_not_read_is_refused_by_check_as_by_run(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    study = small(tmp_path, tiny_model("bert"), methods=["lora", "setfit"])
    file = as_file(study, tmp_path / "s.yaml")
    refused = (
        "training.label_smoothing=0.1: the loss of SetFit has no label_smoothing. Remove it, or "
        "method setfit."
    )
    for verb in ("check", "plan", "run"):
        code, out, err = command(capsys, verb, file, "training.label_smoothing=0.1")
        assert code == 2 and refused in out + err, verb
    code, out, err = command(capsys, "check", file, "generation.num_beams=2")
    assert code == 2 and "generation.num_beams=2: no task of the study is answered by" in out


def leaking(folder: Path, model: Path, **changes: Any) -> tuple[Study, Path]:
    study = small(folder, model, **changes)
    (folder / "test.csv").write_text((folder / "train.csv").read_text("utf-8"), "utf-8")
    return study, as_file(study, folder / "leak.yaml")


def test_a_test_part_in_train_is_an_error_of_check_and_of_run(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    _, file = leaking(tmp_path, tiny_model("bert"))
    code, out, _ = command(capsys, "check", file)
    assert code == 3
    (error_line,) = [line for line in out.splitlines() if "ERROR" in line]
    assert "40 of 40 test rows are in train: test.csv line 2 (train.csv line 2), " in error_line
    last = out.splitlines()[-1]
    assert last.startswith(
        "1 error, 0 warnings, 2 notes: the study cannot run. Failed: task words."
    )
    assert "step words" in out  # the data can be read, so the rest is looked at too
    code, out, err = command(capsys, "run", file, "--store", tmp_path / "store")
    assert code == 3 and "error: test.csv line 2: 40 of 40 test rows are in train" in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
def test_rows_of_one_group_cannot_be_cut_and_every_verb_says_so(
    verb: str, tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    study = small(tmp_path, tiny_model("bert"), methods=["majority"])
    task = study.tasks[0].model_dump(exclude_none=True) | {"group": "g"}
    file = as_file(study.model_copy(update={"tasks": (TaskSpec(**task),)}), tmp_path / "s.yaml")
    for name in ("train", "test"):
        header, *rows = (tmp_path / f"{name}.csv").read_text("utf-8").splitlines()
        grouped = [f"{header},g", *(f"{row},{name}" for row in rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(grouped), "utf-8")
    code, out, err = command(capsys, verb, file)
    assert code == 3, out + err
    assert "all 40 training rows are of one group" in out + err


def test_a_study_may_let_leaks_pass_and_is_the_same_study(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    strict, _ = leaking(tmp_path, tiny_model("bert"), methods=["majority"])
    study, file = leaking(
        tmp_path, tiny_model("bert"), methods=["majority"], checks={"max_leaked": 1}
    )
    assert study.study_hash == strict.study_hash
    code, out, _ = command(capsys, "check", file)
    assert code == 0
    assert "  warning: test.csv line 2: 40 of 40 test rows are in train" in out
    assert "0 errors, 1 warning, 2 notes: the study can run. Nothing was trained." in out
