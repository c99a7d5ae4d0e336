"""Labels, choices and translations as generated texts: what is learnt, and how a text is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from paretune import metrics, objectives
from paretune.errors import StudyError
from paretune.metrics.classification import NO_LABEL
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.objectives.readouts.text import find_answer
from paretune.testing.tiny_models import tiny_model

PROMPT = Prompt(template="{text}\nIs it true?", label_texts=("no", "yes"))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model("llama", tmp_path))


def example(text: str, label: int | None = 1, **values: Any) -> Example:
    return Example("train:0", ((text, None),), label, "line 1", **values)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Da.", 0),
        ("  ne", 1),
        ("Odgovor je: NE!", 1),
        ("Ne drži, kajti drži nasprotno", 2),
        ("drži", 3),
        ("Nedrži", NO_LABEL),  # inside another word
        ("", NO_LABEL),
        ("Morda", NO_LABEL),
    ],
)
def test_the_first_and_longest_answer_is_read(text: str, index: int) -> None:
    assert find_answer(text, ["Da.", "Ne.", "Ne drži", "Drži"]) == index


def test_answers_without_words_are_found_as_they_are() -> None:
    assert find_answer("it is :)", [":(", ":)"]) == 1
    assert find_answer("The  cat sat", ["the dog", "The cat"]) == 1


def test_the_right_answer_is_learnt_behind_the_prompt(tokenizer: Any) -> None:
    objective = for_readout(objectives.get("classification"), "text", PROMPT)
    data = objective.encode([example("Water turns into ice.")], tokenizer, 64, "")
    ((ids,),), ((start,),) = data.ids, data.completion_starts or []
    assert tokenizer.decode(ids[:start], skip_special_tokens=True) == (
        "Water turns into ice.\nIs it true?"
    )
    assert tokenizer.decode(ids[start:]).strip() == f"yes{tokenizer.eos_token}"
    assert objective.generates and objective.head == "causal_lm" and not objective.draws_head
    assert objective.weight(data, [0]) == len(ids) - start


def test_generated_texts_become_labels_and_those_without_one_are_counted() -> None:
    objective = for_readout(objectives.get("classification"), "text", PROMPT)
    rows = [example("a", 1), example("b", 0), example("c", 1), example("d", 0)]
    predictions = objective.predict(["Yes", "no.", "perhaps", "Yes, it is"], rows, None)
    assert predictions.prediction == [1, 0, NO_LABEL, 1]
    scores = objective.score(predictions, rows, metrics.get("accuracy"))
    assert scores["accuracy"] == 0.5 and scores["no_label"] == 0.25


def test_choices_are_read_by_their_own_texts() -> None:
    objective = for_readout(objectives.get("multiple_choice"), "text", Prompt())
    row = Example(
        "t:0", (("It rained, so", "the street was wet."), ("It rained, so", "we ate.")), 0, "line 1"
    )
    assert objective.predict(["We ate", "The street was wet"], [row, row], None).prediction == [
        1,
        0,
    ]


def test_translations_and_solved_examples(tokenizer: Any) -> None:
    objective = objectives.get("translation")
    prompt = Prompt(template="English phrase: {text}\nSlovene phrase:")
    row = example("the cat", None, target="mačka")
    zero = for_readout(objective, "text", prompt).encode([row], tokenizer, 64, "")
    whole = tokenizer.decode(zero.ids[0][0], skip_special_tokens=True)
    assert whole == "English phrase: the cat\nSlovene phrase: mačka"
    solved = replace(prompt, shots=(whole, whole), max_shot_tokens=1000)
    few = for_readout(objective, "text", solved).encode([row], tokenizer, 64, "")
    assert tokenizer.decode(few.ids[0][0], skip_special_tokens=True) == "\n\n".join([whole] * 3)
    fits_one = replace(solved, max_shot_tokens=len(zero.ids[0][0]) * 2 + 4)
    fewer = for_readout(objective, "text", fits_one).encode([row], tokenizer, 64, "")
    assert tokenizer.decode(fewer.ids[0][0], skip_special_tokens=True) == "\n\n".join([whole] * 2)
    chat = example("Hi", None, target="Hello", messages=(("user", "Hi"),))
    with pytest.raises(StudyError, match="cannot stand before a conversation"):
        for_readout(objectives.get("instruction"), "text", solved).encode([chat], tokenizer, 64, "")


def test_numbers_are_no_texts() -> None:
    with pytest.raises(StudyError, match="readout text does not serve"):
        for_readout(objectives.get("regression"), "text", Prompt())
