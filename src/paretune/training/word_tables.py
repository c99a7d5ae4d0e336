"""Trains the rows of a table of words that occur in a run's texts, in place of the whole table.

The gradient of any other row is 0 in every step: AdamW shrinks it by 1 - rate * decay, and its
moments stay 0. So neither a gradient nor moments of it are kept; the product of these factors is
applied where such a row is read, and to all of them once training has ended. The rows differ from
those of AdamW's own steps by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from paretune.models.changes import ModelChanges
from paretune.models.load import LoadedModel
from paretune.models.structure.anatomy import Anatomy
from paretune.objectives.encoding import Encoded
from paretune.training.prepare import PreparedModel

LARGEST_SHARE = 0.75
"""The largest share of a table's rows that is trained alone.

If more of them occur, their copy takes as much as the others spare.
"""


class WordTable:
    """A table of which the rows that occur are trained, until :meth:`restore`.

    Attributes:
        name: of the table among the model's parameters.
        whole: the table, (vocabulary, width); its values are those before training.
        rows: those of it that are trained, (occurring, width); they stand in its place.
        decay: the product of the factors by which all steps have shrunk the others; (), fp64.
    """

    def __init__(self, model: nn.Module, name: str, whole: nn.Parameter, ids: Tensor) -> None:
        self.name, self.whole, self._ids = name, whole, ids.to(whole.device)
        self.decay = torch.ones((), dtype=torch.float64)
        self.rows = nn.Parameter(whole.detach()[self._ids])
        self._places = torch.full((len(whole),), -1, device=whole.device)
        self._places[self._ids] = torch.arange(len(ids), device=whole.device)
        self._changes = ModelChanges()
        self._changes.callback(whole.requires_grad_, whole.requires_grad)
        whole.requires_grad_(False)
        tables = find_holders(model, whole)
        tables[0].register_buffer("whole_table", whole.detach(), persistent=False)
        self._changes.callback(delattr, tables[0], "whole_table")
        for table in tables:
            if table.padding_idx is not None:  # whose row has no gradient
                self._changes.set(table, "padding_idx", int(self._places[table.padding_idx]))
            look_up = partial(self._look_up, table, table.forward)
            self._changes.callback(setattr, table, "weight", whole)
            self._changes.set(table, "forward", look_up)
            table.weight = self.rows

    @property
    def idle_parameters(self) -> int:
        """How many parameters of the table have no gradient."""
        return self.whole.numel() - self.rows.numel()

    def shrink(self, factor: float) -> None:
        """Multiply the rows that do not occur by the factor of one step."""
        self.decay *= factor

    @torch.no_grad()
    def restore(self) -> None:
        """Put the whole table back, with the present values of all rows."""
        self._changes.close()
        self.whole.mul_(self.decay.item())
        self.whole[self._ids] = self.rows

    def _look_up(self, table: Any, forward: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
        """The vectors of any words; while gradients are kept, of those that occur alone."""
        places = self._places[ids]
        if torch.is_grad_enabled():
            return forward(places)
        trained = forward(places.clamp(min=0))
        table.weight = self.whole
        try:
            frozen = forward(ids) * self.decay
        finally:
            table.weight = self.rows
        return torch.where((places >= 0)[..., None], trained, frozen)


def spares_memory(occurring: int, rows: int) -> bool:
    """Whether to train the rows that occur in place of a table of so many."""
    return occurring <= LARGEST_SHARE * rows


def find_holders(model: nn.Module, table: nn.Parameter) -> list[Any]:
    """The modules that have the table as their weight, if all of them only look words up.

    There are none where words are scored by the same table: such a loss moves every row.
    """
    holders = [m for m in model.modules() if any(p is table for p in m._parameters.values())]
    return holders if all(map(_looks_up_only, holders)) else []


def find_word_tables(
    model: nn.Module, anatomy: Anatomy, trained: Mapping[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """The trained tensors by name in which words are looked up, and nothing else is done."""
    weights = [table.weight for table in anatomy.topology.word_embeddings(model)]
    return {
        name: parameter
        for name, parameter in trained.items()
        if any(parameter is weight for weight in weights) and find_holders(model, parameter)
    }


def train_occurring_rows(prepared: PreparedModel, data: Encoded, backend: str) -> list[WordTable]:
    """Let the rows of ``data`` be trained in place of each trained table of words.

    There are none with the ``plain`` backend, or where nearly all rows occur.

    Args:
        data: every text that a training pass may read.
    """
    loaded, model = prepared.loaded, prepared.loaded.model
    tables = find_word_tables(model, loaded.anatomy, prepared.trained)
    if backend == "plain" or not tables:
        return []
    ids = sorted(find_occurring(loaded, data) | {prepared.injection.placeholder_id})
    return [
        WordTable(model, name, whole, torch.tensor(ids))
        for name, whole in tables.items()
        if spares_memory(len(ids), len(whole))
    ]


def find_occurring(loaded: LoadedModel, data: Encoded) -> set[int]:
    """The ids that training passes over ``data`` look up, those of padding included."""
    texts = [*chain.from_iterable(data.ids), *(data.targets or ())]
    if data.mismatched is not None:
        texts += chain.from_iterable(data.mismatched.ids)
    config, tables = loaded.model.config, loaded.anatomy.topology.word_embeddings(loaded.model)
    first = getattr(config, "decoder_start_token_id", None)
    of_model = (config.pad_token_id, first, *(table.padding_idx for table in tables))
    return {loaded.pad_id, *chain.from_iterable(texts)}.union(of_model) - {None}


def replace_tables(
    trained: Mapping[str, nn.Parameter], tables: Iterable[WordTable]
) -> dict[str, nn.Parameter]:
    """The trained tensors by name, with the rows of each table in its place."""
    return dict(trained) | {table.name: table.rows for table in tables}


def count_idle(tables: Iterable[WordTable]) -> tuple[int, int]:
    """Parameters of the tables that have no gradient, and those of the rows that are trained."""
    sizes = [(table.idle_parameters, table.rows.numel()) for table in tables]
    return sum(idle for idle, _ in sizes), sum(rows for _, rows in sizes)


def _looks_up_only(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Embedding)
        and module.max_norm is None
        and not module.scale_grad_by_freq
        and not module.sparse
    )
