"""Label words: which tokens are scored, how long prompts are cut, and what is collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from paretune import objectives
from paretune.errors import StudyError
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.objective import LossOptions
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.objectives.readouts.label_words import LabelWordsCollector
from paretune.objectives.token_outputs import TokenStates

WORDS = "the cat sat on a mat and no yes maybe dog slept by door question answer"
PROMPT = Prompt(template="{text_pair}\nquestion {text}\nanswer:", label_texts=("no", "yes"))


def make_tokenizer(begin: str = "", end: str = "") -> PreTrainedTokenizerFast:
    """Byte-level pieces; perhaps with a token before or behind each text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([f" {WORDS}"] * 4, trainer)
    special = [(token, core.token_to_id(token)) for token in (begin, end) if token]
    if special:
        core.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}".strip(), special_tokens=special
        )
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **named)


def pair(question: str, passage: str, label: int = 0) -> Example:
    return Example("train:0", ((question, passage),), label, "line 1")


def encode(
    prompt: Prompt, examples: Sequence[Example], length: int = 100, tokenizer: Any = None
) -> Encoded:
    objective = for_readout(objectives.get("pair"), "label_words", prompt)
    return objective.encode(examples, tokenizer or make_tokenizer("<s>"), length, "")


def split(data: Encoded, tokenizer: Any, example: int = 0) -> list[tuple[str, str]]:
    """Prompt and scored text of each answer."""
    starts = data.completion_starts or []
    return [
        (tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:]))
        for ids, start in zip(data.ids[example], starts[example], strict=True)
    ]


def test_the_scored_tokens_are_those_behind_as_many_as_the_prompt_has() -> None:
    """As ``TemplateLM._encode_pair`` of lm-evaluation-harness, with blanks of the prompt moved."""
    tokenizer = make_tokenizer("<s>")
    prompt = Prompt(template="{text} answer: ", label_texts=("not yet", "yes"), delimiter="")
    data = encode(prompt, [Example("train:0", (("the cat", None),), 0, "")], 100, tokenizer)
    assert split(data, tokenizer) == [
        ("<s>the cat answer:", " not yet"),
        ("<s>the cat answer:", " yes"),
    ]
    alone = tokenizer("the cat answer:")["input_ids"]
    whole = tokenizer("the cat answer: not yet")["input_ids"]
    assert data.ids[0][0] == alone + whole[len(alone) :]


def test_answers_of_one_token_share_a_text() -> None:
    tokenizer = make_tokenizer()
    yes, no = (tokenizer(f" {word}")["input_ids"] for word in ("yes", "no"))
    assert len(yes) == len(no) == 1
    data = encode(PROMPT, [pair("the dog", "a mat")], tokenizer=tokenizer)
    assert data.alternatives == [[*no, *yes]]
    assert len(data.ids[0]) == 1


def test_answers_of_several_tokens_have_a_text_each() -> None:
    data = encode(Prompt(template="{text}", label_texts=("no", "not yet")), [pair("the", "a")])
    assert data.alternatives is None
    assert len(data.ids[0]) == 2


def test_training_reads_the_right_answer_alone() -> None:
    objective = for_readout(objectives.get("pair"), "label_words", PROMPT)
    tokenizer = make_tokenizer("<s>")
    examples = [pair("the dog", "a mat", label=1), pair("the cat", "a door", label=0)]
    data = objective.encoder("train")(examples, tokenizer, 100, "")
    assert [split(data, tokenizer, i)[0][1] for i in (0, 1)] == [" yes", " no"]
    assert objective.weight(data, [0, 1]) == 2


@pytest.mark.parametrize("length", [16, 18, 20])
def test_the_longest_text_loses_its_beginning_and_all_else_stays(length: int) -> None:
    tokenizer = make_tokenizer("<s>")
    passage = "the cat sat on a mat and the dog slept by the door"
    data = encode(PROMPT, [pair("the dog", passage)], length, tokenizer)
    prompt, answer = split(data, tokenizer)[0]
    assert data.truncated == [True] and data.lengths[0] <= length
    kept, rest = prompt.removeprefix("<s>").split("\n", 1)
    assert rest == "question the dog\nanswer:" and answer == " no"
    assert passage.endswith(kept)
    assert not kept or passage[-len(kept) - 1] == " "  # whole words


def test_a_text_without_blanks_is_cut_inside() -> None:
    tokenizer = make_tokenizer("<s>")
    data = encode(PROMPT, [pair("the dog", "x" * 80)], 40, tokenizer)
    assert "xxxx\nquestion the dog" in split(data, tokenizer)[0][0]
    assert data.lengths[0] == 40


@pytest.mark.parametrize("length", [2, 5, 8])
def test_the_answer_stays_where_nothing_else_has_room(length: int) -> None:
    tokenizer = make_tokenizer("<s>")
    data = encode(PROMPT, [pair("the dog", "a mat")], length, tokenizer)
    assert data.lengths[0] <= length
    assert split(data, tokenizer)[0][1] == " no"


def test_tokens_that_the_tokenizer_puts_behind_a_text_are_left_out() -> None:
    with_end, without = make_tokenizer("<s>", "</s>"), make_tokenizer("<s>")
    one, other = (encode(PROMPT, [pair("the dog", "a mat")], 100, t) for t in (with_end, without))
    assert one.ids == other.ids


