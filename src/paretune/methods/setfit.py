"""SetFit: the encoder learns from pairs of rows which texts are alike; then a head is fitted.

Source: Tunstall et al. 2022, arXiv:2209.11055; loss, pairs and head as in their package, setfit.
Equation: the body minimises (cos(s_i, s_j) - [y_i = y_j])^2, mean over pairs; s is the vector of a
text. Each row of a batch makes a pair with a random row of its label, and one with a random row of
another label: an epoch is one of the paper's iterations, of which it takes 20. The head is logistic
regression on the vectors of train (scikit-learn, C = 1), fitted anew before each evaluation. Class
weights are those of its rows; label smoothing does not reach it.
Trained parameters: the body and the classifier. A pooler or a dense layer between is left out.
Start: the checkpoint's vectors, as its modules for sentence-transformers say: mean of the hidden
states, or their first; normalised, or not. Without such modules, the mean.
When: there are 8 to 64 rows of a label, and an encoder that was trained on sentences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from paretune.errors import MethodError, MissingDependencyError
from paretune.methods import full
from paretune.methods.core.injection import Injection, get_linear
from paretune.methods.core.method import (
    BodyTraining,
    Head,
    Method,
    MethodOptions,
    Trains,
    always,
)
from paretune.methods.core.run_axis import Fleet
from paretune.models.changes import ModelChanges
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded

POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
"""Those that are understood, by their names before version 6 of sentence-transformers."""
UNSEEN = -1e3
"""The logit of a label that no row of train has."""


def inject(
    model: Any, anatomy: Anatomy, options: MethodOptions, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Let the model classify vectors. ``undo`` cannot bring the old weights back: reload."""
    trained, head = list_trained(model, anatomy), find_classifier(model, anatomy)
    forward = partial(read_sentences, model, get_linear(model, head), *read_pooling(model))
    changes = ModelChanges()
    changes.set(model, "forward", forward)
    names = tuple(name for name in trained if is_within(name, head))
    return Injection(trained, changes, supports_packing=False, head=names)


def list_trained(model: nn.Module, anatomy: Anatomy) -> dict[str, nn.Parameter]:
    """The parameters of the body and of the classifier, by name."""
    unread = [*anatomy.untrainable, *anatomy.head_modules]
    head = find_classifier(model, anatomy)
    named = model.named_parameters()
    return {n: p for n, p in named if is_within(n, head) or not is_within(n, *unread)}


def find_classifier(model: Any, anatomy: Anatomy) -> str:
    """Name of the head's last layer, from a vector to the labels; MethodError without one."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.in_features == anatomy.width
        and is_within(name, *anatomy.head_modules)
    ]
    if anatomy.topology.pooled_token != 0 or not names:
        raise MethodError(
            f"{type(model).__name__} is no encoder with a linear classifier.",
            where="method setfit",
            remedy="Take another method for this model.",
        )
    return str(names[-1])


def read_pooling(model: Any) -> tuple[str, bool]:
    """How the checkpoint pools hidden states (mean or cls), and whether it normalises the vector.

    Raises:
        MethodError: its modules for sentence-transformers cannot be read, or are others.
    """
    path, pooling, normalises = Path(model.name_or_path, "modules.json"), "mean", False
    if not path.is_file():
        return pooling, normalises
    try:
        for module in json.loads(path.read_text(encoding="utf-8"))[1:]:
            kind = str(module["type"]).rpartition(".")[2]
            if kind == "Pooling":
                config_path = path.parent / module["path"] / "config.json"
                config = json.loads(config_path.read_text(encoding="utf-8"))
                modes = [
                    POOLINGS.get(k, k) for k, v in config.items() if "pooling_mode_" in k and v
                ]
                kind = pooling = config.get("pooling_mode", " + ".join(modes))
            if kind not in ("mean", "cls", "Normalize"):
                raise ValueError(f"it has {kind}, not mean, cls or Normalize")
            normalises = normalises or kind == "Normalize"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MethodError(
            f"SetFit cannot make the vectors of this checkpoint ({error}).",
            where=str(path),
            remedy="Take another sentence encoder.",
        ) from None
    return pooling, normalises


def read_sentences(
    model: Any,
    classify: nn.Module,
    pooling: str,
    normalises: bool,
    input_ids: Tensor,
    attention_mask: Tensor,
    **inputs: Tensor,
) -> SequenceClassifierOutput:
    """Logits of texts: (texts, labels) from (texts, tokens).

    Of several texts in a row, (rows, texts, tokens), their vectors: (rows, texts, width).
    """
    shape = input_ids.shape[:-1]
    named = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
    hidden = model.base_model(**{n: v.flatten(0, -2) for n, v in named.items()})[0]
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    mask = attention_mask.flatten(0, -2)[..., None]
    vectors = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    if normalises:
        vectors = F.normalize(vectors, dim=-1)
    outputs = vectors.unflatten(0, shape) if len(shape) > 1 else classify(vectors)
    return SequenceClassifierOutput(logits=outputs)


def draw_pairs(data: Encoded, indices: Sequence[int], seed: int) -> Encoded:
    """For each row its text, that of another row of its label, and one of another label.

    A row that is alone with its label is compared with itself.
    """
    labels, generator = np.array(data.labels), np.random.Generator(np.random.PCG64(seed))
    rows: list[list[int]] = []
    for i in indices:
        same = labels == labels[i]
        if same.all():
            raise MethodError(
                "SetFit compares rows of different labels, and all rows of train have the same.",
                where="method setfit",
                remedy="Add rows of another label.",
            )
        alike = np.flatnonzero(same)
        alike = alike[alike != i] if len(alike) > 1 else alike
        rows.append([i, int(generator.choice(alike)), int(generator.choice(np.flatnonzero(~same)))])
    types = data.type_ids
    return replace(
        data.select(indices),
        ids=[[data.ids[j][0] for j in row] for row in rows],
        type_ids=None if types is None else [[types[j][0] for j in row] for row in rows],
        lengths=[max(data.lengths[j] for j in row) for row in rows],
    )


def cosine_loss(
    vectors: Tensor, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Squared error of the cosines, mean over the two pairs of a row, summed over the rows.

    ``vectors``: (rows, 3, width), of the texts of :func:`draw_pairs`.
    """
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    cosines = F.cosine_similarity(wide[:, :1], wide[:, 1:], dim=-1)
    return (cosines - cosines.new_tensor([1.0, 0.0])).square().mean(-1).sum()


