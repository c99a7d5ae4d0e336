"""What a run will take, before it starts: seconds and bytes.

First principles give operations and bytes (:mod:`paretune.training.estimate_cost`), this store's
own records
of the same model on the same device give the machine's speed and the bytes that are there beside
the tensors (:mod:`paretune.analysis.resources.forecast`). Where no run has ended yet, the bytes are
those of the tensors, and the speed is that of a matrix product on the CPU, measured now, times
``TYPICAL_FLOPS_SHARE``; on a GPU, whose steps wait for launches more than for products, it is not
known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paretune import methods
from paretune.analysis.resources.forecast import CostModel, device_of, fit_cost_model
from paretune.measuring.compute_cost import ComputeCost
from paretune.measuring.devices import query_gpu
from paretune.models.bf16_weights import bf16_model_bytes
from paretune.models.load import LoadedModel
from paretune.objectives.encoding import count_target_tokens, count_tokens
from paretune.planning.context import NO_MODEL, StudyContext
from paretune.store.record import Record
from paretune.study import DEFAULT_COST_SECONDS, Run
from paretune.training.estimate_cost import ModelShape, estimate_cost, measure_shape
from paretune.training.fleet.capacity import can_join_fleet, count_fitting_runs, fleet_pays
from paretune.training.forward.select import can_share, overhead_tokens
from paretune.training.prepare import allows_bf16_weights

TYPICAL_FLOPS_SHARE = 0.35
PROBE_STEPS = 10
"""What a cost probe amounts to, in steps of the longest batch."""
MIN_PROBE_STEPS = 3
"""The same of the shortest: two steps, two evaluations, one pass that is looked into."""


@dataclass(frozen=True)
class PredictedCost:
    """``seconds`` on one worker and ``peak_bytes`` above the process before the model.

    ``basis`` says what the seconds rest on, ``memory_basis`` what the bytes do. ``seconds`` are
    None where nothing tells them, ``peak_bytes`` where the run needs no model.
    """

    seconds: float | None
    peak_bytes: int | None
    basis: str
    memory_basis: str


@dataclass(frozen=True)
class _OutlinedModel:
    """A model with a head for a task: opened once, without its weights."""

    loaded: LoadedModel
    shape: ModelShape
    head: int


class CostPredictor:
    """Predicts the runs of one study on one machine.

    Models are opened without their weights, and what is the same for many runs is found once.

    Args:
        context: the study's.
        gigaflops: measured speed of a matrix product by precision, one worker.
        records: what has ended so far.
        device: ``cpu``, ``cuda`` ...: records of another are no basis, and what pays depends on it.
        cost_seconds: bound of a cost's timed steps; of its answers, half as much.
    """

    def __init__(
        self,
        context: StudyContext,
        gigaflops: Mapping[str, float],
        records: Sequence[Record] = (),
        device: str = "cpu",
        cost_seconds: float = DEFAULT_COST_SECONDS,
    ) -> None:
        self.context = context
        self._cost_seconds = cost_seconds
        self._gigaflops = gigaflops
        self._device = device
        self._texts: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self._models: dict[int, _OutlinedModel] = {}
        self._works: dict[str, ComputeCost] = {}
        self._counts: dict[tuple[int, str], int] = {}
        self._seats: dict[tuple[str, int, int], tuple[int, bool]] = {}
        self._fitted: dict[str, CostModel] = {}
        self.fit(records)

    def fit(self, records: Sequence[Record]) -> None:
        """Fit what is predicted to what has ended."""
        told: dict[str, list[tuple[Record, ComputeCost]]] = {}
        for record in records:
            if record.run.model != NO_MODEL and _ran_on_device(record, self._device):
                # The run as it stands, not what it noted: stores of older versions tell too.
                told.setdefault(record.run.model.key, []).append(
                    (record, self._compute_work(record.run))
                )
        self._fitted = {model: fit_cost_model(pairs) for model, pairs in told.items()}

    def predict(self, run: Run) -> PredictedCost:
        """Seconds and bytes of one run.

        Raises:
            ParetuneError: its model or its method cannot be used: it could not start.
        """
        if run.model == NO_MODEL:
            nothing = "a baseline without a model"
            return PredictedCost(1.0, None, nothing, nothing)
        asked, steps = self._compute_work(run), self._count_steps(run)
        known = self._fitted.get(run.model.key, CostModel(None, 0, None, 0))
        seconds, peak = known.predict_seconds(asked, steps), self.predict_peak_bytes(run)
        basis = f"{known.speed_runs} ended runs of this model"
        memory = f"{known.residual_runs} cost measurements of this model"
        if seconds is None and self._device != "cpu":
            basis = "nothing: no run of this model has ended on this GPU"
        elif seconds is None:
            flops = 1e9 * self._gigaflops[run.training.precision]
            seconds = steps * asked.operations / (flops * TYPICAL_FLOPS_SHARE)
            basis = "operations and matrix speed"
        if run.stage == "cost" and seconds is not None:
            at_least = MIN_PROBE_STEPS * seconds / steps  # however long they take
            seconds = min(seconds, max(1.5 * self._cost_seconds, at_least))
        if not known.residual_runs:
            memory = "tensors alone"
        return PredictedCost(seconds, peak, basis, memory)

    def predict_peak_bytes(self, run: Run) -> int | None:
        """As :meth:`predict` has them."""
        if run.model == NO_MODEL:
            return None
        asked = self._compute_work(run)
        peak = self._fitted.get(run.model.key, CostModel(None, 0, None, 0)).predict_peak_bytes(
            asked
        )
        return asked.held_bytes + asked.saved_bytes if peak is None else round(peak)

    def predict_fleet_size(self, run: Run, most: int, budget_bytes: int) -> tuple[int, bool]:
        """How many runs like this one may train together, and whether they do unasked.

        What the worker finds when it puts a fleet together, but for the lengths, which are those of
        all training texts here, cut to the study's ``max_length``.

        Args:
            run: one of them.
            most: never more.
            budget_bytes: for what they hold beside the model and one pass.
        """
        if run.model == NO_MODEL or run.stage == "cost" or run.learning_rate is None:
            return 1, False
        key = (_work_key(run), most, budget_bytes)
        if key not in self._seats:
            self._seats[key] = self._predict_fleet_size(run, most, budget_bytes)
        return self._seats[key]

    def _predict_fleet_size(self, run: Run, most: int, budget_bytes: int) -> tuple[int, bool]:
        if not can_join_fleet(run):
            return 1, False
        model = self._open_outline(run).loaded.model
        if not can_share(model):
            return 1, False
        train, lengths = self.context.dataset(run.task).train, self._text_lengths(run)
        mean = (sum(lengths) / len(lengths) + overhead_tokens(model)) * len(train[0].segments)
        tokens = mean * min(run.training.batch_size, len(train))
        seats = count_fitting_runs(self._count_trained(run), most, budget_bytes)
        return seats, seats > 1 and fleet_pays(tokens, self._device)

    def predict_weight_bytes(self, run: Run) -> int:
        """Bytes of all that a run trains, in fp32 as it is stored; 0 where it needs no model."""
        return 0 if run.model == NO_MODEL else 4 * self._count_trained(run)

    def _compute_work(self, run: Run) -> ComputeCost:
        key = _work_key(run)
        if key not in self._works:
            choices = len(self.context.dataset(run.task).train[0].segments)
            known, trained = self._open_outline(run), self._count_trained(run)
            shape, model = known.shape, known.loaded
            if allows_bf16_weights(run):
                weights = bf16_model_bytes(model.model, model.anatomy)
                shape = replace(shape, weights_bytes=weights)
            lengths = self._text_lengths(run)
            self._works[key] = estimate_cost(run, shape, trained, lengths, choices, self._device)
        return self._works[key]

    def _open_outline(self, run: Run) -> _OutlinedModel:
        loaded = self.context.caches.outline(run.model, self.context.dataset(run.task))
        if id(loaded) not in self._models:
            parameters = dict(loaded.model.named_parameters())
            head = sum(parameters[name].numel() for name in loaded.head_parameters)
            self._models[id(loaded)] = _OutlinedModel(loaded, measure_shape(loaded), head)
        return self._models[id(loaded)]

    def _text_lengths(self, run: Run) -> list[int]:
        key = (run.task.model_dump_json(), run.model.name)
        longest = run.training.max_length
        dataset = self.context.dataset(run.task)
        if key not in self._texts:
            tokenizer = self._open_outline(run).loaded.tokenizer
            targets = dataset.kind == "translation"
            self._texts[key] = (
                count_tokens(dataset.train, tokenizer),
                count_target_tokens(dataset.train, tokenizer)
                if targets
                else [0] * len(dataset.train),
            )
        return [
            min(text, longest) + min(target, longest)
            for text, target in zip(*self._texts[key], strict=True)
        ]

    def _count_steps(self, run: Run) -> int:
        if run.stage == "cost":
            return PROBE_STEPS
        if run.learning_rate is None:
            return 0
        texts = len(self.context.dataset(run.task).train)
        examples = texts if run.selection == "test" else texts * 4 // 5
        per_epoch = -(-examples // run.training.batch_size)
        return run.training.max_steps or run.training.epochs * per_epoch

    def _count_trained(self, run: Run) -> int:
        known = self._open_outline(run)
        key = (id(known.loaded), run.method.model_dump_json())
        if key not in self._counts:
            loaded = known.loaded
            method = methods.configure_method(run.method)
            if method.method.counts_by_wrapping:
                loaded = self.context.caches.model(run.model, self.context.dataset(run.task))
            count = method.count_parameters(loaded.model, loaded.anatomy)
            head = 0 if method.trains is methods.Trains.EVERYTHING else known.head
            self._counts[key] = count + head
        return self._counts[key]


def _work_key(run: Run) -> str:
    """What runs have in common that do the same work: all but rate, seed and fold."""
    stage = "cost" if run.stage == "cost" else "final"
    same = {"learning_rate": None, "seed": 0, "fold": 0, "split_seed": 0, "stage": stage}
    return run.model_copy(update=same).model_dump_json()


def _ran_on_device(record: Record, device: str) -> bool:
    """Whether it ran on the same kind of device; of GPUs, on the same card."""
    name = query_gpu(device).name if device.startswith("cuda") else ""
    return (device_of(record) or "cpu") == f"{device.split(':')[0]} {name}".rstrip()
