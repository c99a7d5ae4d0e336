"""A first word that is no command is answered with the command that was meant; help is grouped."""

from __future__ import annotations

from typing import Any

import pytest
from support.tiny_study import command

from paretune import cli
from paretune.cli import SECTIONS, SYNONYMS, VERBS


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


def test_help_lists_verbs_by_what_they_are_for_and_cuts_no_sentence(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command(capsys, "--help")
    titles = [line[:-1] for line in out.splitlines() if line.endswith(":")]
    assert titles == ["Options", *SECTIONS, "More"]
    assert "...\n" not in out.partition("Start here")[2]
    for verbs in SECTIONS.values():
        for verb in verbs:
            (line,) = [line for line in out.splitlines() if line.startswith(f"  {verb}  ")]
            assert line.endswith(".")  # one sentence, on one line


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
