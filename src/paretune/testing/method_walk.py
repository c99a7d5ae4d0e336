"""Walks through one method on one model and task once, for the tests of the contract.

It is injected, stepped three times, run as a whole, taken out, and loaded again from the run's
files. The tests make other models (float64, an export) from the walk.

The answers of a translation model are looked at twice: the logits of every token of the targets,
each after the right ones before it, and the translations by beam search.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretune import methods, objectives
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.models.load import LoadedModel, reset_head
from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import IGNORE_INDEX, pad_batch
from paretune.preparation import ProcessCache
from paretune.study import Generation, Run
from paretune.testing.tiny_tasks import silent, small, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs
from paretune.training import Outcome, TrainerOptions
from paretune.training.evaluation.predict import evaluate, generate
from paretune.training.forward.passes import Compute, Forward, MicroBatch, to_tensors
from paretune.training.forward.select import forward_for, make_forward
from paretune.training.prepare import PreparedModel, prepare
from paretune.training.run_state import make_adamw
from paretune.training.trainer import train_run

TRANSLATION = "translation"
UNSEEN = torch.empty(0)
"""A result that is not there yet."""


def select_logits(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The logits that mean something: a translation has (target tokens, vocabulary), no padding.

    Tags have (tokens, labels), with all tokens of the texts and no virtual ones.
    """
    mask = batch["attention_mask"]
    if "labels" in batch:
        return logits[batch["labels"] != IGNORE_INDEX]
    is_of_tokens = logits.ndim == 3 and mask.ndim == 2
    return logits[:, -mask.shape[1] :][mask.bool()] if is_of_tokens else logits


