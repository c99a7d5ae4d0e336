"""Readouts: how a model's answer to a labelled example is read. One task serves them all.

``head``: logits of a head that is trained with every method; the objective as it is.
``label_words``: the log-likelihood of each answer's text behind a prompt; trained on the right one.
``text``: what the model writes behind the prompt.
``reward``: of preferences, how much likelier training made each answer; ``likelihood``: how likely
it is (:mod:`~paretune.objectives.readouts.rewards`).

A readout makes of an objective another one that trains and predicts differently; metrics, scores
and likelihoods stay those of the kind of task.
"""

from __future__ import annotations

from collections.abc import Callable

from paretune.answers import Readout
from paretune.errors import StudyError
from paretune.objectives.objective import Objective
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import label_words, rewards, text

_MAKE: dict[Readout, Callable[[Objective, Prompt], Objective]] = {
    "label_words": label_words.read_label_words,
    "text": text.read_text,
    "reward": rewards.read_rewards,
    "likelihood": rewards.read_likelihoods,
}


def for_readout(objective: Objective, readout: Readout, prompt: Prompt | None) -> Objective:
    """The objective as this readout trains and predicts it.

    Raises:
        StudyError: such tasks cannot be answered that way.
    """
    if readout == "head":
        return objective
    if prompt is None or readout not in objective.readouts:
        can = ", ".join(("head", *objective.readouts))
        task = objective.name.replace("_", " ")
        raise StudyError(
            f"readout {readout} does not serve a {task} task.", remedy=f"It has {can}."
        )
    return _MAKE[readout](objective, prompt)
