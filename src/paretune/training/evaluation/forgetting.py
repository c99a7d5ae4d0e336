"""What fine-tuning costs a language model: its token losses on a text, before and after training.

Forgetting is the change of the mean loss of a token, in nats. Each token of a block is predicted
from those before it in the block: the first is not scored, so that neither a token at the start nor
virtual tokens make a difference between before and after. *Before* is the model as it was loaded,
without the method: with a prompt in front it would not be the base model (PEFT's method_comparison
had that wrong until July 2026, and shifted the targets twice; peft PR #3419). Of a translator the
losses are of the reference's tokens, given the source.

Hidden states and a loss in chunks over the vocabulary: logits of a block are never held whole. Both
sides are computed by the same code, padded batches through ``transformers``, packing taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from paretune.data.batch import split_for_evaluation
from paretune.errors import ModelError
from paretune.models.changes import evaluation_mode
from paretune.models.load import LoadedModel
from paretune.models.pass_context import PassContext
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import lm_head, load_config, logit_softcap, quiet_transformers
from paretune.models.structure.layers import find_name
from paretune.models.structure.topology import DECODER
from paretune.objectives import Objective
from paretune.objectives.encoding import IGNORE_INDEX, Encoded, pad_batch
from paretune.objectives.language_modelling import TokenLossCollector
from paretune.objectives.token_outputs import TokenStates
from paretune.store.record import StoredForgetting
from paretune.study import Run
from paretune.tasks.forgetting_text import read_blocks, read_pairs
from paretune.training.forward.passes import (
    Compute,
    MicroBatch,
    PlainForward,
    PlainSplitter,
    to_tensors,
)
from paretune.training.forward.select import packing_disabled
from paretune.training.prepare import PreparedModel, allows_bf16_weights

BATCH_TOKENS = 2048
"""Padded tokens of a batch."""
_DIGITS = 6


@dataclass(frozen=True)
class ForgettingProbe:
    """Measures what training costs the runs on one model.

    Attributes:
        compute: where and how precisely both sides are computed.
        base_losses: losses of base models that were measured before, by :meth:`_key`.
    """

    source: ModelSource
    objective: Objective
    compute: Compute
    base_losses: dict[tuple[Any, ...], list[float]]

    def needs_base(self, run: Run) -> bool:
        """Whether :meth:`score_base` has to come before the run's method is put in."""
        return self._key(run) not in self.base_losses

    def score_base(self, run: Run, loaded: LoadedModel) -> None:
        """Score the model while no method is inside."""
        data = encode_text(run, loaded, self.objective)
        self.base_losses[self._key(run)] = self._sum_losses(loaded, PassContext(), data)

    def score_trained(
        self, run: Run, prepared: PreparedModel
    ) -> tuple[StoredForgetting | None, list[str]]:
        """Score the run's model, alone in it; and what a reader must know of the measurement."""
        loaded, virtual = prepared.loaded, prepared.injection.positions_before_text
        data = encode_text(run, loaded, self.objective)
        limit, longest = loaded.anatomy.max_length, max(data.source_lengths)
        if limit is not None and longest + virtual > limit:
            return None, [
                f"forgetting was not measured: {virtual} virtual tokens and {longest} of text are "
                f"more than the model's {limit} positions"
            ]
        cut = sum(data.truncated)
        notes = [f"{cut} of {len(data.ids)} blocks of the forgetting text were cut"] if cut else []
        return {
            "before": self.base_losses[self._key(run)],
            "after": self._sum_losses(loaded, prepared.context, data),
            "tokens": [data.scored_length((i, 0)) for i in range(len(data.ids))],
        }, notes

    def _key(self, run: Run) -> tuple[Any, ...]:
        text = None if run.forgetting is None else run.forgetting.sha256
        model = run.model.model_dump_json(), allows_bf16_weights(run), self.compute
        task = run.training.max_length, run.task.language, run.task.languages
        return self.source.weights_hash, text, *model, *task

    def _sum_losses(self, loaded: LoadedModel, context: PassContext, data: Encoded) -> list[float]:
        """Losses of each block, summed over its scored tokens, in nats."""
        model: Any = loaded.model
        forward: Callable[[MicroBatch], Any]
        if data.targets is None:
            forward = _make_decoder_pass(loaded, self.compute, self.source)
        else:
            forward = PlainForward(model, context, self.compute, loaded.pad_id, PlainSplitter())
        collector = TokenLossCollector(data)
        with (
            evaluation_mode(model),
            torch.inference_mode(),
            self.compute.autocast(),
            packing_disabled(loaded, context),
        ):
            for batch in split_for_evaluation(data.lengths, BATCH_TOKENS):
                outputs = forward(MicroBatch(data, batch))
                collector.add(batch, outputs)
        return [round(float(losses.sum()), _DIGITS) for losses in collector.result().tokens]


