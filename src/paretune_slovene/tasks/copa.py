"""COPA (Roemmele et al., 2011): which of two sentences is the cause, or the effect, of the premise?

The row's ``question`` says ``cause`` or ``effect``; without it the task cannot be solved. The
default asks it in the task's language after the premise, as SuperGLUE's own baselines do in
English; the choice is the second text.
"""

from __future__ import annotations

from collections.abc import Mapping

from paretune.objectives.example import Segments
from paretune.objectives.prompt import Prompt
from paretune.tasks.readers import QUESTIONS
from paretune_slovene.superglue_release import superglue_task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """Premise and question, then one choice.

    ``cause`` is asked as "What was the cause of this?" ("Kaj je bil vzrok za to?"), ``effect`` as
    "What happened as a result?" ("Kaj se je zato zgodilo?"); another word is asked as it is.
    """
    question = QUESTIONS[language].get(row["question"], row["question"])
    first = f"{row['premise']} {question}"
    return (first, row["choice1"]), (first, row["choice2"])


def paper(row: Mapping[str, str], language: str) -> Segments:
    """The premise, then the bare word ``cause`` or ``effect`` with one choice."""
    choices = row["choice1"], row["choice2"]
    return tuple((row["premise"], f"{row['question']} {choice}") for choice in choices)


PROMPTS = {
    "en": Prompt(
        connectives=(
            (QUESTIONS["en"]["cause"], " because"),
            (QUESTIONS["en"]["effect"], " therefore"),
        )
    ),
    "sl": Prompt(
        connectives=((QUESTIONS["sl"]["cause"], ", ker"), (QUESTIONS["sl"]["effect"], ", zato"))
    ),
}
"""English: lm-evaluation-harness, ``super_glue/copa``, with one blank before the choice, not two.
Slovene: the same in translation, since github.com/SloLama/slobench_evaluation asks for a number."""

TASK = superglue_task(
    "copa",
    "COPA",
    title="COPA: the more plausible cause or effect",
    kind="multiple_choice",
    labels=("0", "1"),
    columns=("premise", "choice1", "choice2", "question"),
    templates={"pair": pair, "paper": paper},
    prompts=PROMPTS,
    group="premise",
)
