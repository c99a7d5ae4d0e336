"""Code that predicts with an exported model as the run did, and how rows become its input.

The function is always called ``predict``; its argument depends on the objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from paretune.data.example import Dataset
from paretune.exporting import prompt_snippets
from paretune.objectives.encoding import marks_pairs
from paretune.objectives.readouts import for_readout
from paretune.objectives.readouts.label_words import count_trailing_tokens
from paretune.reporting.text.escape import markdown_code
from paretune.study import Generation, Run, TaskSpec
from paretune.training.prepare import PreparedModel

TOKENS = 'truncation=True, max_length={length}, padding=True, return_tensors="pt"'
BF16 = '@torch.autocast("cpu", dtype=torch.bfloat16)  # as it was scored\n'
EAGER = 'model.set_attn_implementation("eager")  # as it was scored\n\n\n'
LOGITS = """    with torch.inference_mode():
        logits = model(**inputs).logits
"""
ONE_TEXT = (
    '''def predict({rows}):
    """{title}"""
    inputs = tokenizer({texts}, {tokens})
'''
    + LOGITS
    + "    return {answer}"
)
PAIRS = (
    '''def predict(pairs):
    """{title}"""
    first, second = (list(texts) for texts in zip(*pairs))
    inputs = tokenizer(first, {second}, {tokens})
'''
    + LOGITS
    + "    return {answer}"
)
CHOICES = '''def predict(questions):
    """The number of the best choice, from 0, for each (text, choices)."""
    return [best(text, choices) for text, choices in questions]


def best(text, choices):
    inputs = tokenizer([text] * len(choices), {second}, {tokens})
    with torch.inference_mode():
'''
CHOICES_TOGETHER = """        together = {name: one[None] for name, one in inputs.items()}
        logits = model(**together).logits
    return logits[0].argmax().item()"""
CHOICES_AS_TEXTS = """        logits = model(**inputs).logits
    return logits[:, 0].argmax().item()"""
TRANSLATIONS = '''def predict(texts):
    """The translation of each text."""
    inputs = tokenizer({texts}, {tokens})
    with torch.inference_mode():
        tokens = model.generate(
            **inputs,
            {settings},
        )
    found = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(text.split()) for text in found]'''
SENTENCE = '''def sentence(row):
    """A row (values by column) as the text that was trained on; None or "" is a missing value."""
    given = {{name: written(row[name]) for name in {columns} if row.get(name) not in (None, "")}}
    return {sentence}


def written(value):
    """A whole number without decimals, true and false in small letters, all else as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


