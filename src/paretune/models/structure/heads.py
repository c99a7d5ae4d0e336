"""A model's config and its head: which heads there are, what they read, which configs are refused.

``transformers`` looks for the last token whose id is not the padding's, where a decoder's head
reads. Many decoders are padded with the token that ends a text, so that it passes over the end of a
text that has one; of a text of nothing else it reads the first token; with virtual tokens in front,
hidden states are longer than the ids; and given embeddings it reads the last place, padding or not.
In :func:`score_last_token` the attention mask tells, counted from the end of the hidden states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput

from paretune.errors import ModelError, first_line
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.layers import SUPPORTED_FAMILIES
from paretune.models.structure.topology import (
    DECODER,
    ENCODER,
    ENCODER_DECODER,
    Topology,
    topology_of,
)
from paretune.objectives.encoding import IGNORE_INDEX
from paretune.objectives.objective import HeadSpec

AUTO_CLASSES = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "multiple_choice": "AutoModelForMultipleChoice",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "causal_lm": "AutoModelForCausalLM",
}
"""The class of ``transformers`` that opens each kind of head."""


def require_known(config: Any, where: str) -> None:
    """Refuse what a config alone tells.

    Raises:
        ModelError: it makes a decoder of an encoder, which masks words and is told not to see what
            follows; or the model reads more than text, and its layers would be those of pictures.
    """
    topology = topology_of(config)
    if topology is ENCODER and getattr(config, "is_decoder", False):
        raise ModelError(
            f'is of type "{config.model_type}", an encoder, and its config.json has '
            "is_decoder: true, with which no token sees those after it.",
            where=where,
            remedy=f"Choose a model that was trained as it is used. {SUPPORTED_FAMILIES}",
        )
    if topology is DECODER and config.get_text_config() is not config:
        of_text = config.get_text_config().model_type
        raise ModelError(
            f'is of type "{config.model_type}", which reads more than text.',
            where=where,
            remedy=f'Choose a checkpoint of its part for text alone (type "{of_text}").',
        )


def require_head(config: Any, head: HeadSpec, where: str) -> Any:
    """The auto class of ``transformers`` that opens this head on a model of this config.

    Raises:
        ModelError: models of this topology, or of this type, have no such head.
    """
    import transformers

    topology = topology_of(config)
    able = [t for t in (ENCODER, ENCODER_DECODER, DECODER) if head.kind in t.heads]
    remedy = f"Choose {' or '.join(f'{t.name} ({t.families})' for t in able)}."
    what = f'is of type "{config.model_type}", '
    if head.kind not in topology.heads:
        raise ModelError(
            f"{what}{topology.name}, and cannot serve a {head.purpose} task.",
            where=where,
            remedy=remedy,
        )
    opener = getattr(transformers, choose_auto_class(topology, head.kind))
    if type(config) not in opener._model_mapping:
        raise ModelError(
            f"{what}for which transformers has no head for {head.purpose}.",
            where=where,
            remedy=remedy,
        )
    return opener


def choose_auto_class(topology: Topology, kind: str) -> str:
    """The class of ``transformers`` that opens a kind of head on a model of this topology.

    ``transformers`` has no multiple choice for decoders: a classifier scores each choice as a text.
    """
    if topology is DECODER and kind == "multiple_choice":
        kind = "sequence_classification"
    return AUTO_CLASSES[kind]


def scores_tokens(model: Any) -> bool:
    """Whether the model's head gives logits for every token of a text."""
    from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING

    opened = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING.get(type(model.config), None)
    return opened is not None and isinstance(model, opened)


def lm_head(model: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (vocabulary, width) and bias (vocabulary,) or None of a model's LM head.

    The bias is added and never trained: a buffer of Marian, BART and mBART; M2M100 has none.
    """
    bias: Tensor | None = getattr(model, "final_logits_bias", None)
    return model.get_output_embeddings().weight, None if bias is None else bias[0]


def logit_softcap(model: Any) -> float | None:
    """The cap of a model's logits z, which are cap * tanh(z / cap) in Gemma 2; most have none."""
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)
    return cap