@torch.no_grad()
def fit_head(
    model: nn.Module,
    anatomy: Anatomy,
    labels: Sequence[Any],
    options: LossOptions,
    embed: Callable[[], Any],
) -> None:
    """Set the classifier to the logistic regression of the training part's vectors."""
    from sklearn.linear_model import LogisticRegression

    head = get_linear(model, find_classifier(model, anatomy))
    with ModelChanges() as changes:
        changes.set(head, "forward", lambda vectors: vectors)
        vectors = embed().astype(np.float64)
    if not np.isfinite(vectors).all():
        return  # the selection loss is no number either: the run has diverged
    fitted = LogisticRegression(max_iter=1000, fit_intercept=head.bias is not None)
    of_classes = options.class_weights
    weights = None if of_classes is None else [of_classes[label][0] for label in labels]
    present = fitted.fit(vectors, labels, weights).classes_
    # Of two labels there are the log-odds of the second alone.
    scored = present[1:] if len(present) == 2 else present
    head.weight.zero_()
    head.weight[scored] = torch.from_numpy(fitted.coef_).to(head.weight)
    if head.bias is not None:
        head.bias.fill_(UNSEEN)
        head.bias[present] = 0.0
        head.bias[scored] = torch.from_numpy(fitted.intercept_).to(head.bias)


def to_sentence_transformers(
    model: Any, anatomy: Anatomy, tokenizer: Any, max_length: int, folder: Path
) -> None:
    """Write the body, how it makes vectors, and the classifier as a dense layer."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules
    except ImportError:
        raise MissingDependencyError(
            "needs sentence-transformers.",
            where="export --form sentence_transformers",
            remedy="pip install sentence-transformers, or export it with --form paretune.",
        ) from None
    model.base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pooling, normalises = read_pooling(model)
    head = get_linear(model, find_classifier(model, anatomy))
    classify = modules.Dense(
        head.in_features, head.out_features, head.bias is not None, nn.Identity()
    )
    classify.linear.load_state_dict(head.state_dict())
    stages = [
        modules.Transformer(str(folder), max_seq_length=max_length),
        modules.Pooling(head.in_features, pooling),
        *([modules.Normalize()] if normalises else []),
        classify,
    ]
    encoder = SentenceTransformer(modules=stages, device="cpu")
    encoder.save_pretrained(str(folder), create_model_card=False)


METHOD = Method(
    name="setfit",
    title="SetFit",
    options=MethodOptions,
    learning_rates=(1e-5, 3e-5, 1e-4),
    starts_as_base=False,
    inject=inject,
    count_parameters=lambda model, anatomy, options: sum(
        p.numel() for p in list_trained(model, anatomy).values()
    ),
    trains=Trains.EVERYTHING,
    head=Head.LABELS,
    readouts=("head",),
    body_training=BodyTraining(3, draw_pairs, cosine_loss, fit_head),
    reads_base_weights=always,
    cannot_train_quantised=full.METHOD.cannot_train_quantised,
    cannot_merge=lambda options: "transformers has no classifier of sentence vectors",
    to_sentence_transformers=to_sentence_transformers,
    not_in_stack="it trains everything already",
)
