"""RTE (Dagan et al., 2005 and later): does the hypothesis follow from the premise?

Slovene: the human translation of 232/29/29 rows.
"""

from __future__ import annotations

from paretune.objectives.prompt import Prompt
from paretune_slovene.superglue_release import superglue_task

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
    paper="premise : {premise} hypothesis : {hypothesis} ",
    prompts=PROMPTS,
    group="premise",
)
