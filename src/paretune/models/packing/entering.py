"""A model made to read packed batches, and back as it was.

Everything is done by hooks and by ``transformers``' own attention interface; no module is replaced
and no weight is touched. What is computed is the model's own result for each sequence (tests: to
rounding), with nothing spent on padding, and in an encoder's last layer only what the head reads,
which is the first token of each sequence. Of a translation every token of a target is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paretune.models import compiled
from paretune.models.anatomy import Anatomy
from paretune.models.packing import Packing
from paretune.models.packing.attention import NAME, attend, packed_attention
from paretune.models.packing.chance import PLACES, Chance, by_chance
from paretune.models.packing.layout import Role
from paretune.models.packing.two_sides import placed_apart, two_sided

PRUNED = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Architectures whose last layer is computed for the first tokens alone: BERT's own layer."""
PACKED = (*PRUNED, "distilbert", "modernbert")
"""Architectures that are packed: the head reads the first token, and attention has no biases."""

ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def packs(model: Any) -> bool:
    """Whether the model's batches can be packed."""
    config = model.config
    if two_sided(model):
        return True
    if config.model_type not in PACKED or not getattr(model, "_supports_sdpa", False):
        return False
    # ModernBERT's head may read the mean of all tokens instead.
    return getattr(config, "classifier_pooling", "cls") == "cls"


def enter(model: Any, anatomy: Anatomy, packing: Packing) -> Callable[[], None]:
    """Let a model read packed batches; methods and dropout are in place already.

    Args:
        model: one that :func:`packs`.
        anatomy: of the model.
        packing: described anew for every batch.

    Returns:
        What takes all of it back.
    """
    packing.rotary = anatomy.positions is None
    steps: list[Callable[[], None]] = []
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    steps.append(partial(model.set_attn_implementation, before))
    for module, role in _attentions(model, anatomy):
        module.packing, module.packed_role = packing, role
        steps += [partial(delattr, module, name) for name in ("packing", "packed_role")]
    for module in model.modules():
        # Elsewhere torch's own dropout is one fast kernel, but of one seed for all runs.
        if isinstance(module, nn.Dropout) and (packing.each_draws or model.device.type == "cpu"):
            by_chance(module, packing.chance)
            steps.append(partial(delattr, module, "forward"))
    handles = counted(model, anatomy, packing.chance)
    last = model.get_submodule(anatomy.layers[-1].name)
    if anatomy.decoder is not None:
        steps += placed_apart(model, anatomy, packing)
    else:
        handles += _positioned(model, anatomy, packing)
        if model.config.model_type in PRUNED:
            _fuse(model, anatomy, packing.chance, steps)
            handles.append(_prune(model, anatomy, packing, steps))
        else:
            every = len(anatomy.layers)
            handles.append(last.register_forward_hook(partial(_only_first, packing, every)))
    steps += [handle.remove for handle in handles]

    def undo() -> None:
        for step in reversed(steps):
            step()

    return undo


def _attentions(model: nn.Module, anatomy: Anatomy) -> Iterable[tuple[Any, Role]]:
    """The modules that compute attention, and who looks at what in them."""
    for layer in anatomy.layers:
        role: Role = "own" if layer.stack == "encoder" else "causal"
        yield _holding(model, layer.attention.query), role
        if layer.cross is not None:
            yield _holding(model, layer.cross.query), "across"


def _holding(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


def _positioned(model: Any, anatomy: Anatomy, packing: Packing) -> Iterable[Any]:
    """Each row's position in its own sequence, where the model has a table of positions."""
    if anatomy.positions is None:
        return []
    table = model.get_submodule(anatomy.positions)
    padding = getattr(table, "padding_idx", None)
    start = 0 if padding is None else padding + 1

    def placed(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        return (packing.layout.places + start,)

    return [table.register_forward_pre_hook(placed)]


def counted(model: nn.Module, anatomy: Anatomy, chance: Chance) -> list[Any]:
    """Dropouts are counted anew in each layer: a layer that is computed again draws the same.

    Counted from the query projection on, before which a layer has no dropout: what computes a layer
    again does so inside the hooks of the layer itself.
    """

    def count(first: int, module: nn.Module, args: Any) -> None:
        if args[0].ndim > 2:  # DeBERTa's table of positions goes through it too, later
            chance.place = first

    return [
        model.get_submodule(layer.attention.query).register_forward_pre_hook(
            partial(count, PLACES * (i + 1))
        )
        for i, layer in enumerate(anatomy.layers)
    ]


def _only_first(packing: Packing, layers: int, module: nn.Module, args: Any, out: Tensor) -> Tensor:
    return out if packing.depth == layers else out[packing.layout.first]


def _prune(model: Any, anatomy: Anatomy, packing: Packing, steps: list[Callable[[], None]]) -> Any:
    """In the last layer every token is looked at, and only the first ones look."""
    attention = anatomy.layers[-1].attention
    module: Any = model.get_submodule(attention.query.rpartition(".")[0])

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        looking = hidden_states[packing.layout.first]
        query, key = module.query(looking), module.key(hidden_states)
        value = module.value(hidden_states)
        out = packed_attention(
            module,
            query[:, 0],
            key[:, 0],
            value[:, 0],
            heads=module.num_attention_heads,
            dropout=module.dropout.p if module.training else 0.0,
            scaling=module.attention_head_size**-0.5,
            role="first",
        )
        return out[:, None], None

    module.forward = forward
    steps.append(partial(delattr, module, "forward"))
    residual = model.get_submodule(attention.output.rpartition(".")[0])

    def first(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0], args[1][packing.layout.first], *args[2:])

    return residual.register_forward_pre_hook(first)


def _fuse(model: Any, anatomy: Anatomy, chance: Chance, steps: list[Callable[[], None]]) -> None:
    """Dropout, residual and normalisation behind BERT's products in one compiled pass.

    Where nothing stands between them: a method that hooks one of them (Pfeiffer's adapter, BitFit)
    gets the layer's own three.
    """
    ends = [name for layer in anatomy.layers for name in (layer.attention.output, layer.down)]
    for module in (model.get_submodule(name.rpartition(".")[0]) for name in ends):
        if "forward" not in vars(module):
            module.forward = partial(_end, module, chance)
            steps.append(partial(delattr, module, "forward"))


def _end(module: Any, chance: Chance, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
    hidden = module.dense(hidden_states)
    norm = module.LayerNorm
    alone = type(norm) is nn.LayerNorm and not any(map(_hooked, (module.dropout, norm)))
    if alone and hidden.shape[-1] % 4 == 0 and compiled.computes(hidden, input_tensor, norm.weight):
        from paretune.models.packing.compiled.normalising import add_norm

        chance.compiled = True
        p = module.dropout.p if module.dropout.training else 0.0
        return add_norm(hidden, input_tensor, norm, chance, p)
    found: Tensor = norm(module.dropout(hidden) + input_tensor)
    return found


def _hooked(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks)