'''


@dataclass(frozen=True)
class UsageSnippet:
    """Code that defines ``predict``, its imports, and an argument to call it with."""

    imports: tuple[str, ...]
    code: str
    example: Sequence[Any]


def render_usage(run: Run, dataset: Dataset, prepared: PreparedModel) -> UsageSnippet:
    """``predict`` for an export.

    Args:
        prepared: the model as it was when the run was scored.
    """
    loaded = prepared.loaded
    if loaded.anatomy.topology.pooled_token == -1 and run.readout != "head":
        usage = _prompted_usage(run, dataset, prepared)
    else:
        tokens = TOKENS.format(length=prepared.max_length)
        usage = SNIPPETS[dataset.objective.usage](run, dataset, prepared, tokens)
    if run.training.precision != "bf16":
        return usage
    code = usage.code.replace("def predict(", f"{BF16}def predict(", 1)
    generates = for_readout(dataset.objective, run.readout, dataset.prompt).generates
    if generates and run.training.backend == "fast":
        code = EAGER + code
    return replace(usage, code=code)


def _prompted_usage(run: Run, dataset: Dataset, prepared: PreparedModel) -> UsageSnippet:
    """Of a decoder without a head: it is asked by the task's prompt."""
    tokenizer = prepared.loaded.tokenizer
    if run.readout == "label_words":
        tail = count_trailing_tokens(tokenizer)
        imports, code, example = prompt_snippets.render_label_words(dataset, tail)
    else:
        objective = for_readout(dataset.objective, run.readout, dataset.prompt)
        imports, code, example = prompt_snippets.render_generation(
            run, dataset, tuple(objective.stop), prepared.pad_id
        )
    return UsageSnippet(imports, code, example)


def _generation_usage(
    run: Run, dataset: Dataset, prepared: PreparedModel, tokens: str
) -> UsageSnippet:
    return UsageSnippet(("import torch",), _render_translation(run, prepared, tokens), ["A text."])


def _choices_usage(
    run: Run, dataset: Dataset, prepared: PreparedModel, tokens: str
) -> UsageSnippet:
    choices = [f"Choice {i}." for i in range(len(dataset.labels))]
    decoder = prepared.loaded.anatomy.topology.pooled_token == -1
    best = CHOICES_AS_TEXTS if decoder else CHOICES_TOGETHER
    form = CHOICES.format(second=_second_text(prepared, "choices"), tokens=tokens)
    return UsageSnippet(("import torch",), form + best, [("A text.", choices)])


def _texts_usage(run: Run, dataset: Dataset, prepared: PreparedModel, tokens: str) -> UsageSnippet:
    what, answer = dataset.objective.answer_noun, dataset.objective.answer_code
    if dataset.features:
        code = _render_row_sentence(run.task, dataset.features) + ONE_TEXT.format(
            rows="rows", title=f"The {what} for each row.", tokens=tokens, answer=answer,
            texts="[sentence(row) for row in rows]",
        )  # fmt: skip
        example = dict.fromkeys(dataset.features, "a value")
        imports = ("import re",) if "re.sub" in code else ()
        return UsageSnippet((*imports, "import torch"), code, [example])
    if _has_pairs(dataset):
        code = PAIRS.format(
            title=f"The {what} for each (first text, second text).", tokens=tokens, answer=answer,
            second=_second_text(prepared, "second"),
        )  # fmt: skip
        return UsageSnippet(("import torch",), code, [("A first text.", "A second text.")])
    code = ONE_TEXT.format(
        rows="texts", title=f"The {what} for each text.", tokens=tokens, answer=answer,
        texts="texts",
    )  # fmt: skip
    return UsageSnippet(("import torch",), code, ["A text."])


SNIPPETS = {"texts": _texts_usage, "choices": _choices_usage, "generation": _generation_usage}
"""By :attr:`paretune.objectives.Objective.usage`."""


def _second_text(prepared: PreparedModel, name: str) -> str:
    """Second texts as the tokenizer gets them: a line break before each where it marks none."""
    if marks_pairs(prepared.loaded.tokenizer):
        return name
    return f'["\\n" + text for text in {name}]'


def describe_encoding(run: Run, dataset: Dataset, prepared: PreparedModel) -> list[str]:
    """The card's paragraph on how a row becomes what ``predict`` takes, and what it returns."""
    limit = f"More than {prepared.max_length} tokens are cut"
    limit += ", from the longer text." if _has_pairs(dataset) else "."
    if run.readout != "head":
        limit = (
            f"While it was trained and scored, prompts of more than {prepared.max_length} tokens "
            "were cut at the beginning of a text; this code cuts nothing."
        )
    sentences = [*describe_texts(run.task, dataset), limit]
    if dataset.objective.scales_targets:
        sentences.append(
            f"The answer is {markdown_code(dataset.labels[0])} in its own unit: the number was "
            "learnt in standard deviations from the mean of train, and the head was scaled back."
        )
    elif run.readout != "head":
        if dataset.objective.predicts_labels and dataset.prompt and dataset.prompt.label_texts:
            pairs = zip(dataset.labels, dataset.prompt.label_texts, strict=True)
            texts = [f"{markdown_code(name)}: {markdown_code(text)}" for name, text in pairs]
            sentences.append(f"The labels and their texts: {', '.join(texts)}.")
    elif dataset.objective.predicts_labels and dataset.objective.problem_type is not None:
        names = [markdown_code(name) for name in dataset.labels[:20]]
        rest = len(dataset.labels) - len(names)
        sentences.append(
            f"The labels, in the order of the logits: {', '.join(names)}"
            + (f" and {rest} more" if rest else "")
            + "; `model.config.id2label` has their names."
        )
    return [" ".join(sentences)]


def describe_texts(spec: TaskSpec, dataset: Dataset) -> list[str]:
    """How texts are made: from columns of a user's own data, or by the template of a task."""
    if dataset.languages:
        source, target = map(markdown_code, dataset.languages)
        return [f"From {source} into {target}."]
    if dataset.features:
        return ["A row of the table becomes a sentence, as `sentence` does it."]
    if spec.has_own_data and spec.text is None:
        return ["The prompt is what the rows of the data have before their completion."]
    if spec.has_own_data:
        first = markdown_code(str(spec.text))
        if spec.choices:
            choices = ", ".join(map(markdown_code, spec.choices))
            return [f"The text is the column {first}; the choices are {choices}, in this order."]
        if spec.text_pair:
            second = markdown_code(spec.text_pair)
            return [f"The first text is the column {first}, the second is {second}."]
        return [f"The text is the column {first}, as it is."]
    from paretune import tasks

    task = tasks.get(spec.name)
    template = task.templates[spec.template]
    language = spec.language or task.languages[0]
    description = " ".join((template.__doc__ or "").split()).replace("``", "`")
    try:
        segments = template({name: f"{{{name}}}" for name in task.columns}, language)
    except (KeyError, ValueError, IndexError):  # an installed task that looks into its texts
        return [description]
    first, after = segments[0]
    if len(segments) > 1:
        options = ", ".join(markdown_code(str(choice)) for _, choice in segments)
        return [f"The text is {markdown_code(first)}, the choices are {options}. {description}"]
    if after is None:
        return [f"The text is {markdown_code(first)}. {description}"]
    second = f"the second is {markdown_code(after)}"
    return [f"The first text is {markdown_code(first)}, {second}. {description}"]


def _render_translation(run: Run, prepared: PreparedModel, tokens: str) -> str:
    """With the languages of the model (mBART's codes, T5's words), which are in no weights."""
    loaded = prepared.loaded
    direction = loaded.direction
    config = loaded.generation_config(run.generation or Generation())
    settings = {
        "num_beams": config.num_beams,
        "length_penalty": config.length_penalty,
        "max_new_tokens": config.max_length - 1,
        "do_sample": False,
    }
    set_language = ""
    if direction.forced_bos_token_id is not None:
        settings["forced_bos_token_id"] = direction.forced_bos_token_id
        set_language = f"tokenizer.src_lang = {loaded.tokenizer.src_lang!r}\n\n\n"
    prefix = direction.prefix
    # None means the library's default, which must not be passed.
    arguments = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
    code = TRANSLATIONS.format(
        texts=f"[{prefix!r} + text for text in texts]" if prefix else "texts",
        tokens=tokens,
        settings=",\n            ".join(arguments),
    )
    return set_language + code


def _render_row_sentence(spec: TaskSpec, columns: Sequence[str]) -> str:
    if spec.template == "pair":
        sentence = '" ".join(f"{name}: {text}." for name, text in given.items())'
    else:
        sentence = (
            're.sub(r"\\{([^{}]*)\\}", lambda found: given.get(found[1], "unknown"), '
            f"{spec.template!r})"
        )
    return SENTENCE.format(columns=tuple(columns), sentence=sentence)


def _has_pairs(dataset: Dataset) -> bool:
    examples = dataset.train or dataset.test
    return any(second is not None for _, second in examples[0].segments) if examples else False
