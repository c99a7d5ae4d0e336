"""BoolQ (Clark et al., 2019, arXiv 1905.10044): does the passage answer the question with yes?

Slovene: the human translation of 92/18/30 rows. The default gives (question, passage), so that a
cut, which takes from the longer text, shortens the passage and never the question.
"""

from __future__ import annotations

from paretune.objectives.prompt import Prompt
from paretune_slovene.superglue_release import superglue_task

PROMPTS = {
    "en": Prompt(template="{text_pair}\nQuestion: {text}?\nAnswer:", label_texts=("no", "yes")),
    # The questions of the Slovene release have their question mark.
    "sl": Prompt(template="{text_pair}\nVprašanje: {text}\nOdgovor:", label_texts=("Ne", "Da")),
}
"""English: lm-evaluation-harness, ``super_glue/boolq``. Slovene: ``sl_boolq`` of its Slovene
version (github.com/SloLama/slovenian-llm-eval)."""

TASK = superglue_task(
    "boolq",
    "BoolQ",
    title="BoolQ: yes or no, by the passage",
    labels=("false", "true"),
    columns=("question", "passage"),
    paper="passage : {passage} question : {question} ",
    prompts=PROMPTS,
    group="passage",
    aliases={"0": "false", "1": "true", "no": "false", "yes": "true"},
)
