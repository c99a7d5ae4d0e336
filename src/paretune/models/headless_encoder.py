"""Opening a pretrained encoder without any head, to look at its hidden states."""

from __future__ import annotations

from typing import Any

from paretune.errors import ModelError
from paretune.models.sources.resolve import ModelSource


def load_headless_encoder(source: ModelSource) -> tuple[Any, Any]:
    """An encoder in fp32 on the CPU, in evaluation mode, and its tokenizer.

    Raises:
        ModelError: it cannot be opened, lacks weights that its hidden states need, or cannot pad.
    """
    from transformers import AutoModel, AutoTokenizer

    from paretune.models.config import quiet_transformers

    where = f"model {source.name}"
    plain = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            model, info = AutoModel.from_pretrained(
                source.folder, output_loading_info=True, **plain
            )
            tokenizer = AutoTokenizer.from_pretrained(source.folder, **plain)
    except (OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"cannot be opened ({first}).", where=where) from None
    # Many lack a pooler; hidden states do not pass through it.
    lost = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if lost:
        raise ModelError(
            f"the checkpoint lacks weights of the model: {', '.join(lost[:4])}.",
            where=where,
            remedy="It is damaged, or its config.json belongs to another model.",
        )
    if not tokenizer.pad_token:
        remedy = "Choose an encoder, in the style of BERT."
        raise ModelError("its tokenizer has no padding token.", where=where, remedy=remedy)
    return model.float().eval(), tokenizer
