"""Predicts the cost of a run before it starts: seconds and bytes.

The arithmetic is that of :mod:`paretune.measuring.costs`, applied to the study's data and models
and the records of its store. Where no run of a model has ended on this device yet, the bytes are
those of the tensors, and the speed is that of matrix products and of memory on the CPU, measured
now. On a GPU, whose steps wait for launches more than for products, the speed is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from statistics import median
from typing import TYPE_CHECKING

from paretune import methods
from paretune.data.split import labelled_rows
from paretune.measuring.costs import (
    CostModel,
    device_of,
    estimate_compute_cost,
    estimate_evaluation_cost,
    fit_cost_model,
)
from paretune.measuring.devices import query_gpu
from paretune.measuring.machine import MachineSpeed
from paretune.measuring.model_shape import (
    ModelShape,
    TrainedPart,
    describe_trained_part,
    measure_shape,
)
from paretune.models.load import LoadedModel
from paretune.models.weight_storage import WeightStorage, stored_bytes
from paretune.objectives.objective import Encode
from paretune.preparation import ProcessCache
from paretune.store.record import ComputeCost, Record
from paretune.study import DEFAULT_COST_SECONDS, NO_MODEL, Generation, Run
from paretune.terminal.plural import pluralise
from paretune.training.forward.activation_cache import keeps_activations
from paretune.training.prepare import allows_bf16_weights
from paretune.training.word_tables import find_occurring, find_word_tables, spares_memory

if TYPE_CHECKING:
    from torch import nn

PROCESS_BYTES = 384 * 2**20
"""Bytes of a worker before it opens a model: its libraries (280 MiB were measured)."""
PROBE_STEPS = 10
"""Duration of a cost probe, in steps of the longest batch."""
SCORED_EXAMPLES = 64
"""Number of examples that estimate the scored tokens of all examples."""
COUNTED_EXAMPLES = 4096
"""Number of examples whose words estimate those of all examples."""
MIN_PROBE_STEPS = 3
"""The shortest probe has two steps, two evaluations and one pass for the components."""


@dataclass(frozen=True)
class PredictedCost:
    """Cost of one run.

    Attributes:
        seconds: seconds on one worker; None where unknown.
        peak_bytes: bytes above the process before the model; None where the run needs no model.
        basis: basis of the predicted seconds.
        memory_basis: basis of the predicted bytes.
    """

    seconds: float | None
    peak_bytes: int | None
    basis: str
    memory_basis: str

    @property
    def worker_bytes(self) -> int:
        """The bytes of a worker that trains the run."""
        return PROCESS_BYTES + max(0, self.peak_bytes or 0)


class CostPredictor:
    """Predicts the cost of the runs of one study on one machine.

    Models are opened without their weights, and values that many runs share are computed once.

    Args:
        speed: speed of one worker on the CPU; with None only ended runs predict the time of further
            runs.
        device: ``cpu``, ``cuda`` ...: records of another device are not used.
        cost_seconds: limit for a cost's timed steps; its inference has half of it.
    """

    def __init__(
        self,
        caches: ProcessCache,
        speed: MachineSpeed | None = None,
        records: Sequence[Record] = (),
        device: str = "cpu",
        cost_seconds: float = DEFAULT_COST_SECONDS,
    ) -> None:
        self.caches = caches
        self._cost_seconds = cost_seconds
        self._speed = speed
        self.device = device
        self._texts: dict[tuple[str, str, Encode], list[list[int]]] = {}
        self._occurring: dict[tuple[str, str, Encode, int], int] = {}
        self._shapes: dict[nn.Module, ModelShape] = {}
        self._works: dict[str, ComputeCost] = {}
        self._trained_counts: dict[tuple[nn.Module, str], int] = {}
        self._cost_models = defaultdict[str, CostModel](CostModel)
        self.fit(records)

    def fit(self, records: Sequence[Record]) -> None:
        """Fit the prediction to the runs that have ended."""
        on_gpu = bool(records) and self.device.startswith("cuda")
        name = query_gpu(self.device).name if on_gpu else ""
        device = f"{self.device.split(':')[0]} {name}".rstrip()  # for GPUs the model must agree
        self._commands = [record for record in records if record.run.method.is_command]
        by_model: dict[str, list[tuple[Record, ComputeCost]]] = {}
        for record in records:
            if record.run.uses_model and (device_of(record) or "cpu") == device:
                by_model.setdefault(record.run.model.key, []).append(
                    (record, self.predict_work(record.run))
                )
        self._cost_models.clear()
        for model, pairs in by_model.items():
            self._cost_models[model] = fit_cost_model(pairs)

    def measure_speed(self, runs: Iterable[Run]) -> None:
        """Measure a worker's speed in the precisions of runs that nothing else predicts."""
        precisions = {
            run.training.precision
            for run in runs
            if run.uses_model and self._cost_models[run.model.key].operations_per_second is None
        }
        if precisions and self.device == "cpu":
            self._speed = MachineSpeed.measure(precisions)

    def predict(self, run: Run) -> PredictedCost:
        """Predict the seconds and bytes of one run.

        Raises:
            ParetuneError: its model or its method cannot be used, so it could not start.
        """
        if run.method.is_command:
            # A command is predicted by the median of its ended runs; nothing else is known of it.
            ended = [record for record in self._commands if record.run.cell == run.cell]
            times = [s for record in ended if (s := record.train_seconds) is not None]
            peaks = [size for record in ended if (size := record.peak_bytes) is not None]
            basis = f"{pluralise(len(ended), 'ended run')} of this command"
            middle = median(times) if times else None
            return PredictedCost(middle, max(peaks) if peaks else None, basis, basis)
        if run.model == NO_MODEL:
            basis = "a baseline without a model"
            return PredictedCost(1.0, None, basis, basis)
        work, steps = self.predict_work(run), self.count_steps(run)
        cost_model = self._cost_models[run.model.key]
        seconds, peak = cost_model.predict_seconds(work, steps), cost_model.predict_peak_bytes(work)
        basis = f"{pluralise(cost_model.speed_runs, 'ended run')} of this model"
        memory_basis = f"{pluralise(cost_model.residual_runs, 'cost measurement')} of this model"
        if seconds is None and self.device != "cpu":
            basis = "nothing: no run of this model has ended on this GPU"
        elif seconds is None and self._speed is None:
            basis = "nothing: no run of this model has ended, and no speed was measured"
        elif seconds is None and (speed := self._speed) is not None:
            step_seconds = partial(speed.predict_step_seconds, precision=run.training.precision)
            read, generated = self.count_evaluated(run)
            seconds = steps * step_seconds(work) + read * step_seconds(self._answer_cost(run))
            if generated:
                seconds += generated * step_seconds(self._answer_cost(run, searching=True))
            basis = "operation counts and this machine's measured speed"
        if run.stage == "cost" and seconds is not None:
            shortest = MIN_PROBE_STEPS * seconds / steps  # the minimum, however long the steps take
            seconds = min(seconds, max(1.5 * self._cost_seconds, shortest))
        if peak is None:
            peak, memory_basis = work.held_bytes + work.saved_bytes, "tensor sizes"
        return PredictedCost(seconds, round(peak), basis, memory_basis)

    def predict_work(self, run: Run) -> ComputeCost:
        """Predict the operations and bytes of a run."""
        # Runs whose steps do the same work share this: they differ in rate, seed or folds only.
        stage = "cost" if run.stage == "cost" else "final"
        same = {"learning_rate": None, "seed": 0, "fold": 0, "split_seed": 0, "outer": None}
        key = run.model_copy(update={**same, "stage": stage}).model_dump_json()
        if key not in self._works:
            loaded, shape = self.open_outline(run)
            storage = WeightStorage(allows_bf16_weights(run), run.model.quantisation)
            if storage != WeightStorage():
                weights_bytes = stored_bytes(loaded.model, loaded.anatomy, storage)
                shape = replace(shape, weights_bytes=weights_bytes)
            trained = self.describe_trained(run)
            lengths, texts, scored = self._measure_texts(run)
            self._works[key] = estimate_compute_cost(
                run, shape, trained, lengths, texts, self.device, scored
            )
        return self._works[key]

    def open_outline(self, run: Run) -> tuple[LoadedModel, ModelShape]:
        """Open the model of a run without its weights; return it and its shape."""
        dataset = self.caches.dataset(run.task)
        loaded = self.caches.outline(run.model, dataset, readout=run.readout)
        if loaded.model not in self._shapes:
            self._shapes[loaded.model] = measure_shape(loaded)
        return loaded, self._shapes[loaded.model]

    def _answer_cost(self, run: Run, *, searching: bool = False) -> ComputeCost:
        (loaded, shape), beams = self.open_outline(run), 0
        if searching:
            beams = loaded.generation_config(run.generation or Generation()).num_beams or 1
        return estimate_evaluation_cost(run, shape, *self._measure_texts(run), beams)

    def _measure_texts(self, run: Run) -> tuple[list[int], int, float]:
        """Return the tokens of each example, its texts, and its scored tokens on average."""
        (loaded, shape), dataset = self.open_outline(run), self.caches.dataset(run.task)
        objective = self.caches.objective(run)
        longest = run.training.max_length
        key = (run.task.model_dump_json(), run.model.name, objective.encode)
        if key not in self._texts:
            lengths = objective.text_lengths(dataset.train, loaded.tokenizer)
            self._texts[key] = [*lengths.values()]
        with_shots = longest * (methods.configure(run.method).options.shots + 1)
        tokens = [
            sum(min(length, with_shots) for length in example)
            for example in zip(*self._texts[key], strict=True)
        ]
        scored = 0.0
        if shape.vocabulary:
            encode = objective.encoder("train")
            first = dataset.train[:SCORED_EXAMPLES]
            scored = encode(first, loaded.tokenizer, longest, "").mean_scored
        # Objectives that read an answer's text train on the right one alone.
        texts = len(dataset.train[0].segments) if run.readout in ("head", "reward") else 1
        return tokens, texts, scored

    def count_steps(self, run: Run) -> int:
        """Count the steps of a run, without early stopping."""
        if run.stage == "cost":
            return PROBE_STEPS
        if run.learning_rate is None:
            return 0
        return run.training.max_steps or run.training.epochs * self._count_epoch_steps(run)

    def count_evaluated(self, run: Run) -> tuple[int, int]:
        """Count the examples that a run reads, and those for which it generates.

        It reads its selection part after each epoch, and at its end the test; it generates texts of
        both once.
        """
        if run.stage == "cost":
            return 0, 0
        dataset, steps = self.caches.dataset(run.task), self.count_steps(run)
        rows, of_train = self._count_rows(run)
        test = len(dataset.test)
        if run.outer is not None:
            labelled = len(labelled_rows(dataset))
            folds = run.outer.folds
            test = labelled - labelled * (folds - 1) // folds
        selection = test if run.selection == "test" else rows - of_train
        tested = test if run.stage == "final" else 0
        epochs = -(-steps // self._count_epoch_steps(run))
        texts = selection + (0 if run.selection == "test" else tested)
        generates = self.caches.objective(run).generates
        return epochs * selection + tested, texts if generates else 0

    def _count_epoch_steps(self, run: Run) -> int:
        return -(-self._count_rows(run)[1] // run.training.batch_size)

    def _count_rows(self, run: Run) -> tuple[int, int]:
        """Count the rows of train, or those outside a fold; and those of them that train."""
        dataset = self.caches.dataset(run.task)
        rows = len(dataset.train)
        if run.outer is not None:
            rows = len(labelled_rows(dataset)) * (run.outer.folds - 1) // run.outer.folds
        rows = ceil(rows * run.rows)
        return rows, rows if run.selection == "test" else rows * 4 // 5

    def describe_trained(self, run: Run) -> TrainedPart:
        """Describe the part of its model that a run trains.

        Full fine-tuning has no gradient for words that do not occur. The number of words that are
        absent from the first :data:`COUNTED_EXAMPLES` grows with the root of the number of examples
        (Heaps 1978, *Information Retrieval*).
        """
        loaded, _ = self.open_outline(run)
        skips = run.stage != "cost" and keeps_activations(run, loaded)
        parameters = self.count_trained(run)
        tables: dict[str, nn.Parameter] = {}
        trains_all = methods.configure_method(run.method).trains is methods.Trains.EVERYTHING
        if trains_all and run.training.backend != "plain":
            named = {
                name: parameter
                for name, parameter in loaded.model.named_parameters()
                if name not in loaded.anatomy.untrainable
            }
            tables = find_word_tables(loaded.model, loaded.anatomy, named)
        if not tables:
            return describe_trained_part(run, loaded, parameters, skips_below=skips)
        encode = self.caches.objective(run).encoder("train")
        key = (run.task.model_dump_json(), run.model.name, encode, run.training.max_length)
        if key not in self._occurring:
            train = self.caches.dataset(run.task).train
            data = encode(train[:COUNTED_EXAMPLES], loaded.tokenizer, run.training.max_length, "")
            growth = max(1.0, len(train) / COUNTED_EXAMPLES) ** 0.5
            self._occurring[key] = round(len(find_occurring(loaded, data)) * growth)
        count = self._occurring[key]
        shapes = [t.shape for t in tables.values() if spares_memory(count, len(t))]
        copied = count * sum(width for _, width in shapes)
        idle = sum(rows * width for rows, width in shapes) - copied
        return describe_trained_part(run, loaded, parameters, idle, copied, skips_below=skips)

    def count_trained(self, run: Run) -> int:
        """Count the parameters that a run trains, with the head; 0 where it needs no model."""
        if not run.uses_model:
            return 0
        loaded, shape = self.open_outline(run)
        key = (loaded.model, run.method.model_dump_json())
        if key not in self._trained_counts:
            method = methods.configure_method(run.method)
            if method.method.wraps_layers:
                loaded = self.caches.run_model(run)
            count = method.count_parameters(loaded.model, loaded.anatomy)
            head = 0 if method.trains is methods.Trains.EVERYTHING else shape.head_parameters
            self._trained_counts[key] = count + head
        return self._trained_counts[key]
