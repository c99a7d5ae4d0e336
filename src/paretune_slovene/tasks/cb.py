"""CommitmentBank (de Marneffe et al., 2019): does the speaker of the premise hold the hypothesis?

Three labels, one of them (neutral) rare: 16 of 250 train rows. The metric is SuperGLUE's, the mean
of accuracy and macro F1.
"""

from __future__ import annotations

from paretune.objectives.prompt import Prompt
from paretune_slovene.superglue_release import superglue_task

PROMPTS = {
    "en": Prompt(
        template="{text}\nQuestion: {text_pair}. True, False, or Neither?\nAnswer:",
        label_texts=("True", "False", "Neither"),
    ),
    "sl": Prompt(
        template="Besedilo: {text}\nHipoteza: {text_pair}. Drži ali ne drži?\nOdgovor:",
        label_texts=("Drži", "Ne drži", "Ne vemo"),
    ),
}
"""English: lm-evaluation-harness, ``super_glue/cb``. Slovene: ``CBPromptCreator`` of
github.com/SloLama/slobench_evaluation, with the prefixes of its example; answers without their full
stops."""

TASK = superglue_task(
    "cb",
    "CB",
    title="CommitmentBank: entailment, contradiction or neutral",
    labels=("entailment", "contradiction", "neutral"),
    columns=("premise", "hypothesis"),
    metric="accuracy_f1",
    paper="{premise} {hypothesis}",
    prompts=PROMPTS,
    group="premise",
)
