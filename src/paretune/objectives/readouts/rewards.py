"""Rewards: how much likelier training made an answer; preferences are learnt by them.

With the model p, the model before training q, a prompt x and an answer y the reward is

    r(x, y) = beta (log p(y | x) - log q(y | x)),

with 1 / beta in :attr:`Encoded.divisors` and log q in :attr:`Encoded.reference`.

Training with a chosen answer c and a rejected one d minimises (DPO: Rafailov et al. 2023,
arXiv:2305.18290, equation 7)

    -log sigmoid(r(x, c) - r(x, d)),

with label smoothing e, as if a share e of the pairs were labelled the wrong way round (cDPO:
Mitchell 2023, https://ericmitchell.ai/cdpo.pdf)

    -(1 - e) log sigmoid(r(x, c) - r(x, d)) - e log sigmoid(r(x, d) - r(x, c)),

and training with rated answers minimises (KTO: Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8)

    good: w (1 - sigmoid(r(x, y) - z))   bad: w (1 - sigmoid(z - r(x, y)))

with class weights w and z = max(0, mean of r(x, y')), where y' are answers to other prompts, over
the batch, without gradient. Losses and texts are those of TRL (tests/oracle/test_trl_oracle.py).

With the readout ``likelihood`` the score of an answer is log p(y | x): without training it shows
the preferences of the model as it comes; training minimises the mean loss of a token, to which bad
answers add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.objectives.completions import encode_completions
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.language_modelling import count_target
from paretune.objectives.objective import LossOptions, Objective, count_examples
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts.label_words import LabelWordsCollector, right_answer_loss
from paretune.objectives.readouts.text import write_example
from paretune.objectives.token_outputs import TokenOutputs

if TYPE_CHECKING:
    from torch import Tensor


def read_rewards(objective: Objective, prompt: Prompt) -> Objective:
    """The objective, answered by the reward of each answer."""
    return replace(
        read_likelihoods(objective, prompt),
        encode_training=EncodeAnswers(prompt, with_mismatched=True),
        loss_settings=objective.loss_settings,
        weight=count_examples,
        loss=reward_loss,
    )


def read_likelihoods(objective: Objective, prompt: Prompt) -> Objective:
    """The objective, answered by the likelihood of each answer, and trained on good ones."""
    return replace(
        objective,
        encode=EncodeAnswers(prompt),
        encode_training=EncodeAnswers(prompt, last_only=True),
        loss_settings=("label_smoothing",),
        weight=count_target,
        loss=good_answer_loss,
        collector=LabelWordsCollector,
    )


@dataclass(frozen=True)
class EncodeAnswers:
    """Tokenises the prompt of each example with each of its answers, of a pair the better last.

    Args:
        last_only: with the last answer alone.
        with_mismatched: where there is one answer, also each prompt with the answer to the nearest
            other prompt before it, the last ones before the first (:attr:`Encoded.mismatched`).
    """

    prompt: Prompt
    last_only: bool = False
    with_mismatched: bool = False

    def __call__(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
    ) -> Encoded:
        """One text for each answer; see :class:`~paretune.objectives.readouts.text.EncodeText`."""
        texts = [
            replace(e, segments=((text, None),), label=None, target=answer)
            for e in examples
            for text, answer in (e.segments[-1:] if self.last_only else e.segments)
        ]
        written = [write_example(text, self.prompt, tokenizer, prefix) for text in texts]
        labels, width = [e.label for e in examples], len(texts) // len(examples)
        data = encode_completions(written, labels, tokenizer, max_length, choices=width)
        # Both answers begin where the first of them does, as in TRL, unless one was cut.
        pairs = zip(data.completion_starts or (), data.truncated, strict=True)
        starts = [row if cut else [min(row)] * width for row, cut in pairs]
        data = replace(data, completion_starts=starts)
        if not self.with_mismatched or width > 1:
            return data
        firsts = [(ids[0], start[0]) for ids, start in zip(data.ids, starts, strict=True)]
        prompts, count = [ids[:start] for ids, start in firsts], len(firsts)
        mismatched = []
        for i, prompt in enumerate(prompts):
            before = ((i - k) % count for k in range(1, count))
            ids, start = firsts[next((j for j in before if prompts[j] != prompt), i)]
            mismatched.append([[*prompt, *ids[start:]][:max_length]])
        lengths = [len(ids[0]) for ids in mismatched]
        return replace(data, mismatched=replace(data, ids=mismatched, lengths=lengths))


def reward_loss(
    outputs: TokenOutputs, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """DPO of pairs, KTO of rated answers, summed over the examples; without a reference p is q.

    The gradient is that of a cross-entropy whose tokens are weighted by the slope of the loss at
    the log-likelihood of their answer, so that logits of all tokens are never held at once.
    """
    import torch
    from torch.nn.functional import logsigmoid

    from paretune.device_transfer import to_device

    _, losses = outputs.evaluation_losses()
    count, z = len(data.ids[indices[0]]), options.mismatched

    def place(values: Sequence[Any]) -> Tensor:
        return to_device(np.array(values), losses.device).to(losses.dtype)

    rows = {index: row * count for row, index in enumerate(indices)}
    lengths = [data.scored_length(text) for text in outputs.texts]
    answers = np.repeat([rows[index] + choice for index, choice in outputs.texts], lengths)
    of_tokens = to_device(answers, losses.device)
    scores = losses.new_zeros(len(indices) * count).index_add(0, of_tokens, -losses)
    scores.requires_grad_()
    rewards = (scores - scores.detach()).view(-1, count)
    if data.reference is not None and data.divisors is not None:
        tables = data.reference, data.divisors
        reference, divisors = (place([table[i] for i in indices]) for table in tables)
        rewards = (scores.view(-1, count) - reference) / divisors
    if count > 1:
        gains, smoothing = rewards[:, 1] - rewards[:, 0], options.label_smoothing
        loss = -((1 - smoothing) * logsigmoid(gains) + smoothing * logsigmoid(-gains)).sum()
    else:
        labels = [int(data.labels[i] or 0) for i in indices]
        weights = options.class_weights or ((1.0,), (1.0,))
        above = place([2 * label - 1 for label in labels]) * (rewards[:, 0] - max(0.0, z))
        loss = place([weights[label][0] for label in labels]) @ torch.sigmoid(-above)
    (slopes,) = torch.autograd.grad(loss, scores)
    weighted = outputs.summed_loss(0.0, -slopes[of_tokens])
    return weighted + (loss - weighted).detach()


def good_answer_loss(
    outputs: TokenOutputs, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Cross-entropy summed over the tokens of good answers, in nats."""
    of_good = replace(options, class_weights=((0.0,), (1.0,)))
    return right_answer_loss(outputs, data, indices, of_good)
