"""Tokenizers as folders have them: SentencePiece BPE under a class that takes Unigram only."""

from __future__ import annotations

import json
import shutil

import pytest
import sentencepiece
from support.hub import copied, hub_layout, sentencepiece_model, texts
from support.open_models import open_model
from support.tiny_study import finish, small
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoTokenizer

import paretune
from paretune.errors import ModelError
from paretune.models.tokenizer import require_same_tokenization
from paretune.verbs.export import export

LINES = texts(1000, seed=7)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """SloBERTa's files, as small as can be."""
    return hub_layout("EMBEDDIA/sloberta", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder(published, tmp_path):
    return copied(published, tmp_path / "sloberta")


def expected(folder):
    """The ids by fairseq's rule: the piece's number plus four, and the unknown one is 3."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    return [[i + 4 if i else 3 for i in model.encode(line)] for line in LINES]


def ids(tokenizer):
    return [tokenizer(line, add_special_tokens=False)["input_ids"] for line in LINES]


def test_a_camembert_with_bpe_opens_and_cuts_as_its_model_does(folder):
    tokenizer = open_model(folder).tokenizer
    assert ids(tokenizer) == expected(folder)
    one, two = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("Žaba.", "In pes?"))
    assert tokenizer("Žaba.", "In pes?")["input_ids"] == [5, *one, 6, 6, *two, 6]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (1, 1004)
    assert tokenizer.model_max_length == 512


@pytest.mark.parametrize("also", [(), ("special_tokens_map.json", "tokenizer_config.json")])
def test_without_tokenizer_json_it_is_built_from_the_model(folder, also):
    whole = open_model(folder).tokenizer
    for name in ("tokenizer.json", *also):
        (folder / name).unlink()
    tokenizer = open_model(folder).tokenizer
    assert ids(tokenizer) == expected(folder)
    assert tokenizer("Žaba.", "In pes?")["input_ids"] == whole("Žaba.", "In pes?")["input_ids"]
    assert tokenizer.special_tokens_map == whole.special_tokens_map
    assert tokenizer.get_vocab() == whole.get_vocab()


def test_without_the_model_tokenizer_json_is_enough(folder):
    reference = expected(folder)
    (folder / "sentencepiece.bpe.model").unlink()
    assert ids(open_model(folder).tokenizer) == reference


def refused(folder):
    with pytest.raises(ModelError) as error:
        open_model(folder)
    return str(error.value)


def test_a_cure_that_cuts_otherwise_is_refused(folder):
    """Pieces of the BPE model as a Unigram without scores: it opens, and most cuts are wrong."""
    core = json.loads((folder / "tokenizer.json").read_text())
    pieces = sorted(core["model"]["vocab"], key=core["model"]["vocab"].get)
    flat = Tokenizer(models.Unigram([(piece, 0.0) for piece in pieces], unk_id=3))
    core["model"] = json.loads(flat.to_str())["model"]
    (folder / "tokenizer.json").write_text(json.dumps(core))
    AutoTokenizer.from_pretrained(folder)  # nobody else minds
    message = refused(folder)
    assert "its tokenizer and its sentencepiece.bpe.model split texts differently" in message
    assert "fetch the folder as published" in message


def test_the_model_of_another_tokenizer_is_refused(folder):
    (folder / "sentencepiece.bpe.model").unlink()
    sentencepiece_model(folder / "sentencepiece.bpe.model", "bpe", 200)
    assert "split texts differently" in refused(folder)


def test_ids_that_are_moved_unevenly_are_refused(folder):
    """Every cut is right, and two pieces have each other's number."""
    core = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = core["model"]["vocab"]
    vocabulary["."], vocabulary[","] = vocabulary[","], vocabulary["."]
    (folder / "tokenizer.json").write_text(json.dumps(core))
    assert "split texts differently" in refused(folder)


def test_a_damaged_sentencepiece_model_is_named(folder):
    (folder / "sentencepiece.bpe.model").write_bytes(b"not this")
    assert "is no SentencePiece model" in refused(folder)


@pytest.mark.parametrize("lower", [True, False])
def test_families_that_change_letters_first(tmp_path, lower):
    """ALBERT's, uncased or without accents: SentencePiece never sees what it takes away."""
    file = tmp_path / "spiece.model"
    special = {"user_defined_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
    sentencepiece_model(file, "unigram", 500, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, **special)
    settings = {"tokenizer_class": "AlbertTokenizer", "do_lower_case": lower, "keep_accents": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text('{"model_type": "albert"}')
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    require_same_tokenization(tokenizer, file, "model albert")
    assert ("Ž" in "".join(tokenizer.tokenize("Žaba"))) is False


def test_exports_open_with_the_same_tokenizer(folder, tmp_path):
    study = small(tmp_path, folder)
    finish(study, tmp_path / "store", costs=0).close()
    reference = expected(folder)
    for form in ("merged", "peft", "paretune"):
        export(
            study,
            store=tmp_path / "store",
            method="lora",
            form=form,
            output=tmp_path / form,
            allow_collapsed=True,
        )
    assert AutoConfig.from_pretrained(tmp_path / "merged").model_type == "camembert"
    for form in ("merged", "peft"):
        assert ids(AutoTokenizer.from_pretrained(tmp_path / form)) == reference
    assert ids(paretune.load(tmp_path / "paretune")[1]) == reference
    shutil.copy(folder / "sentencepiece.bpe.model", tmp_path / "merged")
    assert (
        ids(open_model(tmp_path / "merged").tokenizer) == reference
    )  # and is a base of ours again
