"""The tokenizer of a model, checked against the model and its SentencePiece file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from paretune.errors import ModelError, first_line
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.heads import SAFE_LOADING


def load_tokenizer(
    folder: Path, model: Any, anatomy: Anatomy, where: str, *, fast: bool = True
) -> Any:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: it cannot be loaded, is a slow one, splits texts differently from the
            folder's SentencePiece model, has no padding token where the model needs one, or its
            tokens do not fit the model's embeddings.
    """
    # The folder's SentencePiece model, if it has one under a usual name.
    spm = next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)
    tokenizer = _load_by_format(folder, spm, model.config.model_type, where)
    if fast and not tokenizer.is_fast:
        raise ModelError(
            f"its tokenizer ({type(tokenizer).__name__}) has no fast version.",
            where=where,
            remedy="A tokenizer.json in the model's folder is needed.",
        )
    if tokenizer.is_fast and spm is not None:
        require_same_tokenization(tokenizer, spm, where)
    if tokenizer.pad_token_id is None and anatomy.topology.pooled_token == -1:
        # Decoders usually pad with the token that ends a text: the mask hides it.
        ends = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
        tokenizer.pad_token = next((token for token in ends if token is not None), None)
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
    limit = getattr(model.config, "max_position_embeddings", None)
    positions_skip_padding = anatomy.max_length is not None and anatomy.max_length != limit
    if positions_skip_padding and padded != tokenizer.pad_token_id:
        raise ModelError(
            f"its tokenizer pads with token {tokenizer.pad_token_id}, its config says {padded}, "
            "and the model counts positions by it.",
            where=where,
            remedy="Correct pad_token_id in config.json or pad_token in tokenizer_config.json.",
        )
    return tokenizer


def _load_by_format(folder: Path, spm: Path | None, model_type: str, where: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    # The algorithm of tokenizer.json (``BPE``, ``Unigram`` ...), where it says one.
    file = folder / "tokenizer.json"
    algorithm = None
    merges = False
    if file.is_file():
        try:
            described = json.loads(file.read_text(encoding="utf-8")).get("model")
        except (ValueError, RecursionError, AttributeError):
            raise ModelError(
                "is no tokenizer: not a JSON object, or nested without end.",
                where=str(file),
                remedy="Fetch it again.",
            ) from None
        algorithm = described.get("type") if isinstance(described, dict) else None
        algorithm = algorithm if isinstance(algorithm, str) else None
    if spm is not None and algorithm is None and model_type == "camembert":
        # Most SentencePiece models choose pieces by likelihood, this one may merge pairs of them.
        proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made when imported
        proto.ParseFromString(_load_processor(spm).serialized_model_proto())
        merges = proto.trainer_spec.model_type == proto.trainer_spec.BPE
    try:
        with warnings.catch_warnings():
            # Marian's reminder of sacremoses: it normalises punctuation, which the SentencePiece
            # model does too, and results would depend on what else is installed.
            warnings.filterwarnings("ignore", message=".*sacremoses")
            if merges:
                tokenizer = PreTrainedTokenizerFast.from_pretrained(
                    folder, tokenizer_object=build_camembert_bpe(proto), **SAFE_LOADING
                )
                for role, token in CAMEMBERT_ROLES.items():
                    if getattr(tokenizer, role) is None:
                        setattr(tokenizer, role, token)
                return tokenizer
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


MODEL_FILES = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
_CAMEMBERT = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED")
"""Tokens that fairseq put before the pieces of CamemBERT's model, instead of its unknown piece."""
CAMEMBERT_ROLES = {
    "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
    "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
"""Its special tokens, where the folder does not name them."""

PROBE_SENTENCES = (
    "Človeška ribica živi v temnih kraških jamah, kjer ni svetlobe.",
    "Žaba skače čez lužo, šoja pa žvižga na češnji.",
    "Vlak iz Ljubljane v Celje je včeraj zamujal skoraj 45 minut!",
    "»Kdor jamo koplje, sam vanjo pade,« pravi star pregovor.",
    "Cene so se leta 2023 zvišale za 12,5 %, plače pa le za 3,1 %.",
    "Če bi vedel, kako težko bo, se tega nikoli ne bi lotil ...",
    "V Đakovu i Osijeku očekuju kišu, a u Splitu će biti sunčano.",
    "The quick brown fox jumps over the lazy dog.",
    "Die Universität veröffentlichte gestern die überraschenden Ergebnisse.",
    "Le chat est allé à l'école, mais personne ne l'a reconnu.",
)
"""Ordinary sentences: a tokenizer that splits any text wrongly splits some of them wrongly."""


def build_camembert_bpe(proto: Any) -> Tokenizer:
    """The tokenizer of a CamemBERT whose SentencePiece model is BPE, as in SloBERTa.

    Pieces keep their order behind fairseq's tokens, and ``<mask>`` comes last. A pair merges the
    earlier, the better the score of the piece that it makes.

    ``proto``: what the SentencePiece model's file holds.
    """
    pieces = list(proto.pieces)[1:]
    vocabulary = {p: i for i, p in enumerate([*_CAMEMBERT, *(p.piece for p in pieces), "<mask>"])}
    plain = {p.piece for p in pieces if p.type == p.NORMAL}
    ranked = sorted(
        (-p.score, i, p.piece[:cut], p.piece[cut:])
        for i, p in enumerate(pieces)
        for cut in range(1, len(p.piece))
        if p.type == p.NORMAL and p.piece[:cut] in plain and p.piece[cut:] in plain
    )
    merges = [(left, right) for *_, left, right in ranked]
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token=_CAMEMBERT[3], fuse_unk=True))
    spaces = [
        normalizers.Replace(Regex(r"\A +| +\z"), ""),
        normalizers.Replace(Regex(" {2,}"), " "),
    ]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    mapped = [normalizers.Precompiled(charsmap)] if charsmap else []
    core.normalizer = normalizers.Sequence([*mapped, *spaces])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")],
    )
    return core


