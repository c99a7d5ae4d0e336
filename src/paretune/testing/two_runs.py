"""Two runs of one method: each alone, and together on one backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paretune import methods
from paretune.data.batch import shuffle_order
from paretune.methods.core.injection import Injection
from paretune.methods.core.run_axis import Fleet, PerRunModule, split_position_tables
from paretune.models.dropout import set_dropout
from paretune.models.load import LoadedModel, reset_head
from paretune.objectives.encoding import Encoded, pad_batch
from paretune.study import Run
from paretune.testing.method_walk import select_logits, unsettle
from paretune.training.forward.passes import to_tensors
from paretune.training.prepare import prepare

SEEDS = (1, 2)


class Both:
    """The same two runs, alone and together, on models of their own; dropout is off.

    ``fresh`` gives the base anew on ``device``, ``data`` are the encoded examples of both runs.
    """

    def __init__(
        self,
        run: Run,
        fresh: Callable[[], LoadedModel],
        data: Encoded,
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        self.data, self.choices, self.device = data, len(data.ids[0]), device
        still = run.training.model_copy(update={"dropout": 0.0})
        self.solo = []
        for seed in SEEDS:
            of_seed = run.model_copy(update={"seed": seed, "training": still})
            self.solo.append(prepare(of_seed, fresh(), device))
            self.solo[-1].loaded.model.to(dtype)
        self.joint, self.fleet = fresh(), Fleet(runs=2)
        # How many tokens before it a decoder's last token sees through all layers: a layer with a
        # sliding window sees ``window - 1`` before each. None: all of them.
        config = self.joint.model.config
        window = getattr(config, "sliding_window", None)
        if "full_attention" in (getattr(config, "layer_types", None) or []):
            window = None
        self.reach = None if window is None else config.num_hidden_layers * (window - 1)
        set_dropout(self.joint.model, 0.0)
        # Each head module once for each run, drawn from that run's seed.
        names = sorted({name.rpartition(".")[0] for name in self.joint.head_parameters})
        copies_of: dict[str, list[nn.Module]] = {name: [] for name in names}
        for seed in SEEDS:
            reset_head(self.joint, seed)
            for name in names:
                copies_of[name].append(copy.deepcopy(self.joint.model.get_submodule(name)))
        self.heads = {
            name: PerRunModule(modules, self.fleet) for name, modules in copies_of.items()
        }
        for name, head in self.heads.items():
            self.joint.model.set_submodule(name, head)
        method = methods.configure_method(run.method)
        for parameter in self.joint.model.parameters():
            parameter.requires_grad_(False)
        self.injection = method.inject(
            self.joint.model, self.joint.anatomy, self.fleet, list(SEEDS)
        )
        split_position_tables(
            self.injection.changes, self.joint.model, self.joint.anatomy, self.fleet
        )
        self.joint.model.to(dtype)
        for copies in self.heads.values():
            copies.requires_grad_(True)
        for name in self.injection.parameters:
            # Model.to() may have given the parameters new storage, never new identities.
            assert self.injection.parameters[name] is self.joint.model.get_parameter(name)

    def unsettle(self) -> None:
        """Move the method's tensors from the start, where an update is 0, in both alike."""
        draw = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in self.injection.parameters.items():
                parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter) * 0.2)
                if name.endswith(".D_bias"):
                    parameter.add_(1.0)  # or all four units of a small bottleneck may be shut
                for r, alone in enumerate(self.solo):
                    alone.injection.parameters[name].copy_(parameter[r : r + 1])

    def alone(self, r: int, rows: list[int]) -> Tensor:
        self.solo[r].fleet.set_row_counts([len(rows) * self.choices])
        batch = self.batch(rows)
        return select_logits(self.solo[r].loaded.model(**batch).logits, batch)

    def together(self, rows: list[list[int]]) -> list[Tensor]:
        """Logits of both runs from one pass, padded to the longest of all."""
        batch = self.batch([*rows[0], *rows[1]])
        texts = [len(run_rows) * self.choices for run_rows in rows]
        # OPT's feed-forward part has a row for each token.
        tokens = [n * batch["input_ids"].shape[-1] for n in texts]
        self.fleet.set_row_counts(texts, [1, 1], tokens)
        logits: Any = select_logits(self.joint.model(**batch).logits, batch)
        # Rows of logits are those of examples, or of their words or target tokens.
        parts = self.data.word_places or self.data.targets
        counts = [
            len(run_rows) if parts is None else sum(len(parts[i]) for i in run_rows)
            for run_rows in rows
        ]
        return list(logits.split(counts))

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        return to_tensors(pad_batch(self.data, rows, self.joint.pad_id), self.device)

    def rows(self, shares: tuple[int, int], step: int = 0) -> list[list[int]]:
        """Each run's own order, as the training loop draws it."""
        orders = [shuffle_order(len(self.data.lengths), seed, step) for seed in SEEDS]
        return [order[:share] for order, share in zip(orders, shares, strict=True)]

    def trained(self, r: int) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The joint model's tensors of run ``r`` and their gradients, by their solo names."""
        tensors = {
            name: (p[r : r + 1], None if p.grad is None else p.grad[r : r + 1])
            for name, p in self.injection.parameters.items()
        }
        for name, head in self.heads.items():
            for parameter_name, p in head.copies[r].named_parameters():
                tensors[f"{name}.{parameter_name}"] = (p, p.grad)
        return tensors

    def equal(self, shares: tuple[int, int], loss: Callable[[Tensor, list[int]], Tensor]) -> None:
        """Logits and all gradients of each run are the same alone and together, in float64.

        Gradients larger than 1 as a share of the largest of their tensor.
        """
        for model in (self.joint.model, *(prepared.loaded.model for prepared in self.solo)):
            model.zero_grad(set_to_none=True)
        rows = self.rows(shares)
        together = self.together(rows)
        losses = [loss(*pair) for pair in zip(together, rows, strict=True)]
        both: Any = losses[0] + losses[1]
        both.backward()
        assert not torch.allclose(together[0][:2], together[1][:2])  # two different runs
        for r, run_rows in enumerate(rows):
            alone = self.alone(r, run_rows)
            torch.testing.assert_close(together[r], alone, rtol=0, atol=1e-10)
            loss_alone: Any = loss(alone, run_rows)
            loss_alone.backward()
            joint = self.trained(r)
            assert set(joint) == set(self.solo[r].trained)
            # Whether the token that is read sees what the method puts in front of one of the texts.
            lengths = [len(text) for row in run_rows for text in self.data.ids[row]]
            is_seen = self.reach is None or min(lengths) <= self.reach
            is_seen |= not self.solo[0].injection.positions_before_text
            for name, parameter in self.solo[r].trained.items():
                value, gradient = joint[name]
                assert torch.equal(value, parameter)
                assert parameter.grad is not None and gradient is not None
                # Where single scores are compared, their bias has no effect and no gradient.
                if is_seen or name not in self.injection.parameters:
                    assert parameter.grad.any() or parameter.numel() == 1
                # Of sums over thousands of logits, gradients are large, and so is their rounding.
                atol = 1e-10 * max(1.0, float(parameter.grad.abs().max()))
                torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=atol, msg=name)


VIRTUAL = ("K", "V", "P", "Z")
"""Tensors that are virtual tokens, or make them: without them, a method has none."""


def without_effect(injection: Injection, neutral: tuple[str, ...]) -> str:
    """Leave the method no effect, all its other tensors drawn anew; says how."""
    starts = {name: p.detach().clone() for name, p in injection.parameters.items()}
    unsettle(injection.parameters.values())
    still, cut = set(), set()
    for name, parameter in injection.parameters.items():
        symbol = name.rpartition(".")[2]
        if symbol in VIRTUAL and symbol in neutral:
            parameter.data = parameter.data[:, :0]
            cut.add("attention" if symbol in "KV" else "embeddings")
        elif symbol in neutral:
            parameter.data.copy_(starts[name])
            still.add(symbol)
    assert still <= set(neutral) and (still or cut)
    notes = [f"no virtual tokens, only the way through our {way} is left" for way in sorted(cut)]
    if still:
        notes.append(f"{' and '.join(sorted(still))} as at the start, all other tensors moved")
    return "; ".join(notes)
