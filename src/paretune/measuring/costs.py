"""Seconds and bytes of a run: by first principles, and by the runs that have ended.

First principles say how methods differ (:class:`~paretune.store.record.ComputeCost`, known before
the run starts): operations of a step, bytes that are held, bytes that a pass saves, bytes moved.

Operations: 2 N T for the forward pass of T tokens through N backbone parameters, 2 N T for the
gradient of the inputs, and 2 N T for the gradient of the weights where they are trained (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1); what scores words counts for the scored tokens alone.
Below the lowest trained layer there is no backward pass: with l of L layers below, the gradient of
the inputs is 2 N T (L - l) / L; and no forward pass where activations are kept from epoch to epoch.
Parameters of an adapter count three times, since they are trained.
Bytes: weights; gradients and AdamW's two moments of trained parameters (only of words that occur),
and outside the cost probe the best weights so far; the values that a layer above the lowest trained
one saves for each token until the backward pass, attention and, where words are scored, scores.

Bytes moved: operations between the products (normalisations, activations, dropout, residual sums,
casts, and the optimiser) read and write memory. They are counted as passes over the values that a
layer saves and over the trained parameters, fitted to measured steps (``bench/step_seconds.py``).

The values that an encoder's layer saves are a multiple of its width, by a rule of thumb. Decoders
differ too much for one: by the width of their feed-forward part, by gates, by the number of key and
value heads. There the numbers are counted from the layer's modules (:mod:`.model_shape`).

The speed of a machine and the memory of its libraries are unknown; they are fitted to ended runs of
the same model on the same device, one number each (:class:`CostModel`)::

    seconds    = steps * operations / operations_per_second
    peak_bytes = held_bytes + saved_bytes + residual_bytes

Both are medians over runs, so that one run on a busy machine changes little. The residual
(temporary results, fragmentation, libraries) is added, since the rule of thumb counts what a pass
saves well: a factor was less accurate where passes differ in length.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretune import methods
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.data.batch import (
    NEVER_SPLIT,
    pass_overhead_tokens,
    split_by_count,
    split_by_length,
    split_packed,
)
from paretune.methods import Trains
from paretune.methods.baselines import WITH_MODEL
from paretune.store.record import ComputeCost, Record
from paretune.study import Run

if TYPE_CHECKING:
    from paretune.measuring.model_shape import ModelShape, TrainedPart

TRAINED_OPERATIONS = 6.0
"""Operations of one step for each trained parameter and token."""
SAVED_WIDTHS = {Trains.EVERYTHING: 20, Trains.ADAPTER: 14.5, Trains.HEAD: 16, Trains.NOTHING: 16}
"""Vectors of the layer's width that a layer saves for each token until the backward pass.

Those of an adapter are not included (``Method.saved_widths``)."""
FORWARD_PASSES, BACKWARD_PASSES, OPTIMIZER_PASSES = 9, 18, 18
"""Passes of a step over the numbers that a layer saves, and over what is trained, all as fp32."""
PROBE_COPIES = 3
"""In fp32, of what is trained: its gradient and AdamW's two moments."""
SEARCH_OPERATIONS = 6
"""Words in a pass that take as long as one of a beam (Marian, four beams, Zen 3: 5 to 8)."""


