"""What a run will take, before it starts: seconds and bytes, from first principles.

Operations: 2 N T for the forward pass of T tokens through N backbone parameters, 2 N T for the
gradient to the inputs, and 2 N T for the gradient to the weights where they are trained (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1). The machine's speed is its measured matrix speed, times
the share of it that training reaches: measured from this store's own records of the same model
where there are any, otherwise ``TYPICAL_SHARE``.

Bytes: weights, gradients and AdamW's two moments of what is trained, the best weights so far, and
activations of one micro-batch of the longest sequences.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paretune.data.encode import lengths
from paretune.models.load import Loaded
from paretune.planning.context import NO_MODEL, Context
from paretune.store.record import Record
from paretune.study import Run

TYPICAL_SHARE = 0.35
ACTIVATION_COPIES = {"frozen": 16, "full": 20}
"""Values of the layer's width that a layer keeps for each token until the backward pass."""
PROBE_STEPS = 10
"""What a cost probe amounts to, in steps of the longest batch."""


@dataclass(frozen=True)
class Prediction:
    """``seconds`` on one worker and ``peak_bytes`` above the process before the model; ``basis``
    says what the seconds rest on. None where the run needs no model.
    """

    seconds: float
    peak_bytes: int | None
    basis: str


class Predictor:
    """Predicts the runs of one study on one machine.

    Args:
        context: the study's.
        gigaflops: measured speed of a matrix product in the study's precision, one worker.
        records: what has ended so far; those with a step count and seconds calibrate.
    """

    def __init__(self, context: Context, gigaflops: float, records: Sequence[Record] = ()) -> None:
        self.context = context
        self.flops = gigaflops * 1e9
        self._texts: dict[tuple[str, str], list[int]] = {}
        self._shares: dict[str, list[float]] = {}
        for record in records:
            self._learn(record)

    def predict(self, run: Run) -> Prediction:
        """Seconds and bytes of one run."""
        if run.model == NO_MODEL:
            return Prediction(1.0, None, "a baseline without a model")
        found = self._shares.get(run.model.key)
        share = statistics.median(found) if found else TYPICAL_SHARE
        basis = f"{len(found)} ended runs of this model" if found else "operations and matrix speed"
        steps, tokens = self._work(run)
        operations = self._operations(run, tokens) * steps
        return Prediction(operations / (self.flops * share), self._bytes(run), basis)

    def _learn(self, record: Record) -> None:
        seconds = record.measured.get("wall_seconds", {}).get("train")
        steps = record.result.get("steps")
        if record.run.model == NO_MODEL or record.run.stage == "cost" or not seconds or not steps:
            return
        _, tokens = self._work(record.run)
        done = self._operations(record.run, tokens) * steps
        self._shares.setdefault(record.run.model.key, []).append(done / (seconds * self.flops))

    def _loaded(self, run: Run) -> Loaded:
        return self.context.bench.model(run.model, self.context.dataset(run.task))

    def _lengths(self, run: Run) -> list[int]:
        key = (run.task.model_dump_json(), run.model.name)
        if key not in self._texts:
            train = self.context.dataset(run.task).train
            self._texts[key] = lengths(train, self._loaded(run).tokenizer)
        longest = run.training.max_length
        return [min(n, longest) for n in self._texts[key]]

    def _work(self, run: Run) -> tuple[int, float]:
        """Steps, and tokens in one step (all choices)."""
        texts = self._lengths(run)
        choices = len(self.context.dataset(run.task).train[0].segments)
        examples = len(texts) if run.selection == "test" else len(texts) * 4 // 5
        per_epoch = -(-examples // run.training.batch_size)
        if run.stage == "cost":
            longest = sorted(texts)[-run.training.batch_size :]
            return PROBE_STEPS, float(sum(longest) * choices)
        steps = run.training.max_steps or run.training.epochs * per_epoch
        if run.learning_rate is None:
            steps = 0
        return steps, statistics.mean(texts) * choices * min(run.training.batch_size, examples)

    def _operations(self, run: Run, tokens: float) -> float:
        model = self._loaded(run).model
        table = model.get_input_embeddings().weight.numel()
        size = int(sum(p.numel() for p in model.parameters()) - table)
        passes = {"full": 6.0, "head_only": 2.0}.get(run.method.name, 4.0)
        return passes * size * tokens

    def _bytes(self, run: Run) -> int:
        loaded = self._loaded(run)
        weights = sum(p.numel() for p in loaded.model.parameters())
        trained = self._trained(run, loaded)
        texts = sorted(self._lengths(run))
        choices = len(self.context.dataset(run.task).train[0].segments)
        rows = run.training.micro_batch or run.training.batch_size
        tokens = texts[-1] * rows * choices
        width, layers = loaded.anatomy.width, len(loaded.anatomy.layers)
        copies = ACTIVATION_COPIES["full" if run.method.name == "full" else "frozen"]
        kept = 0 if run.method.name == "head_only" else layers
        heads = getattr(loaded.model.config, "num_attention_heads", width // 64)
        attention = 2 * heads * texts[-1] * tokens
        value = 2 if run.training.precision == "bf16" else 4
        activations = kept * (copies * width * tokens + attention) * value
        return int(4 * (weights + 4 * trained) + activations)

    def _trained(self, run: Run, loaded: Loaded) -> int:
        head = sum(dict(loaded.model.named_parameters())[n].numel() for n in loaded.head)
        module, options = self.context.method(run.method)
        count: Any = module.parameter_count(loaded.model, loaded.anatomy, options)
        return int(count) if module.NAME == "full" else int(count) + head
