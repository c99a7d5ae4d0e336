"""Translation runs: the loss that is learnt, the beams that answer, and what a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from support.plain_loss import SEQ2SEQ, plain_loss
from transformers.trainer_pt_utils import LabelSmoother

from paretune import objectives
from paretune.errors import MissingDependencyError, StudyError
from paretune.models.load import LoadedModel, load_model
from paretune.models.pass_context import PassContext
from paretune.models.sources.resolve import resolve_source
from paretune.objectives.encoding import encode_texts, pad_batch
from paretune.study import Generation, ModelSpec, Run, Study, TaskSpec
from paretune.tasks import load_dataset as load_task
from paretune.testing.tiny_tasks import tiny_run
from paretune.testing.translator_folders import tiny_marian, tiny_pairs
from paretune.training import Outcome, caches
from paretune.training.evaluation.predict import generate
from paretune.training.forward.passes import Compute, to_tensors
from paretune.training.trainer import train_run


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_marian(tmp_path_factory.mktemp("tiny-marian"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> TaskSpec:
    return tiny_pairs(tmp_path_factory.mktemp("words"))


@pytest.fixture
def loaded(marian: Path) -> LoadedModel:
    source = resolve_source(ModelSpec(name=str(marian)), offline=True)
    return load_model(source, objectives.get("translation").head_spec((), ("sl", "en")))


def a_run(task: TaskSpec, model: Path, method: str = "lora", **changes: Any) -> Run:
    defaults = {
        "learning_rate": 1e-3,
        "training": {"max_steps": 4, "eval_every": 2},
        "generation": Generation(max_new_tokens=12),
    }
    return tiny_run(task, model, method, **{**defaults, **changes})


def finished(run: Run, folder: Path) -> Outcome:
    return train_run(run, checkpoint=folder / "state", report=lambda _: None)


def test_the_smoothed_loss_is_that_of_transformers(loaded: LoadedModel, words: TaskSpec) -> None:
    examples = load_task(words).train[:5]
    encoded = encode_texts(examples, loaded.tokenizer, 64)
    rows = list(range(5))
    inputs = to_tensors(pad_batch(encoded, rows, loaded.pad_id), "cpu")
    with torch.no_grad():
        out = loaded.model(**inputs)
        expected = LabelSmoother(epsilon=0.1)(out, inputs["labels"])
        loss = plain_loss(loaded.model, loaded.pad_id, encoded, rows, 0.1)
        plain = plain_loss(loaded.model, loaded.pad_id, encoded, rows)
    tokens = SEQ2SEQ.weight(encoded, rows)
    assert tokens == int((inputs["labels"] >= 0).sum())
    torch.testing.assert_close(loss / tokens, expected)
    torch.testing.assert_close(plain / tokens, out.loss)


def test_long_texts_are_cut_on_both_sides_and_counted(loaded: LoadedModel, words: TaskSpec) -> None:
    examples = load_task(words).train[:20]
    whole, cut = (encode_texts(examples, loaded.tokenizer, n) for n in (64, 5))
    assert not any(whole.truncated) and any(cut.truncated)
    assert cut.targets is not None
    assert max(map(len, cut.targets)) == 5 == max(cut.source_lengths)
    end = loaded.tokenizer.eos_token_id
    assert all(ids[0][-1] == end for ids in cut.ids)
    assert all(ids[-1] == end for ids in cut.targets)


@pytest.mark.parametrize("beams", [1, 3])
def test_translations_are_those_of_generate_one_by_one(
    loaded: LoadedModel, words: TaskSpec, beams: int
) -> None:
    examples = load_task(words).train[:12]
    encoded = encode_texts(examples, loaded.tokenizer, 64)
    settings = Generation(num_beams=beams, max_new_tokens=9)
    texts = generate(loaded, PassContext(), Compute(), encoded, settings)
    for example, text in zip(examples, texts, strict=True):
        inputs = loaded.tokenizer(example.segments[0][0], return_tensors="pt")
        tokens = loaded.model.generate(**inputs, num_beams=beams, max_new_tokens=9, max_length=None)
        alone = loaded.tokenizer.decode(tokens[0], skip_special_tokens=True)
        assert text == " ".join(alone.split())


def test_the_search_is_the_checkpoints_own_unless_the_study_says(loaded: LoadedModel) -> None:
    assert loaded.generation_config(Generation()).num_beams == 2
    changed = loaded.generation_config(
        Generation(num_beams=5, length_penalty=0.6, max_new_tokens=7)
    )
    assert (changed.num_beams, changed.length_penalty, changed.max_length) == (5, 0.6, 8)


def test_a_run_leaves_translations_scores_and_signatures(
    words: TaskSpec, marian: Path, tmp_path: Path
) -> None:
    outcome = finished(a_run(words, marian), tmp_path)
    predictions = json.loads(outcome.blobs["predictions"])["test"]
    dataset = load_task(words)
    assert predictions["label"] == [e.target for e in dataset.test]
    bleu = sacrebleu.corpus_bleu(predictions["prediction"], [predictions["label"]]).score
    assert outcome.result["scores"]["test"]["primary"] == pytest.approx(bleu)
    assert outcome.result["signatures"]["bleu"].startswith("nrefs:1|")
    assert outcome.result["outcome"] in ("ok", "collapsed")
    assert outcome.result["head_parameters"] == 0
    first, last = (point["selection"]["loss"] for point in outcome.result["curve"])
    assert last < first
    best = outcome.result["scores"]["selection"]["loss"]
    assert best == pytest.approx(last, rel=1e-6)
    tokens = [loss for row in predictions["scores"] for loss in row]
    loss = outcome.result["scores"]["test"]["loss"]
    assert -sum(tokens) / len(tokens) == pytest.approx(loss, abs=1e-4)  # rounded to 4 decimals
    assert len(predictions["scores"]) == len(dataset.test)
    assert not any(json.loads(outcome.blobs["predictions"])["selection"]["scores"])


def test_the_selection_part_of_a_translation_is_cut_whole(
    words: TaskSpec, marian: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = caches.ProcessCache().parts(a_run(words, marian))
    monkeypatch.setattr("paretune.training.caches.MAX_SELECTION_TEXTS", 5)
    cut = caches.ProcessCache().parts(a_run(words, marian))
    assert len(whole.selection) == 12 and len(cut.selection) == 5
    assert len(cut.train) == len(whole.train) + 7
    names = {e.uid for e in cut.train} | {e.uid for e in cut.selection}
    assert names == {e.uid for e in whole.train} | {e.uid for e in whole.selection}


def test_metrics_beside_bleu_are_asked_for_or_refused(
    words: TaskSpec, marian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paretune_slovene.metrics import meteor

    def missing(language: str) -> Any:
        raise MissingDependencyError("words are cut by NLTK, which is not installed.")

    monkeypatch.setattr(meteor, "load_tokeniser", missing)
    run = a_run(words, marian, generation=Generation(metrics=("meteor",)))
    with pytest.raises(MissingDependencyError, match="NLTK"):
        finished(run, tmp_path)
    monkeypatch.setattr(meteor, "load_tokeniser", lambda language: str.split)
    monkeypatch.setattr(meteor, "open_wordnet", lambda folder: Synonyms())
    outcome = finished(run, tmp_path)
    segments = json.loads(outcome.blobs["predictions"])["test"]["segment"]["meteor"]
    assert len(segments) == 10 and all(0 <= one <= 1 for one in segments)
    assert outcome.result["scores"]["test"]["meteor"] == pytest.approx(sum(segments) / 10)


class Synonyms:
    """A WordNet without words."""

    def synonyms(self, word: str) -> frozenset[str]:
        return frozenset()


def test_bertscore_and_its_model_go_together() -> None:
    raw = {
        "study": "s",
        "tasks": ["rte"],
        "models": ["m"],
        "methods": ["lora"],
        "generation": {"metrics": ["bertscore"]},
    }
    with pytest.raises(StudyError, match="bertscore_model"):
        Study.parse(raw)
