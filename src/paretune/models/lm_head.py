"""The LM head of a decoder, also where the model was opened with a classifier in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import safetensors
from torch import Tensor

from paretune.errors import ModelError
from paretune.models.config import load_config, quiet_transformers
from paretune.models.load import LoadedModel
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import lm_head, logit_softcap
from paretune.models.structure.layers import find_name

OTHER_NAMES = ("embed_out",)
"""What files call an LM head that ``transformers`` renames while loading (GPT-NeoX)."""


@dataclass(frozen=True)
class LmHead:
    """What makes logits of the base model's hidden states.

    Shapes: ``weight`` (vocabulary, width), ``bias`` (vocabulary,) or None. ``softcap``: logits z
    are softcap * tanh(z / softcap) (Gemma 2); None for most.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None


def find_lm_head(loaded: LoadedModel, source: ModelSource) -> LmHead:
    """The checkpoint's own LM head.

    Tied to the word embeddings it is these, trained or not. An untied one that a model with a
    classifier has left in the file is read from there.

    Raises:
        ModelError: the checkpoint has none.
    """
    model: Any = loaded.model
    softcap = logit_softcap(model)
    if model.get_output_embeddings() is not None:
        return LmHead(*lm_head(model), softcap)
    embeddings: Tensor = model.get_input_embeddings().weight
    if model.config.tie_word_embeddings:
        return LmHead(embeddings, None, softcap)
    weight, bias = _read_untied(source)
    return LmHead(weight.to(embeddings), None if bias is None else bias.to(embeddings), softcap)


def _read_untied(source: ModelSource) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the head in the checkpoint's files, by the name that its class gives."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet_transformers(), torch.device("meta"):
        outline: Any = AutoModelForCausalLM.from_config(load_config(source))
    name = find_name(outline, outline.get_output_embeddings())
    for written in (name, *OTHER_NAMES):
        weight = _read_tensor(source, f"{written}.weight")
        if weight is not None:
            return weight, _read_tensor(source, f"{written}.bias")
    raise ModelError(
        f"its files have no {name}.weight, so that it predicts no words.",
        where=f"model {source.name}",
        remedy="Leave forgetting out of the study, or choose a checkpoint with its LM head.",
    )


def _read_tensor(source: ModelSource, name: str) -> Tensor | None:
    for path in sorted(source.folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            if name in file.keys():  # noqa: SIM118  (no mapping)
                tensor: Tensor = file.get_tensor(name)
                return tensor
    return None
