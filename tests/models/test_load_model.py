"""Opening checkpoints: what the head is, how it is drawn, and what is refused."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

from paretune import objectives
from paretune.errors import ModelError
from paretune.models.load import load_model, reset_head
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec, derive_seed
from paretune.testing.tiny_models import FAMILIES, SENTENCES

KINDS = ("classification", "multiple_choice")
DENSE = {"classifier.dense", "classifier.out_proj"}
# Modules whose parameters the checkpoints lack, by hand from the families' hub checkpoints.
HEADS = {
    "bert": ({"classifier"}, {"classifier"}),
    "roberta": (DENSE, {"roberta.pooler.dense", "classifier"}),
    "xlm-roberta": (DENSE, {"roberta.pooler.dense", "classifier"}),
    "camembert": (DENSE, {"roberta.pooler.dense", "classifier"}),
    "distilbert": ({"pre_classifier", "classifier"}, {"pre_classifier", "classifier"}),
    "deberta-v2": ({"pooler.dense", "classifier"}, {"pooler.dense", "classifier"}),
    "electra": (DENSE, {"sequence_summary.summary", "classifier"}),
    "modernbert": ({"classifier"}, {"classifier"}),
}


def opened(folder, kind="classification", num_labels=3, labels=()):
    names = labels or [f"LABEL_{i}" for i in range(num_labels)]
    source = resolve_source(ModelSpec(name=str(folder)))
    return load_model(source, objectives.get(kind).head_spec(names))


def bits(loaded, names=None):
    return {
        n: p.detach().clone() for n, p in loaded.model.named_parameters() if not names or n in names
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_what_the_checkpoint_lacks(tiny_model, family, kind):
    loaded = opened(tiny_model(family), kind, labels=("a", "b", "c"))
    modules = {name.rpartition(".")[0] for name in loaded.head_parameters}
    assert modules == HEADS[family][KINDS.index(kind)]
    assert loaded.notes == ()
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    batch = loaded.tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    if kind == "multiple_choice":
        batch = {name: torch.stack([value, value], dim=1) for name, value in batch.items()}
    with torch.no_grad():
        logits = loaded.model(**batch).logits
    assert logits.shape == (len(SENTENCES), 2 if kind == "multiple_choice" else 3)
    assert logits.std(dim=0).min() > 1e-3  # texts differ, and so do their logits
    if kind == "classification":
        assert loaded.model.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_a_new_head_is_no_cause_for_warnings(tiny_model, caplog, capfd):
    logger = logging.getLogger("transformers")
    folder = tiny_model("roberta")
    capfd.readouterr()  # of writing it, where no test did before
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING, logger="transformers")  # another test may have changed it
    try:
        opened(folder)
        assert not caplog.records
        assert capfd.readouterr() == ("", "")
        # And transformers is as talkative as before.
        AutoModelForSequenceClassification.from_pretrained(folder)
        assert "LOAD REPORT" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_reset_head_draws_what_transformers_draws(tiny_model, family, kind):
    loaded = opened(tiny_model(family), kind)
    before = loaded.backbone_digest()
    reset_head(loaded, 5)
    opener = AutoModelForMultipleChoice
    message = {}
    if kind == "classification":
        opener, message = AutoModelForSequenceClassification, {"num_labels": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(5, "head"))
        oracle = opener.from_pretrained(tiny_model(family), **message)
    assert same(bits(loaded), {n: p.detach() for n, p in oracle.named_parameters()})
    assert loaded.backbone_digest() == before


def test_reset_head_keeps_the_parameters_themselves(tiny_model):
    """An optimiser or a method that holds them must not be left with old ones."""
    loaded = opened(tiny_model("roberta"))
    parameters = {name: loaded.model.get_parameter(name) for name in loaded.head_parameters}
    reset_head(loaded, 1)
    assert all(loaded.model.get_parameter(name) is p for name, p in parameters.items())


def test_pristine_sees_one_flipped_bit(tiny_model):
    loaded = opened(tiny_model("bert"))
    before = loaded.backbone_digest()
    with torch.no_grad():
        loaded.model.classifier.weight.add_(1)
    assert loaded.backbone_digest() == before  # the head is not its business
    weight = loaded.model.bert.encoder.layer[0].output.dense.weight
    with torch.no_grad():
        weight.view(torch.int32)[0, 0] ^= 1
    assert loaded.backbone_digest() != before


@pytest.mark.parametrize("labels", [3, 4])
def test_a_classifier_in_the_checkpoint_is_drawn_anew(tiny_model, tmp_path, labels):
    folder = tiny_model("roberta", tmp_path / "tuned")
    tuned = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    tuned.save_pretrained(folder)
    loaded = opened(folder, num_labels=labels)
    assert {name.rpartition(".")[0] for name in loaded.head_parameters} == DENSE
    assert "comes with a classifier" in loaded.notes[0]
    reset_head(loaded, 1)
    assert not torch.equal(loaded.model.classifier.dense.weight, tuned.classifier.dense.weight)
    assert loaded.model(input_ids=torch.tensor([[5, 6]])).logits.shape == (1, labels)


@pytest.mark.parametrize(
    "lost",
    [
        "bert.encoder.layer.1.attention.self.value.weight",
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.LayerNorm.bias",
    ],
)
def test_a_backbone_with_holes_is_refused(tiny_model, tmp_path, lost):
    folder = tiny_model("bert", tmp_path / "holes")
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights of the model") as caught:
        opened(folder)
    assert lost in str(caught.value)


def cut(folder, tiny_model):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def mix(folder, tiny_model):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_model("modernbert") / name).read_bytes())


def make_slow(folder, tiny_model):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"<unk>": 0, "<pad>": 1, "a": 2}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')


def changing(name, **values):
    return lambda folder, tiny_model: change(folder / name, **values)


@pytest.mark.parametrize(
    ("family", "spoil", "message"),
    [
        ("bert", changing("config.json", intermediate_size=40), "in another shape"),
        ("bert", cut, r"truncated or damaged \(5,000 of [\d,]+ bytes are there\)"),
        ("bert", changing("config.json", model_type="of-tomorrow"), r"config\.json cannot be used"),
        ("bert", changing("tokenizer_config.json", pad_token=None), "no padding token"),
        # It would shift positions.
        ("roberta", changing("tokenizer_config.json", pad_token="<unk>"), "counts positions by it"),  # noqa: S106
        ("bert", mix, "different models"),
        ("bert", make_slow, "no fast version"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(tiny_model, tmp_path, family, spoil, message):
    folder = tiny_model(family, tmp_path / "spoilt")
    spoil(folder, tiny_model)
    with pytest.raises(ModelError, match=message):
        opened(folder)


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
