"""Two runs stacked in one pass get what each gets alone: logits, gradients, twenty steps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_tasks import small, tiny_run, tiny_task
from torch import Tensor, nn

from paretune import methods
from paretune.data.batch import order, pad
from paretune.data.encode import Encoded
from paretune.methods.fleet import Fleet, PerRun, per_run_linear
from paretune.models.load import Loaded, load, reset_head, set_dropout
from paretune.models.resolve import Source, resolve
from paretune.study import ModelSpec, Run, derive
from paretune.training.prepare import prepare
from paretune.training.workbench import Workbench

SEEDS = (1, 2)
METHODS = [
    ("lora", 2), ("loha", 2), ("loha", 8), ("prompt", 4),
    ("dora", 2), ("lokr", 2), ("lokr", 8), ("ia3", 0), ("bitfit", 0),
    ("houlsby", 8), ("parallel", 8), ("adapterdrop", 8), ("p_tuning", 4),
    ("prefix", 4), ("mam", 4), ("unipelt", 2),
]  # fmt: skip
"""LoHa of rank 2 is factorised here, of rank 8 it is not."""


def replace(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Put ``new`` where the submodule ``name`` is; returns the old one."""
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    old = model.get_submodule(name)
    setattr(parent, leaf, new)
    return old


class Both:
    """The same two runs: each alone, and together on one backbone."""

    def __init__(self, run: Run, source: Source, bench: Workbench, dtype: torch.dtype) -> None:
        dataset = bench.dataset(run.task)
        self.choices = 2 if dataset.kind == "multiple_choice" else 1

        def fresh() -> Loaded:
            loaded = load(source, kind=dataset.kind, num_labels=len(dataset.labels))
            set_dropout(loaded.model, 0.0)
            loaded.model.to(dtype)
            return loaded

        still = run.training.model_copy(update={"dropout": 0.0})
        self.solo = []
        for seed in SEEDS:
            alone = fresh()
            of_seed = run.model_copy(update={"seed": seed, "training": still})
            self.solo.append(prepare(of_seed, alone))
            self.solo[-1].loaded.model.to(dtype)
        self.joint, self.fleet = fresh(), Fleet(runs=2)
        self.heads = self._heads_of_both()
        module = methods.get(run.method.name)
        options = module.Options(**run.method.options)
        for parameter in self.joint.model.parameters():
            parameter.requires_grad_(False)
        self.injection = module.inject(
            self.joint.model, self.joint.anatomy, options, self.fleet, list(SEEDS)
        )
        self.joint.model.to(dtype)
        for copies in self.heads.values():
            copies.requires_grad_(True)
        for name in self.injection.parameters:
            # Model.to() may have given the parameters new storage, never new identities.
            assert self.injection.parameters[name] is self.joint.model.get_parameter(name)
        self.data = bench.encode(list(dataset.train), self.joint, source, 64)

    def _heads_of_both(self) -> dict[str, PerRun]:
        """Each head module once for each run, drawn from that run's seed."""
        names = sorted({name.rpartition(".")[0] for name in self.joint.head})
        copies: dict[str, list[nn.Module]] = {name: [] for name in names}
        for seed in SEEDS:
            reset_head(self.joint, seed)
            for name in names:
                copies[name].append(copy.deepcopy(self.joint.model.get_submodule(name)))
        heads = {name: PerRun(made, self.fleet) for name, made in copies.items()}
        for name, head in heads.items():
            replace(self.joint.model, name, head)
        return heads

    def unsettle(self) -> None:
        """Move the method's tensors from the start, where an update is 0, in both alike."""
        draw = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in self.injection.parameters.items():
                parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter) * 0.2)
                for r, alone in enumerate(self.solo):
                    alone.injection.parameters[name].copy_(parameter[r : r + 1])

    def alone(self, r: int, rows: list[int]) -> Tensor:
        self.solo[r].fleet.share([len(rows) * self.choices])
        found: Tensor = self.solo[r].loaded.model(**batch(self.data, rows)).logits
        return found

    def together(self, rows: list[list[int]]) -> list[Tensor]:
        """Logits of both runs from one pass, padded to the longest of all."""
        self.fleet.share([len(own) * self.choices for own in rows])
        found = self.joint.model(**batch(self.data, [*rows[0], *rows[1]])).logits
        return list(found.split([len(own) for own in rows]))

    def labels(self, rows: list[int]) -> Tensor:
        return torch.tensor([self.data.labels[i] for i in rows])

    def trained(self, r: int) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The joint model's tensors of run ``r`` and their gradients, by their solo names."""
        found = {
            name: (p[r : r + 1], None if p.grad is None else p.grad[r : r + 1])
            for name, p in self.injection.parameters.items()
        }
        for name, head in self.heads.items():
            for own, p in head.copies[r].named_parameters():
                found[f"{name}.{own}"] = (p, p.grad)
        return found


def batch(data: Encoded, rows: list[int]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in pad(data, rows, 0).items()}


