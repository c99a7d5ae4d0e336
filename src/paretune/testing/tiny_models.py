"""Tiny models with random weights, written as a hub checkpoint would be: no classifier inside.

Each folder holds config.json, model.safetensors (saved from the class whose checkpoints are on the
hub for that family, so poolers are there or missing as in life) and a fast tokenizer built here
from a few sentences, with the family's special tokens and type ids.

They differ as decoders do: fewer heads of keys than of queries, heads that together are wider than
the model (Gemma), windows (Mistral, Gemma), learned positions (OPT, GPT-2), a tied and an untied LM
head, and tokenizers without a padding token, or without one at the start.
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

POSITIONS = 128
"""Tokens that a tiny model can read (as many for every family)."""
WINDOW = 16
"""Tokens that a layer with a sliding window sees (Mistral, Gemma)."""
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
WORDS = sorted({word.strip(".,?!;") for text in SENTENCES for word in text.split()})
_LETTERS = sorted(set("".join(SENTENCES)) - {" "})

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_WIDE = {**_SIZES, "intermediate_size": 48, "initializer_range": 0.2}
_GROUPED = {**_WIDE, "num_key_value_heads": 2}
_UNTIED = {"tie_word_embeddings": False}
_GEMMA = {
    **_GROUPED,
    "head_dim": 12,
    "query_pre_attn_scalar": 12,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}
_ONE_TYPE = {**_WIDE, "type_vocab_size": 1}
_ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertForPreTraining", _WIDE),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", _ONE_TYPE),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaForMaskedLM", _ONE_TYPE),
    "camembert": ("CamembertConfig", "CamembertForMaskedLM", _ONE_TYPE),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertForMaskedLM",
        {"dim": 32, "hidden_dim": 48, "n_heads": 4, "n_layers": 2, "initializer_range": 0.2},
    ),
    "deberta-v2": (
        "DebertaV2Config",
        "DebertaV2ForMaskedLM",
        {
            **_WIDE,
            "type_vocab_size": 0,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "max_relative_positions": -1,
            "pooler_hidden_size": 32,
        },
    ),
    "electra": ("ElectraConfig", "ElectraForPreTraining", {**_WIDE, "embedding_size": 16}),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        {
            **_WIDE,
            "num_hidden_layers": 3,
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
        },
    ),
}
_DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {**_GROUPED, **_UNTIED}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {**_GROUPED, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_GROUPED, **_UNTIED, "head_dim": 12}),
    # Capped so low that caps matter at this size.
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA),
    "mistral": (
        "MistralConfig",
        "MistralForCausalLM",
        {**_GROUPED, **_UNTIED, "sliding_window": WINDOW},
    ),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {**_SIZES, "word_embed_proj_dim": 32, "ffn_dim": 48, "init_std": 0.2},
    ),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**_GROUPED, **_UNTIED}),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "initializer_range": 0.2},
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**_WIDE, **_UNTIED}),
}
FAMILIES, DECODERS = tuple(_ENCODERS), tuple(_DECODERS)
"""Families of encoders and of decoders; by each its config, and the class of its checkpoints."""

_ANGLE = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_SQUARE = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
_BERT_ORDER = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ORDERS = {
    **dict.fromkeys(("bert", "distilbert", "electra"), _BERT_ORDER),
    "deberta-v2": ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"),
    "modernbert": ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"),
}
"""Special tokens in the order of the families' own vocabularies; of the others :data:`_ANGLE`."""
_TYPED = ("bert", "electra", "deberta-v2")
_DECODER_TOKENS = {
    "llama": {"eos": "</s>", "bos": "<s>"},
    "qwen2": {"pad": "<|endoftext|>", "eos": "<|im_end|>"},
    "qwen3": {"pad": "<|endoftext|>", "eos": "<|im_end|>"},
    "gemma2": {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>"},
    "gemma3": {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>"},
    "mistral": {"eos": "</s>", "bos": "<s>"},
    "opt": {"pad": "<pad>", "eos": "</s>", "bos": "</s>"},
    "phi3": {"pad": "<|endoftext|>", "eos": "<|endoftext|>", "bos": "<s>"},
    "gpt2": {"eos": "<|endoftext|>", "bos": "<|endoftext|>"},
    "gpt_neox": {"eos": "<|endoftext|>", "bos": "<|endoftext|>"},
}
_BEGINNING = ("llama", "gemma2", "gemma3", "mistral", "opt")
"""Decoders whose every text starts with ``bos``."""


def tiny_model(family: str, folder: Path) -> Path:
    """Write a tiny checkpoint of ``family`` into ``folder``; the same bits every time.

    ``family``: of :data:`FAMILIES`, or of :data:`DECODERS`.
    """
    tokenizer = decoder_tokenizer(family) if family in DECODERS else encoder_tokenizer(family)
    random_model(family, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def random_model(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """A model in evaluation mode, the same bits every time."""
    families = _ENCODERS | _DECODERS
    if family not in families:
        raise ValueError(f"no tiny model of family {family!r}; there are {', '.join(families)}")
    config_class, model_class, settings = families[family]
    positions, pad_id = POSITIONS, tokenizer.pad_token_id
    if family in ("roberta", "xlm-roberta", "camembert"):  # they count from behind the padding
        positions += int(pad_id) + 1
    tokens = {
        "vocab_size": len(tokenizer),
        "pad_token_id": pad_id,
        "max_position_embeddings": positions,
    }
    if family in DECODERS:
        tokens |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if family == "modernbert":
        tokens |= {f"{role}_token_id": tokenizer.cls_token_id for role in ("cls", "bos")}
        tokens |= {f"{role}_token_id": tokenizer.sep_token_id for role in ("sep", "eos")}
    config = getattr(transformers, config_class)(**tokens, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(list(families).index(family) + 1)
        model = getattr(transformers, model_class)(config).eval()
        unsettle_vectors(model)
    return model


def unsettle_vectors(model: torch.nn.Module) -> None:
    """Move biases off 0 and norms off 1, so that no test passes because they are trivial."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def encoder_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Word pieces, byte pairs or unigrams of :data:`SENTENCES`, as the family has them."""
    specials = _ORDERS.get(family, _ANGLE)
    tokens = _SQUARE if family in _ORDERS else _ANGLE
    names = dict(zip(("cls", "pad", "sep", "unk", "mask"), tokens, strict=True))
    if family in ("bert", "distilbert", "electra"):
        # The trainers of word pieces and unigrams give another order each time; these do not. Every
        # letter inside and at the start of a word, and the known words.
        entries = [*specials, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *WORDS]
        pieces = {piece: i for i, piece in enumerate(dict.fromkeys(entries))}
        core = Tokenizer(models.WordPiece(pieces, unk_token=names["unk"]))
        core.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        core.decoder = decoders.WordPiece()
    elif family in ("roberta", "modernbert"):
        core = _byte_pairs(specials)
    else:
        # Words with the mark of their start score better than letters.
        scored = [(piece, 0.0) for piece in specials]
        scored += [(piece, -4.0) for piece in ("\u2581", *(f"\u2581{word}" for word in WORDS))]
        scored += [(letter, -8.0) for letter in _LETTERS]
        core = Tokenizer(models.Unigram(scored, unk_id=specials.index(names["unk"])))
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
    return _fast_tokenizer(core, names, typed=family in _TYPED)


def decoder_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte pairs learnt from :data:`SENTENCES`, with the family's special tokens."""
    names = _DECODER_TOKENS[family]
    core = _byte_pairs(tuple(dict.fromkeys((*names.values(), "<unk>"))))
    if family in _BEGINNING:
        bos = names["bos"]
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A $B",
            special_tokens=[(bos, core.token_to_id(bos))],
        )
    return _fast_tokenizer(core, names)


def _byte_pairs(specials: tuple[str, ...]) -> Tokenizer:
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
    return core


def _fast_tokenizer(
    core: Tokenizer, names: dict[str, str], *, typed: bool = False
) -> PreTrainedTokenizerFast:
    inputs = ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=POSITIONS,
        model_input_names=inputs,
        **{f"{role}_token": token for role, token in names.items()},
    )
