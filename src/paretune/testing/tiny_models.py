"""Tiny models with random weights, written as a hub checkpoint would be: no classifier inside.

Each folder holds config.json, model.safetensors (saved from the class whose checkpoints are on the
hub for that family, so poolers are there or missing as in life) and a fast tokenizer built here
from a few sentences, with the family's special tokens and type ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from paretune.testing.tiny_decoders import DECODERS, decoder_config, decoder_tokenizer

FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "deberta-v2",
    "electra",
    "modernbert",
)
POSITIONS = 128
"""Tokens that a tiny model can read (as many for every family)."""

SENTENCES = (
    "Človeška ribica živi v temnih kraških jamah, kjer ni svetlobe.",
    "Žaba skače čez lužo, šoja pa žvižga na češnji.",
    "Vlak iz Ljubljane v Celje zamuja skoraj eno uro.",
    "Ali je res, da se voda pri nič stopinjah spremeni v led?",
    "Moški je odprl okno, ker mu je bilo vroče.",
    "The cat sat on the mat, and the dog slept by the door.",
    "Is it true that water turns into ice at zero degrees?",
    "She opened the window because the room was hot.",
    "Prices rose by 12 percent in 2023; nobody knows why!",
    "Which of these sentences follows from the first one?",
)
_WIDTH, _HEADS, _LAYERS, _INNER, _RANGE = 32, 4, 2, 48, 0.2
_ANGLE = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_SQUARE = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
# Where [PAD] comes first, and [CLS] after it, as in the families' own vocabularies.
_ORDERS = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "deberta-v2": ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"),
    "modernbert": ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"),
}
_ORDERS["distilbert"] = _ORDERS["electra"] = _ORDERS["bert"]
_TYPED = ("bert", "electra", "deberta-v2")


def tiny_model(family: str, folder: Path) -> Path:
    """Write a tiny checkpoint of ``family`` into ``folder``; the same bits every time.

    ``family``: of :data:`FAMILIES`, or of :data:`DECODERS`.
    """
    if family in DECODERS:
        tokenizer = decoder_tokenizer(family, SENTENCES, POSITIONS)
        config, checkpoint = decoder_config(family, tokenizer)
    else:
        tokenizer = _tokenizer(family)
        config, checkpoint = _config(family, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((*FAMILIES, *DECODERS).index(family) + 1)
        model = checkpoint(config).eval()
        _unsettle(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _unsettle(model: torch.nn.Module) -> None:
    """Move biases off 0 and norms off 1, so that no test passes because they are trivial."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    specials = _ORDERS.get(family, _ANGLE)
    names = dict(zip(("cls", "pad", "sep", "unk", "mask"), _SQUARE, strict=True))
    if family not in _ORDERS:
        names = dict(zip(("cls", "pad", "sep", "unk", "mask"), _ANGLE, strict=True))
    if family in ("bert", "distilbert", "electra"):
        core = Tokenizer(models.WordPiece(_pieces(specials), unk_token=names["unk"]))
        core.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        core.decoder = decoders.WordPiece()
    elif family in ("roberta", "modernbert"):
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(specials),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        core.train_from_iterator(SENTENCES, trainer)
    else:
        core = Tokenizer(models.Unigram(_scored(specials), unk_id=specials.index(names["unk"])))
        core.normalizer = normalizers.NFKC()
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
    core.add_special_tokens(list(specials))
    begin, end = names["cls"], names["sep"]
    between = f"{end} {end}" if family in ("roberta", "xlm-roberta", "camembert") else end
    second = 1 if family in _TYPED else 0
    core.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {between} $B:{second} {end}:{second}",
        special_tokens=[(token, core.token_to_id(token)) for token in (begin, end)],
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    if family not in _TYPED:
        inputs.remove("token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=POSITIONS,
        model_input_names=inputs,
        **{f"{role}_token": token for role, token in names.items()},
    )


# The trainers of word pieces and unigrams give another order each time; these vocabularies do not.
def _pieces(specials: tuple[str, ...]) -> dict[str, int]:
    """Special tokens, every letter inside and at the start of a word, and the known words."""
    letters = sorted(set("".join(SENTENCES)) - {" "})
    words = sorted({word.strip(".,?!;") for text in SENTENCES for word in text.split()})
    entries = [*specials, *letters, *(f"##{letter}" for letter in letters), *words]
    return {piece: i for i, piece in enumerate(dict.fromkeys(entries))}


def _scored(specials: tuple[str, ...]) -> list[tuple[str, float]]:
    """The same for unigrams, words with the mark of their start and better scores."""
    letters = sorted(set("".join(SENTENCES)) - {" "})
    words = sorted({word.strip(".,?!;") for text in SENTENCES for word in text.split()})
    marked = ["\u2581", *(f"\u2581{word}" for word in words)]
    entries = [(piece, -4.0) for piece in marked] + [(letter, -8.0) for letter in letters]
    return [(piece, 0.0) for piece in specials] + entries


def _config(family: str, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """The family's config and the class its hub checkpoints are saved from."""
    common = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": POSITIONS,
    }
    wide = common | {
        "hidden_size": _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "intermediate_size": _INNER,
        "initializer_range": _RANGE,
    }
    offset = {"max_position_embeddings": POSITIONS + int(tokenizer.pad_token_id) + 1}
    t = transformers
    match family:
        case "bert":
            return t.BertConfig(**wide), t.BertForPreTraining
        case "roberta":
            return t.RobertaConfig(**wide | offset, type_vocab_size=1), t.RobertaForMaskedLM
        case "xlm-roberta":
            return t.XLMRobertaConfig(**wide | offset, type_vocab_size=1), t.XLMRobertaForMaskedLM
        case "camembert":
            return t.CamembertConfig(**wide | offset, type_vocab_size=1), t.CamembertForMaskedLM
        case "distilbert":
            config = t.DistilBertConfig(
                **common,
                dim=_WIDTH,
                hidden_dim=_INNER,
                n_heads=_HEADS,
                n_layers=_LAYERS,
                initializer_range=_RANGE,
            )
            return config, t.DistilBertForMaskedLM
        case "deberta-v2":
            config = t.DebertaV2Config(
                **wide,
                type_vocab_size=0,
                relative_attention=True,
                pos_att_type=["p2c", "c2p"],
                position_biased_input=False,
                position_buckets=16,
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                max_relative_positions=-1,
                pooler_hidden_size=_WIDTH,
            )
            return config, t.DebertaV2ForMaskedLM
        case "electra":
            return t.ElectraConfig(**wide, embedding_size=_WIDTH // 2), t.ElectraForPreTraining
        case "modernbert":
            config = t.ModernBertConfig(
                **wide | {"num_hidden_layers": 3},
                cls_token_id=tokenizer.cls_token_id,
                sep_token_id=tokenizer.sep_token_id,
                bos_token_id=tokenizer.cls_token_id,
                eos_token_id=tokenizer.sep_token_id,
                global_attn_every_n_layers=2,
                local_attention=16,
            )
            return config, t.ModernBertForMaskedLM
    raise ValueError(
        f"no tiny model of family {family!r}; there are {', '.join((*FAMILIES, *DECODERS))}"
    )