def rows_of(shares: tuple[int, int], step: int = 0) -> list[list[int]]:
    """Each run's own order, as the training loop draws it."""
    return [
        [order(40, seed, step)[i] for i in range(share)]
        for seed, share in zip(SEEDS, shares, strict=True)
    ]


@pytest.fixture
def both(tiny_model: Any, tmp_path: Path) -> Any:
    def make(
        method: str, size: int, family: str, kind: str, dtype: torch.dtype = torch.float32
    ) -> Both:
        options = dict.fromkeys(small(method), size)
        run = tiny_run(tiny_task(tmp_path, kind), tiny_model(family), method, options=options)
        return Both(run, resolve(ModelSpec(name=run.model.name)), Workbench(), dtype)

    return make


CASES = [
    pytest.param(method, size, family, kind, shares, id=f"{method}{size}-{family}-{kind}-{word}")
    for method, size in METHODS
    for family, kind in (("bert", "pair"), ("roberta", "multiple_choice"))
    for word, shares in (("even", (4, 4)), ("uneven", (5, 2)))
]


@pytest.mark.parametrize(("method", "size", "family", "kind", "shares"), CASES)
def test_logits_and_gradients_of_each_run(
    both: Any, method: str, size: int, family: str, kind: str, shares: tuple[int, int]
) -> None:
    pair = both(method, size, family, kind, torch.float64)
    pair.unsettle()
    rows = rows_of(shares)
    together = pair.together(rows)
    losses = [F.cross_entropy(z, pair.labels(o)) for z, o in zip(together, rows, strict=True)]
    (losses[0] + losses[1]).backward()
    assert not torch.allclose(together[0][:2], together[1][:2])  # two different runs
    for r, own in enumerate(rows):
        alone = pair.alone(r, own)
        torch.testing.assert_close(together[r], alone, rtol=0, atol=1e-6)
        F.cross_entropy(alone, pair.labels(own)).backward()
        joint = pair.trained(r)
        assert set(joint) == set(pair.solo[r].trained)
        for name, parameter in pair.solo[r].trained.items():
            value, gradient = joint[name]
            assert torch.equal(value, parameter)
            assert parameter.grad is not None and gradient is not None
            # The bias of a single score moves all choices alike: its gradient is 0.
            assert parameter.grad.any() or parameter.numel() == 1
            torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize(("method", "size", "family", "kind", "shares"), CASES)
def test_twenty_steps_of_each_run(
    both: Any, method: str, size: int, family: str, kind: str, shares: tuple[int, int]
) -> None:
    pair = both(method, size, family, kind)
    joint_losses: list[list[float]] = [[], []]
    parameters = [*pair.injection.parameters.values()]
    parameters += [p for head in pair.heads.values() for p in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)
    pair.joint.model.train()
    for step in range(20):
        rows = rows_of(shares, step)
        answers = zip(pair.together(rows), rows, strict=True)
        losses = [F.cross_entropy(z, pair.labels(own)) for z, own in answers]
        optimizer.zero_grad()
        (losses[0] + losses[1]).backward()
        optimizer.step()
        for r in (0, 1):
            joint_losses[r].append(losses[r].item())
    for r, prepared in enumerate(pair.solo):
        optimizer = torch.optim.AdamW(prepared.trained.values(), lr=3e-3, weight_decay=0.01)
        prepared.loaded.model.train()
        alone = []
        for step in range(20):
            own = rows_of(shares, step)[r]
            loss = F.cross_entropy(pair.alone(r, own), pair.labels(own))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            alone.append(loss.item())
        torch.testing.assert_close(joint_losses[r], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "loha", "prompt"])
def test_a_run_starts_in_a_fleet_as_alone(both: Any, method: str) -> None:
    """What a seed draws does not depend on the runs beside it."""
    pair = both(method, 3, "bert", "pair")
    for r, prepared in enumerate(pair.solo):
        for name, parameter in prepared.injection.parameters.items():
            assert torch.equal(pair.injection.parameters[name][r : r + 1], parameter)
    first, second = (next(iter(p.injection.parameters.values())) for p in pair.solo)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shares", [[3, 3], [5, 1]])
def test_each_runs_rows_meet_its_own_matrix(shares: list[int]) -> None:
    fleet = Fleet(runs=2)
    fleet.share(shares)
    assert fleet.even == (shares[0] == shares[1])
    x, weight = torch.randn(6, 4, 3).double(), torch.randn(2, 5, 3).double()
    told = torch.cat([x[: shares[0]] @ weight[0].T, x[shares[0] :] @ weight[1].T])
    torch.testing.assert_close(per_run_linear(x, weight, fleet), told, rtol=0, atol=1e-12)


def test_shares_must_fit_the_fleet() -> None:
    with pytest.raises(ValueError, match="3 shares for a fleet of 2 runs"):
        Fleet(runs=2).share([1, 2, 3])


def test_seeds_of_different_purposes_are_apart() -> None:
    drawn = {derive(1, "init", "lora", "a"), derive(1, "init", "lora", "b"), derive(1, "head")}
    assert len(drawn | {derive(2, "head")}) == 4
