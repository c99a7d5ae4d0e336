"""DeBERTa's table of relative positions, once for each run of a fleet.

Source: He et al. 2020, arXiv:2006.03654, section 3.1. The table, one row for each distance, is
normalised, dropped out, and goes through the same projections as the text: through everything that
a run trains there. So each run that has rows in a pass has a table of its own, (1, distances,
width), and the biases of its rows are computed by the model's own code with that table alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from paretune.methods.fleet import Fleet
from paretune.models.anatomy import Anatomy
from paretune.models.padded_dropout import PaddedChance, drop_tables


def tables_apart(model: Any, anatomy: Anatomy, fleet: Fleet) -> list[Callable[[], None]]:
    """Give every run of the fleet its own table, where the model has one.

    Returns:
        What takes it back.
    """
    names = [layer.attention.query.rpartition(".")[0] for layer in anatomy.layers]
    attentions: list[Any] = [model.get_submodule(name) for name in names]
    if fleet.runs == 1 or not getattr(attentions[0], "relative_attention", False):
        return []
    encoder: Any = model.get_submodule(anatomy.layers[0].name.rpartition(".layer.")[0])

    def tables() -> Tensor:
        """(runs present, distances, width)."""
        table: Tensor = encoder.rel_embeddings.weight.expand(len(fleet.present()), -1, -1)
        return encoder.LayerNorm(table) if "layer_norm" in encoder.norm_rel_ebd else table

    encoder.get_rel_embedding = tables
    steps: list[Callable[[], None]] = [partial(delattr, encoder, "get_rel_embedding")]
    for attention in attentions:
        attention.disentangled_attention_bias = partial(
            _biases, attention.disentangled_attention_bias, attention.num_attention_heads, fleet
        )
        steps.append(partial(delattr, attention, "disentangled_attention_bias"))
        if isinstance(fleet.chance, PaddedChance):
            attention.pos_dropout.forward = partial(
                _dropped, attention.pos_dropout, fleet, fleet.chance
            )
            steps.append(partial(delattr, attention.pos_dropout, "forward"))
    return steps


def _biases(
    plain: Callable[..., Tensor],
    heads: int,
    fleet: Fleet,
    query: Tensor,
    key: Tensor,
    relative: Tensor,
    tables: Tensor,
    terms: int,
) -> Tensor:
    """Biases of the scores, (rows * heads, tokens, tokens), of each run by its own table."""
    present = fleet.present()
    shares = [heads * (fleet.ways[0][r].stop - fleet.ways[0][r].start) for r in present]
    texts = torch.split(query, shares), torch.split(key, shares)
    place, found = 0 if fleet.chance is None else fleet.chance.place, []
    for run, own_query, own_key, table in zip(present, *texts, tables, strict=True):
        if fleet.chance is not None:
            fleet.chance.place = place  # no run's dropouts count for another
        with fleet.only(run):
            found.append(plain(own_query, own_key, relative, table, terms))
    return torch.cat(found)


def _dropped(module: Any, fleet: Fleet, chance: PaddedChance, tables: Tensor) -> Tensor:
    return drop_tables(tables, fleet.present(), chance, module.p) if module.training else tables