def test_an_empty_prompt_is_scored_behind_the_first_token_of_all_texts() -> None:
    tokenizer = make_tokenizer()
    choices = Example("train:0", (("", "the cat"), ("", "a dog")), 0, "")
    objective = for_readout(objectives.get("multiple_choice"), "label_words", Prompt(delimiter=""))
    data = objective.encode([choices], tokenizer, 50, "")
    assert split(data, tokenizer) == [("<s>", "the cat"), ("<s>", "a dog")]


def test_solved_examples_are_left_out_from_the_first_until_the_question_fits() -> None:
    tokenizer = make_tokenizer("<s>")
    solved = [pair(f"the {word}", "a mat", label=1) for word in ("cat", "dog", "door")]
    examples = [pair("the cat", "a mat")]
    alone = encode(PROMPT, examples, 100, tokenizer).lengths[0]
    every = encode(PROMPT.with_shots(solved), examples, 100, tokenizer)
    limited = encode(PROMPT.with_shots(solved, every.lengths[0] - 1), examples, 100, tokenizer)
    assert split(every, tokenizer)[0][0].startswith("<s>a mat\nquestion the cat\nanswer: yes\n\n")
    assert split(limited, tokenizer)[0][0].startswith("<s>a mat\nquestion the dog\nanswer: yes\n\n")
    none = encode(PROMPT.with_shots(solved, alone), examples, 100, tokenizer)
    assert none.ids == encode(PROMPT, examples, 100, tokenizer).ids
    assert (every.truncated, limited.truncated, none.truncated) == ([False], [True], [True])


def test_lengths_count_the_longest_text_before_any_cut() -> None:
    objective = for_readout(objectives.get("pair"), "label_words", PROMPT)
    tokenizer = make_tokenizer("<s>")
    examples = [pair("the dog", "the cat sat " * 9), pair("the", "a")]
    counted = objective.text_lengths(examples, tokenizer, "")["rows"]
    assert counted == encode(PROMPT, examples, 1000, tokenizer).lengths


def outputs_for(data: Encoded, texts: list[tuple[int, int]], states: torch.Tensor) -> TokenStates:
    """Random hidden states for the scored tokens of some texts, by their place in all."""
    starts = data.completion_starts or []
    tokens = [data.ids[i][c][starts[i][c] :] for i, c in texts]
    places = [
        (i * 7 + c * 3 + t) % 50
        for (i, c), own in zip(texts, tokens, strict=True)
        for t in range(len(own))
    ]
    weight = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([token for own in tokens for token in own])
    return TokenStates(states[places], weight, None, labels, texts)


@pytest.mark.parametrize("answers", [("no", "yes"), ("not yet", "yes")], ids=["shared", "apart"])
@pytest.mark.parametrize("normalisation", ["none", "characters", "bytes"])
def test_scores_are_the_summed_log_probabilities_of_the_answers_tokens(
    answers: tuple[str, str], normalisation: Any
) -> None:
    prompt = Prompt(template="{text}", label_texts=answers, length_normalisation=normalisation)
    tokenizer = make_tokenizer()
    data = encode(prompt, [pair("the dog", "a"), pair("the cat", "b")], tokenizer=tokenizer)
    states = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    texts = [(i, c) for i in (1, 0) for c in reversed(range(len(data.ids[0])))]
    collector = LabelWordsCollector(data)
    outputs = outputs_for(data, texts, states)
    collector.add([1, 0], outputs)
    scores = collector.result()
    assert scores.shape == (2, 2) and scores.dtype == np.float32
    log_p = torch.log_softmax(states @ outputs.weight.T, -1)
    for i in (0, 1):
        for a, answer in enumerate(answers):
            tokens = tokenizer(f" {answer}")["input_ids"]
            choice = 0 if data.alternatives else a
            places = [(i * 7 + choice * 3 + t) % 50 for t in range(len(tokens))]
            expected = sum(float(log_p[p, token]) for p, token in zip(places, tokens, strict=True))
            divisor = 1 if normalisation == "none" else len(answer)
            assert scores[i, a] == pytest.approx(expected / divisor, rel=1e-5)


def test_the_loss_is_that_of_the_right_answers_tokens() -> None:
    objective = for_readout(objectives.get("pair"), "label_words", PROMPT)
    data = objective.encoder("train")([pair("the dog", "a", 1)], make_tokenizer(), 50, "")
    states = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    outputs = outputs_for(data, [(0, 0)], states)
    loss = objective.loss(outputs, data, [0], LossOptions())
    expected = torch.nn.functional.cross_entropy(
        states[:1] @ outputs.weight.T, outputs.labels, reduction="sum"
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("kind", ["regression", "translation"])
def test_kinds_without_labels_have_no_label_words(kind: str) -> None:
    with pytest.raises(StudyError, match="readout label_words does not serve"):
        for_readout(objectives.get(kind), "label_words", Prompt())


def test_the_head_is_the_objective_itself() -> None:
    objective = objectives.get("pair")
    assert for_readout(objective, "head", None) is objective
