"""The SentencePiece model of a folder: a tokenizer built from it, and one compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
    "Ali je res, da se voda pri 0 °C spremeni v led?",
    "»Kdor jamo koplje, sam vanjo pade,« pravi star pregovor.",
    "Državni zbor je sprejel zakon o varstvu osebnih podatkov (ZVOP-2).",
    "Cene so se leta 2023 zvišale za 12,5 %, plače pa le za 3,1 %.",
    "Nepremičninski posredniki napovedujejo najhladnejšo zimo v zadnjih desetletjih.",
    "Učiteljica je učencem razložila, zakaj so zvezde ponoči vidne.",
    "Petletni načrt predvideva gradnjo železniške proge med Koprom in Divačo.",
    "Če bi vedel, kako težko bo, se tega nikoli ne bi lotil ...",
    "Zdravniki svetujejo uravnoteženo prehrano, veliko gibanja in dovolj spanja.",
    "Mama je spekla orehovo potico; otroci so jo pojedli še isti dan.",
    "V Đakovu i Osijeku očekuju kišu, a u Splitu će biti sunčano.",
    "Najljepši pogled na more pruža se s vrha otočke tvrđave.",
    "The quick brown fox jumps over the lazy dog.",
    "Researchers at the university compared several methods on two languages.",
    "She opened the window because the room was unbearably hot.",
    "Die Universität veröffentlichte gestern die überraschenden Ergebnisse.",
    "Le chat est allé à l'école, mais personne ne l'a reconnu.",
)
"""Ordinary sentences: a tokenizer that splits any text wrongly splits some of them wrongly."""


def find_sentencepiece_model(folder: Path) -> Path | None:
    """The folder's SentencePiece model, if it has one under a usual name."""
    return next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)


def is_bpe(file: Path) -> bool:
    """Whether a SentencePiece model merges pairs of pieces (BPE); most choose pieces by likelihood.

    Raises:
        ModelError: the file is no SentencePiece model.
    """
    proto = _load_proto(file)
    return bool(proto.trainer_spec.model_type == proto.trainer_spec.BPE)


def build_camembert_bpe(file: Path) -> Tokenizer:
    """The tokenizer of a CamemBERT whose SentencePiece model is BPE, as in SloBERTa.

    Pieces keep their order behind fairseq's tokens, and ``<mask>`` comes last. A pair merges the
    earlier, the better the score of the piece that it makes.

    Raises:
        ModelError: the file is no SentencePiece model.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    proto = _load_proto(file)
    own = list(proto.pieces)[1:]
    vocabulary = {p: i for i, p in enumerate([*_CAMEMBERT, *(p.piece for p in own), "<mask>"])}
    plain = {p.piece for p in own if p.type == p.NORMAL}
    ranked = sorted(
        (-p.score, i, p.piece[:cut], p.piece[cut:])
        for i, p in enumerate(own)
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
    shift: int | None = None
    for line in (*PROBE_SENTENCES, *_sample_words(processor)):
        ids = tokenizer(line, add_special_tokens=False)["input_ids"]
        theirs = processor.encode(_normalise(tokenizer, line))
        pieces = [tokenizer.unk_token if processor.is_unknown(i) else processor.id_to_piece(i)
                  for i in theirs]  # fmt: skip
        same = tokenizer.convert_ids_to_tokens(ids) == pieces
        for own, other in zip(ids, theirs, strict=False):
            if same and not processor.is_unknown(other):
                shift = own - other if shift is None else shift
                same = own - other == shift
        if not same:
            raise ModelError(
                f'its tokenizer and its {file.name} split texts differently, as "{line}".',
                where=where,
                remedy="The weights were trained with one of them: fetch the folder as published, "
                "or remove the file that does not belong to them.",
            )


def _normalise(tokenizer: Any, line: str) -> str:
    """The line as SentencePiece gets it: uncased families change letters before that."""
    changes = getattr(tokenizer, "do_lower_case", False) or not getattr(
        tokenizer, "keep_accents", True
    )
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer.normalize_str(line).replace("▁", " ") if changes and normalizer else line


def _sample_words(processor: Any) -> list[str]:
    """Words of the vocabulary in Latin letters, each doubled: none of them is a single piece."""
    pieces = (processor.id_to_piece(i) for i in range(len(processor)))
    words = [p[1:] for p in pieces if p.startswith("▁") and p[1:].isalpha() and max(p[1:]) < "ɐ"]
    sample = words[:: len(words) // 400 + 1]
    return [" ".join(2 * w for w in sample[i : i + 20]) for i in range(0, len(sample), 20)]


def _load_proto(file: Path) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made when imported
    proto.ParseFromString(_load_processor(file).serialized_model_proto())
    return proto


def _load_processor(file: Path) -> Any:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (RuntimeError, OSError):
        raise ModelError(
            "is no SentencePiece model, or a damaged one.",
            where=str(file),
            remedy="Fetch it again.",
        ) from None
