"""A hub to push to, and tiny models in every layout that the hub has."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
import sentencepiece
import torch
import transformers
from huggingface_hub import CommitOperationAdd, HfApi
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from paretune.testing.tiny_models import SENTENCES


@dataclass
class FakeHub:
    """What the hub holds: visibility by repository, the files of each, and messages of commits."""

    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
        """A repository that is there already stays as it is."""
        assert exist_ok
        self.private.setdefault(repository, private)
        self.files.setdefault(repository, {})
        return f"https://hub/{repository}"

    def create_commit(
        self, repository: str, operations: Sequence[CommitOperationAdd], *, commit_message: str
    ) -> None:
        """Keep the contents of all files."""
        self.commits.append(commit_message)
        for operation in operations:
            with operation.as_file() as file:
                self.files[repository][operation.path_in_repo] = file.read()


def fake_hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A hub in the place of the real one, where somebody is logged in."""
    hub, api = FakeHub(), create_autospec(HfApi, instance=True)  # refuses what the library would
    api.create_repo.side_effect = hub.create_repo
    api.create_commit.side_effect = hub.create_commit
    api.repo_info.side_effect = lambda name: SimpleNamespace(private=hub.private[name])
    monkeypatch.setattr("paretune.exporting.folder.HfApi", lambda: api)
    return hub


SMALL = 1000
"""Pieces of a small vocabulary, before the special tokens."""
CAMEMBERT = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED")
"""What fairseq put before the pieces of CamemBERT's SentencePiece model, whose own <unk> goes."""


@dataclass(frozen=True)
class Layout:
    """One repository: its name, its commit, and who writes its files."""

    name: str
    commit: str
    write: Callable[[Path], None]


def hub_layout(name: str, cache: Path) -> Path:
    """Put a model into the cache of the hub, as a download does; the snapshot's folder."""
    layout = LAYOUTS[name]
    home = cache / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(layout.commit)
    fresh, snapshot, blobs = home / "fresh", home / "snapshots" / layout.commit, home / "blobs"
    for folder in (fresh, snapshot, blobs):
        folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layout.write(fresh)
    for path in sorted(fresh.iterdir()):
        with path.open("rb") as file:
            blob = blobs / hashlib.file_digest(file, "sha256").hexdigest()
        path.rename(blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    fresh.rmdir()
    return snapshot


def copied(snapshot: Path, folder: Path) -> Path:
    """The files of a snapshot in a folder of their own, for tests that change them."""
    folder.mkdir(parents=True)
    for path in snapshot.iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def texts(count: int, seed: int) -> list[str]:
    """Lines of words that look Slovene, with capitals, numbers and marks; real ones among them."""
    rng = random.Random(seed)  # noqa: S311 (made-up words, no secret)
    starts = ("b", "č", "d", "g", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "š", "t", "v", "ž")
    words = [
        "".join(rng.choice(starts) + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))
        for _ in range(500)
    ]
    lines = []
    for _ in range(count):
        line = [rng.choice(words) + rng.choice(("", "", "", ",", "j", "n")) for _ in range(9)]
        line[0] = line[0].capitalize()
        if rng.random() < 0.3:
            line.insert(rng.randrange(9), str(rng.randrange(3000)))
        lines.append(" ".join(line) + rng.choice((".", "!", "?", "; »in«.")))
    return [*SENTENCES, *lines]


def sentencepiece_model(
    path: Path, model_type: str, pieces: int, **trainer: Any
) -> sentencepiece.SentencePieceProcessor:
    """Train a SentencePiece model of ``pieces`` pieces, and write it."""
    corpus = path.with_suffix(".txt")
    corpus.write_text("\n".join(texts(1500, seed=1)), encoding="utf-8")
    prefix = path.with_suffix(".made")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(prefix), vocab_size=pieces, model_type=model_type,
        num_threads=1, minloglevel=2, **trainer,
    )  # fmt: skip
    content = prefix.with_suffix(".made.model").read_bytes()
    for file in path.parent.glob(f"{path.stem}.*"):
        file.unlink()
    path.write_bytes(content)
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def camembert_bpe(model_file: Path) -> Tokenizer:
    """The tokenizer.json that transformers 4 wrote for a CamemBERT with a BPE model."""
    spm = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model_file.read_bytes())
    own = [spm.id_to_piece(i) for i in range(1, len(spm))]
    vocabulary = {piece: i for i, piece in enumerate([*CAMEMBERT, *own, "<mask>"])}
    ranked = sorted(
        (-spm.get_score(i), i, piece[:cut], piece[cut:])
        for i, piece in ((i, spm.id_to_piece(i)) for i in range(1, len(spm)))
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    )
    merges = [(left, right) for _, _, left, right in ranked]
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token=CAMEMBERT[3], fuse_unk=True))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    core.decoder = decoders.Metaspace()
    core.add_special_tokens([*CAMEMBERT[:4], "<s>", "</s>", "<mask>"])
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])],
    )
    return core


def _json(folder: Path, name: str, **content: Any) -> None:
    (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48
}  # fmt: skip


