"""The sides of a benchmark: a plain loop over `transformers` and `peft`, and paretune.

Each takes the same examples in the same effective batches, pads or packs them itself (that is part
of the time), and makes one optimiser step: forward, cross-entropy, backward, clipping at 1, fused
AdamW with decay on matrices. Both start from the same weights, head and method alike.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from workload import MAX_LENGTH, Work

from paretune import methods, objectives
from paretune.device_transfer import to_device
from paretune.measuring.devices import is_bf16_fast
from paretune.methods.core.options import parse_options
from paretune.models.dropout import set_dropout
from paretune.models.load import reset_head
from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import Encoded
from paretune.training.forward.passes import Compute, StepBatch
from paretune.training.forward.select import make_forward
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import allows_bf16_weights, prepare
from paretune.training.run_state import RunOptimizer
from paretune.training.word_tables import replace_tables, train_occurring_rows

RATE = 1e-4
"""Of the timed steps: labels are random, and nothing shall blow up."""


class Side(Protocol):
    """Something that can make an optimiser step."""

    trained: int

    def step(self, batch: list[int], number: int) -> float:
        """One step on these examples; the mean loss."""
        ...


class Variant(NamedTuple):
    """One way to train, as the tables name it."""

    title: str
    ours: bool
    dropout: float
    precision: str
    width: int | None = None
    attention: str = "sdpa"
    mixed: bool = False


VARIANTS = {
    "a": Variant(f"(a) padded to {MAX_LENGTH}, fp32, dropout 0.1", False, 0.1, "fp32", MAX_LENGTH),
    "b": Variant("(b) SDPA, grouped by length, bf16 autocast, dropout 0.1", False, 0.1, "bf16"),
    "b-nd": Variant("(b-nd) the same, dropout 0", False, 0.0, "bf16"),
    "b-fp32": Variant("(b) in fp32", False, 0.1, "fp32"),
    "b-nd-fp32": Variant("(b-nd) in fp32", False, 0.0, "fp32"),
    "b-eager": Variant("(b) with plain attention", False, 0.1, "bf16", None, "eager"),
    "b-nd-eager": Variant("(b-nd) with plain attention", False, 0.0, "bf16", None, "eager"),
    "ours": Variant("paretune, bf16, dropout 0.1", True, 0.1, "bf16"),
    "ours-nd": Variant("paretune, bf16, dropout 0", True, 0.0, "bf16"),
    "ours-fp32": Variant("paretune, fp32, dropout 0.1", True, 0.1, "fp32"),
    "ours-nd-fp32": Variant("paretune, fp32, dropout 0", True, 0.0, "fp32"),
    "ours-mixed": Variant(
        "paretune, bf16, dropout 0.1, batches in random order", True, 0.1, "bf16", mixed=True
    ),
    "ours-mixed-fp32": Variant(
        "paretune, fp32, dropout 0.1, batches in random order", True, 0.1, "fp32", mixed=True
    ),
}
"""All that can be asked for."""
PAIRS = (
    ("b", "ours"),
    ("b-nd", "ours-nd"),
    ("b-fp32", "ours-fp32"),
    ("b-nd-fp32", "ours-nd-fp32"),
    ("a", "ours"),
    ("a", "ours-fp32"),
    ("b", "ours-mixed"),
    ("b-fp32", "ours-mixed-fp32"),
)
"""Who is compared with whom: each with its like."""
WITH_BF16 = ("a", "b", "b-nd", "ours", "ours-nd")
"""What is measured unless others are named."""
WITHOUT_BF16 = ("a", "b", "b-nd", "b-fp32", "b-nd-fp32", "ours-fp32", "ours-nd-fp32")
"""The same where bf16 does not pay: there good practice is fp32, and so is paretune's `auto`."""
PLAIN = ("full", "head_only", "bitfit")
"""Methods that a plain script makes by saying which parameters are trained."""


def usual() -> tuple[str, ...]:
    """The variants to measure on this machine."""
    return WITH_BF16 if is_bf16_fast()[0] else WITHOUT_BF16


def no_counterpart(method: str, kind: str) -> str:
    """Why the field's libraries cannot do a method on a kind of task, or ""."""
    value: Any = methods.get(method)
    if method in PLAIN:
        return ""
    if method == "prefix":
        return "PEFT's prefix tuning does not run on encoders in transformers 5"
    if value.peft_export is None:
        return f"PEFT has no {method}"
    return value.peft_export.refuse(value.options(), objectives.get(kind), None)


def side(
    work: Work, method: str, variant: Variant, rate: float = RATE, seed: int = 1,
    device: str = "cpu",
) -> Side:  # fmt: skip
    """A fresh side."""
    return (Ours if variant.ours else Field)(work, method, variant, rate, seed, device)