def encode_text(run: Run, loaded: LoadedModel, objective: Objective) -> Encoded:
    """The run's text as the model reads it, cut at half of its positions at most.

    Raises:
        DataError: the text cannot be read any more.
    """
    assert run.forgetting is not None  # noqa: S101  (asked of such runs only)
    limit = loaded.anatomy.max_length
    length = min(run.training.max_length, limit // 2 if limit else run.training.max_length)
    text = run.forgetting.text
    if loaded.anatomy.topology is not DECODER:
        pairs = read_pairs(text, run.task.languages or ())
        return objective.encode(pairs, loaded.tokenizer, length, loaded.direction.prefix)
    blocks = read_blocks(text, run.task.language or run.task.target_lang)
    texts = [block.segments[0][0] for block in blocks]
    # All tokens but the first of each block are scored; a block of one token is left out.
    whole = [ids for ids in loaded.tokenizer(texts)["input_ids"] if len(ids) > 1]
    return Encoded(
        ids=[[ids[:length]] for ids in whole],
        type_ids=None,
        lengths=[min(len(ids), length) for ids in whole],
        labels=[None] * len(whole),
        truncated=[len(ids) > length for ids in whole],
        completion_starts=[[1]] * len(whole),
    )


def _make_decoder_pass(
    loaded: LoadedModel, compute: Compute, source: ModelSource
) -> Callable[[MicroBatch], TokenStates]:
    """Passes of the base model and the checkpoint's LM head, whatever head the model has."""
    base: Any = loaded.model.base_model
    head, softcap = _find_lm_head(loaded, source), logit_softcap(loaded.model)

    def run(batch: MicroBatch) -> TokenStates:
        padded = pad_batch(batch.data, batch.indices, loaded.pad_id)
        inputs = {name: t.flatten(0, -2) for name, t in to_tensors(padded, compute.device).items()}
        labels = inputs.pop("labels")
        hidden = base(**inputs, use_cache=False)[0]
        # The state at a token predicts the next one; in front there may be virtual tokens.
        hidden = hidden[:, hidden.shape[1] - labels.shape[1] : -1]
        scored = labels[:, 1:] != IGNORE_INDEX
        texts = [(i, 0) for i in batch.indices]
        states = (hidden[scored], *head, labels[:, 1:][scored], texts)
        return TokenStates(*states, softcap=softcap)

    return run


OTHER_NAMES = ("embed_out",)
"""What files call an LM head that ``transformers`` renames while loading (GPT-NeoX)."""


def _find_lm_head(loaded: LoadedModel, source: ModelSource) -> tuple[Tensor, Tensor | None]:
    """Weight (vocabulary, width) and bias (vocabulary,) or None of the checkpoint's own LM head.

    Tied to the word embeddings it is these, trained or not. An untied one that a model with a
    classifier has left in the file is read from there.

    Raises:
        ModelError: the checkpoint has none.
    """
    model: Any = loaded.model
    if model.get_output_embeddings() is not None:
        return lm_head(model)
    embeddings: Tensor = model.get_input_embeddings().weight
    if model.config.tie_word_embeddings:
        return embeddings, None
    # In the checkpoint's files it has the name that its class gives.
    with quiet_transformers(), torch.device("meta"):
        outline: Any = AutoModelForCausalLM.from_config(load_config(source))
    name = find_name(outline, outline.get_output_embeddings())
    written_names = (name, *OTHER_NAMES)
    keys = {f"{written}.{part}" for written in written_names for part in ("weight", "bias")}
    tensors: dict[str, Tensor] = {}
    for path in sorted(source.folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            tensors |= {key: file.get_tensor(key) for key in keys.intersection(file.keys())}
    for written in written_names:
        weight, bias = tensors.get(f"{written}.weight"), tensors.get(f"{written}.bias")
        if weight is not None:
            return weight.to(embeddings), None if bias is None else bias.to(embeddings)
    raise ModelError(
        f"its files have no {name}.weight, so that it predicts no words.",
        where=f"model {source.name}",
        remedy="Leave forgetting out of the study, or choose a checkpoint with its LM head.",
    )