def _sloberta(folder: Path) -> None:
    """A CamemBERT whose tokenizer is SentencePiece BPE; weights as .bin only, no pooler."""
    spm = folder / "sentencepiece.bpe.model"
    sentencepiece_model(spm, "bpe", SMALL)
    camembert_bpe(spm).save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
             "pad_token": "<pad>", "cls_token": "<s>"}  # fmt: skip
    unused = {"additional_special_tokens": ["<s>NOTUSED", "</s>NOTUSED"]}
    _json(folder, "special_tokens_map.json", **named | {"mask_token": "<mask>"}, **unused)
    mask = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False,
            "normalized": True, "__type": "AddedToken"}  # fmt: skip
    _json(folder, "tokenizer_config.json", **named, mask_token=mask, **unused,
          model_max_length=512, special_tokens_map_file=None, name_or_path="./",
          tokenizer_class="CamembertTokenizer")  # fmt: skip
    shape = dict(SHAPE, vocab_size=SMALL + 5, max_position_embeddings=514, type_vocab_size=1,
                   pad_token_id=1, bos_token_id=5, eos_token_id=6, layer_norm_eps=1e-5)  # fmt: skip
    _json(folder, "config.json", architectures=["CamembertForMaskedLM"], model_type="camembert",
          attention_probs_dropout_prob=0.1, hidden_act="gelu", hidden_dropout_prob=0.1,
          initializer_range=0.02, **shape)  # fmt: skip
    model = transformers.CamembertForMaskedLM(transformers.CamembertConfig(**shape))
    state = dict(model.state_dict())
    state["roberta.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save(state, folder / "pytorch_model.bin")


def _crosloengual(folder: Path) -> None:
    """A BERT from TensorFlow, cased, with heads, pooler and the old names of its norms."""
    pieces = dict.fromkeys(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    letters = sorted(set("".join(texts(50, seed=1))) - {" "})
    pieces |= dict.fromkeys([*letters, *(f"##{letter}" for letter in letters)])
    pieces |= dict.fromkeys(word.strip(".,?!;") for text in SENTENCES for word in text.split())
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    _json(folder, "tokenizer_config.json", do_lower_case=False)
    shape = dict(SHAPE, vocab_size=len(pieces), max_position_embeddings=512, type_vocab_size=2)
    _json(folder, "config.json", architectures=["BertForPreTraining"], model_type="bert",
          attention_probs_dropout_prob=0.1, hidden_act="gelu", hidden_dropout_prob=0.1,
          initializer_range=0.02, **shape)  # fmt: skip
    model = transformers.BertForPreTraining(transformers.BertConfig(**shape))
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    state["bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, folder / "pytorch_model.bin")


def _xlm_roberta(folder: Path) -> None:
    """An XLM-R with safetensors; ids are those of a Unigram model, moved by one."""
    spm = folder / "sentencepiece.bpe.model"
    trained = sentencepiece_model(spm, "unigram", SMALL)
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(3, len(trained))]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary = [*special, *pieces, ("<mask>", 0.0)]
    transformers.XLMRobertaTokenizer(
        vocab=vocabulary, _spm_precompiled_charsmap=_charsmap(spm), model_max_length=512
    ).save_pretrained(folder)
    _json(folder, "tokenizer_config.json", model_max_length=512)
    shape = dict(SHAPE, vocab_size=SMALL + 2, max_position_embeddings=514, type_vocab_size=1,
                   pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5)  # fmt: skip
    _json(folder, "config.json", architectures=["XLMRobertaForMaskedLM"],
          model_type="xlm-roberta", **shape)  # fmt: skip
    model = transformers.XLMRobertaForMaskedLM(transformers.XLMRobertaConfig(**shape))
    config = (folder / "config.json").read_bytes()
    model.save_pretrained(folder)
    (folder / "config.json").write_bytes(config)
    (folder / "generation_config.json").unlink(missing_ok=True)


def _charsmap(model_file: Path) -> bytes:
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model_file.read_bytes())
    return bytes(proto.normalizer_spec.precompiled_charsmap)


def _opus_mt(folder: Path) -> None:
    """A Marian of many Slavic languages into English; four names of one table in its .bin."""
    for name in ("source.spm", "target.spm"):
        sentencepiece_model(folder / name, "unigram", SMALL, bos_id=-1, eos_id=0, unk_id=1)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(len(processor))]
    pieces += [f"unused{n}" for n in range(len(pieces), SMALL)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    _json(folder, "tokenizer_config.json", target_lang="en", source_lang="sla",
          model_max_length=512)  # fmt: skip
    pad = vocabulary["<pad>"]
    shape = {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": len(vocabulary),
        "max_position_embeddings": 512, "scale_embedding": True, "static_position_embeddings": True,
        "add_bias_logits": False, "add_final_layer_norm": False, "normalize_before": False,
        "normalize_embedding": False, "activation_function": "swish", "dropout": 0.1,
        "pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "bos_token_id": 0,
        "num_beams": 6, "max_length": 512, "bad_words_ids": [[pad]], "num_hidden_layers": 2,
        "extra_pos_embeddings": pad + 1,
    }  # fmt: skip
    _json(folder, "config.json", architectures=["MarianMTModel"], model_type="marian",
          is_encoder_decoder=True, **shape)  # fmt: skip
    model = transformers.MarianMTModel(transformers.MarianConfig(**shape))
    torch.save(dict(model.state_dict()), folder / "pytorch_model.bin")


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("EMBEDDIA/sloberta", "49db152a" + "0" * 32, _sloberta),
        Layout("EMBEDDIA/crosloengual-bert", "750255b6" + "0" * 32, _crosloengual),
        Layout("FacebookAI/xlm-roberta-base", "e73636d4" + "0" * 32, _xlm_roberta),
        Layout("Helsinki-NLP/opus-mt-sla-en", "43502859" + "0" * 32, _opus_mt),
    )
}