@dataclass
class Walk:
    """The results of one method on one model and task."""

    method: str
    run: Run
    bench: ProcessCache
    device: str = "cpu"
    base: Tensor = UNSEEN
    count: int = 0
    trained: dict[str, int] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    start: Tensor = UNSEEN
    moved_frozen: list[str] = field(default_factory=list)
    without_gradient: list[str] = field(default_factory=list)
    unmoved: list[str] = field(default_factory=list)
    batched: Tensor = UNSEEN
    padded: Tensor = UNSEEN
    single: Tensor = UNSEEN
    undone: Tensor = UNSEEN
    same_names: bool = False
    pristine: tuple[str, str] = ("", "")
    outcome: Outcome = field(default_factory=Outcome)
    again: Tensor = UNSEEN
    packed: Tensor = UNSEEN
    scores: list[list[float]] = field(default_factory=list)
    loss: float = 0.0
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Translations of the test part at the stages above; of other kinds none."""

    @property
    def value(self) -> methods.Method:
        """The method's own value."""
        value = methods.get(self.method)
        assert isinstance(value, methods.Method)
        return value

    @property
    def compute(self) -> Compute:
        """Where and how it is computed."""
        return Compute(self.device)

    @property
    def task(self) -> TaskSignature:
        """The facts of the task that an export has to know."""
        dataset = self.bench.dataset(self.run.task)
        return TaskSignature(kind=dataset.kind, labels=dataset.labels, languages=dataset.languages)

    def loaded(self) -> LoadedModel:
        """The base that all walks share; the head is drawn from the run's seed."""
        loaded = self.bench.model(self.run.model, self.bench.dataset(self.run.task))
        loaded.model.to(self.device)
        reset_head(loaded, self.run.seed)
        return loaded

    def copied(self) -> LoadedModel:
        """A copy of the base, to do with as one likes."""
        loaded = self.loaded()
        return replace(loaded, model=copy.deepcopy(loaded.model))

    def prepared(self, loaded: LoadedModel, **changes: Any) -> PreparedModel:
        """The method inside ``loaded``, without dropout; ``changes`` are made to the run."""
        still = self.run.training.model_copy(update={"dropout": 0.0})
        run = self.run.model_copy(update={"training": still, **changes})
        return prepare(run, loaded, self.device)

    def restored(self) -> PreparedModel:
        """A fresh base with the weights that the run left; another seed, so nothing else fits."""
        run, source = self.run.model_copy(update={"seed": 99}), self.bench.source(self.run.model)
        restored = restore_run(run, self.task, source, self.outcome.blobs["weights"])
        restored.loaded.model.to(self.device)
        return restored

    def batch(self, loaded: LoadedModel, part: str = "test", rows: range | None = None) -> Any:
        """Some rows of a part, all by default, as model inputs."""
        encoded = self.encoded(loaded, part)
        chosen = list(rows or range(len(encoded.lengths)))
        return to_tensors(pad_batch(encoded, chosen, loaded.pad_id), self.device)

    def encoded(self, loaded: LoadedModel, part: str = "test") -> Any:
        examples = getattr(self.bench.parts(self.run), part)
        source = self.bench.source(self.run.model)
        encode = self.bench.dataset(self.run.task).objective.encode
        data = self.bench.encode(examples, loaded, source, 64, encode)
        if data.word_places is None:
            return data
        every = [list(range(len(ids[0]))) for ids in data.ids]  # as if each token were a word
        return replace(data, word_places=every)

    def forward(self, loaded: LoadedModel, context: PassContext | None) -> Forward:
        """The path of a run through the model as it is."""
        return forward_for(loaded, context or PassContext(), self.compute)

    def answers(self, loaded: LoadedModel, context: PassContext | None = None) -> Tensor:
        """Logits of the test part, (examples, labels); see :func:`select_logits`."""
        if self.task.objective.generates:
            if context is not None and context.packing is not None:
                return self.packed_answers(loaded, context)
            batch = self.batch(loaded)
            with torch.inference_mode():
                return select_logits(loaded.model.eval()(**batch).logits, batch).cpu()
        forward, collector = self.forward(loaded, context), self.task.objective.collector
        scores = evaluate(forward, self.encoded(loaded), collector)
        return torch.from_numpy(np.concatenate(scores) if isinstance(scores, list) else scores)

    def packed_answers(self, loaded: LoadedModel, context: PassContext) -> Tensor:
        """Answers to translations by a packed model, which takes the longest texts first."""
        encoded, labels = self.encoded(loaded), self.batch(loaded)["labels"]
        rows = range(len(encoded.lengths))
        order = sorted(rows, key=lambda i: (-encoded.lengths[i], -len(encoded.ids[i][0])))
        loaded.model.eval()
        with torch.inference_mode():
            states = self.forward(loaded, context)(MicroBatch(encoded, rows))
            scores = nn.functional.linear(states.hidden, states.weight, states.bias)
        targets = [labels[i][labels[i] != IGNORE_INDEX] for i in order]
        assert torch.equal(states.labels, torch.cat(targets)), (
            "another order than the longest first"
        )
        of_row = dict(zip(order, torch.split(scores, [len(t) for t in targets]), strict=True))
        return torch.cat([of_row[i] for i in rows]).cpu()

    def translated(
        self, loaded: LoadedModel, context: PassContext | None = None, rows: Any = None
    ) -> list[str]:
        """Translations of (some rows of) the test part as a run makes them; of other kinds none."""
        if not self.task.objective.generates:
            return []
        encoded = self.encoded(loaded) if rows is None else self.encoded(loaded).select(rows)
        generation = self.run.generation or Generation()
        return generate(loaded, context or PassContext(), self.compute, encoded, generation)

    def beams(self, loaded: LoadedModel, model: Any, batch: Mapping[str, Tensor]) -> list[str]:
        """Translations of a batch by any model that generates, its tokenizer that of ``loaded``."""
        if not self.task.objective.generates:
            return []
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        settings = loaded.generation_config(self.run.generation or Generation())
        with torch.inference_mode():
            tokens = model.eval().generate(**inputs, generation_config=settings)
        texts = loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def look(self, stage: str, loaded: LoadedModel, context: PassContext | None = None) -> None:
        """Write down what the model answers at a stage."""
        setattr(self, stage, self.answers(loaded, context))
        self.texts[stage] = self.translated(loaded, context)


def walk_of(
    method: str, kind: str, model: Path, folder: Path, options: Any = None, **changes: Any
) -> Run:
    """The run that is walked through, on a task of ``kind``."""
    chosen = small(method) if options is None else options
    if objectives.get(kind).between_languages:
        task = tiny_pairs(folder, train=30, test=6)
        changes["generation"] = Generation(num_beams=2, max_new_tokens=8)
    else:
        task = tiny_task(folder, kind, train=30, test=6)
    return tiny_run(task, model, method, options=chosen, **changes)


