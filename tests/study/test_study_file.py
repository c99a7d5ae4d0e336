"""A study file: what it may say, and what it is told when it says something else."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from support.loaded_modules import list_loaded

from paretune.errors import StudyError
from paretune.study import Study, TaskSpec
from paretune.study.protocol import MAX_COUNTS
from paretune.study.study_file import MAX_VALUES
from paretune.verbs import study_input

GOOD = "study: s\ntasks: cb\nmodels: m\nmethods: [lora]\n"
FOREIGN = ("pydantic", "a valid", "Input", "Value error", "mapping values", "block", "flow", "scan")
"""Pieces of what the libraries below say themselves."""


def error_of(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        Study.load(path)
    message = str(caught.value)
    assert not any(piece in message for piece in FOREIGN), message
    return message.removeprefix(f"{path}")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("study\ntasks: a\n", 2, "a colon where none can be"),
        ("tasks:\n  - cb\n models: m\n", 3, "the line, or the one above, cannot be understood"),
        ("study: s\ntasks:\n\t- cb\n", 3, "a tab is used for indentation"),
        ("study: s\ntasks: {name: cb\nmodels: m\n", 2, "the quote or bracket that opens here"),
        ("study: a\nstudy: b\n", 2, 'the key "study" is given twice'),
        ("study: 'x\ntasks: cb\n", 1, "the quote or bracket that opens here is not closed"),
        ("study: !!python/object/apply:os.system ['true']\n", 1, "the line, or the one above"),
    ],
)
def test_what_is_no_yaml_is_told_in_our_words(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    message = error_of(tmp_path / "s.yaml", text)
    assert message.startswith(f" line {line}: is not valid YAML: {what}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (GOOD + "extra: 1\n", [' line 5: unknown key "extra". There are: study, tasks']),
        (
            GOOD.replace("m\n", "{name: m, revison: x}\n"),
            [' line 3: model 1 "m": unknown key "revison". Did you mean revision?'],
        ),
        (GOOD + "trainig: {}\n", [' line 5: unknown key "trainig". Did you mean training?']),
        (
            "study: s\nmodels: m\nmethods: lora\ntasks:\n  - cb\n  - name: t\n    train: t.csv\n"
            "    kind: classification\n    label: l\n    text: [a, b]\n",
            [" line 10: task 2 \"t\", key text: ['a', 'b'] is not a text."],
        ),
        (
            GOOD + "training:\n  epochs: many\n  batch_size: 0\n  schedule: liner\n  lr: 1e-3\n",
            [
                ' line 6: training.epochs: "many" is not a whole number.',
                " line 7: training.batch_size: 0 is less than 1.",
                ' line 8: training.schedule: "liner" is not one of linear, cosine, constant. Did '
                "you mean linear?",
                ' line 9: training: unknown key "lr": learning rates belong to a method',
            ],
        ),
        (
            GOOD + "protocol: {seeds: 3}\n",
            [" line 5: protocol.seeds: 3 is not a list; write it in [brackets]."],
        ),
        (GOOD + "protocol: {seeds: [1, 1]}\n", [" line 5: protocol: seeds: [1, 1] names a seed"]),
        ("tasks: cb\nmodels: m\nmethods: lora\n", [': the key "study" is missing.']),
        ("study: a/b\ntasks: cb\nmodels: m\nmethods: lora\n", [' line 1: study: "a/b" is no name']),
        ("study: s\ntasks: []\nmodels: m\nmethods: lora\n", [" line 2: tasks: is empty."]),
    ],
)
def test_every_fault_has_its_line_place_and_remedy(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    path = tmp_path / "s.yaml"
    lines = error_of(path, text).split("\n")
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.removeprefix(str(path)).startswith(fault)


def test_a_file_of_many_faults_names_the_first(tmp_path: Path) -> None:
    keys = "".join(f"key{i}: 1\n" for i in range(100))
    message = error_of(tmp_path / "s.yaml", GOOD + keys)
    assert message.count("unknown key") == 20 and message.endswith("and 80 faults more.")


def test_files_with_slips_of_the_pen_load_or_are_answered(tmp_path: Path) -> None:
    """Characters and lines of the shipped studies put in, taken out and doubled by chance."""
    draw = random.Random(3)  # noqa: S311  (the same slips each time)
    texts = [path.read_text(encoding="utf-8") for path in study_input.shipped_studies().values()]
    refused = 0
    for _ in range(120):
        text = draw.choice(texts)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(text))
            if draw.random() < 0.7:
                text = text[:at] + draw.choice("[]{}:,-#&*!|>'\"%@`\t \n\\?") + text[at:]
            else:
                text = text[:at] + text[at + draw.randint(1, 6) :]
        (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
        try:
            Study.load(tmp_path / "s.yaml")
        except StudyError as error:
            refused += 1
            assert not any(piece in str(error) for piece in FOREIGN), str(error)
    assert 30 < refused < 120


@pytest.mark.parametrize("name", ["train.csv", "train.TSV", "t.jsonl", "t.parquet", "t.json"])
def test_a_data_file_is_answered_with_new(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('[{"text": "a", "label": "b"}]', encoding="utf-8")
    with pytest.raises(StudyError, match="is a data file, not a study") as caught:
        Study.load(path)
    assert str(caught.value).endswith(f"paretune new {path}")


MANY = {
    "methods": "  - {name: lora, label: x%d}\n",
    "tasks": "  - {name: t%d}\n",
    "models": "  - m%d\n",
}


@pytest.mark.parametrize("section", MANY)
@pytest.mark.parametrize("count", [500, 100_000])
def test_too_many_end_in_one_sentence(tmp_path: Path, section: str, count: int) -> None:
    lines = "".join(MANY[section] % i for i in range(count))
    rest = GOOD.replace(f"{section}:", f"{section[:-1]}:")
    message = error_of(tmp_path / "s.yaml", f"{section}:\n{lines}" + (rest if count > 500 else ""))
    if count == 500:
        assert f"500 {section} are more than one study may have ({MAX_COUNTS[section]})" in message
    else:
        assert "\n" not in message
        assert "1,000,000 bytes" in message or f"{MAX_VALUES:,} values" in message


def test_too_many_seeds_and_runs(tmp_path: Path) -> None:
    seeds = ",".join(map(str, range(1, 500)))
    message = error_of(tmp_path / "s.yaml", f"{GOOD}protocol: {{seeds: [{seeds}]}}\n")
    assert "protocol.seeds: 499 entries are more than 100" in message
    many = {n: [f"{n}{i}" for i in range(90)] for n in ("tasks", "models")}
    with pytest.raises(StudyError, match="runs, more than one study may have"):
        Study.parse({"study": "s", "methods": "lora", **many})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("study: " + "[" * 100_000, "deep"),
        ("".join(" " * i + "a:\n" for i in range(900)), "deep"),
        (
            "a: &a [" + "x," * 10 + "]\n"
            + "".join(f"{b}: &{b} [{f'*{a},' * 10}]\n" for a, b in pairwise("abcdefghi")),
            "more than 20,000 values",
        ),
        ("study: &a [*a]\n", "is used inside its own anchor"),
    ],
)  # fmt: skip
def test_nests_and_bombs_end_in_one_sentence(tmp_path: Path, text: str, what: str) -> None:
    message = error_of(tmp_path / "s.yaml", text)
    assert what in message and "\n" not in message


def test_an_alias_is_as_good_as_what_it_stands_for(tmp_path: Path) -> None:
    text = "study: s\ntasks: cb\nmodels: m\nmethods:\n  - &l {name: lora, rank: 4}\n  - <<: *l\n"
    (tmp_path / "s.yaml").write_text(f"{text}    label: other\n", encoding="utf-8")
    study = Study.load(tmp_path / "s.yaml")
    assert [m.options for m in study.methods] == [{"rank": 4}, {"rank": 4}]


def test_a_device_is_no_study() -> None:
    with pytest.raises(StudyError, match="it is no plain file"):
        Study.load("/dev/zero")


@pytest.mark.parametrize(
    "label", ["../x", "a/b", "a\\b", "x\x1b[2J", "x\n", "x" * 101, "..", ".", "", " x", "x."]
)
@pytest.mark.parametrize("section", ["methods", "models"])
def test_labels_become_paths_and_are_checked_as_such(section: str, label: str) -> None:
    raw = {"study": "s", "tasks": "cb", "models": "m", "methods": "lora"}
    one = {"name": str(raw[section]), "label": label}
    with pytest.raises(StudyError, match=f"{section[:-1]} 1") as caught:
        Study.parse({**raw, section: [one]})
    assert "\n" not in str(caught.value)


def test_a_task_has_a_short_name() -> None:
    with pytest.raises(StudyError, match="task 1: its name has 101 characters"):
        Study.parse({"study": "s", "tasks": "t" * 101, "models": "m", "methods": "lora"})
    assert TaskSpec(name="t" * 101).name  # a stored run of before is still read


def test_labels_that_are_no_paths_stay() -> None:
    labels = ("LoRA r=8", "lora+bitfit", "š (0.5 %)", "peft:lora", "v1.2")
    methods = [{"name": "lora", "label": label} for label in labels]
    study = Study.parse({"study": "s", "tasks": "cb", "models": "m", "methods": methods})
    assert tuple(m.key for m in study.methods) == labels


@pytest.mark.thorough
def test_a_slip_of_the_pen_costs_no_import_of_torch(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("study: a: b\n", encoding="utf-8")
    verbs = ("plan", "run", "check", "export", "export slobench", "report")
    commands = [[*verb.split(), "s.yaml"] for verb in verbs]
    assert list_loaded(*commands, folder=tmp_path) == ([2] * len(verbs), [])


def test_limits_are_read_in_their_units_and_identify_a_study_where_given() -> None:
    raw = {"study": "s", "tasks": ["rte"], "models": ["m"], "methods": ["lora"]}
    study = Study.parse({**raw, "limits": {"max_latency": "20ms", "max_parameters": 300_000}})
    assert study.limits.by_axis == {"inference": 0.02, "parameters": 300_000.0}
    plain = Study.parse(raw)
    assert "limits" not in plain.canonical_form() and plain.study_hash != study.study_hash
    with pytest.raises(StudyError, match="max_latency"):
        Study.parse({**raw, "limits": {"max_latency": "soon"}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_the_default_changes_no_identity(file: Path) -> None:
    study = Study.load(file)
    named = Study.load(file, ["training.backend=fast"])
    plain = Study.load(file, ["training.backend=plain"])
    assert "backend" not in study.canonical_form()["training"]
    assert study.study_hash == named.study_hash != plain.study_hash
    assert plain.canonical_form()["training"]["backend"] == "plain"


def test_the_environment_sets_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the plain path never have the identity of others."""
    plain_study = Study.load(file, ["training.backend=plain"])
    monkeypatch.setenv("PARETUNE_BACKEND", "plain")
    study = Study.load(file)
    assert study.training.backend == "plain" and study.study_hash == plain_study.study_hash
    assert study.overrides == ("training.backend=plain",)
    assert Study.load(file, ["training.backend=fast"]).training.backend == "fast"
    monkeypatch.setenv("PARETUNE_BACKEND", "slow")
    with pytest.raises(StudyError, match=r"training\.backend"):
        Study.load(file)
