"""Input that is hostile or plain bad luck: one message, the right exit code, nothing half done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, finish, small, two_files

from paretune.errors import StudyError
from paretune.study import Study

EVIL = ("<script>alert(1)</script>", "\x1b[31mred\x07", "a" * 3000, "no", "' OR 1=1 --")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(capsys: Any, code: int, *arguments: object) -> str:
    """The message of a command that must end in ``code``, without a traceback or a control."""
    exit_code, out, err = command(capsys, *arguments)
    assert exit_code == code, out + err
    assert "Traceback" not in out + err
    assert all(c.isprintable() or c in "\n\t" for c in out + err)
    return out + err


def test_evil_labels_and_texts_go_through_every_output(
    capsys: Any, tmp_path: Path, tiny_model: Any
) -> None:
    for part, count in (("train", 40), ("test", 20)):
        rows = [
            {"text": f"{EVIL[i % 5]} cat {part} {i}", "label": EVIL[i % 5]} for i in range(count)
        ]
        written(tmp_path / f"{part}.jsonl", "\n".join(json.dumps(row) for row in rows))
    task = small(tmp_path / "x", tmp_path).tasks[0].model_dump(exclude={"labels"}) | {
        part: str(tmp_path / f"{part}.jsonl") for part in ("train", "test")
    }
    study = small(tmp_path / "x", tiny_model("bert"), tasks=[task])
    file = as_file(study, tmp_path / "evil.yaml")
    assert Study.load(file).canonical_form() == study.canonical_form()
    refused(capsys, 0, "check", file)
    refused(capsys, 0, "plan", file)
    finish(study, tmp_path / "store", costs=0).close()
    message = refused(capsys, 0, "report", file, "--store", tmp_path / "store")
    assert "Score: accuracy, 20 test examples" in " ".join(message.split())
    page = (tmp_path / "store" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "\x1b" not in page


def test_new_writes_evil_columns_and_labels_as_words(capsys: Any, tmp_path: Path) -> None:
    """Column names with line ends, quotes and colons; labels that older YAML reads as values."""
    rows = [
        {"a: b\n- c": f"text {i}\u2028", 'la"bel': ("no", "1e3", "null", "\x1b[31m😀")[i % 4]}
        for i in range(20)
    ]
    source = written(tmp_path / "odd.jsonl", "\n".join(json.dumps(row) for row in rows))
    target = tmp_path / "odd.yaml"
    refused(capsys, 0, "new", source, "-o", target)
    (task,) = Study.load(target).tasks
    assert (task.text, task.label) == ("a: b\n- c", 'la"bel')
    assert set(task.labels or ()) == {"no", "1e3", "null", "\x1b[31m😀"}
    assert "\x1b" not in target.read_text(encoding="utf-8")


def test_no_is_a_word_and_1e_3_a_number(tmp_path: Path) -> None:
    file = written(
        tmp_path / "n.yaml",
        "study: n\ntasks:\n  - {name: t, kind: classification, train: t.csv, text: t, label: l, "
        "labels: [no, yes, off]}\nmodels: ./m\n"
        "methods:\n  - {name: lora, learning_rates: [1e-3]}\n",
    )
    study = Study.load(file)
    assert study.tasks[0].labels == ("no", "yes", "off")
    assert study.methods[0].learning_rates == (0.001,)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.yaml", b"", "has no settings"),
        ("list.yaml", b"- a\n", "has no settings"),
        ("binary.yaml", b"\xff\xfe\x00study", "cannot be read"),
        ("bomb.yaml", b"study: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_files_that_are_no_study(
    capsys: Any, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refused(capsys, 2, "plan", tmp_path / name)


def test_a_folder_and_a_locked_file_are_no_study(capsys: Any, tmp_path: Path) -> None:
    assert "cannot be read" in refused(capsys, 2, "plan", tmp_path)
    file = written(tmp_path / "locked.yaml", "study: a\n")
    file.chmod(0)
    if not os.access(file, os.R_OK):  # root may read everything
        assert "cannot be read" in refused(capsys, 2, "plan", file)


def test_models_and_methods_that_do_not_exist(capsys: Any, tmp_path: Path, tiny_model: Any) -> None:
    two_files(tmp_path)

    def run(code: int, **changes: Any) -> str:
        study = small(tmp_path, tiny_model("bert"), **changes)
        return refused(
            capsys, code, "run", as_file(study, tmp_path / "s.yaml"), "--store", tmp_path
        )

    assert "no such folder" in run(4, models=[str(tmp_path / "absent")])
    (tmp_path / "hollow").mkdir()
    assert "config.json" in run(4, models=[str(tmp_path / "hollow")])
    message = run(4, models=["nobody/nothing-of-the-kind"])
    assert "not in the local cache" in message and "--online" in message
    assert 'method "lorra" is not known' in run(5, methods=["lorra"])
    assert 'unknown key "rnk"' in run(5, methods=[{"name": "lora", "rnk": 2}])
    assert "0 is less than 1" in run(5, methods=[{"name": "lora", "rank": 0}])
    assert "every method gets 1 trials" in run(
        5, methods=[{"name": "lora", "learning_rates": [0.1, 0.2]}]
    )


def test_programs_refuse_what_a_file_refuses() -> None:
    with pytest.raises(StudyError, match="named twice"):
        Study.parse({"study": "a", "tasks": ["cb"], "models": ["m"], "methods": ["lora", "lora"]})