def estimate_compute_cost(
    run: Run,
    shape: ModelShape,
    trained: TrainedPart,
    lengths: Sequence[int],
    choices: int,
    device: str = "cpu",
    scored: float | None = None,
) -> ComputeCost:
    """The operations and bytes of one run.

    Args:
        lengths: tokens of the training examples' longest choices, truncated, targets included.
        scored: tokens of an example whose words are scored; None: those of one of the stacks.
    """
    method, batch = methods.configure_method(run.method), min(run.training.batch_size, len(lengths))
    body = method.method.body_training
    choices *= 1 if body is None else body.texts_per_row
    longest = sorted(lengths)[-batch:]
    mean = statistics.mean(longest if run.stage == "cost" else lengths)
    # Each token goes through one of the stacks.
    tokens = mean * choices / shape.stacks
    scored = tokens if scored is None else scored
    products = shape.backbone_parameters * tokens + shape.width * shape.vocabulary * scored
    trains = method.trains
    above = 1 - trained.layers_below / shape.layers
    passes = 2.0 * above + 2.0 * (above if trained.skips_below else 1)
    passes = TRAINED_OPERATIONS if trains is Trains.EVERYTHING else passes
    own_products = TRAINED_OPERATIONS * trained.token_parameters * tokens
    backward = above if trains in (Trains.EVERYTHING, Trains.ADAPTER) else 0.0
    forward = above if trained.skips_below else 1.0
    moved = shape.layers * (FORWARD_PASSES * forward + BACKWARD_PASSES * backward)
    moved *= _bytes_of_token(run, shape, mean) / _value_bytes(run) * tokens * batch
    copies = count_copies(run, device)
    return ComputeCost(
        operations=(passes * products + own_products) * batch,
        held_bytes=shape.weights_bytes + 4 * (copies * trained.updated + trained.copied),
        saved_bytes=_saved_bytes(
            run, shape, trained, longest, choices, device, scored / max(1.0, tokens)
        ),
        moved_bytes=int(4 * (moved + OPTIMIZER_PASSES * trained.updated)),
        best_bytes=4 * (copies - PROBE_COPIES) * trained.updated,
    )


def count_copies(run: Run, device: str) -> int:
    """Copies in fp32 of what is trained beside itself: its gradient, AdamW's moments, the best.

    The best weights so far are kept neither by the probe nor by any run on a GPU.
    """
    return PROBE_COPIES + (run.stage != "cost" and device == "cpu")


def estimate_evaluation_cost(
    run: Run, shape: ModelShape, lengths: Sequence[int], choices: int, scored: float, beams: int = 0
) -> ComputeCost:
    """The cost of answering one example by one pass, or by a search with ``beams``.

    Arguments are those of :func:`estimate_compute_cost`. Answers that share a prompt read it once,
    so label words count as one of them. Nothing is kept.
    """
    mean = statistics.mean(lengths)
    searched = max(0.0, SEARCH_OPERATIONS * beams - 1) * scored  # beyond what one pass reads
    tokens = (mean * choices + searched) / shape.stacks
    products = shape.backbone_parameters * tokens
    products += shape.width * shape.vocabulary * (scored + searched)
    numbers = _bytes_of_token(run, shape, mean) / _value_bytes(run) * tokens * shape.layers
    return ComputeCost(2 * products, 0, 0, moved_bytes=int(4 * FORWARD_PASSES * numbers))


def _value_bytes(run: Run) -> int:
    """Bytes of a number in the precision of products."""
    return 2 if run.training.precision == "bf16" else 4


def _bytes_of_token(run: Run, shape: ModelShape, length: float) -> float:
    """Bytes that a layer saves for each token of a text of ``length`` tokens."""
    trains, value_bytes = methods.configure_method(run.method).trains, _value_bytes(run)
    plain, saved = run.training.backend == "plain", shape.saved
    if saved is None:
        scores = 2 * shape.heads * length / shape.stacks
        return value_bytes * (SAVED_WIDTHS[trains] * shape.width + scores)
    # Attention keeps no scores: it computes them again.
    scores = 2 * shape.heads * length * value_bytes if plain else 0
    trained = saved.width
    if trains is Trains.EVERYTHING:
        trained = saved.inputs - (saved.computed_again if shape.packs and not plain else 0)
    return 4 * saved.wide + value_bytes * (saved.narrow + trained) + scores