def collate(data: Encoded, batch: list[int], width: int | None) -> dict[str, Tensor]:
    """Padded to the batch's longest, or to ``width``, as a data collator does it."""
    choices = len(data.ids[batch[0]])
    flat = [sequence for i in batch for sequence in data.ids[i]]
    longest = width or max(len(s) for s in flat)
    inputs = {
        name: torch.zeros(len(flat), longest, dtype=torch.long)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for row, sequence in enumerate(flat):
        inputs["input_ids"][row, : len(sequence)] = torch.tensor(sequence)
        inputs["attention_mask"][row, : len(sequence)] = 1
    if data.type_ids is None:
        del inputs["token_type_ids"]
    else:
        for row, kinds in enumerate(kinds for i in batch for kinds in data.type_ids[i]):
            inputs["token_type_ids"][row, : len(kinds)] = torch.tensor(kinds)
    if choices > 1:
        inputs = {name: t.view(len(batch), choices, longest) for name, t in inputs.items()}
    return {**inputs, "labels": torch.tensor([data.labels[i] for i in batch])}


class Field:
    """The plain loop."""

    def __init__(
        self, work: Work, method: str, variant: Variant, rate: float, seed: int,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self.data, self.width, self.device = work.encoded, variant.width, device
        self.cast = variant.precision == "bf16"
        self.model = field_model(work, method, variant, seed).to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.trained = sum(p.numel() for p in self.parameters)
        self.optimizer = torch.optim.AdamW(decayed(self.model), lr=rate, fused=True)
        self.seed = seed
        self.model.train()

    def step(self, batch: list[int], number: int) -> float:
        """One step; padding is part of it."""
        padded = collate(self.data, batch, self.width)
        inputs = {name: to_device(tensor, self.device) for name, tensor in padded.items()}
        labels = inputs.pop("labels")
        torch.manual_seed(1000 * self.seed + number)
        kind = self.device.split(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16) if self.cast else nullcontext():
            logits = self.model(**inputs).logits
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def field_model(work: Work, method: str, variant: Variant, seed: int) -> Any:
    """The model with the method by `peft`, and the same weights as paretune would draw."""
    loaded = work.fresh()
    model: Any = loaded.model
    model.set_attn_implementation(variant.attention)
    set_dropout(model, variant.dropout)
    reset_head(loaded, seed)
    value: Any = methods.get(method)
    if method in PLAIN:
        behind = tuple(f"{module}." for module in loaded.anatomy.head_modules)
        for name, parameter in model.named_parameters():
            inside = name.endswith("bias") and not name.startswith(behind)
            bias = method == "bitfit" and inside
            parameter.requires_grad_(method == "full" or bias or name in loaded.head_parameters)
        return model
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    options = parse_options(method, value.options, work.options)
    # Injected for its weights alone, and taken out again: `convert` copies them.
    injection = value.inject(model, loaded.anatomy, options, PassContext(), seed)
    injection.undo()
    heads = [
        m
        for m in loaded.anatomy.head_modules
        if any(n.startswith(f"{m}.") for n in loaded.head_parameters)
    ]
    task_type = objectives.get(work.shape.kind).peft_task_type
    common = {"modules_to_save": heads, "task_type": task_type}
    return value.peft_export.convert(model, options, injection, common)


def decayed(model: Any) -> list[dict[str, Any]]:
    """The Trainer's groups: decay on matrices, none on biases and normalisations."""
    groups: dict[float, list[Any]] = {0.01: [], 0.0: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = name.removesuffix(".default").removesuffix(".weight")
            plain = name.endswith("bias") or "norm" in own.lower()
            groups[0.0 if plain else 0.01].append(parameter)
    return [{"params": group, "weight_decay": decay} for decay, group in groups.items() if group]


class Ours:
    """paretune's own step, as a run of a study makes it."""

    def __init__(
        self, work: Work, method: str, variant: Variant, rate: float, seed: int,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        run = work.run(
            method, dropout=variant.dropout, precision=variant.precision, rate=rate, seed=seed
        )
        self.data, self.rate = work.encoded, rate
        self.prepared = prepare(run, work.fresh(bf16=allows_bf16_weights(run)), device)
        self.forward = make_forward(self.prepared, Compute.of(run, device))
        objective = objectives.get(work.shape.kind)
        self.batch = StepBatch(
            data=work.encoded,
            seed=run.seed,
            objective=objective,
            loss_options=objective.loss_options(()),
            micro_batch=run.training.batch_size,
            pass_overhead_tokens=self.prepared.pass_tokens,
        )
        self.trained = sum(p.numel() for p in self.prepared.trained.values())
        num_classes = self.prepared.num_classes(objective, work.shape.labels)
        factors = self.prepared.injection.learning_rate_factors
        self.tables = train_occurring_rows(self.prepared, work.encoded, run.training.backend)
        trained = replace_tables(self.prepared.trained, self.tables)
        self.optimizer = RunOptimizer(trained, run.training, num_classes, factors, self.tables)
        self.prepared.loaded.model.train()

    def step(self, batch: list[int], number: int) -> float:
        """One step."""
        step_batch = replace(self.batch, indices=batch, step=number)
        losses = accumulate_gradients(step_batch, self.forward)
        return self.optimizer.step(number, self.rate, losses)
