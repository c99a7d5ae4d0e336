"""BERTScore: similarity of the tokens of two sentences in a model's hidden states.

Zhang et al., 2020, "BERTScore: Evaluating Text Generation with BERT" (arXiv:1904.09675), as the
authors' ``bert-score`` computes it without idf and without rescaling: every token of one sentence
takes its largest cosine with a token of the other, special tokens included as partners but not
counted; precision over the hypothesis' tokens, recall over the reference's, F1 by sentence,
averaged.

A score depends on model and layer, so these belong to its name. SloBench uses
``bert-base-multilingual-cased``, layer 9, for Slovene and ``roberta-large``, layer 17, for English.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paretune.metrics.metric import ScoreSegments, ScoringModel, SegmentMetric

if TYPE_CHECKING:
    from torch import Tensor

SLOBENCH_MODELS = {"sl": ("bert-base-multilingual-cased", 9), "en": ("roberta-large", 17)}
"""Model and layer that SloBench uses, by target language."""


def default_layer(name: str, layers: int) -> int:
    """The layer for a model: its authors' choice for SloBench's two, else the last one."""
    return dict(SLOBENCH_MODELS.values()).get(name.rpartition("/")[2], layers)


def score_pairs(
    hypotheses: Sequence[str],
    references: Sequence[str],
    model: Any,
    tokenizer: Any,
    layer: int,
    *,
    batch: int = 32,
) -> list[float]:
    """BERTScore F1 of each pair.

    Args:
        layer: whose output is compared; 0 is the embeddings'.
    """
    import torch

    scores: list[float] = []
    for start in range(0, len(references), batch):
        part = slice(start, start + batch)
        with torch.inference_mode():
            hypothesis_tokens = _embed_tokens(hypotheses[part], model, tokenizer, layer)
            reference_tokens = _embed_tokens(references[part], model, tokenizer, layer)
        for (vectors, counted), (reference_vectors, reference_counted) in zip(
            hypothesis_tokens, reference_tokens, strict=True
        ):
            if not counted.any() or not reference_counted.any():
                scores.append(0.0)
                continue
            cosines = vectors @ reference_vectors.T
            precision = cosines.max(dim=1).values[counted].mean()
            recall = cosines.max(dim=0).values[reference_counted].mean()
            scores.append(float(2 * precision * recall / (precision + recall)))
    return scores


def _embed_tokens(
    texts: Sequence[str], model: Any, tokenizer: Any, layer: int
) -> list[tuple[Tensor, Tensor]]:
    """Compute the unit vectors of each text's tokens, and mark the tokens that are counted."""
    import torch

    positions = model.config.to_dict().get("max_position_embeddings", 512)
    longest = min(tokenizer.model_max_length, positions)
    # RoBERTa counts positions from 2.
    longest -= 2 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    encoded = tokenizer(
        [text.strip() for text in texts],
        padding=True, truncation=True, max_length=longest, return_tensors="pt",
    ).to(model.device)  # fmt: skip
    hidden = model(**encoded, output_hidden_states=True).hidden_states[layer].float()
    hidden = torch.nn.functional.normalize(hidden, dim=-1)
    ends = torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id], device=model.device)
    counted = ~torch.isin(encoded["input_ids"], ends)
    there = encoded["attention_mask"].bool()
    return [(h[t], c[t]) for h, c, t in zip(hidden, counted, there, strict=True)]


def _prepare(language: str, encoder: ScoringModel | None) -> ScoreSegments:
    if encoder is None:
        raise ValueError("BERTScore needs an encoder")

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        model, tokenizer = encoder.load()
        layer = default_layer(encoder.name, int(model.config.num_hidden_layers))
        return score_pairs(hypotheses, references, model, tokenizer, layer)

    return score


BERTSCORE = SegmentMetric(name="bertscore", title="BERTScore", prepare=_prepare)
