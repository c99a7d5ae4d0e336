"""What a run will take, before it starts: seconds and bytes.

First principles give operations and bytes (:mod:`paretune.training.work`), this store's own records
of the same model on the same device give the machine's speed and the bytes that are there beside
the tensors (:mod:`paretune.analysis.forecast`). Where no run has ended yet, the bytes are those of
the tensors, and the speed is that of a matrix product on the CPU, measured now, times
``TYPICAL_SHARE``; on a GPU, whose steps wait for launches more than for products, it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.analysis.forecast import Fitted, device_of, fitted
from paretune.analysis.work import Work
from paretune.data.encode import lengths, target_lengths
from paretune.measuring.devices import gpu
from paretune.models.load import Loaded
from paretune.planning.context import NO_MODEL, Context
from paretune.store.record import Record
from paretune.study import Run
from paretune.training.capacity import held, pays, shares
from paretune.training.padded import beside, may_share
from paretune.training.work import Shape, shape_of, work

TYPICAL_SHARE = 0.35
PROBE_STEPS = 10
"""What a cost probe amounts to, in steps of the longest batch."""


@dataclass(frozen=True)
class Prediction:
    """``seconds`` on one worker and ``peak_bytes`` above the process before the model.

    ``basis`` says what the seconds rest on, ``memory_basis`` what the bytes do. ``seconds`` are
    None where nothing tells them, ``peak_bytes`` where the run needs no model.
    """

    seconds: float | None
    peak_bytes: int | None
    basis: str
    memory_basis: str


class Predictor:
    """Predicts the runs of one study on one machine.

    Args:
        context: the study's.
        gigaflops: measured speed of a matrix product by precision, one worker.
        records: what has ended so far.
        device: ``cpu``, ``cuda`` ...: records of another are no basis, and what pays depends on it.
    """

    def __init__(
        self,
        context: Context,
        gigaflops: Mapping[str, float],
        records: Sequence[Record] = (),
        device: str = "cpu",
    ) -> None:
        self.context = context
        self._gigaflops = gigaflops
        self._device = device
        self._texts: dict[tuple[str, str], list[int]] = {}
        self._targets: dict[tuple[str, str], list[int]] = {}
        self._shapes: dict[tuple[str, str], Shape] = {}
        told: dict[str, list[tuple[Record, Work]]] = {}
        for record in records:
            if record.run.model != NO_MODEL and _ran_on(record, device):
                # The run as it stands, not what it noted: stores of older versions tell too.
                told.setdefault(record.run.model.key, []).append((record, self._work(record.run)))
        self._fitted = {model: fitted(pairs) for model, pairs in told.items()}

    def predict(self, run: Run) -> Prediction:
        """Seconds and bytes of one run."""
        if run.model == NO_MODEL:
            nothing = "a baseline without a model"
            return Prediction(1.0, None, nothing, nothing)
        asked, steps = self._work(run), self._steps(run)
        known = self._fitted.get(run.model.key, Fitted(None, 0, None, 0))
        seconds, peak = known.seconds(asked, steps), known.peak_bytes(asked)
        basis = f"{known.speed_runs} ended runs of this model"
        memory = f"{known.rest_runs} cost measurements of this model"
        if seconds is None and self._device != "cpu":
            basis = "nothing: no run of this model has ended on this GPU"
        elif seconds is None:
            flops = 1e9 * self._gigaflops[run.training.precision]
            seconds = steps * asked.operations / (flops * TYPICAL_SHARE)
            basis = "operations and matrix speed"
        if peak is None:
            peak, memory = float(asked.held_bytes + asked.saved_bytes), "tensors alone"
        return Prediction(seconds, round(peak), basis, memory)

    def together(self, run: Run, most: int, budget_bytes: int) -> tuple[int, bool]:
        """How many runs like this one may train together, and whether they do unasked.

        What the worker finds when it puts a fleet together, but for the lengths, which are those of
        all training texts here, cut to the study's ``max_length``.

        Args:
            run: one of them.
            most: never more.
            budget_bytes: for what they hold beside the model and one pass.
        """
        if run.model == NO_MODEL or not shares(run):
            return 1, False
        loaded = self._loaded(run)
        if not may_share(loaded.model):
            return 1, False
        train, lengths = self.context.dataset(run.task).train, self._lengths(run)
        mean = (sum(lengths) / len(lengths) + beside(loaded.model)) * len(train[0].segments)
        tokens = mean * min(run.training.batch_size, len(train))
        seats = held(self._trained(run, loaded), most, budget_bytes)
        return seats, seats > 1 and pays(tokens, self._device)

    def weight_bytes(self, run: Run) -> int:
        """Bytes of all that a run trains, in fp32 as it is stored; 0 where it needs no model."""
        return 0 if run.model == NO_MODEL else 4 * self._trained(run, self._loaded(run))

    def _work(self, run: Run) -> Work:
        key = (run.task.model_dump_json(), run.model.name)
        loaded = self._loaded(run)
        if key not in self._shapes:
            self._shapes[key] = shape_of(loaded)
        choices = len(self.context.dataset(run.task).train[0].segments)
        trained = self._trained(run, loaded)
        return work(run, self._shapes[key], trained, self._lengths(run), choices, self._device)

    def _loaded(self, run: Run) -> Loaded:
        return self.context.bench.model(run.model, self.context.dataset(run.task))

    def _lengths(self, run: Run) -> list[int]:
        key = (run.task.model_dump_json(), run.model.name)
        longest = run.training.max_length
        dataset = self.context.dataset(run.task)
        if key not in self._texts:
            self._texts[key] = lengths(dataset.train, self._loaded(run).tokenizer)
        given = [min(n, longest) for n in self._texts[key]]
        if dataset.kind != "translation":
            return given
        if key not in self._targets:
            self._targets[key] = target_lengths(dataset.train, self._loaded(run).tokenizer)
        return [a + min(b, longest) for a, b in zip(given, self._targets[key], strict=True)]

    def _steps(self, run: Run) -> int:
        if run.stage == "cost":
            return PROBE_STEPS
        if run.learning_rate is None:
            return 0
        texts = len(self.context.dataset(run.task).train)
        examples = texts if run.selection == "test" else texts * 4 // 5
        per_epoch = -(-examples // run.training.batch_size)
        return run.training.max_steps or run.training.epochs * per_epoch

    def _trained(self, run: Run, loaded: Loaded) -> int:
        head = sum(dict(loaded.model.named_parameters())[n].numel() for n in loaded.head)
        module, options = self.context.method(run.method)
        count: Any = module.parameter_count(loaded.model, loaded.anatomy, options)
        return int(count) if module.NAME == "full" else int(count) + head


def _ran_on(record: Record, device: str) -> bool:
    """Whether it ran on the same kind of device; of GPUs, on the same card."""
    name = gpu(device).name if device.startswith("cuda") else ""
    return (device_of(record) or "cpu") == f"{device.split(':')[0]} {name}".rstrip()
