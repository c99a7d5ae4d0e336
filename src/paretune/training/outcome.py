"""What a run leaves when its training has ended, whoever drove it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from safetensors.torch import save as safetensors_bytes
from torch import nn

from paretune import metrics
from paretune.analysis.constant_answers import answers_are_constant
from paretune.data.example import Dataset
from paretune.measuring.file_size import count_tensor_bytes
from paretune.objectives import Predictions
from paretune.objectives.encoding import Encoded
from paretune.objectives.target_scale import TargetScale
from paretune.study import Run
from paretune.training.answering import score, to_table
from paretune.training.caches import Parts
from paretune.training.evaluation.evaluator import Evaluator
from paretune.training.run_config import RunConfig
from paretune.training.run_state import TrainingResult


@dataclass
class Outcome:
    """What a run leaves; see :mod:`paretune.store.record` for the keys."""

    result: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


def predict_parts(
    trained: TrainingResult, judge: Evaluator, encoded: Mapping[str, Encoded]
) -> dict[str, Predictions]:
    """Answers by the best weights, which the model holds, to the parts that a run is judged on."""
    given: dict[str, Predictions] = {}
    if trained.diverged is None or trained.best:
        given["selection"] = judge.of_best(trained)
        if "test" in encoded:
            given["test"] = judge.answers("test")
    return given


def write_outcome(
    outcome: Outcome,
    run: Run,
    trained: TrainingResult,
    given: Mapping[str, Predictions],
    *,
    tensors: Mapping[str, nn.Parameter],
    method: Collection[str],
    head: Collection[str],
    plan: RunConfig,
    encoded: Mapping[str, Encoded],
    parts: Parts,
    dataset: Dataset,
    notes: Collection[str],
    keep_bytes: int | None,
) -> None:
    """Write into ``outcome`` what a trained run leaves.

    Args:
        outcome: with its notes so far.
        run: that was trained.
        trained: how it went.
        given: its answers (:func:`predict_parts`).
        tensors: that were trained, the best weights in them.
        method: names of those that are the method's; of full fine-tuning all.
        head: names of those that are the head's.
        plan: what it trained with.
        encoded: its parts by name.
        parts: the same as examples.
        dataset: the task's.
        notes: on the model.
        keep_bytes: a final run's trained tensors up to this size are kept; None: whatever their
            size. A rate on trial keeps none: nobody asks for them.
    """
    if trained.diverged:
        outcome.result["notes"].append(f"diverged at {trained.diverged}")
    sizes = {name: p.numel() for name, p in tensors.items()}
    outcome.result |= {
        "steps": trained.progress.step,
        "best_step": trained.progress.best_step,
        "curve": trained.progress.curve,
        "micro_batch": plan.micro_batch,
        "trained_parameters": sum(sizes.values()),
        "method_parameters": sum(sizes[name] for name in method),
        "head_parameters": sum(sizes[name] for name in head),
        "truncated": {name: sum(e.truncated) for name, e in encoded.items()},
    }
    outcome.result["notes"].extend(notes)
    if len(trained.progress.devices) > 1:
        turns = ", then on ".join(trained.progress.devices)
        outcome.result["notes"].append(f"trained on {turns}: not the bits of one of them alone")
    if trained.between.tried:
        outcome.result["interpolated"] = asdict(trained.between)
    if plan.scale is not None:
        outcome.result["target"] = asdict(plan.scale)
    diverged = trained.diverged is not None
    write_scores(outcome, given, parts, dataset, diverged=diverged)
    if not diverged:
        limit = keep_bytes if run.stage == "final" else -1
        _keep_weights(outcome, tensors, run, plan.scale, limit)


def write_scores(
    outcome: Outcome,
    given: Mapping[str, Predictions],
    parts: Parts,
    dataset: Dataset,
    *,
    diverged: bool,
) -> None:
    """Scores, per-example answers, and what the run is called: ok, collapsed or diverged."""
    examples = {"selection": parts.selection, "test": parts.test}
    outcome.result["scores"] = {
        name: score(answers, examples[name], dataset) for name, answers in given.items()
    }
    if dataset.kind == "translation":
        outcome.result["signatures"] = metrics.signatures(("bleu", "chrf", "ter"))
    tables: dict[str, dict[str, Any]] = {
        name: to_table(answers, examples[name], dataset) for name, answers in given.items()
    }
    judged = tables.get("test", tables.get("selection"))
    collapsed = judged is not None and answers_are_constant(judged["prediction"], judged["label"])
    outcome.result["outcome"] = "diverged" if diverged else "collapsed" if collapsed else "ok"
    if tables:
        outcome.blobs["predictions"] = json.dumps(tables, sort_keys=True).encode()


def _keep_weights(
    outcome: Outcome,
    trained: Mapping[str, nn.Parameter],
    run: Run,
    scale: TargetScale | None,
    keep_bytes: int | None,
) -> None:
    size = count_tensor_bytes(trained)
    outcome.result["trained_bytes"] = size
    if keep_bytes is not None and size > keep_bytes:  # they can be trained again
        return
    tensors = {n: p.detach().cpu().contiguous() for n, p in trained.items()}
    # One metadata key only: safetensors writes several in no fixed order, and blobs are hashed.
    told = {"run": run.canonical_form(), **({} if scale is None else {"target": asdict(scale)})}
    header = {"paretune": json.dumps(told, sort_keys=True)}
    outcome.blobs["weights"] = safetensors_bytes(tensors, metadata=header)
