"""What a language model is told of an example, by the task and by the study."""

from __future__ import annotations

from typing import Any

import pytest

from paretune import tasks
from paretune.data.prompt import choose_prompt
from paretune.errors import StudyError
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.study import TaskSpec


def example(*segments: tuple[str, str | None], label: int = 0) -> Example:
    return Example("train:0", segments, label, "line 1")


def spec(**keys: Any) -> TaskSpec:
    own = {"train": "a.csv", "kind": "classification", "text": "text", "label": "label"}
    return TaskSpec.model_validate({"name": "own", **own, **keys})


def test_texts_are_put_in_place_and_nothing_in_them_is_read_as_a_place() -> None:
    prompt = Prompt(template="{text_pair}\nQ: {text}? {text}", label_texts=("no", "yes"))
    rendered = prompt.render("is {text_pair}", "a {text}")
    assert rendered == "a {text}\nQ: is {text_pair}? is {text_pair}"
    assert prompt.answers(example(("a", "b"))) == ["no", "yes"]


def test_choices_are_their_own_answers() -> None:
    assert Prompt().answers(example(("a", "One."), ("a", "Two."))) == ["One.", "Two."]


@pytest.mark.parametrize(
    ("language", "text", "prompt"),
    [
        ("en", "The sun rose. What was the cause of this?", "The sun rose because"),
        ("en", "The sun rose. What happened as a result?", "The sun rose therefore"),
        ("sl", "Sonce je vzšlo. Kaj je bil vzrok za to?", "Sonce je vzšlo, ker"),
        ("sl", "Sonce je vzšlo. Kaj se je zato zgodilo?", "Sonce je vzšlo, zato"),
    ],
)
def test_copa_is_asked_as_the_harness_asks_it(language: str, text: str, prompt: str) -> None:
    own = tasks.get("copa").prompts[language]
    assert own.render(text, None) == prompt
    assert own.answers(example((text, "It was day."), (text, "I slept."))) == [
        "it was day.",
        "i slept.",
    ]


def test_every_task_with_labels_has_a_prompt_in_each_of_its_languages() -> None:
    for name, task in tasks.available().items():
        if task.kind in ("translation", "token_classification", "multilabel", "preference"):
            continue
        assert set(task.prompts) == set(task.languages), name
        for prompt in task.prompts.values():
            expected = 0 if task.kind == "multiple_choice" else len(task.labels)
            assert len(prompt.label_texts) == expected
            assert len(set(prompt.label_texts)) == expected


@pytest.mark.parametrize(
    ("segments", "language", "template"),
    [
        ([("a", None)], "sl", "{text}\nOdgovor:"),
        ([("a", "b")], None, "{text}\n{text_pair}\nAnswer:"),
        ([("a", "b"), ("a", "c")], "sl", "{text}"),
    ],
)
def test_own_data_are_asked_plainly(
    segments: list[tuple[str, str | None]], language: str | None, template: str
) -> None:
    prompt = choose_prompt(spec(), None, [example(*segments)], ["spam", "ham"], language)
    assert prompt.template == template
    assert prompt.label_texts == (() if len(segments) > 1 else ("spam", "ham"))


def test_a_study_says_it_otherwise() -> None:
    keys = {"prompt": "{text} ->", "label_texts": ["no", "yes"], "length_normalisation": "bytes"}
    own = Prompt(template="old {text}", label_texts=("a", "b"), connectives=(("?", " so"),))
    prompt = choose_prompt(spec(**keys), own, [example(("a?", None))], ["0", "1"], None)
    assert (prompt.template, prompt.label_texts) == ("{text} ->", ("no", "yes"))
    assert prompt.connectives == ()
    assert prompt.divisors(["č", "yes"]) == [2.0, 3.0]


@pytest.mark.parametrize(
    ("keys", "segments", "labels", "message"),
    [
        ({"prompt": "{text} {text_pair}"}, [("a", None)], ["x", "y"], "have one text"),
        ({"prompt": "{text} {text_pair}"}, [("a", "b"), ("a", "c")], ["0", "1"], "is the choice"),
        ({"label_texts": ["a", "b", "c"]}, [("a", None)], ["x", "y"], "3 label_texts for 2 labels"),
        ({"label_texts": ["a", "b"]}, [("a", "b"), ("a", "c")], ["0", "1"], "go with labels"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(
    keys: dict[str, Any], segments: list[tuple[str, str | None]], labels: list[str], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        choose_prompt(spec(**keys), None, [example(*segments)], labels, None)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prompt": "Say {passage}"}, "passage"),
        ({"prompt": "Say it"}, "does not hold"),
        ({"label_texts": ["a", "a"]}, "same text"),
        ({"label_texts": ["a", " "]}, "text 2 is empty"),
        ({"length_normalisation": "words"}, "bytes"),
        ({"readout": "logits"}, "label_words"),
    ],
)
def test_keys_are_checked_before_data_are_read(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**keys)


def test_solved_examples_stand_before_with_an_empty_line_between() -> None:
    prompt = Prompt(template="Q: {text}\nA:", label_texts=("no", "yes"))
    solved = [example(("one", None), label=1), example(("two", None), label=0)]
    assert prompt.with_shots(solved).join_shots() == "Q: one\nA: yes\n\nQ: two\nA: no\n\n"
