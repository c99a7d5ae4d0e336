"""RTE (Dagan et al., 2005 and later): does the hypothesis follow from the premise?

Slovene: the human translation of 232/29/29 rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.prompt import Prompt
from paretune_slovene.superglue_release import superglue_task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The premise, then the hypothesis."""
    return ((row["premise"], row["hypothesis"]),)


def paper(row: Mapping[str, str], language: str) -> Segments:
    """One text, as the paper's notebooks built it."""
    return ((f"premise : {row['premise']} hypothesis : {row['hypothesis']} ", None),)


PROMPTS = {
    "en": Prompt(
        template="{text}\nQuestion: {text_pair} True or False?\nAnswer:",
        label_texts=("True", "False"),
    ),
    "sl": Prompt(
        template="Besedilo: {text}\nHipoteza: {text_pair} Drži ali ne drži?\nOdgovor:",
        label_texts=("Drži", "Ne drži"),
    ),
}
"""English: lm-evaluation-harness, ``super_glue/rte``. Slovene: ``RTEPromptCreator`` of
github.com/SloLama/slobench_evaluation, with the prefixes of its example; answers without their full
stops."""

TASK = superglue_task(
    "rte",
    "RTE",
    title="RTE: entailment or not",
    labels=("entailment", "not_entailment"),
    columns=("premise", "hypothesis"),
    templates={"pair": pair, "paper": paper},
    prompts=PROMPTS,
    group="premise",
)
