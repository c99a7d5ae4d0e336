"""Mistakes at the command line are answered with what was meant and what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.tiny_study import command

import paretune
from paretune import cli
from paretune.cli import SYNONYMS, VERBS
from paretune.verbs.report import StudyResults


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["reviews.csv"], "reviews.csv is a data file. Did you mean: paretune tune reviews.csv"),
        (["a b.CSV", "--label", "x"], "paretune tune 'a b.CSV' --label x"),
        (["study.yaml"], "study.yaml is a study file. Did you mean: paretune run study.yaml"),
        (["train"], "Did you mean: paretune tune DATA, or: paretune run STUDY"),
        (["train", "reviews.csv"], "Did you mean: paretune tune reviews.csv"),
        (["fit", "study.yaml"], "there is no command fit. Did you mean: paretune run study.yaml"),
        (["evaluate", "study.yaml"], "Did you mean: paretune report study.yaml"),
        (["chek", "study.yaml"], "No such command 'chek'. Did you mean 'check'?"),
    ],
)
def test_the_command_that_was_meant_is_named(
    capsys: Any, words: list[str], suggestion: str
) -> None:
    code, out, err = command(capsys, *words)
    assert (code, out) == (2, "")
    assert suggestion in err


def test_every_word_of_another_program_means_a_verb_and_is_none() -> None:
    assert {*SYNONYMS.values()} <= {*VERBS} and not {*SYNONYMS} & {*VERBS}


def test_a_panic_of_native_code_is_an_error_without_a_traceback(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oniguruma gives up on a pattern after ten million steps, and tokenizers panics."""
    panic = type("PanicException", (BaseException,), {})

    def stop(*_: object, **__: object) -> None:
        raise panic("Onig: Regex search error: retry-limit-in-match over")

    monkeypatch.setattr(cli, "app", stop)
    code, _, err = command(capsys, "ls")
    assert code == 4 and "Traceback" not in err
    assert "retry-limit-in-match over). tokenizer.json is damaged" in err


@pytest.fixture
def fake_results(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    results = StudyResults(study, Path("x"), fake.whole(study), [], [])
    for verb in ("recommend", "compare"):
        monkeypatch.setattr(f"paretune.verbs.{verb}.load_results", lambda *_: results)
    monkeypatch.setenv("COLUMNS", "300")
    return lambda *_: study


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-memory", "4Gi"], '--max-memory: invalid size "4Gi": expected e.g. 4GiB'),
        (["--max-memory", "4"], '"4" has no unit: expected e.g. 4GiB'),
        (["--max-time", "10"], '"10" has no unit: expected e.g. 90s'),
        (["--max-memory", "4,500MB"], "decimal comma or thousands?"),
        (["--max-time", "-3min"], 'invalid time "-3min"'),
        (["--within", "1%"], "expected e.g. 1pt"),
        (["--by", "joules"], "It has memory, time, step"),
        (["--task", "weather"], "It has topics, entailment."),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    fake_results: Any, capsys: Any, arguments: list[str], message: str
) -> None:
    code, out, err = command(capsys, "recommend", "s.yaml", *arguments)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("full", "lorra"), 'has no method "lorra". It has full, lora, loha, prompt, head_only'),
        (("full", "full"), '"full" cannot be compared with itself.'),
    ],
)
def test_compare_names_what_there_is(
    fake_results: Any, capsys: Any, pair: tuple[str, str], message: str
) -> None:
    code, _, err = command(capsys, "compare", "s.yaml", *pair)
    assert code == 2 and message in err


def test_the_same_in_python(fake_results: Any) -> None:
    recommendations = paretune.recommend("s.yaml", max_memory=2**32, within=100.0)
    assert [advice.task for advice in recommendations] == ["topics", "entailment"]
    (chances,) = recommendations[0].list_details("chances")
    assert "unlikely over 100 points below the best" in chances.text
    first, second = paretune.compare("s.yaml", "lora", "full")
    assert first.pair is not None and second.pair is not None
    assert (first.pair.a, first.pair.b) == ("lora", "full")


SCRIPT = Path(__file__).parents[2] / "dev" / "first_hour.py"


@pytest.mark.slow
def test_every_mistake_is_answered_as_listed() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    faults = [line for line in ended.stdout.splitlines() if "**" in line]
    assert (ended.returncode, faults) == (0, []), ended.stderr
    assert len(ended.stdout.splitlines()) > 90
