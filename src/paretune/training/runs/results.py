"""What a run that has ended writes into its outcome: scores, predictions, weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from safetensors.torch import save as safetensors_bytes

from paretune.analysis.outcomes import answers_are_constant
from paretune.data.example import Dataset
from paretune.measuring.training_step import count_tensor_bytes
from paretune.objectives import ModelPredictions
from paretune.study import Run
from paretune.training.caches import Parts
from paretune.training.evaluation.evaluator import score, to_table
from paretune.training.runs.outcome import Outcome
from paretune.training.runs.run_state import RunState


def write_outcome(
    state: RunState,
    predictions: Mapping[str, ModelPredictions],
    dataset: Dataset,
    head_parameters: Collection[str],
    model_notes: Collection[str],
    keep_bytes: int | None,
) -> None:
    """Write the result of a trained run, its best weights in its parameters, into its outcome.

    Args:
        head_parameters: names of the parameters of the head.
        keep_bytes: a final run's weights are kept up to this size; None: of any size.
    """
    progress, parameters, result = state.progress, state.parameters, state.outcome.result
    target_scale = state.batch.loss_options.target_scale
    if state.diverged:
        result["notes"].append(f"diverged at {state.diverged}")
    sizes = {name: p.numel() for name, p in parameters.trained.items()}
    result |= {
        "steps": progress.step,
        "best_step": progress.best_step,
        "curve": progress.curve,
        "micro_batch": state.batch.micro_batch,
        "trained_parameters": sum(sizes.values()),
        "method_parameters": sum(sizes[name] for name in parameters.method),
        "head_parameters": sum(sizes[name] for name in head_parameters),
        "truncated": {
            name: sum(data.truncated)
            for name, data in state.encoded.items()
            if name in vars(state.parts)
        },
    }
    result["notes"].extend(model_notes)
    if len(progress.devices) > 1:
        turns = ", then on ".join(progress.devices)
        result["notes"].append(f"trained on {turns}: not the bits of one of them alone")
    if target_scale is not None:
        result["target"] = asdict(target_scale)
    diverged = state.diverged is not None
    write_scores(state.outcome, state.run, predictions, state.parts, dataset, diverged=diverged)
    if not diverged:
        _keep_weights(state, keep_bytes if state.run.stage == "final" else -1)


def write_scores(
    outcome: Outcome,
    run: Run,
    predictions: Mapping[str, ModelPredictions],
    parts: Parts,
    dataset: Dataset,
    *,
    diverged: bool,
) -> None:
    """Write scores, predictions by example, and the outcome's name: ok, collapsed or diverged."""
    outcome.result["scores"] = {
        part: score(answers, parts.named(part), dataset) for part, answers in predictions.items()
    }
    if signatures := dataset.objective.signatures():
        outcome.result["signatures"] = signatures
    tables: dict[str, dict[str, Any]] = {
        part: to_table(answers, parts.named(part), dataset) for part, answers in predictions.items()
    }
    # As the analysis judges stored answers (paretune.analysis.outcomes.is_collapsed).
    judged = [table for part, table in tables.items() if part != "test_shifted"]
    if "test" in tables and not run.outer:
        judged = [tables["test"]]
    collapsed = bool(judged) and answers_are_constant(
        *([answer for table in judged for answer in table[key]] for key in ("prediction", "label"))
    )
    outcome.result["outcome"] = "diverged" if diverged else "collapsed" if collapsed else "ok"
    if tables:
        outcome.blobs["predictions"] = json.dumps(tables, sort_keys=True).encode()


def _keep_weights(state: RunState, keep_bytes: int | None) -> None:
    trained, target_scale = state.trained, state.batch.loss_options.target_scale
    size = count_tensor_bytes(trained)
    state.outcome.result["trained_bytes"] = size
    if keep_bytes is not None and size > keep_bytes:  # they can be trained again
        return
    tensors = {name: p.detach().cpu().contiguous() for name, p in trained.items()}
    # One metadata key only: safetensors writes several in no fixed order, and blobs are hashed.
    origin: dict[str, Any] = {"run": state.run.canonical_form()}
    if target_scale is not None:
        origin["target"] = asdict(target_scale)
    header = {"paretune": json.dumps(origin, sort_keys=True)}
    state.outcome.blobs["weights"] = safetensors_bytes(tensors, metadata=header)
