"""One method on one model and task, walked through once: what the contract's tests look at.

It is injected, stepped three times, run as a whole, taken out, and loaded again from what the run
left. What needs a model of its own (float64, a fleet, an export) the tests make from the walk.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tiny_tasks import silent, small, tiny_run, tiny_task
from torch import Tensor, nn

from paretune import methods
from paretune.export.restored import Task, restored
from paretune.methods import options as method_options
from paretune.methods.fleet import Fleet
from paretune.models.load import Loaded, reset_head
from paretune.study import Run
from paretune.training.evaluate import inputs, logits
from paretune.training.execute import Outcome, execute_run
from paretune.training.loop import adamw
from paretune.training.prepare import Prepared, prepare
from paretune.training.workbench import Workbench

METHODS = tuple(
    name
    for name, method in methods.available().items()
    if methods.trains_a_model(method) and "classification" in method.KINDS
)
"""Methods of encoders; tests/methods/test_seq2seq_methods.py has those of translation models."""
IN_PEFT = ("dora", "ia3", "layer_norm", "loha", "lokr", "lora", "p_tuning", "prompt")
MERGED = ("bitfit", "dora", "ia3", "layer_norm", "loha", "lokr", "lora", "stack")
"""Methods whose export PEFT opens, and those that become a part of the weights."""


def nothing() -> Tensor:
    return torch.empty(0)


@dataclass
class Walk:
    """What was seen of one method on one model and task."""

    method: str
    run: Run
    bench: Workbench
    base: Tensor = field(default_factory=nothing)
    count: int = 0
    trained: dict[str, int] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    start: Tensor = field(default_factory=nothing)
    moved_frozen: list[str] = field(default_factory=list)
    without_gradient: list[str] = field(default_factory=list)
    unmoved: list[str] = field(default_factory=list)
    batched: Tensor = field(default_factory=nothing)
    padded: Tensor = field(default_factory=nothing)
    single: Tensor = field(default_factory=nothing)
    undone: Tensor = field(default_factory=nothing)
    same_names: bool = False
    pristine: tuple[str, str] = ("", "")
    outcome: Outcome = field(default_factory=Outcome)
    again: Tensor = field(default_factory=nothing)

    @property
    def module(self) -> ModuleType:
        return methods.get(self.method)

    @property
    def task(self) -> Task:
        """What an export has to know of the task."""
        dataset = self.bench.dataset(self.run.task)
        return Task(dataset.kind, dataset.labels)

    def loaded(self) -> Loaded:
        """The base that all walks share; the head is drawn from the run's seed."""
        loaded = self.bench.model(self.run.model, self.bench.dataset(self.run.task))
        reset_head(loaded, self.run.seed)
        return loaded

    def copied(self) -> Loaded:
        """A copy of the base, to do with as one likes."""
        loaded = self.loaded()
        return replace(loaded, model=copy.deepcopy(loaded.model))

    def prepared(self, loaded: Loaded, **changes: Any) -> Prepared:
        """The method inside ``loaded``, without dropout; ``changes`` are made to the run."""
        still = self.run.training.model_copy(update={"dropout": 0.0})
        return prepare(self.run.model_copy(update={"training": still, **changes}), loaded)

    def restored(self) -> Prepared:
        """A fresh base with the weights that the run left; another seed, so nothing else fits."""
        run, source = self.run.model_copy(update={"seed": 99}), self.bench.source(self.run.model)
        return restored(run, self.task, source, self.outcome.blobs["weights"])

    def batch(self, loaded: Loaded, part: str = "test", rows: range | None = None) -> Any:
        """Some rows of a part, all by default, as the model is given them."""
        encoded = self.encoded(loaded, part)
        chosen = list(rows or range(len(encoded.lengths)))
        return inputs(encoded, chosen, loaded.anatomy.pad_id or 0, "cpu")

    def encoded(self, loaded: Loaded, part: str = "test") -> Any:
        examples = getattr(self.bench.parts(self.run), part)
        return self.bench.encode(examples, loaded, self.bench.source(self.run.model), 64)

    def answers(self, loaded: Loaded, fleet: Fleet | None = None) -> Tensor:
        """Logits of the test part as a run gives them, (examples, labels)."""
        found = logits(
            loaded.model,
            self.encoded(loaded),
            fleet=fleet or Fleet(),
            pad_id=loaded.anatomy.pad_id or 0,
            device="cpu",
            precision="fp32",
        )
        return torch.from_numpy(found)


