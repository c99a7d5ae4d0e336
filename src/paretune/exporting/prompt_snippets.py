"""Code on a card that asks a language model by the task's prompt: label words and texts."""

from __future__ import annotations

from typing import Any

from paretune.data.example import Dataset
from paretune.data.prompt import Prompt
from paretune.study import Generation, Run

_PROMPT = '''TEMPLATE = {template!r}


def prompt(text, text_pair=""):
    """What the model is asked."""
{connectives}    texts = {{"text": text, "text_pair": text_pair}}
    return re.sub(r"\\{{(text_pair|text)\\}}", lambda found: texts[found[1]], TEMPLATE)


'''
_CONNECTIVES = """    for question, conjunction in {connectives!r}:
        if text.endswith(question):
            text = text.removesuffix(question).strip()[:-1] + conjunction
            break
"""
_LIKELIHOOD = '''def log_likelihood(question, answer):
    """Of the answer's tokens behind the question, in nats{per}."""
    bare = question.rstrip()
    start = tokenizer(bare)["input_ids"]{cut}
    whole = tokenizer(bare + question[len(bare) :] + {delimiter!r} + answer)["input_ids"]{cut}
    scored = whole[len(start) :]
    with torch.inference_mode():
        logits = model(torch.tensor([start + scored])).logits[0].float()
    words = logits[-len(scored) - 1 : -1].log_softmax(-1)
    total = words.gather(1, torch.tensor(scored)[:, None]).sum().item()
    return total{divisor}


'''
_LABELS = '''ANSWERS = {answers!r}  # what is written for each label
LABELS = {labels!r}


def predict({rows}):
    """The label whose text is the most likely, for each {row}."""
    return [LABELS[best({call})] for {row_names} in {rows}]


def best(question):
    scores = [log_likelihood(question, answer) for answer in ANSWERS]
    return scores.index(max(scores))'''
_CHOICES = '''def predict(questions):
    """The number of the most likely choice, from 0, for each (text, choices)."""
    return [best(text, choices) for text, choices in questions]


def best(text, choices):
{small}    scores = [log_likelihood(prompt(text), choice) for choice in choices]
    return scores.index(max(scores))'''
_SMALL = """    if any(text.endswith(question) for question in {questions!r}):
        choices = [choice[:1].lower() + choice[1:] for choice in choices]
"""
_GENERATE = '''def predict({rows}):
    """What the model writes for each {row}."""
    return [write({call}) for {row_names} in {rows}]


def write(question):
    inputs = tokenizer(question, return_tensors="pt"{special})
    with torch.inference_mode():
        tokens = model.generate(
            **inputs,
            {settings},
        )
    text = tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
{stop}    return text.strip()'''
_STOP = """    for end in {stop!r}:
        place = text.find(end, len(text) - len(text.lstrip()))
        text = text if place < 0 else text[:place]
"""
_CHAT = """tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)"""


def render_label_words(dataset: Dataset, tail: int) -> tuple[tuple[str, ...], str, list[Any]]:
    """Imports, code, and an argument for ``predict``.

    Args:
        tail: special tokens that the tokenizer puts behind a text; the answer follows none.
    """
    prompt = dataset.prompt or Prompt()
    divisor = {
        "characters": " / len(answer)",
        "bytes": " / len(answer.encode())",
    }.get(prompt.length_normalisation, "")
    likelihood = _LIKELIHOOD.format(
        per=f", for each of its {prompt.length_normalisation}" if divisor else "",
        cut=f"[: -{tail}]" if tail else "",
        delimiter=prompt.delimiter,
        divisor=divisor,
    )
    start = _render_prompt(prompt) + likelihood
    if not prompt.label_texts:
        questions = [question for question, _ in prompt.connectives]
        small = _SMALL.format(questions=questions) if questions else ""
        example: list[Any] = [("A text.", [f"Choice {i}." for i in range(len(dataset.labels))])]
        return ("import re", "import torch"), start + _CHOICES.format(small=small), example
    form, example = _rows(prompt)
    code = start + _LABELS.format(
        answers=list(prompt.label_texts), labels=list(dataset.labels), **form
    )
    return ("import re", "import torch"), code, example


def render_generation(
    run: Run, dataset: Dataset, stop: tuple[str, ...], pad_id: int
) -> tuple[tuple[str, ...], str, list[Any]]:
    """Imports, code, and an argument for ``predict`` of a model that writes its answers."""
    prompt, generation = dataset.prompt or Prompt(), run.generation or Generation()
    settings = {
        "max_new_tokens": generation.max_new_tokens,
        "num_beams": generation.num_beams,
        "length_penalty": generation.length_penalty,
        "do_sample": False,
        "pad_token_id": pad_id,
    }
    # None means the library's default, which must not be passed.
    arguments = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
    chat = any(example.messages for example in (*dataset.train[:1], *dataset.test[:1]))
    form, example = _rows(prompt)
    if chat:
        form = {"rows": "chats", "row": "list of messages", "row_names": "messages", "call": _CHAT}
        example = [[{"role": "user", "content": "A question."}]]
    ends = list(dict.fromkeys((*stop, *generation.stop)))
    code = _GENERATE.format(
        settings=",\n            ".join(arguments),
        stop=_STOP.format(stop=ends) if ends else "",
        special=", add_special_tokens=False" if chat else "",
        **form,
    )
    imports = ("import torch",) if chat else ("import re", "import torch")
    return imports, ("" if chat else _render_prompt(prompt)) + code, example


def _render_prompt(prompt: Prompt) -> str:
    connectives = ""
    if prompt.connectives:
        connectives = _CONNECTIVES.format(connectives=[list(pair) for pair in prompt.connectives])
    return _PROMPT.format(template=prompt.template, connectives=connectives)


def _rows(prompt: Prompt) -> tuple[dict[str, str], list[Any]]:
    """How ``predict`` calls its argument and asks for one of its rows; and an example of it."""
    if prompt.names_pair:
        form = {"rows": "pairs", "row": "(first text, second text)", "row_names": "first, second"}
        return {**form, "call": "prompt(first, second)"}, [("A first text.", "A second text.")]
    form = {"rows": "texts", "row": "text", "row_names": "text"}
    return {**form, "call": "prompt(text)"}, ["A text."]
