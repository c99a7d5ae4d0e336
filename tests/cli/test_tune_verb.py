"""``paretune tune``: one command from a file to an adapter, and a study that fits its budget."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_records as fake
from support.tiny_study import command, finished, two_files

import paretune
from paretune.cli import main
from paretune.errors import ParetuneError, WeightsNotKeptError
from paretune.execution.executor import StudySummary
from paretune.study import Study
from paretune.verbs.run import RunResult
from paretune.verbs.time_budget import describe_fit, measure_load

SECONDS = {"lora": 4.0, "full": 12.0, "tfidf": 1.0}


def planned(*methods: str, workers: int = 1, folds: int = 3) -> Any:
    """A plan of so many folds of each method, one worker, nothing done."""
    runs = [
        SimpleNamespace(
            run=fake.make_run(fake.study(), "final", method, fold),
            done=False,
            cost=SimpleNamespace(seconds=SECONDS[method]),
        )
        for fold in range(folds)
        for method in methods
    ]
    seconds = sum(p.cost.seconds for p in runs) / workers
    return SimpleNamespace(runs=runs, workers=workers, seconds_left=seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (60.0, "Predicted: a first score of every method in time; the first pass of all takes"),
        (10.0, "Predicted: no time for full fine-tuning, whose first scores take about 12 s more;"),
        (3.0, "3 s for training hold the baselines alone: one run of LoRA takes about 4 s; the"),
    ],
)
def test_what_fits_is_said_before_it_begins(
    seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    sentence = describe_fit(planned("tfidf", "lora", "full"), seconds)
    assert sentence.startswith(expected) and "about 51 s" in sentence


def test_a_busy_machine_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for load, longer in ((0.0, 1.0), (1.0, 1.5), (4.0, 3.0)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert measure_load(2) == longer
    assert "about 2 min" in describe_fit(planned("tfidf", "lora", "full"), 60.0)


def test_what_cannot_be_predicted_is_said() -> None:
    unknown = SimpleNamespace(runs=[], workers=1, seconds_left=None)
    assert describe_fit(unknown, 60.0).startswith("How long the runs take is not known")


@dataclass
class Calls:
    """What ``tune`` asked of the other verbs, which take ``train_seconds`` and do nothing."""

    now: float = 0.0
    train_seconds: float = 0.0
    weights: bool = True
    budgets: list[Any] = field(default_factory=list)
    exports: list[dict[str, Any]] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    limits: list[Any] = field(default_factory=list)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """``train.csv`` in the present folder; planning takes 5 s each time, an export 4 s."""
    log = Calls()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    two_files(tmp_path)

    def plan(study: Study, **workers: Any) -> Any:
        log.now += 5.0
        return SimpleNamespace(seconds_left=20.0, runs=[], workers=2)

    def run(study: Study, *, budget: float | None, **options: Any) -> RunResult:
        log.budgets.append(budget)
        log.studies.append(study)
        log.now += log.train_seconds
        return RunResult(study, tmp_path, StudySummary(18, 18, {"ok": 18}, ()), 24, 600.0)

    def export(study: Study, **options: Any) -> Any:
        log.exports.append(options)
        log.now += 4.0
        if not (log.weights or options["train_again"]):
            raise WeightsNotKeptError("its trained weights were not kept.")
        return SimpleNamespace(folder=options["output"])

    def recommend(study: Study, **options: Any) -> tuple[Any]:
        log.limits.append(options["max_memory"])
        names = {"task": "train", "model": "model", "method": "lora"}
        return (SimpleNamespace(command="paretune export train.yaml", take="lora", **names),)

    for verb in (plan, run, export, recommend):
        monkeypatch.setattr(f"paretune.verbs.tune.{verb.__name__}", verb)
    monkeypatch.setattr("paretune.verbs.tune.time", SimpleNamespace(monotonic=lambda: log.now))
    return log


def test_the_budget_counts_from_the_start_and_leaves_time_for_the_export(calls: Calls) -> None:
    result = paretune.tune("train.csv", model="some/model", budget=100.0)
    (training,) = calls.budgets
    assert calls.now - 4.0 + training + 4.0 <= 100.0 and training >= 60.0
    (exported,) = calls.exports
    assert not exported["train_again"]
    assert result.notes == (
        "18 of 42 runs have ended; `paretune tune train.csv --model some/model` trains the rest in "
        "about 10 min.",
    )


def test_columns_that_are_not_used_stand_on_the_screen_and_in_the_result(
    calls: Calls, tmp_path: Path, capsys: Any
) -> None:
    lines = (tmp_path / "train.csv").read_text().splitlines()
    header, *rows = (f"{line},{'author' if i == 0 else f'a{i}'}" for i, line in enumerate(lines))
    (tmp_path / "train.csv").write_text("\n".join([header, *rows]))
    sentences: list[str] = []
    result = paretune.tune("train.csv", model="some/model", tell=sentences.append)
    what = "train.csv: its column author is not used."
    assert f"  {what}" in sentences and result.notes[0].startswith(what)
    assert "notes" in result.json_fields
    for verb, key in (("new", "doubts"), ("check", "items")):
        arguments = ("train.csv", "-o", "s.yaml") if verb == "new" else ("s.yaml",)
        _, out, _ = command(capsys, verb, *arguments, "--json")
        assert "its column author is not used." in json.dumps(json.loads(out)[key])


def test_a_budget_binds_where_a_study_file_is_continued(calls: Calls) -> None:
    paretune.tune("train.csv", model="some/model")
    assert calls.budgets == [None]
    assert calls.exports[0]["train_again"]
    paretune.tune("train.csv", budget=100.0)
    assert calls.budgets[1] <= 95.0


def test_what_no_time_is_left_for_is_said_with_its_command(calls: Calls) -> None:
    calls.train_seconds = 120.0
    result = paretune.tune("train.csv", model="some/model", budget=100.0)
    assert result.exported is None and not calls.exports
    assert "`paretune export train.yaml` writes it" in result.notes[0]
    calls.train_seconds, calls.weights = 1.0, False
    result = paretune.tune("train.csv", budget=100.0)
    assert "`paretune export train.yaml --train-again` does" in result.notes[0]


def test_a_budget_that_preparing_uses_up_is_refused_with_a_larger_one(calls: Calls) -> None:
    with pytest.raises(ParetuneError, match=r"prepare .* took 5 s.*budget=.2min"):
        paretune.tune("train.csv", model="some/model", budget=5.0)
    assert not calls.budgets


def test_an_export_that_is_there_is_kept(calls: Calls) -> None:
    paretune.tune("train.csv", model="some/model")
    Path(calls.exports[0]["output"]).mkdir(parents=True)
    paretune.tune("train.csv")
    assert calls.exports[1]["output"] != calls.exports[0]["output"]


@pytest.mark.parametrize(
    ("columns", "model", "parts"),
    [
        ({"label": "text", "text": "label"}, None,
         ['label= is "text", and the file has "label"',
          'text= is "label", and the file has "text"']),
        ({"pair": "text"}, None, ['pair= is "text", and the file has none']),
        ({}, "other/model", ['model= is "other/model", and the file has "some/model"']),
    ],
)  # fmt: skip
def test_a_study_file_that_contradicts_the_call_is_refused(
    calls: Calls, columns: dict[str, str], model: str | None, parts: list[str]
) -> None:
    file = paretune.tune("train.csv", model="some/model").file
    with pytest.raises(ParetuneError) as error:
        paretune.tune("train.csv", **columns, model=model)
    assert error.value.where == str(file) and "restart=True" in error.value.remedy
    assert all(part in error.value.what for part in parts) and len(calls.budgets) == 1


def test_what_the_study_file_says_too_may_be_said_again(calls: Calls) -> None:
    paretune.tune("train.csv", model="some/model")
    paretune.tune("train.csv", label="label", text="text", model="some/model")
    assert len(calls.budgets) == 2


def test_data_of_another_folder_is_not_taken_for_those_of_the_study_file(
    calls: Calls, tmp_path: Path
) -> None:
    file = paretune.tune("train.csv", model="some/model").file
    copy = two_files(tmp_path / "other").rename(tmp_path / "other" / f"{file.stem}.csv")
    with pytest.raises(ParetuneError, match=r"the data is .*other"):
        paretune.tune(copy)


def test_restart_writes_the_study_file_anew_and_keeps_the_old_one(calls: Calls) -> None:
    file = paretune.tune("train.csv", model="some/model").file
    before = file.read_text()
    for number in (1, 2):
        result = paretune.tune("train.csv", model="other/model", restart=True)
        assert [spec.name for spec in result.study.models] == ["other/model"]
        assert file.with_name(f"{file.stem}-{number}.yaml").is_file()
    assert file.with_name(f"{file.stem}-1.yaml").read_text() == before


SETTINGS = ["training.epochs=3", "methods.full.label=all", "methods.2.rank=4"]


def test_methods_and_settings_are_written_into_a_new_study_file(calls: Calls) -> None:
    called: dict[str, Any] = {"methods": "full, lora", "overrides": SETTINGS}
    result = paretune.tune("train.csv", model="some/model", budget=900.0, **called)
    text, study = result.file.read_text(), Study.load(result.file)
    assert study.training.epochs == 3 and "# evaluations without a gain" in text
    assert [(m.key, m.options) for m in study.methods] == [("all", {}), ("lora", {"rank": 4})]
    assert calls.studies[0].study_hash == study.study_hash
    assert "--methods 'full, lora' training.epochs=3 methods.full" in result.notes[0]
    # The command of the note continues, and the file needs no settings.
    again = paretune.tune("train.csv", **called)
    assert again.study.study_hash == study.study_hash
    assert paretune.tune("train.csv").study.study_hash == study.study_hash


def test_than_names_the_reference_of_the_study(calls: Calls) -> None:
    first = paretune.tune("train.csv", model="some/model", methods="full,lora", than="lora")
    assert Study.load(first.file).protocol.reference == "lora"
    # Another question about the same runs is no other study.
    second = paretune.tune("train.csv", than="full")
    assert calls.studies[1].protocol.reference == "full"
    assert second.study.study_hash == first.study.study_hash
    with pytest.raises(ParetuneError, match="reference: loha is none of"):
        paretune.tune("train.csv", than="loha")


def test_methods_settings_and_a_limit_are_applied_beside_a_study_file(calls: Calls) -> None:
    first = paretune.tune("train.csv", model="some/model")
    text, texts = first.file.read_text(), list[str]()
    second = paretune.tune(
        "train.csv",
        methods="bitfit",
        overrides=["training.epochs=3"],
        max_memory="2GiB",
        tell=texts.append,
    )
    study = calls.studies[1]
    assert first.file.read_text() == text and study.study_hash != first.study.study_hash
    assert [m.key for m in study.methods] == ["bitfit"] and study.training.epochs == 3
    assert study.typed.endswith(".yaml 'methods=[bitfit]' training.epochs=3")
    assert calls.limits == [None, "2GiB"] and second.max_memory == "2GiB"
    assert "and 'methods=[bitfit]' training.epochs=3 in place of what it says" in texts[0]
    assert texts[0].endswith("the advice is within 2GiB.")
    # A limit alone is no other study.
    limited = paretune.tune("train.csv", max_memory="2GiB")
    assert limited.study.study_hash == first.study.study_hash and calls.limits[-1] == "2GiB"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--methods", "lora,ful"], 5, 'method "ful" is not known. Did you mean full?'),
        (["methods.lora.rank=0"], 5, "method lora, option rank: 0 is less than 1."),
        (["training.epoch=3"], 2, 'unknown key "epoch". Did you mean epochs?'),
        (["--methods", "lora", "methods=full"], 2, "methods is set twice"),
        (["--budget", "soon"], 2, "--budget"),
        (["--max-memory", "much"], 2, "--max-memory"),
    ],
)
def test_wrong_methods_settings_and_amounts_write_nothing(
    words: list[str], code: int, message: str, calls: Calls, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["tune", "train.csv", "--model", "nowhere", *words])
    assert end.value.code == code and message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml")) and not calls.studies


@pytest.mark.slow
def test_from_a_file_to_an_answer_and_again(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Two words tell the labels apart, so that no training is worth it, and it says so."""
    monkeypatch.chdir(tmp_path)
    two_files(tmp_path, 60, 20)
    command = ["tune", "train.csv", "--model", str(tiny_model("bert")), "--budget", "30min"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--workers", "2"])
    out = capsys.readouterr().out
    assert end.value.code == 0, out
    assert "What was guessed" in out and "\n  label: label (" in out and "Predicted for all" in out
    assert "take the baseline TF-IDF" in out
    assert "Nothing is exported" in out and "what to take needs no training." in out
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