def _saved_bytes(
    run: Run,
    shape: ModelShape,
    part: TrainedPart,
    longest: Sequence[int],
    choices: int,
    device: str,
    scored_share: float,
) -> int:
    """Bytes of the largest pass that the batch of the longest texts is split into."""
    rows = min(run.training.micro_batch or len(longest), len(longest))
    tokens, length = rows * longest[-1], longest[-1]
    plain = run.training.backend == "plain"
    if not shape.packs and not plain:  # a padded batch is split where that is faster
        trained = part.parameters
        overhead = pass_overhead_tokens(trained, max(trained, shape.total_parameters), device)
        if overhead == NEVER_SPLIT:
            passes = split_by_count(longest, range(len(longest)), rows)
        else:
            overhead = max(1, overhead // choices)
            passes = split_by_length(longest, range(len(longest)), rows, overhead)
        tokens, length = max(
            (len(indices) * longest[indices[0]], longest[indices[0]]) for indices in passes
        )
    elif shape.saved is not None and not plain and device == "cpu":  # packed
        texts = [tokens * choices for tokens in longest]
        passes = split_packed(texts, range(len(texts)), rows)
        tokens = max(sum(longest[i] for i in indices) for indices in passes)
    method = methods.configure_method(run.method)
    trains, value_bytes = method.trains, _value_bytes(run)
    # Below a trained head nothing is saved but what one layer computes with; nor without training.
    is_frozen = trains is Trains.HEAD or (trains is Trains.NOTHING and shape.saved is not None)
    layers = 1 if is_frozen else max(1, shape.layers - part.layers_below)
    of_token = _bytes_of_token(run, shape, length)
    own_bytes = value_bytes * part.saved_widths * shape.width if shape.saved is None else 0
    saved = (layers * of_token + own_bytes) * tokens * choices / shape.stacks
    if shape.saved is not None and trains is Trains.EVERYTHING and value_bytes == 2:
        # Autocast casts every matrix once for a pass, but no table that words are looked up in.
        # Packed batches keep none of the layers'.
        layers_cast = 0 if shape.packs and not plain else shape.backbone_parameters
        saved += 2 * (layers_cast + shape.width * shape.vocabulary)
    # Scores of all words and their gradient, in fp32; where batches are packed, a chunk at a time.
    scored = tokens / shape.stacks
    if shape.packs and shape.vocabulary and not plain:
        from paretune.objectives.chunked_cross_entropy import chunk_tokens

        scored = min(scored * scored_share, chunk_tokens(shape.vocabulary, device))
    return int(saved + 8 * scored * shape.vocabulary)


@dataclass(frozen=True)
class CostModel:
    """Fitted constants of one model on one device; None if no run gives them.

    Attributes:
        residual_bytes: measured peak minus counted bytes.
    """

    operations_per_second: float | None = None
    speed_runs: int = 0
    residual_bytes: float | None = None
    residual_runs: int = 0

    def predict_seconds(self, work: ComputeCost, steps: int) -> float | None:
        """Seconds of training and evaluation, of which the fitted runs had as much."""
        if self.operations_per_second is None:
            return None
        return steps * work.operations / self.operations_per_second

    def predict_peak_bytes(self, work: ComputeCost) -> float | None:
        """Peak memory above that of the process before the model is loaded."""
        if self.residual_bytes is None:
            return None
        # The residual is negative if mapped weights are counted that were never read.
        return max(0.0, work.held_bytes + work.saved_bytes + self.residual_bytes)


def fit_cost_model(runs: Iterable[tuple[Record, ComputeCost]]) -> CostModel:
    """Fit one model on one device to its ended runs.

    Probes are ignored: they run the backbone once and cache its outputs.
    """
    speeds, residuals = [], []
    for record, work in runs:
        if record.run.method.name in WITH_MODEL:
            continue
        timing = seconds_of(record)
        if timing is not None and work.operations > 0:
            seconds, steps = timing
            speeds.append(work.operations * steps / seconds)
        peak = peak_of(record)
        if peak is not None:
            residuals.append(peak - work.held_bytes - work.saved_bytes)
    return CostModel(
        statistics.median(speeds) if speeds else None,
        len(speeds),
        statistics.median(residuals) if residuals else None,
        len(residuals),
    )


def seconds_of(record: Record) -> tuple[float, int] | None:
    """Seconds of training and the evaluation after it, and steps; None if unknown or a cost run."""
    if record.run.stage == "cost" or not record.train_seconds or not record.steps:
        return None
    return record.train_seconds + record.measured["wall_seconds"].get("evaluation", 0), record.steps


def peak_of(record: Record) -> float | None:
    """Measured peak memory of training; None unless it is a cost run that fitted."""
    if record.run.stage != "cost" or record.outcome != "ok":
        return None
    return record.peak_bytes


def device_of(record: Record) -> str:
    """``cpu``, ``cuda NVIDIA ...``: the device to which a speed belongs."""
    environment = record.measured.get("environment", {})
    device = environment.get("device", "").split(":")[0]
    return f"{device} {environment.get('device_name', '')}".rstrip()


@dataclass(frozen=True)
class Backtest:
    """Predictions of one cell against its measurements: (predicted, measured) of each run.

    Attributes:
        model: from which they are predicted.
        seconds: of final runs, for the steps that they took.
        peaks: of cost runs, in bytes.
    """

    cell: Cell
    model: CostModel
    seconds: tuple[tuple[float, float], ...]
    peaks: tuple[tuple[float, float], ...]


def predict_peaks(cells: Sequence[Cell]) -> dict[tuple[str, str, str], float]:
    """Predicted peak bytes of training of cells that were not measured, by task, model and method.

    They are the bytes of their ended runs and the residual of measured cells of their model; if
    none was measured, the bytes alone.
    """
    by_model: dict[tuple[str, str], list[tuple[Record, ComputeCost]]] = {}
    for cell in cells:
        for record in cell.cost:
            if (work := ComputeCost.from_record(record)) is not None:
                by_model.setdefault((cell.model, device_of(record)), []).append((record, work))
    fitted = {key: fit_cost_model(runs) for key, runs in by_model.items()}
    peaks = {}
    for cell in cells:
        if cell.cost or cell.model == NO_MODEL:
            continue
        if measured := [size for record in cell.final if (size := record.peak_bytes) is not None]:
            # This is a command, which was measured beside other runs.
            peaks[cell.task, cell.model, cell.method] = float(max(measured))
            continue
        for record in cell.final[:1]:
            work, device = ComputeCost.from_record(record), device_of(record)
            if work is None:
                continue
            # The best weights so far are subtracted, since no measurement keeps them.
            peak_bytes = work.held_bytes + work.saved_bytes - work.best_bytes_of(record)
            residual = fitted.get((cell.model, device), CostModel()).residual_bytes or 0.0
            peaks[cell.task, cell.model, cell.method] = max(0.0, peak_bytes + residual)
    return peaks


def backtest_predictions(cells: Sequence[Cell]) -> list[Backtest]:
    """Predict each cell as before its first run, from the other methods of its model only.

    Runs on another device are ignored. Cells without a model, probes, and cells without a
    prediction are left out.
    """
    by_cell = [
        (cell, [(r, work) for r in cell.runs if (work := ComputeCost.from_record(r)) is not None])
        for cell in cells
        if cell.model != NO_MODEL
    ]
    backtests = []
    for cell, runs in by_cell:
        if not runs or cell.name in WITH_MODEL:
            continue
        device = device_of(runs[-1][0])
        model = fit_cost_model(
            (record, work)
            for source, source_runs in by_cell
            if source.model == cell.model and source.method != cell.method
            for record, work in source_runs
            if device_of(record) == device
        )
        seconds, peaks = [], []
        for record, work in runs:
            timing, peak = seconds_of(record), peak_of(record)
            if timing is not None and record.run.stage == "final":
                measured, steps = timing
                if (predicted := model.predict_seconds(work, steps)) is not None:
                    seconds.append((predicted, measured))
            if peak is not None and (predicted := model.predict_peak_bytes(work)) is not None:
                peaks.append((predicted, peak))
        if seconds or peaks:
            backtests.append(Backtest(cell, model, tuple(seconds), tuple(peaks)))
    return backtests
