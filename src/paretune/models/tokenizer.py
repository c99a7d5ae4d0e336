"""The tokenizer beside a model, checked against it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from paretune.errors import ModelError
from paretune.models.anatomy import Anatomy


def open_tokenizer(
    folder: Path, model: Any, anatomy: Anatomy, where: str, *, fast: bool = True
) -> Any:
    """Open the tokenizer of a model folder.

    Args:
        folder: where its files lie.
        model: what its tokens go to.
        anatomy: of the model.
        where: the model's name, for errors.
        fast: refuse a slow one; Marian has no other.

    Raises:
        ModelError: none can be opened, it is a slow one, it has no padding token, or its tokens
            do not fit the model's embeddings.
    """
    from transformers import AutoTokenizer

    try:
        with warnings.catch_warnings():
            # Marian's reminder of sacremoses: it normalises punctuation, which the SentencePiece
            # model does too, and results would depend on what else is installed.
            warnings.filterwarnings("ignore", message=".*sacremoses")
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"its tokenizer cannot be opened ({reason}).", where=where) from None
    if fast and not tokenizer.is_fast:
        raise ModelError(
            f"its tokenizer ({type(tokenizer).__name__}) has no fast version.",
            where=where,
            remedy="A tokenizer.json in the model's folder is needed.",
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(
            "its tokenizer has no padding token, so that texts cannot be batched.",
            where=where,
            remedy='Name one in tokenizer_config.json ("pad_token").',
        )
    rows = model.get_input_embeddings().num_embeddings
    # A mask token beyond the table is harmless here: nothing is masked.
    mask = tokenizer.mask_token_id
    last = max(i for i in tokenizer.get_vocab().values() if i != mask)
    if last >= rows:
        raise ModelError(
            f"its tokenizer counts tokens up to {last}, but the model has {rows} embeddings.",
            where=where,
            remedy="Tokenizer and weights belong to different models.",
        )
    padded = getattr(model.config, "pad_token_id", None)
    if _positions_skip_padding(model, anatomy) and padded != tokenizer.pad_token_id:
        raise ModelError(
            f"its tokenizer pads with token {tokenizer.pad_token_id}, its config says {padded}, "
            "and the model counts positions by it.",
            where=where,
            remedy="Correct pad_token_id in config.json or pad_token in tokenizer_config.json.",
        )
    return tokenizer


def _positions_skip_padding(model: Any, anatomy: Anatomy) -> bool:
    limit = getattr(model.config, "max_position_embeddings", None)
    return anatomy.max_length is not None and anatomy.max_length != limit