def shift_right(model: Any, labels: Tensor) -> Tensor:
    """``decoder_input_ids`` for teacher forcing: before each target token the right one.

    Both (batch, target tokens), ``labels`` padded with -100.
    """
    prepare = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is not None:
        shifted: Tensor = prepare(labels=labels)
        return shifted
    # M2M100 keeps it to itself: the decoder's first token, then the others, one place later.
    config = model.config
    first = labels.new_full((len(labels), 1), config.decoder_start_token_id)
    shifted = torch.cat([first, labels[:, :-1]], 1)
    return shifted.masked_fill(shifted == IGNORE_INDEX, config.pad_token_id)


def last_token_places(mask: Tensor | None, hidden: Tensor) -> Tensor:
    """The place of the last token that ``mask`` counts, in hidden states that may be longer.

    Shapes: ``mask`` (texts, tokens) or None, ``hidden`` (texts, tokens or more, width) ->
    (texts,). Virtual tokens in front are counted; a text without a token has the last place.
    """
    last = hidden.shape[1] - 1
    if mask is None:
        return torch.full((len(hidden),), last, device=hidden.device)
    padding_behind = mask.flip(-1).long().argmax(-1)  # argmax: the first of the largest
    return last - padding_behind.to(hidden.device)


def score_last_token(
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    **inputs: Any,
) -> SequenceClassifierOutput:
    """Forward pass of a decoder whose classifier (``score``) reads the last real token of a text.

    Inputs of (texts, tokens) give logits of (texts, labels); of (examples, choices, tokens), as
    multiple choice has them, (examples, choices).
    """
    choices = 0
    if input_ids is not None and input_ids.ndim == 3:
        choices = input_ids.shape[1]
        input_ids = input_ids.flatten(0, 1)
        if attention_mask is not None:
            attention_mask = attention_mask.flatten(0, 1)
        inputs = {
            name: value.flatten(0, 1) if torch.is_tensor(value) and value.ndim == 3 else value
            for name, value in inputs.items()
        }
    labels = inputs.pop("labels", None)
    if labels is not None:
        raise TypeError("the objective has the loss: call the model without labels")
    inputs.setdefault("use_cache", False)
    # A model's own return_dict=False would give a tuple, and is nobody's wish here.
    inputs.pop("return_dict", None)
    hidden = model.base_model(input_ids=input_ids, attention_mask=attention_mask, **inputs)[0]
    places = last_token_places(attention_mask, hidden)
    pooled = hidden[torch.arange(len(hidden), device=hidden.device), places]
    logits: Tensor = model.score(pooled)
    return SequenceClassifierOutput(logits=logits.view(-1, choices) if choices else logits)


SAFE_LOADING: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments of every loading by ``transformers``: it fetches nothing and runs no folder's code."""


def load_config(source: ModelSource) -> Any:
    """The config of a model that can be trained here, as far as a config tells.

    Raises:
        ModelError: it cannot be used, or is that of a quantised checkpoint.
    """
    from transformers import AutoConfig

    where = f"model {source.name}"
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source.folder, **SAFE_LOADING)
    except Exception as error:  # noqa: BLE001 (each config class has its own checks)
        raise ModelError(
            f"its config.json cannot be used ({first_line(error)}).",
            where=where,
            remedy="Its type may be newer than the installed transformers.",
        ) from None
    settings = getattr(config, "quantization_config", None)
    if settings is not None:
        settings = settings if isinstance(settings, dict) else vars(settings)
        method = settings.get("quant_method")
        by = f" ({method!s:.40})" if method else ""
        raise ModelError(
            f"its weights are quantised{by}; paretune quantises by itself, from unquantised "
            "weights.",
            where=where,
            remedy="Choose the same model without quantisation. quantisation: nf4 or int8 beside "
            "its name has it quantised.",
        )
    require_known(config, where)
    return config


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No load report and no progress bars: a new head is normal here, and all else is checked."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
