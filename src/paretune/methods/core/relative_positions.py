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

from paretune.methods.core.run_axis import Fleet
from paretune.models.dropout.padded import PaddedDropoutRng, drop_per_run
from paretune.models.structure.anatomy import Anatomy


def split_position_tables(model: Any, anatomy: Anatomy, fleet: Fleet) -> list[Callable[[], None]]:
    """Give every run of the fleet its own table, where the model has one.

    Returns:
        What takes it back.
    """
    names = [layer.self_attention.query.rpartition(".")[0] for layer in anatomy.layers]
    attentions: list[Any] = [model.get_submodule(name) for name in names]
    if fleet.runs == 1 or not getattr(attentions[0], "relative_attention", False):
        return []
    encoder: Any = model.get_submodule(anatomy.layers[0].name.rpartition(".layer.")[0])

    def tables() -> Tensor:
        """(runs present, distances, width)."""
        table: Tensor = encoder.rel_embeddings.weight.expand(len(fleet.active_runs()), -1, -1)
        return encoder.LayerNorm(table) if "layer_norm" in encoder.norm_rel_ebd else table

    encoder.get_rel_embedding = tables
    steps: list[Callable[[], None]] = [partial(delattr, encoder, "get_rel_embedding")]
    for attention in attentions:
        attention.disentangled_attention_bias = partial(
            _attention_biases,
            attention.disentangled_attention_bias,
            attention.num_attention_heads,
            fleet,
        )
        steps.append(partial(delattr, attention, "disentangled_attention_bias"))
        if isinstance(fleet.chance, PaddedDropoutRng):
            attention.pos_dropout.forward = partial(
                _drop_tables, attention.pos_dropout, fleet, fleet.chance
            )
            steps.append(partial(delattr, attention.pos_dropout, "forward"))
    return steps


def _attention_biases(
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
    present = fleet.active_runs()
    shares = [
        heads * (fleet.row_partitions[0][r].stop - fleet.row_partitions[0][r].start)
        for r in present
    ]
    texts = torch.split(query, shares), torch.split(key, shares)
    place, found = 0 if fleet.chance is None else fleet.chance.offset, []
    for run, own_query, own_key, table in zip(present, *texts, tables, strict=True):
        if fleet.chance is not None:
            fleet.chance.offset = place  # no run's dropouts count for another
        with fleet.single_run(run):
            found.append(plain(own_query, own_key, relative, table, terms))
    return torch.cat(found)


def _drop_tables(module: Any, fleet: Fleet, chance: PaddedDropoutRng, tables: Tensor) -> Tensor:
    return (
        drop_per_run(tables, fleet.active_runs(), chance, module.p) if module.training else tables
    )
