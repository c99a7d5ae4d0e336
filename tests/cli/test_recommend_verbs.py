"""``recommend`` and ``compare`` as a user meets them, on made-up records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake

import paretune
from paretune.cli import main
from paretune.verbs.report import StudyResults


def command(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors; torch stays out of it, as of these verbs."""
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in arguments])
    output = capsys.readouterr()
    return int(end.value.code or 0), output.out, output.err


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
        (["--by", "joules"], "There is memory, time, step"),
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
    assert "0 % likely over 100 points below the best" in recommendations[0].reasons[2]
    first, second = paretune.compare("s.yaml", "lora", "full")
    assert first.pair is not None and second.pair is not None
    assert (first.pair.a, first.pair.b) == ("lora", "full")
