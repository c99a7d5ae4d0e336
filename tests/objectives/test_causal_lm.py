"""Completions as token ids: where they start, what is cut, and what cannot be encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from paretune import objectives
from paretune.errors import DataError, ModelError
from paretune.objectives.completions import PromptedText, encode_completions
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.testing.tiny_models import tiny_model

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)

INSTRUCTION = for_readout(objectives.get("instruction"), "text", Prompt(delimiter=""))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """A Llama's: it begins each text with a token, and has no padding token."""
    return AutoTokenizer.from_pretrained(tiny_model("llama", tmp_path))


def example(prompt: str, completion: str, *messages: tuple[str, str]) -> Example:
    return Example(
        "train:0", ((prompt, None),), None, "line 1", None, (), None, completion, messages
    )


def test_a_completion_ends_with_the_end_of_text_and_the_prompt_begins_as_the_model_wants(
    tokenizer: Any,
) -> None:
    data = INSTRUCTION.encode([example("The cat sat", " on the mat")], tokenizer, 64, "")
    ((ids,),), ((start,),) = data.ids, data.completion_starts or []
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert ids[:start] == tokenizer("The cat sat")["input_ids"]
    assert tokenizer.decode(ids[start:-1]) == " on the mat"
    assert data.lengths == [len(ids)] and data.truncated == [False]
    assert INSTRUCTION.text_lengths([example("The cat sat", " on the mat")], tokenizer, "") == {
        "rows": [len(ids)]
    }


def test_too_long_a_prompt_loses_its_beginning_and_the_completion_its_end(tokenizer: Any) -> None:
    words = "The cat sat on the mat and the dog slept by the door"
    short, long = example(words, " the cat"), example(words, f" {words}")
    whole = INSTRUCTION.encode([short], tokenizer, 1000, "")
    ids, start = whole.ids[0][0], (whole.completion_starts or [[0]])[0][0]
    # The completion fits beside half of the places and more: it stays whole.
    cut = INSTRUCTION.encode([short], tokenizer, len(ids) - 2, "")
    assert cut.ids[0][0] == ids[:1] + ids[3:] and cut.truncated == [True]
    assert cut.completion_starts == [[start - 2]]
    # It does not: the prompt keeps half of the places, its first token and its end.
    cut = INSTRUCTION.encode([long], tokenizer, 12, "")
    ids = INSTRUCTION.encode([long], tokenizer, 1000, "").ids[0][0]
    assert cut.ids[0][0] == [*ids[:1], *ids[start - 5 : start], *ids[start : start + 6]]
    assert cut.completion_starts == [[6]]


def test_something_stands_before_every_completion(tokenizer: Any) -> None:
    tokenizer.bos_token = None
    text = PromptedText("", "water", special_tokens=False)
    data = encode_completions([text], [None], tokenizer, 16)
    assert data.ids[0][0][0] == tokenizer.eos_token_id and data.completion_starts == [[1]]


def test_conversations_are_written_by_the_chat_template(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    question = example("Is it true?", "yes", ("user", "Is it true?"))
    data = INSTRUCTION.encode([question], tokenizer, 64, "")
    ((ids,),), ((start,),) = data.ids, data.completion_starts or []
    whole = "[user] Is it true?\n[assistant] yes\n"
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids[start:]).strip() == "yes"


def test_what_cannot_be_written_is_refused_with_what_to_do(tokenizer: Any) -> None:
    question = example("Is it true?", "yes", ("user", "Is it true?"))
    with pytest.raises(ModelError, match="no chat template") as error:
        INSTRUCTION.encode([question], tokenizer, 64, "")
    assert "-Instruct" in error.value.remedy
    tokenizer.chat_template = TEMPLATE
    with pytest.raises(DataError, match=r"line 1: .*\(no system\)"):
        INSTRUCTION.encode([example("", "yes", ("system", "Be brief."))], tokenizer, 64, "")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        INSTRUCTION.encode([example("a", "b")], tokenizer, 64, "")


def test_every_answer_of_a_conversation_is_learnt_if_asked(tokenizer: Any) -> None:
    """What a user says between two answers is read and not learnt; cuts keep the places."""
    tokenizer.chat_template = TEMPLATE
    learns_all = for_readout(
        objectives.get("instruction"), "text", Prompt(delimiter="", learns_every_answer=True)
    )
    turns = [("user", "Is it true?"), ("assistant", "yes"), ("user", "The cat?")]
    conversation = example("", "no", *turns)
    whole = "[user] Is it true?\n[assistant] yes\n[user] The cat?\n[assistant] no\n"
    expected = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    spans = [(whole.index(a), whole.index(a) + len(a)) for a in ("yes\n", "no\n")]
    scored = [
        place
        for place, (start, end) in enumerate(expected["offset_mapping"])
        if any(start < last and end > first for first, last in spans)
    ]
    data = learns_all.encoder("train")([conversation], tokenizer, 64, "")
    assert data.ids[0][0] == expected["input_ids"]
    assert data.scored_places((0, 0)) == scored
    assert data.scored_length((0, 0)) == len(scored) == learns_all.weight(data, [0])
    last = learns_all.encoder("test")([conversation], tokenizer, 64, "")  # what is generated
    assert last.unscored is None and last.scored_places((0, 0))[-1] == scored[-1]
    assert last.scored_length((0, 0)) < len(scored)
    cut = learns_all.encoder("train")([conversation], tokenizer, len(expected["input_ids"]) - 2, "")
    assert cut.truncated == [True]
    left = [cut.ids[0][0][place] for place in cut.scored_places((0, 0))]
    assert left == [expected["input_ids"][place] for place in scored][: len(left)]
    assert 0 < len(left) < len(scored)  # the end is what is cut
    tokenizer.chat_template = TEMPLATE.replace("m['content']", "m['content'][0 - messages|length:]")
    with pytest.raises(DataError, match="writes an earlier answer of this conversation otherwise"):
        learns_all.encoder("train")([conversation], tokenizer, 64, "")
