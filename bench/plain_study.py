"""A study as it is done by hand: good practice with `transformers` and `peft`, one run at a time.

Each run opens the model, tokenises, trains in batches grouped by length with dynamic padding, SDPA
and bf16 autocast where that pays, looks at the selection part after every epoch and keeps the best
weights; one process for each core, each with one thread. Multiple choice is one score for each
choice, all choices in one batch. Pfeiffer's adapter, which `peft` has not, is written out.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.study import Run
from paretune.training.caches import ProcessCache


@dataclass(frozen=True)
class Result:
    """One run: scores on the selection part, answers on the test part of a final one, seconds."""

    selection: tuple[float, float]
    right: tuple[bool, ...]
    seconds: float


class WithAdapter(nn.Module):
    """BertOutput with a bottleneck between its two visits to the layer's normalisation."""

    def __init__(self, output: Any, factor: int = 16) -> None:
        super().__init__()
        width = output.dense.out_features
        self.output = output
        self.down, self.up = nn.Linear(width, width // factor), nn.Linear(width // factor, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """As BertOutput has it."""
        own = self.output
        total = own.dropout(own.dense(hidden_states)) + input_tensor
        change = self.up(torch.relu(self.down(own.LayerNorm(total))))
        out: Tensor = own.LayerNorm(total + change)
        return out


def opened(folder: Any, method: str, labels: int, seed: int) -> Any:
    """The model with a new head and the method in it."""
    import peft
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=labels, dtype=torch.float32, output_loading_info=True
    )
    model.set_attn_implementation("sdpa")
    missing = {name.rpartition(".")[0] for name in info["missing_keys"]}
    heads = sorted({"classifier", *missing})
    if method == "full":
        return model
    common: dict[str, Any] = {"modules_to_save": heads}
    attention_options = common | {"target_modules": ["query", "value"], "r": 8}
    if method == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(lora_alpha=16, **attention_options))
    if method == "loha":
        return peft.get_peft_model(model, peft.LoHaConfig(alpha=16, **attention_options))
    if method == "prompt":
        config = peft.PromptTuningConfig(
            task_type="SEQ_CLS",
            num_virtual_tokens=20,
            prompt_tuning_init="SAMPLE_VOCAB",
            **common,
        )
        return peft.get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] in heads)
    if method == "pfeiffer":
        for layer in model.bert.encoder.layer:
            layer.output = WithAdapter(layer.output)
            layer.output.down.requires_grad_(True), layer.output.up.requires_grad_(True)
    return model


class Part:
    """Examples of one part, tokenised."""

    def __init__(self, examples: Any, tokenizer: Any, length: int) -> None:
        self.labels = [int(e.label) for e in examples]
        self.choices = len(examples[0].segments)
        firsts = [first for e in examples for first, _ in e.segments]
        seconds = [second for e in examples for _, second in e.segments]
        pairs = None if seconds[0] is None else seconds
        encoding = tokenizer(firsts, pairs, truncation="longest_first", max_length=length)
        self.tokenizer, self.rows = tokenizer, [
            {name: encoding[name][i] for name in encoding} for i in range(len(firsts))
        ]  # fmt: skip
        sizes = [len(row["input_ids"]) for row in self.rows]
        self.lengths = [
            max(sizes[i * self.choices : (i + 1) * self.choices]) for i in range(len(self.labels))
        ]

    def batch(self, indices: list[int]) -> tuple[Any, Tensor]:
        """Padded to the longest; the choices of an example follow one another."""
        rows = [self.rows[i * self.choices + c] for i in indices for c in range(self.choices)]
        return (
            dict(self.tokenizer.pad(rows, return_tensors="pt")),
            torch.tensor([self.labels[i] for i in indices]),
        )

    def grouped(self, size: int, drawn: np.random.Generator) -> list[list[int]]:
        """An epoch's batches, grouped by length in chunks of 50 batches, in random order."""
        order = drawn.permutation(len(self.labels))
        batches = []
        for start in range(0, len(order), 50 * size):
            chunk = sorted(order[start : start + 50 * size], key=lambda i: -self.lengths[i])
            batches += [[int(i) for i in chunk[k : k + size]] for k in range(0, len(chunk), size)]
        drawn.shuffle(batches)
        return batches


