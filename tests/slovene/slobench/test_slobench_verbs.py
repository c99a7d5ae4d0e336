"""``slobench check`` and ``slobench score`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import command

from paretune_slovene.slobench import superglue_zip, translation_submission
from paretune_slovene.slobench.official_scores import LABELS, Answers


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    answers: dict[str, Answers] = {task: {0: labels[0]} for task, labels in LABELS.items()}
    answers["MultiRC"] = {(0, 0, 0): 1}
    return superglue_zip.write_answers(tmp_path / "submission.zip", answers)


def test_check_ends_in_3_and_names_the_faults(
    capsys: Any, submission: Path, tmp_path: Path
) -> None:
    wrong = translation_submission.write_translations(tmp_path / "wrong.zip", ["a", "b"])
    code, out, err = command(capsys, "slobench", "check", wrong, "--release", submission)
    assert (code, err) == (3, "")
    assert "error: wrong.zip: holds no BoolQ.jsonl at its root." in out
    assert "6 errors, 1 warning." in out and "Ready" not in out


def test_score_shows_every_number_and_says_what_is_missing(capsys: Any, tmp_path: Path) -> None:
    path = translation_submission.write_translations(
        tmp_path / "t.zip", ["Ena sama vrstica", "In še ena."]
    )
    arguments = ("slobench", "score", path, "--reference", path)
    code, out, _ = command(capsys, *arguments)
    assert code == 0
    assert "CHRF (avg)        1.0000 [1.0000, 1.0000]  2 examples" in out
    assert "BERT score        not computed: it needs a model. Name one: --bert-model MODEL." in out
    assert "BLEU              100.00 [" in out
    assert "2 examples  nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in out
    code, out, _ = command(capsys, *arguments, "--json")
    result = json.loads(out)
    assert code == 0 and result["kind"] == "translation"
    names = {"BLEU (avg)", "BLEU (corpus)", "METEOR (avg)", "CHRF (avg)", "CHRF (corpus)"}
    assert set(result["scores"]) | set(result["missing"]) == {*names, "BERT score"}
    assert set(result["intervals"]) == set(result["scores"])
    assert result["intervals"]["CHRF (avg)"]["n_examples"] == 2


def test_bert_score_is_of_a_model_that_the_user_names(
    capsys: Any, tmp_path: Path, tiny_model: Any
) -> None:
    path = translation_submission.write_translations(tmp_path / "t.zip", ["the cat sat", "a dog"])
    arguments = ("slobench", "score", path, "--reference", path, "--bert-model")
    code, out, _ = command(capsys, *arguments, tiny_model("bert"))
    assert code == 0
    assert "BERT score        1.0000 [" in out and ", layer 2, no idf, not rescaled" in out
    code, _, err = command(capsys, *arguments, tiny_model("bert"), "--bert-layer", "9")
    assert code == 4 and "has no layer 9" in err
    code, _, err = command(capsys, *arguments, tmp_path / "no-model")
    assert code == 4 and "no such folder" in err


def test_what_only_translations_are_scored_with_is_refused_for_superglue(
    capsys: Any, submission: Path
) -> None:
    for option in (("--language", "en"), ("--wordnet", "x"), ("--bert-model", "y")):
        words = ("slobench", "score", submission, "--reference", submission, *option)
        code, out, err = command(capsys, *words)
        assert (code, out) == (2, "") and "--language, --wordnet and --bert-model" in err