def require_same_tokenization(tokenizer: Any, file: Path, where: str) -> None:
    """Compare a tokenizer with the folder's SentencePiece model, on sentences and known words.

    Every token must be the model's piece, and every id the model's plus one constant (families put
    tokens of their own before the pieces).

    Raises:
        ModelError: they differ, or the file is no SentencePiece model.
    """
    processor = _load_processor(file)
    # Words of the vocabulary in Latin letters, each doubled: none of them is a single piece.
    vocabulary = (processor.id_to_piece(i) for i in range(len(processor)))
    words = [
        p[1:] for p in vocabulary if p.startswith("▁") and p[1:].isalpha() and max(p[1:]) < "ɐ"
    ]
    sample = [2 * word for word in words[:: len(words) // 400 + 1]]
    lines = [" ".join(sample[i : i + 20]) for i in range(0, len(sample), 20)]
    # Uncased families change letters before SentencePiece gets them.
    is_uncased = getattr(tokenizer, "do_lower_case", False)
    strips_accents = not getattr(tokenizer, "keep_accents", True)
    normalizer = tokenizer.backend_tokenizer.normalizer
    shift: int | None = None
    for line in (*PROBE_SENTENCES, *lines):
        text = line
        if normalizer and (is_uncased or strips_accents):
            text = normalizer.normalize_str(line).replace("▁", " ")
        ids = tokenizer(line, add_special_tokens=False)["input_ids"]
        expected = processor.encode(text)
        pieces = [tokenizer.unk_token if processor.is_unknown(i) else processor.id_to_piece(i)
                  for i in expected]  # fmt: skip
        same = tokenizer.convert_ids_to_tokens(ids) == pieces
        for token, piece in zip(ids, expected, strict=False):
            if same and not processor.is_unknown(piece):
                shift = token - piece if shift is None else shift
                same = token - piece == shift
        if not same:
            raise ModelError(
                f'its tokenizer and its {file.name} split texts differently, as "{line}".',
                where=where,
                remedy="The weights were trained with one of them: fetch the folder as published, "
                "or remove the file that does not belong to them.",
            )


def _load_processor(file: Path) -> Any:
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError):
        raise ModelError(
            "is no SentencePiece model, or a damaged one.",
            where=str(file),
            remedy="Fetch it again.",
        ) from None
