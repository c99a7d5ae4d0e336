"""A pretrained encoder without any head, for its hidden states."""

from __future__ import annotations

from typing import Any

from paretune.errors import ModelError, first_line
from paretune.models.config import SAFE_LOADING, quiet_transformers
from paretune.models.sources.resolve import ModelSource


def load_headless_encoder(source: ModelSource) -> tuple[Any, Any]:
    """An encoder in fp32 on the CPU, in evaluation mode, and its tokenizer.

    Raises:
        ModelError: it cannot be loaded, lacks weights that its hidden states need, or cannot pad.
    """
    from transformers import AutoModel, AutoTokenizer

    where = f"model {source.name}"
    try:
        with quiet_transformers():
            model, info = AutoModel.from_pretrained(
                source.folder, output_loading_info=True, **SAFE_LOADING
            )
            tokenizer = AutoTokenizer.from_pretrained(source.folder, **SAFE_LOADING)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be loaded ({first_line(error)}).", where=where) from None
    # Many lack a pooler; hidden states do not depend on it.
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(
            f"the checkpoint lacks weights of the model: {', '.join(missing[:4])}.",
            where=where,
            remedy="It is damaged, or its config.json belongs to another model.",
        )
    if not tokenizer.pad_token:
        remedy = "Choose an encoder, in the style of BERT."
        raise ModelError("its tokenizer has no padding token.", where=where, remedy=remedy)
    return model.float().eval(), tokenizer