def walked(run: Run, bench: ProcessCache, folder: Path, device: str = "cpu") -> Walk:
    """Take a method through a whole run."""
    method = run.method.name
    seen = Walk(method, run, bench, device)
    loaded = seen.loaded()
    seen.look("base", loaded)
    before, pristine = list(dict(loaded.model.named_parameters())), loaded.backbone_digest()
    configured = methods.configure_method(run.method)
    seen.count = configured.count_parameters(loaded.model, loaded.anatomy)
    prepared = prepare(run, loaded, device)
    seen.trained = {n: p.numel() for n, p in prepared.injection.parameters.items()}
    seen.head = tuple(prepared.head)
    seen.look("start", loaded, prepared.context)
    three_steps(prepared, seen)
    seen.look("batched", loaded, prepared.context)
    one_by_one(prepared, seen)
    prepared.undo()
    if prepared.method.trains is methods.Trains.EVERYTHING:
        bench.drop_model()
    options = TrainerOptions(device)
    seen.outcome = train_run(
        run, checkpoint=folder / "x", report=silent, caches=bench, options=options
    )
    loaded = seen.loaded()
    seen.look("undone", loaded)
    seen.same_names = list(dict(loaded.model.named_parameters())) == before
    seen.pristine = (pristine, loaded.backbone_digest())
    kept = seen.restored()
    seen.look("again", kept.loaded, kept.context)
    make_forward(kept, seen.compute)  # as the run itself answered
    seen.look("packed", kept.loaded, kept.context)
    forward, collector = seen.forward(kept.loaded, kept.context), seen.task.objective.collector
    if seen.task.objective.generates:
        seen.loss = evaluate(forward, seen.encoded(kept.loaded), collector).mean
    elif not seen.task.objective.scales_targets:
        bound, test = bench.dataset(run.task).objective, bench.parts(run).test
        data = bench.encode(test, kept.loaded, bench.source(run.model), 64, bound.encode)
        seen.scores = bound.predict(evaluate(forward, data, collector), test, None).scores
    return seen


def objective(logits: Tensor) -> Tensor:
    """A loss that the logits of every kind of task have; every single one of them feels it."""
    targets = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    return (logits - targets.to(logits)).square().sum()


def unsettle(parameters: Any, by: float = 0.2) -> None:
    """Move tensors from where they start, where an update is 0."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter) * by)


def three_steps(prepared: PreparedModel, seen: Walk) -> None:
    """Three steps of AdamW, dropout on; what has moved and what has not."""
    model, trained = prepared.loaded.model, prepared.trained
    if not trained:
        return  # the untuned model
    names = {p: n for n, p in trained.items()}
    frozen = {n: p for n, p in model.named_parameters() if p not in names}
    frozen |= dict(model.named_buffers())
    copies = {n: t.detach().clone() for n, t in frozen.items()}
    starts = {n: p.detach().clone() for n, p in trained.items()}
    graded: set[str] = set()

    def note(name: str) -> Any:
        return lambda gradient: graded.add(name) if gradient.abs().max() > 0 else None

    hooks: list[Any] = [
        p.register_hook(note(n))  # type: ignore[no-untyped-call]
        for n, p in trained.items()
    ]
    optimizer = make_adamw(trained, 0.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    model.train()
    for step in range(3):
        torch.manual_seed(step)
        batch = seen.batch(prepared.loaded, "train", range(8 * step, 8 * step + 8))
        loss: Any = objective(select_logits(model(**batch).logits, batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    model.eval()
    seen.without_gradient = sorted(set(trained) - graded)
    seen.moved_frozen = [n for n, t in frozen.items() if not torch.equal(t, copies[n])]
    seen.unmoved = [n for n, p in trained.items() if torch.equal(p, starts[n])]


def one_by_one(prepared: PreparedModel, seen: Walk) -> None:
    """Answers to each example alone, and to all with twelve more padding tokens (targets too)."""
    loaded, model = prepared.loaded, prepared.loaded.model
    batch, single = seen.batch(loaded), []
    with torch.inference_mode():
        for row in range(len(batch["input_ids"])):
            alone = seen.batch(loaded, rows=range(row, row + 1))
            single.append(select_logits(model(**alone).logits, alone).cpu())
        fillers = {"input_ids": prepared.loaded.pad_id, "labels": IGNORE_INDEX}
        for name, value in batch.items():
            batch[name] = nn.functional.pad(value, (0, 12), value=fillers.get(name, 0))
        seen.padded = select_logits(model(**batch).logits, batch).cpu()
    seen.single = torch.cat(single)
    seen.texts["padded"] = seen.beams(loaded, model, batch)
    seen.texts["single"] = [
        text
        for row in range(len(batch["input_ids"]))
        for text in seen.translated(loaded, prepared.context, [row])
    ]
