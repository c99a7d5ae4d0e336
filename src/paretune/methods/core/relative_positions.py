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
from paretune.models.changes import ModelChanges
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import parent_name


def split_position_tables(
    changes: ModelChanges, model: Any, anatomy: Anatomy, fleet: Fleet
) -> None:
    """Give every run of the fleet its own table, where the model has one."""
    names = [parent_name(layer.self_attention.query) for layer in anatomy.layers]
    attentions: list[Any] = [model.get_submodule(name) for name in names]
    if fleet.runs == 1 or not getattr(attentions[0], "relative_attention", False):
        return
    encoder: Any = model.get_submodule(anatomy.layers[0].name.rpartition(".layer.")[0])

    def tables() -> Tensor:
        """(runs present, distances, width)."""
        table: Tensor = encoder.rel_embeddings.weight.expand(len(fleet.active_runs()), -1, -1)
        return encoder.LayerNorm(table) if "layer_norm" in encoder.norm_rel_ebd else table

    changes.set(encoder, "get_rel_embedding", tables)
    for attention in attentions:
        p = attention.pos_dropout.p
        if fleet.dropout_rng is not None:
            changes.set(attention.pos_dropout, "p", 0.0)  # drawn for each run, with its biases
        plain = attention.disentangled_attention_bias
        biases = partial(_attention_biases, attention, plain, p, fleet)
        changes.set(attention, "disentangled_attention_bias", biases)


def _attention_biases(
    attention: Any,
    plain: Callable[..., Tensor],
    p: float,
    fleet: Fleet,
    query: Tensor,
    key: Tensor,
    *inputs: Any,
) -> Tensor:
    """Biases of the scores, (rows * heads, tokens, tokens), of each run by its own table.

    ``inputs``: as the model gives them: distances, tables, number of terms.
    """
    distances, tables, terms = inputs
    active, rng = fleet.active_runs(), fleet.dropout_rng
    if rng is not None and attention.training:
        tables = rng.drop_per_run(tables, active, p)
    rows = [part.stop - part.start for part in fleet.row_partitions[0]]
    counts = [attention.num_attention_heads * rows[run] for run in active]
    texts = torch.split(query, counts), torch.split(key, counts)
    offset, biases = 0 if rng is None else rng.offset, []
    for run, own_query, own_key, table in zip(active, *texts, tables, strict=True):
        if rng is not None:
            rng.offset = offset  # no run's dropouts count for another
        with fleet.single_run(run):
            biases.append(plain(own_query, own_key, distances, table, terms))
    return torch.cat(biases)