def by_hand(run: Run, cast: bool) -> Result:
    """One run, from the model's files to its answers."""
    import peft  # noqa: F401 (a process imports once; no run shall pay for it)
    from steps import quiet
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

    quiet()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    bench = ProcessCache()  # only so that both sides have the same three parts of the data
    parts, settings = bench.parts(run), run.training
    folder = bench.source(run.model).folder
    dataset = bench.dataset(run.task)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    room = 20 if run.method.name == "prompt" else 0
    length = min(settings.max_length, 512 - room)
    train = Part(parts.train, tokenizer, length)
    selection = Part(parts.selection, tokenizer, length)
    several = dataset.kind == "multiple_choice"
    labels = 1 if several else len(dataset.labels)
    model = opened(folder, run.method.name, labels, run.seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], fused=True)
    per_epoch = -(-len(train.labels) // settings.batch_size)
    total = settings.max_steps or settings.epochs * per_epoch
    warm = math.ceil(settings.warmup_fraction * total)
    drawn = np.random.default_rng(run.seed)
    best: tuple[tuple[float, float], list[Tensor]] | None = None
    batches: list[list[int]] = []
    model.train()
    for step in range(total):
        if not batches:
            batches = train.grouped(settings.batch_size, drawn)
        rate = step / max(1, warm) if step < warm else (total - step) / max(1, total - warm)
        for group in optimizer.param_groups:
            group["lr"] = (run.learning_rate or 0.0) * rate
        inputs, targets = train.batch(batches.pop())
        loss = F.cross_entropy(logits_of(model, inputs, len(targets), several, cast), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm or math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not batches or step + 1 == total:
            scores, _ = answered(model, selection, several, cast)
            if best is None or scores > best[0]:
                best = scores, [p.detach().clone() for p in trained]
            model.train()
    assert best is not None
    with torch.no_grad():
        for parameter, value in zip(trained, best[1], strict=True):
            parameter.copy_(value)
    right: list[bool] = []
    if parts.test:
        _, right = answered(model, Part(parts.test, tokenizer, length), several, cast)
    return Result(best[0], tuple(right), time.perf_counter() - begun)


def logits_of(model: Any, inputs: Any, examples: int, several: bool, cast: bool) -> Tensor:
    """(examples, labels), or (examples, choices)."""
    with torch.autocast("cpu", dtype=torch.bfloat16) if cast else nullcontext():
        logits: Tensor = model(**inputs).logits.float()
    return logits.view(examples, -1) if several else logits


@torch.inference_mode()
def answered(
    model: Any, part: Part, several: bool, cast: bool
) -> tuple[tuple[float, float], list[bool]]:
    """Accuracy and minus the mean loss; which answers are right."""
    model.eval()
    order = sorted(range(len(part.labels)), key=lambda i: -part.lengths[i])
    right, loss = [False] * len(order), 0.0
    for start in range(0, len(order), 32):
        indices = order[start : start + 32]
        inputs, targets = part.batch(indices)
        logits = logits_of(model, inputs, len(targets), several, cast)
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        for i, correct in zip(indices, (logits.argmax(-1) == targets).tolist(), strict=True):
            right[i] = bool(correct)
    return (sum(right) / len(right), -loss / len(right)), right


def whole(
    tune: dict[Any, list[Run]], final: Any, workers: int, cast: bool
) -> tuple[dict[Any, Any], float]:
    """All cells: rates on trial first, then fresh seeds at the best one.

    Args:
        tune: of each cell, one run for each rate; a single one is not tried.
        final: from a cell and a rate to its final runs.
        workers: processes.
        cast: whether bf16 autocast pays on this machine.

    Returns:
        Of each cell, which test answers of each seed are right, (seeds, examples); and the seconds
        of all runs together.
    """
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tried = {
            cell: [pool.submit(by_hand, run, cast) for run in runs] if len(runs) > 1 else []
            for cell, runs in tune.items()
        }
        finals = {}
        for cell, runs in tune.items():
            scores = [future.result().selection for future in tried[cell]]
            best = max(range(len(scores)), key=lambda k: scores[k]) if scores else 0
            finals[cell] = [
                pool.submit(by_hand, run, cast) for run in final(cell, runs[best].learning_rate)
            ]
        ended = {cell: [f.result() for f in cell_results] for cell, cell_results in finals.items()}
        seconds = sum(f.result().seconds for cell_results in tried.values() for f in cell_results)
    seconds += sum(result.seconds for cell_results in ended.values() for result in cell_results)
    return {cell: [r.right for r in cell_results] for cell, cell_results in ended.items()}, seconds
