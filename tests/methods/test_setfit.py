"""SetFit against the libraries that it is named after: pairs, loss, head and pooling."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from paretune.errors import MethodError
from paretune.methods import setfit
from paretune.models.structure.topology import ENCODER
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.preparation import ProcessCache
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.prepare import PreparedModel, prepare


def encoded(labels: list[int]) -> Encoded:
    """Texts of one to seven tokens; the first token is the number of the row."""
    ids = [[[i, *range(i % 7)]] for i in range(len(labels))]
    lengths = [len(text[0]) for text in ids]
    return Encoded(ids, ids, lengths, [*labels], [False] * len(labels))


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0, 2, 2, 0], [1, 1, 1, 0]])
def test_pairs_are_of_equal_and_of_different_labels(labels: list[int]) -> None:
    data, indices = encoded(labels), [3, 0, 1]
    for seed in range(40):
        drawn = setfit.draw_pairs(data, indices, seed)
        rows = [[text[0] for text in texts] for texts in drawn.ids]
        assert [row[0] for row in rows] == indices
        for i, alike, unlike in rows:
            assert labels[i] == labels[alike] != labels[unlike]
            assert (i == alike) == (labels.count(labels[i]) == 1)
        assert drawn.lengths == [max(map(len, texts)) for texts in drawn.ids]
    with pytest.raises(MethodError, match="all rows of train have the same"):
        setfit.draw_pairs(encoded([1, 1, 1]), [0], seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_those_of_sentence_transformers(dtype: torch.dtype) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    vectors = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours, theirs = vectors.clone().requires_grad_(), vectors.clone().requires_grad_()
    loss = setfit.cosine_loss(ours, encoded([0] * 5), range(5), LossOptions()) / 5
    pairs = [theirs[:, [0, 0]].flatten(0, 1).float(), theirs[:, 1:].flatten(0, 1).float()]
    oracle = losses.CosineSimilarityLoss(None)
    expected = oracle.compute_loss_from_embeddings(pairs, torch.tensor([1.0, 0.0] * 5))
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    loss.backward()
    expected.backward()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-3
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=tolerance)


@pytest.mark.parametrize("present", [(0, 1, 2, 3), (1, 3), (0, 2, 3)])
def test_the_head_is_the_logistic_regression(present: tuple[int, ...]) -> None:
    """Of scikit-learn, as in the package; a label that train lacks is never answered."""
    model: Any = torch.nn.ModuleDict({"head": torch.nn.Linear(6, 4)})
    model.config = SimpleNamespace(num_labels=4)
    anatomy: Any = SimpleNamespace(width=6, head_modules=("head",), topology=ENCODER)
    labels = [present[i % len(present)] for i in range(40)]
    vectors = np.random.default_rng(0).normal(size=(40, 6)) + np.eye(4, 6)[labels]
    inputs = torch.from_numpy(vectors).float()
    weights = {0: 1.0, 1: 9.0, 2: 0.2, 3: 2.0}
    options = LossOptions(class_weights=tuple((weight,) for weight in weights.values()))
    loaded: Any = SimpleNamespace(model=model, anatomy=anatomy)
    setfit.fit_head(loaded, labels, options, lambda: model["head"](inputs).numpy())
    expected = np.zeros((40, 4))
    expected[:, present] = (
        LogisticRegression(class_weight=weights).fit(inputs.numpy(), labels).predict_proba(inputs)
    )
    answered = model["head"](inputs).softmax(-1).detach().numpy()
    np.testing.assert_allclose(answered, expected, rtol=0, atol=1e-3)


MODULE = "sentence_transformers.models."
TRANSFORMER, POOLING = {"type": f"{MODULE}Transformer"}, {"type": f"{MODULE}Pooling", "path": "p"}
NORMALIZE, DENSE = {"type": f"{MODULE}Normalize"}, {"type": f"{MODULE}Dense"}


def prepared_model(folder: Path, tiny_model: Any, modules: Any, pooling: Any) -> PreparedModel:
    model = tiny_model("bert", folder / "model")
    (model / "p").mkdir()
    (model / "p" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    (model / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    bench, run = ProcessCache(), tiny_run(tiny_task(folder / "data"), model, "setfit")
    return prepare(run, bench.model(run.model, bench.dataset(run.task)))


OLD = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True, "include_prompt": True}


@pytest.mark.parametrize(
    ("modules", "pooling"),
    [([TRANSFORMER, POOLING, NORMALIZE], {"pooling_mode": "mean"}), ([TRANSFORMER, POOLING], OLD)],
    ids=["normalised mean", "older cls"],
)
def test_sentence_transformers_makes_the_same_vectors(
    modules: Any, pooling: Any, tmp_path: Path, tiny_model: Any
) -> None:
    library = pytest.importorskip("sentence_transformers")
    prepared = prepared_model(tmp_path, tiny_model, modules, pooling)
    loaded = prepared.loaded
    texts = ["The cat sat on the mat.", "Water turns into ice.", "No"]
    inputs = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    folder = tmp_path / "export"
    setfit.to_sentence_transformers(loaded, 64, folder)
    with torch.inference_mode():
        logits = loaded.model.eval()(**inputs).logits
    encoder = library.SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(encoder.encode(texts), logits.numpy(), rtol=0, atol=1e-5)
    assert [type(module).__name__ for module in encoder][2:-1] == ["Normalize"] * (len(modules) - 2)
    assert encoder[1].pooling_mode == ("cls" if pooling is OLD else "mean")


@pytest.mark.parametrize(
    ("modules", "pooling", "what"),
    [
        ([TRANSFORMER, POOLING], {"pooling_mode": "lasttoken"}, "it has lasttoken"),
        (
            [TRANSFORMER, POOLING],
            {**OLD, "pooling_mode_mean_tokens": True},
            "it has mean_tokens, cls_token",
        ),
        ([TRANSFORMER, POOLING, DENSE], {"pooling_mode": "mean"}, "it has mean, Dense"),
        (7, None, "not subscriptable"),
    ],
)
def test_other_vectors_are_refused(
    modules: Any, pooling: Any, what: str, tmp_path: Path, tiny_model: Any
) -> None:
    with pytest.raises(MethodError, match=what):
        prepared_model(tmp_path, tiny_model, modules, pooling)
