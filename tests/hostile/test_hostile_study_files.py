"""Study files that are hostile or plain bad luck: one sentence with the line, and no hanging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.hostile_names import HOSTILE_NAMES
from support.tiny_study import command

from paretune.errors import ParetuneError, StudyError
from paretune.study import Study

TEMPLATE = """study: small
tasks:
  - {{name: words, kind: classification, train: t.csv, text: t, label: l{task}}}
models: {models}
methods: {methods}
training: {{{training}}}
generation: {{{generation}}}
"""
TRANSLATION = {"name": "t", "kind": "translation", "train": "a.csv", "source_lang": "sl"}
BOMB = ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))


def study_file(folder: Path, **parts: str) -> Path:
    fields = {"task": "", "models": "./m", "methods": "[lora]", "training": "", "generation": ""}
    path = folder / "s.yaml"
    path.write_text(TEMPLATE.format(**{**fields, **parts}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"methods": '[{name: lora, rank: "\\uD800"}]'}, 'line 5: method 1 "lora", key rank: half'),
        ({"methods": '[{name: lora, "\\uD800": 1}]'}, "half a surrogate pair"),
        ({"methods": "[{name: lora, alpha: .inf}]"}, "key alpha: inf is not a finite number."),
        ({"training": f"epochs: {'9' * 6000}"}, "a number of thousands of digits"),
        ({"training": f"max_steps: 1{'0' * 30}"}, "training.max_steps: a number has more than 64"),
        ({"training": f"max_length: 1{'0' * 12}"}, "1000000000000 is more than 1048576."),
        ({"training": f"epochs: 1{'0' * 9}"}, "training.epochs: 1000000000 is more than 100000."),
        ({"training": "weight_decay: 1e999"}, "line 6: training.weight_decay: inf"),
        ({"training": "max_grad_norm: .nan"}, "training.max_grad_norm: nan is not a finite"),
        ({"generation": "length_penalty: .nan"}, "line 7: generation.length_penalty: nan"),
        ({"task": ", limit: {train: 0}"}, "line 3: task 1 \"words\": limit: train: 0 is less than"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_values_that_no_study_has(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(StudyError) as refused:
        Study.load(study_file(tmp_path, **parts))
    assert message in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_settings_of_the_command_line_are_held_to_the_same(tmp_path: Path) -> None:
    file = study_file(tmp_path)
    for setting in (
        f"methods.lora.x=[&a0 [x, x], {BOMB}]",
        "training.weight_decay=.inf",
        "tasks.words.limit={train: 0}",
    ):
        with pytest.raises(StudyError):
            Study.load(file, [setting])
    with pytest.raises(StudyError, match="finite number"):
        Study.parse({"study": "s", "tasks": ["cb"], "models": ["m"], "methods": ["lora"],
                     "training": {"weight_decay": float("inf")}})  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(50))
def test_a_name_is_refused_or_stays_a_name(tmp_path: Path, name: str) -> None:
    """Wherever a study names something: as label, model, language, column or path."""
    for changes in (
        {"methods": [{"name": "lora", "label": name}]},
        {"methods": [{"name": name}]},
        {"models": [{"name": "./m", "label": name}]},
        {"models": [name]},
        {"tasks": [{"name": name}]},
        {"tasks": [{"name": "cb", "language": name}]},
        {"tasks": [{**TRANSLATION, "target_lang": name}]},
        {"tasks": [{"name": "cb", "source": name}]},
        {"study": name},
    ):
        raw: dict[str, Any] = {"study": "s", "tasks": ["cb"], "models": ["m"], "methods": ["lora"]}
        try:
            study = Study.parse({**raw, **changes}, base=tmp_path)
        except StudyError:
            continue
        assert len(study.study_hash) == 16
        for key in (study.tasks[0].key, study.models[0].key, study.methods[0].key):
            assert key.isprintable() and not {"/", "\\"} & set(key) and key.strip(". ")


def test_a_home_of_nobody_and_a_name_of_ten_thousand_letters(capsys: Any, tmp_path: Path) -> None:
    file = study_file(tmp_path, models="[~nosuchuser/x]")
    assert Study.load(file).models[0].key == "x"
    long = study_file(tmp_path, models=f"[./{'x' * 10_000}]")
    for arguments in (("plan", long), ("check", "x" * 10_000), ("plan", f"{'x' * 10_000}.yaml")):
        code, out, err = command(capsys, *arguments)
        assert code in (2, 3, 4) and "Traceback" not in out + err
        assert len(err) < 1000
    with pytest.raises(ParetuneError):
        Study.load(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no settings"),
        (b"- a\n", "has no settings"),
        (b"\xff\xfe\x00study", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_files_and_folders_that_are_no_study(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "s.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=message):
        Study.load(path)


def test_new_writes_evil_columns_and_labels_as_words(capsys: Any, tmp_path: Path) -> None:
    """Column names with line ends, quotes and colons; labels that older YAML reads as values."""
    rows = [
        {"a: b\n- c": f"text {i}\u2028", 'la"bel': ("no", "1e3", "null", "\x1b[31m😀")[i % 4]}
        for i in range(20)
    ]
    source, target = tmp_path / "odd.jsonl", tmp_path / "odd.yaml"
    source.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    code, out, err = command(capsys, "new", source, "-o", target)
    assert code == 0 and all(c.isprintable() or c in "\n\t" for c in out + err)
    (task,) = Study.load(target).tasks
    assert (task.text, task.label) == ("a: b\n- c", 'la"bel')
    assert set(task.labels or ()) == {"no", "1e3", "null", "\x1b[31m😀"}
    assert "\x1b" not in target.read_text(encoding="utf-8")


def test_no_is_a_word_and_1e_3_a_number(tmp_path: Path) -> None:
    study = Study.load(
        study_file(
            tmp_path,
            task=", labels: [no, yes, off]",
            methods="[{name: lora, learning_rates: [1e-3]}]",
        )
    )
    assert study.tasks[0].labels == ("no", "yes", "off")
    assert study.methods[0].learning_rates == (0.001,)
