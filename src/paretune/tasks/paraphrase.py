"""Sample task: do two sentences say the same? Written for paretune, CC0."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.prompt import Prompt
from paretune.data.sources import samples
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """Both sentences in the order of the file."""
    return ((row["sentence1"], row["sentence2"]),)


PROMPTS = {
    "en": Prompt(
        template="Sentence 1: {text}\nSentence 2: {text_pair}\n"
        "Question: Do both sentences mean the same thing?\nAnswer:",
        label_texts=("no", "yes"),
    ),
    "sl": Prompt(
        template="Poved 1: {text}\nPoved 2: {text_pair}\n"
        "Vprašanje: Ali obe povedi pomenita isto?\nOdgovor:",
        label_texts=("Ne", "Da"),
    ),
}
"""English: lm-evaluation-harness, ``glue/mrpc``; Slovene: the same in translation."""

TASK = Task(
    name="paraphrase",
    title="sample: do two sentences say the same?",
    kind="pair",
    labels=("different", "same"),
    columns=("sentence1", "sentence2"),
    metric="accuracy",
    languages=samples.LANGUAGES,
    licence=samples.LICENCE,
    source=samples.SOURCE,
    templates={"pair": pair},
    prompts=PROMPTS,
    read_rows=samples.sample_reader("paraphrase", "tsv"),
)