def walk_of(
    method: str, kind: str, model: Path, folder: Path, options: Any = None, **changes: Any
) -> Run:
    """The run that is walked through, on a task of ``kind``."""
    chosen = small(method) if options is None else options
    task = tiny_task(folder, kind, train=30, test=6)
    return tiny_run(task, model, method, options=chosen, **changes)


def walked(run: Run, bench: Workbench, folder: Path) -> Walk:
    """Take a method through a whole run."""
    method = run.method.name
    seen = Walk(method, run, bench)
    loaded = seen.loaded()
    seen.base = seen.answers(loaded)
    before, pristine = list(dict(loaded.model.named_parameters())), loaded.pristine()
    options = method_options.parse(method, seen.module.Options, run.method.options)
    seen.count = seen.module.parameter_count(loaded.model, loaded.anatomy, options)
    prepared = prepare(run, loaded)
    seen.trained = {n: p.numel() for n, p in prepared.injection.parameters.items()}
    seen.head = loaded.head
    seen.start = seen.answers(loaded, prepared.fleet)
    three_steps(prepared, seen)
    seen.batched = seen.answers(loaded, prepared.fleet)
    seen.single, seen.padded = one_by_one(prepared, seen)
    prepared.undo()
    if method == "full":
        bench.drop_model()
    seen.outcome = execute_run(
        run, checkpoint=folder / "x", report=silent, bench=bench, keep_bytes=None
    )
    loaded = seen.loaded()
    seen.undone = seen.answers(loaded)
    seen.same_names = list(dict(loaded.model.named_parameters())) == before
    seen.pristine = (pristine, loaded.pristine())
    kept = seen.restored()
    seen.again = seen.answers(kept.loaded, kept.fleet)
    return seen


def objective(logits: Tensor) -> Tensor:
    """A loss that the logits of every kind of task have; every single one of them feels it."""
    wanted = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    return (logits - wanted.to(logits)).square().sum()


def unsettle(parameters: Any, by: float = 0.2) -> None:
    """Move tensors from where they start, where an update is 0."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter) * by)


def three_steps(prepared: Prepared, seen: Walk) -> None:
    """Three steps of AdamW, dropout on; what has moved and what has not."""
    model, trained = prepared.loaded.model, prepared.trained
    names = {id(p): n for n, p in trained.items()}
    frozen = {n: p for n, p in model.named_parameters() if id(p) not in names}
    frozen |= dict(model.named_buffers())
    copies = {n: t.detach().clone() for n, t in frozen.items()}
    starts = {n: p.detach().clone() for n, p in trained.items()}
    graded: set[str] = set()

    def note(name: str) -> Any:
        return lambda gradient: graded.add(name) if gradient.abs().max() > 0 else None

    hooks = [p.register_hook(note(n)) for n, p in trained.items()]
    optimizer = adamw(trained, 0.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    model.train()
    for step in range(3):
        torch.manual_seed(step)
        batch = seen.batch(prepared.loaded, "train", range(8 * step, 8 * step + 8))
        prepared.fleet.rows = []
        objective(model(**batch).logits).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    model.eval()
    seen.without_gradient = sorted(set(trained) - graded)
    seen.moved_frozen = [n for n, t in frozen.items() if not torch.equal(t, copies[n])]
    seen.unmoved = [n for n, p in trained.items() if torch.equal(p, starts[n])]


def one_by_one(prepared: Prepared, seen: Walk) -> tuple[Tensor, Tensor]:
    """Logits of each example alone, and of all with twelve more padding tokens."""
    model = prepared.loaded.model
    given = seen.batch(prepared.loaded)
    prepared.fleet.rows = []
    with torch.inference_mode():
        single = [
            model(**seen.batch(prepared.loaded, rows=range(row, row + 1))).logits
            for row in range(len(given["input_ids"]))
        ]
        for name, value in given.items():
            filler = prepared.pad_id if name == "input_ids" else 0
            given[name] = nn.functional.pad(value, (0, 12), value=filler)
        padded = model(**given).logits
    return torch.cat(single), padded
