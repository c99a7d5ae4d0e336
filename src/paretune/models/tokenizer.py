"""The tokenizer of a model, checked against the model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from paretune.errors import ModelError, first_line
from paretune.models.config import SAFE_LOADING
from paretune.models.sentencepiece_model import (
    CAMEMBERT_ROLES,
    build_camembert_bpe,
    find_sentencepiece_model,
    is_bpe,
    require_same_tokenization,
)
from paretune.models.structure.anatomy import Anatomy
from paretune.models.tokenizer_patterns import require_bounded_patterns


def load_tokenizer(
    folder: Path, model: Any, anatomy: Anatomy, where: str, *, fast: bool = True
) -> Any:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: it cannot be loaded, is a slow one, splits texts differently from the
            folder's SentencePiece model, has no padding token where the model needs one, or its
            tokens do not fit the model's embeddings.
    """
    tokenizer = _load_by_format(folder, model.config.model_type, where)
    if fast and not tokenizer.is_fast:
        raise ModelError(
            f"its tokenizer ({type(tokenizer).__name__}) has no fast version.",
            where=where,
            remedy="A tokenizer.json in the model's folder is needed.",
        )
    if tokenizer.is_fast:
        require_bounded_patterns(tokenizer.backend_tokenizer, where)
    spm = find_sentencepiece_model(folder)
    if tokenizer.is_fast and spm is not None:
        require_same_tokenization(tokenizer, spm, where)
    if tokenizer.pad_token_id is None and anatomy.topology.pooled_token == -1:
        _pad_with_end(tokenizer)
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
            f"its tokenizer has tokens up to {last}, but the model has {rows} embeddings.",
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


def _pad_with_end(tokenizer: Any) -> None:
    """Pad with the token that ends a text, as is usual with decoders: the mask hides it."""
    for token in (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token):
        if token is not None:
            tokenizer.pad_token = token
            return


def _load_by_format(folder: Path, model_type: str, where: str) -> Any:
    algorithm, spm = _read_algorithm(folder), find_sentencepiece_model(folder)
    merges = spm is not None and algorithm is None and model_type == "camembert" and is_bpe(spm)
    try:
        with warnings.catch_warnings():
            # Marian's reminder of sacremoses: it normalises punctuation, which the SentencePiece
            # model does too, and results would depend on what else is installed.
            warnings.filterwarnings("ignore", message=".*sacremoses")
            if merges and spm:
                return _load_camembert(folder, spm)
            return _load_by_class(folder, algorithm)
    except Exception as error:  # noqa: BLE001 (parsers of files from anywhere raise what they like)
        raise ModelError(
            f"its tokenizer cannot be opened ({first_line(error)}).",
            where=where,
            remedy="Fetch its files again: they may be damaged, or newer than the installed "
            "transformers.",
        ) from None


def _load_by_class(folder: Path, algorithm: str | None) -> Any:
    """The tokenizer of the family's class, or the file as it is where that class does not fit it.

    Classes of SentencePiece families expect models that choose pieces by likelihood (Unigram); one
    that merges pairs (BPE, as SloBERTa's) they refuse, or would split texts differently.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **SAFE_LOADING)
    except Exception:
        # The class's parser may raise anything. A BPE file is then loaded as it is, which raises on
        # its own if the file is damaged; its ids are compared with the SentencePiece model's later.
        if algorithm != "BPE":
            raise
    else:
        if algorithm is None or not tokenizer.is_fast:
            return tokenizer
        if type(tokenizer.backend_tokenizer.model).__name__ == algorithm:
            return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(folder, **SAFE_LOADING)


def _read_algorithm(folder: Path) -> str | None:
    """The model of the folder's tokenizer.json (``BPE``, ``Unigram`` ...); None: unknown."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        model = json.loads(file.read_text(encoding="utf-8")).get("model")
    except (ValueError, RecursionError, AttributeError):
        raise ModelError(
            "is no tokenizer: not a JSON object, or nested without end.",
            where=str(file),
            remedy="Fetch it again.",
        ) from None
    algorithm = model.get("type") if isinstance(model, dict) else None
    return algorithm if isinstance(algorithm, str) else None


def _load_camembert(folder: Path, spm: Path) -> Any:
    """A CamemBERT's tokenizer from its SentencePiece model, with the folder's special tokens."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        folder, tokenizer_object=build_camembert_bpe(spm), **SAFE_LOADING
    )
    for role, token in CAMEMBERT_ROLES.items():
        if getattr(tokenizer, role) is None:
            setattr(tokenizer, role, token)
    return tokenizer


def _positions_skip_padding(model: Any, anatomy: Anatomy) -> bool:
    limit = getattr(model.config, "max_position_embeddings", None)
    return anatomy.max_length is not None and anatomy.max_length != limit
