"""SetFit: the encoder learns from pairs of rows which texts are alike; then a head is fitted.

Source: Tunstall et al. 2022, arXiv:2209.11055; loss, pairs and head as in their package, setfit.
Equation: the body minimises (cos(s_i, s_j) - [y_i = y_j])^2, mean over pairs; s is the vector of a
text. Each row of a batch makes a pair with a random row of its label, and one with a random row of
another label: an epoch is one of the paper's iterations, of which it takes 20. The head is logistic
regression on the vectors of train (scikit-learn, C = 1), fitted anew before each evaluation. Class
weights are those of its rows.
Trained parameters: the body and the classifier. A pooler or a dense layer between is left out.
Start: the checkpoint's vectors, as its modules for sentence-transformers say: mean of the hidden
states, or their first; normalised, or not. A checkpoint without such modules gives the mean.
When: there are 8 to 64 rows of a label, and an encoder that was trained on sentences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from paretune.errors import MethodError, explain_missing, spell_option
from paretune.methods import full
from paretune.methods.core.injection import Injection
from paretune.methods.core.method import BodyTraining, Head
from paretune.methods.core.options import MethodOptions
from paretune.models.changes import ModelChanges
from paretune.models.load import LoadedModel, find_classifier
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded

POOLINGS = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
"""Kinds of pooling by their names in files; two names are from before version 6."""
UNSEEN = -1e3
"""The logit of a label that no row of train has."""


def inject(
    model: Any, anatomy: Anatomy, options: MethodOptions, context: PassContext, seed: int
) -> Injection:
    """Let the model classify vectors. ``undo`` cannot bring the old weights back: reload.

    If a row has several texts, (rows, texts, tokens), it gives vectors: (rows, texts, width).
    """
    classify, (pooling, normalises) = get_classifier(model, anatomy), read_pooling(model)

    def forward(**inputs: Tensor) -> SequenceClassifierOutput:
        shape = inputs["input_ids"].shape[:-1]
        inputs = {name: values.flatten(0, -2) for name, values in inputs.items()}
        mask, hidden = inputs["attention_mask"][..., None], model.base_model(**inputs)[0]
        hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        vectors = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        if normalises:
            vectors = F.normalize(vectors, dim=-1)
        outputs = vectors.unflatten(0, shape) if len(shape) > 1 else classify(vectors)
        return SequenceClassifierOutput(logits=outputs)

    changes = ModelChanges()
    changes.set(model, "forward", forward)
    return Injection(list_trained(model, anatomy), changes, supports_packing=False)


def list_trained(model: nn.Module, anatomy: Anatomy) -> dict[str, nn.Parameter]:
    """The parameters of the body and of the classifier, by name."""
    classifier = {*get_classifier(model, anatomy).parameters()}
    unread = [*anatomy.untrainable, *anatomy.head_modules]
    named = model.named_parameters()
    return {n: p for n, p in named if p in classifier or not is_within(n, *unread)}


def get_classifier(model: Any, anatomy: Anatomy) -> nn.Linear:
    """The last layer, from a vector to the labels; MethodError without one."""
    if anatomy.topology.pooled_token == 0:
        _, layer = find_classifier(model, anatomy, model.config.num_labels, "method setfit")
        if layer.in_features == anatomy.width and layer.bias is not None:
            return layer
    raise MethodError(
        f"{type(model).__name__} is no encoder with a linear classifier.",
        where="method setfit",
        remedy="Take another method for this model.",
    )


def read_pooling(model: Any) -> tuple[str, bool]:
    """How the checkpoint pools hidden states (mean or cls), and whether it normalises the vector.

    Raises:
        MethodError: its modules for sentence-transformers cannot be read, or are others.
    """
    path = Path(model.name_or_path, "modules.json")
    if not path.is_file():
        return "mean", False
    try:
        modules = json.loads(path.read_bytes())
        config = json.loads(Path(path.parent, modules[1]["path"], "config.json").read_bytes())
        modes = [
            str(value) if name == "pooling_mode" else name.removeprefix("pooling_mode_")
            for name, value in config.items()
            if name.startswith("pooling_mode") and value
        ]
        after = [str(module["type"]).rpartition(".")[2] for module in modules[2:]]
        pooling, *rest = modes + after
        if pooling not in POOLINGS or rest not in ([], ["Normalize"]):
            raise ValueError(f"it has {', '.join([pooling, *rest])}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise MethodError(
            f"SetFit cannot make the vectors of this checkpoint ({error}).",
            where=str(path),
            remedy="Take another sentence encoder.",
        ) from None
    return POOLINGS[pooling], bool(rest)


def draw_pairs(data: Encoded, indices: Sequence[int], seed: int) -> Encoded:
    """Give each row's text, the text of a row with the same label, and one of another label.

    A row that is alone with its label is compared with itself.
    """
    labels, generator = np.array(data.labels), np.random.default_rng(seed)
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
    loaded: LoadedModel, labels: Sequence[Any], options: LossOptions, embed: Callable[[], Any]
) -> None:
    """Set the classifier to the logistic regression of the training part's vectors."""
    from sklearn.linear_model import LogisticRegression

    head, of_classes = get_classifier(loaded.model, loaded.anatomy), options.class_weights
    with ModelChanges() as changes:
        changes.set(head, "forward", lambda vectors: vectors)
        vectors = embed().astype(np.float64)
    if not np.isfinite(vectors).all():
        return  # the selection loss is no number either: the run has diverged
    weights = None if of_classes is None else [of_classes[label][0] for label in labels]
    fitted = LogisticRegression(max_iter=1000).fit(vectors, labels, weights)
    # Where there are two labels, it gives the log-odds of the second alone.
    scored = fitted.classes_[-len(fitted.coef_) :]
    head.weight.zero_()
    head.weight[scored] = torch.from_numpy(fitted.coef_).to(head.weight)
    head.bias.fill_(UNSEEN)
    head.bias[fitted.classes_] = 0.0
    head.bias[scored] = torch.from_numpy(fitted.intercept_).to(head.bias)


def to_sentence_transformers(loaded: LoadedModel, max_length: int, folder: Path) -> None:
    """Write the body, how it makes vectors, and the classifier as a dense layer."""
    purpose = spell_option("form", "sentence_transformers")
    with explain_missing("sentence-transformers>=6", purpose):
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules
    loaded.model.base_model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    pooling, normalises = read_pooling(loaded.model)
    head = get_classifier(loaded.model, loaded.anatomy)
    classify = modules.Dense(head.in_features, head.out_features, activation_function=nn.Identity())
    classify.linear.load_state_dict(head.state_dict())
    stages = [
        modules.Transformer(str(folder), max_seq_length=max_length),
        modules.Pooling(head.in_features, pooling),
        *([modules.Normalize()] if normalises else []),
        classify,
    ]
    encoder = SentenceTransformer(modules=stages, device="cpu")
    encoder.save_pretrained(str(folder), create_model_card=False)


METHOD = replace(
    full.METHOD,
    name="setfit",
    title="SetFit",
    learning_rates=(1e-5, 3e-5, 1e-4),
    decoder_learning_rates=None,
    inject=inject,
    count_parameters=lambda model, anatomy, options: sum(
        p.numel() for p in list_trained(model, anatomy).values()
    ),
    head=Head.LABELS,
    readouts=("head",),
    body_training=BodyTraining(3, draw_pairs, cosine_loss, fit_head, ("class_weights",)),
    to_sentence_transformers=to_sentence_transformers,
)
