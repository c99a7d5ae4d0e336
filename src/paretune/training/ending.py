"""What a run leaves when its training has ended, whoever drove it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from safetensors.torch import save as safetensors_bytes
from torch import nn

from paretune.analysis.collapse import constant
from paretune.data.encode import Encoded
from paretune.data.example import Dataset
from paretune.data.scale import Scale
from paretune.measuring.file_size import tensor_bytes
from paretune.metrics.translation import signatures
from paretune.study import Run
from paretune.training.answering import Answers, scored, table
from paretune.training.course import Trained
from paretune.training.judging import Judge
from paretune.training.plan import Plan
from paretune.training.workbench import Parts


@dataclass
class Outcome:
    """What a run leaves; see :mod:`paretune.store.record` for the keys."""

    result: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


def answered(trained: Trained, judge: Judge, encoded: Mapping[str, Encoded]) -> dict[str, Answers]:
    """Answers by the best weights, which the model holds, to the parts that a run is judged on."""
    given: dict[str, Answers] = {}
    if trained.diverged is None or trained.best:
        given["selection"] = judge.of_best(trained)
        if "test" in encoded:
            given["test"] = judge.answers("test")
    return given


def leave(
    outcome: Outcome,
    run: Run,
    trained: Trained,
    given: Mapping[str, Answers],
    *,
    tensors: Mapping[str, nn.Parameter],
    method: Collection[str],
    head: Collection[str],
    plan: Plan,
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
        given: its answers (:func:`answered`).
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
    conclude(outcome, given, parts, dataset, diverged=diverged)
    if not diverged:
        limit = keep_bytes if run.stage == "final" else -1
        _keep_weights(outcome, tensors, run, plan.scale, limit)


def conclude(
    outcome: Outcome,
    given: Mapping[str, Answers],
    parts: Parts,
    dataset: Dataset,
    *,
    diverged: bool,
) -> None:
    """Scores, per-example answers, and what the run is called: ok, collapsed or diverged."""
    examples = {"selection": parts.selection, "test": parts.test}
    outcome.result["scores"] = {
        name: scored(answers, examples[name], dataset) for name, answers in given.items()
    }
    if dataset.kind == "translation":
        outcome.result["signatures"] = signatures()
    tables: dict[str, dict[str, Any]] = {
        name: table(answers, examples[name], dataset) for name, answers in given.items()
    }
    judged = tables.get("test", tables.get("selection"))
    collapsed = judged is not None and constant(judged["prediction"], judged["label"])
    outcome.result["outcome"] = "diverged" if diverged else "collapsed" if collapsed else "ok"
    if tables:
        outcome.blobs["predictions"] = json.dumps(tables, sort_keys=True).encode()


def _keep_weights(
    outcome: Outcome,
    trained: Mapping[str, nn.Parameter],
    run: Run,
    scale: Scale | None,
    keep_bytes: int | None,
) -> None:
    size = tensor_bytes(trained)
    outcome.result["trained_bytes"] = size
    if keep_bytes is not None and size > keep_bytes:  # they can be trained again
        return
    tensors = {n: p.detach().cpu().contiguous() for n, p in trained.items()}
    # One metadata key only: safetensors writes several in no fixed order, and blobs are hashed.
    told = {"run": run.canonical(), **({} if scale is None else {"target": asdict(scale)})}
    header = {"paretune": json.dumps(told, sort_keys=True)}
    outcome.blobs["weights"] = safetensors_bytes(tensors, metadata=header)
