"""Plausible records without training: answers drawn at a given quality, costs made up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paretune import metrics
from paretune.store.record import Predictions, Record, RunStatus
from paretune.study import MethodSpec, ModelSpec, Run, Study

NO_MODEL = ModelSpec(name="-")
PARAMETERS = {
    "full": 117_653_763,
    "lora": 296_067,
    "loha": 443_523,
    "prompt": 8_835,
    "head_only": 1_155,
}
MEGABYTES = {"full": 1890.0, "lora": 870.0, "loha": 905.0, "prompt": 940.0, "head_only": 512.0}
NEVER = {"energy": "no energy counter can be read on this machine"}


def study(**changes: Any) -> Study:
    """Two tasks, one model, three methods, three seeds.

    Labels are put in afterwards, so that outputs can be walked with some that a study refuses.
    """
    raw: dict[str, Any] = {
        "study": "sample",
        "tasks": [own_task("topics"), own_task("entailment", metric="accuracy_f1")],
        "models": [{"name": "intfloat/e5-small", "label": "e5-small"}],
        "methods": ["full", "lora", "prompt"],
        "protocol": {"seeds": [1, 2, 3], "folds": 1},
    }
    settings, labels = {**raw, **changes}, {}
    for kind in ("models", "methods"):
        specs = [spec if isinstance(spec, dict) else {"name": spec} for spec in settings[kind]]
        labels[kind] = [{"label": spec["label"]} if "label" in spec else {} for spec in specs]
        settings[kind] = [
            spec | ({"label": f"label-{place}"} if "label" in spec else {})
            for place, spec in enumerate(specs)
        ]
    parsed = Study.parse(settings)
    return parsed.model_copy(
        update={
            kind: tuple(
                spec.model_copy(update=label)
                for spec, label in zip(getattr(parsed, kind), labels[kind], strict=True)
            )
            for kind in labels
        }
    )


def large(tasks: int = 8) -> Study:
    """A study of more than a thousand runs: so many tasks, three models, four methods."""
    return study(
        tasks=[own_task(f"task{i}") for i in range(tasks)],
        models=["a", "b", "c"],
        methods=["full", "lora", "loha", "prompt"],
        protocol={"seeds": [1, 2, 3, 4, 5]},
    )


def own_task(name: str, metric: str = "accuracy") -> dict[str, Any]:
    """A task with files of its own, which are never opened."""
    return {
        "name": name,
        "kind": "classification",
        "train": "train.csv",
        "test": "test.csv",
        "text": "text",
        "label": "label",
        "metric": metric,
    }


def answers(
    quality: float, *, n: int = 60, labels: int = 3, seed: int = 0, part: str = "test"
) -> Predictions:
    """``quality`` of ``n`` examples answered rightly, in expectation; label 0 is most frequent."""
    weights = np.arange(labels + 1, 1, -1, dtype=float)
    label = np.random.default_rng([7, n, labels]).choice(labels, n, p=weights / weights.sum())
    rng = np.random.default_rng([seed, n])
    # The same examples are hard for everyone, as in life.
    hardness = np.random.default_rng([8, n]).beta(1.0, 1.0, n)
    right = 0.6 * hardness + 0.4 * rng.random(n) < quality
    wrong = (label + rng.integers(1, labels, n)) % labels
    return predictions(label, np.where(right, label, wrong), part)


def predictions(label: Sequence[int], answer: Sequence[int], part: str = "test") -> Predictions:
    """Given labels and answers."""
    size = 1 + max(*label, *answer)
    return Predictions(
        uid=tuple(f"{part}-{i}" for i in range(len(label))),
        label=tuple(int(i) for i in label),
        prediction=tuple(int(i) for i in answer),
        scores=tuple(tuple(float(j == i) for j in range(size)) for i in answer),
    )


def constant(n: int = 60, labels: int = 3, answer: int = 0) -> Predictions:
    """One answer for all examples."""
    return predictions(answers(0.5, n=n, labels=labels).label, [answer] * n)


def forgetting(seed: int, change: float = 0.1, *, blocks: int = 40) -> dict[str, Any]:
    """Token losses of a run: blocks of 20 to 40 tokens whose mean loss rises by ``change``."""
    text, run = np.random.default_rng([9, blocks]), np.random.default_rng([seed, blocks])
    tokens = text.integers(20, 41, blocks)
    before = tokens * text.normal(3.0, 0.4, blocks)
    rise = change + text.normal(0, 0.1, blocks) + run.normal(0, 0.02, blocks) + run.normal(0, 0.02)
    return {
        "before": before.tolist(),
        "after": (before + tokens * rise).tolist(),
        "tokens": [int(n) for n in tokens],
    }


def scores(part: Predictions, metric: str, loss: float = 0.7) -> dict[str, Any]:
    """What a record says of answers."""
    values = {
        m: metrics.get(m).compute(part.label, part.prediction)
        for m in ("accuracy", "macro_f1", "weighted_f1")
    }
    primary = metrics.get(metric).compute(part.label, part.prediction)
    return {**values, "primary": primary, "loss": loss, "n": len(part.uid)}


def record(
    run: Run,
    parts: Mapping[str, Predictions] | None = None,
    outcome: str = "ok",
    *,
    message: str | None = None,
    loss: float = 0.7,
    result: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
) -> Record:
    """A record of ``run``; ``outcome`` ``error`` makes it a failed one."""
    parts = parts or {}
    metric = run.task.metric or "accuracy"
    failed = outcome == "error"
    fields = {
        "outcome": outcome,
        "steps": 80,
        "scores": {name: scores(p, metric, loss) for name, p in parts.items()},
        "curve": [
            {"step": s, "epoch": s // 10, "loss": 1.1 / s**0.3, "selection": {"primary": p}}
            for s, p in ((s, 0.4 + s / 240) for s in range(10, 81, 10))
        ],
        "best_step": 80,
        "trained_parameters": PARAMETERS.get(run.method.name),
        "notes": [],
        **(result or {}),
    }
    # As in life, the data is part of a run's identity.
    identity = run.model_dump_json() + repr([p.uid for p in parts.values()])
    return Record(
        run_id=hashlib.sha256(identity.encode()).hexdigest()[:20],
        run=run,
        state="failed" if failed else "done",
        fail_kind="error" if failed else None,
        message=message,
        result={} if failed else fields,
        measured=measured or {"wall_seconds": {"train": 12.0}, "environment": ENVIRONMENT},
        predictions=parts,
    )


ENVIRONMENT = {
    "python": "3.11.2",
    "threads": 2,
    "device": "cpu",
    "packages": {"torch": "2.13.0", "paretune": "0.1.0"},
}


def add_parts(
    records: Sequence[Record], make: Callable[[Run], Mapping[str, Predictions]]
) -> list[Record]:
    """The records; those with answers to the test part have further parts."""
    return [
        replace(r, predictions={**r.predictions, **make(r.run)}) if "test" in r.predictions else r
        for r in records
    ]


def make_run(study: Study, stage: str, method: str, seed: int, **changes: Any) -> Run:
    """One run of a study's first task and model, or of what ``changes`` says."""
    key = changes.pop("task", study.tasks[0].key)
    task = next(t for t in study.tasks if t.key == key)
    spec = next((m for m in study.methods if m.key == method), MethodSpec(name=method))
    base = {
        "stage": stage,
        "task": task,
        "model": NO_MODEL if method in ("majority", "tfidf") else study.models[0],
        "method": spec,
        "learning_rate": None if method in ("majority", "tfidf") else 1e-3,
        "seed": seed,
        "training": study.training,
    }
    return Run(**{**base, **changes})


def cost(run: Run, megabytes: float | None, evaluation: float | None = None) -> Record:
    """A solo cost probe; without megabytes, one whose counter failed."""
    peaks = {"train": megabytes, "evaluation": evaluation}
    phases = {name: {"peak_bytes": int(mb * 2**20)} for name, mb in peaks.items() if mb is not None}
    trained = PARAMETERS.get(run.method.name, 300_000)
    reason = {} if megabytes else {"phases.train.peak_bytes": "the counter of this system is shut"}
    measured = {
        "device": "cpu",
        "threads": 2,
        "batch_size": 16,
        "length": 128,
        "phases": phases,
        "peak_counter": "resident set growth over the state before the model was loaded",
        "components": {
            "weights_bytes": 470_000_000,
            "gradients_bytes": 4 * trained,
            "optimizer_bytes": 8 * trained,
            "activations_bytes": 30_000_000,
        },
        "step_seconds": {"median": 0.84, "q1": 0.82, "q3": 0.9, "n": 20},
        "examples_per_second": 19.1,
        "saved_bytes": 1_190_000,
        "inference": {"unmerged_seconds_per_example": 0.011, "merged_seconds_per_example": 0.009},
        "not_measured": {**NEVER, **reason},
    }
    return record(run.model_copy(update={"stage": "cost"}), measured=measured)


def cell(
    study: Study,
    method: str,
    quality: float | None,
    *,
    rates: Sequence[float] = (1e-4, 1e-3, 1e-2),
    n: int = 60,
    labels: int = 3,
    **changes: Any,
) -> list[Record]:
    """Tuning, final and cost records of one cell; ``quality`` None is a collapsed method."""
    seeds = study.protocol.seeds
    records = []
    if method in ("majority", "tfidf"):
        part = constant(n, labels) if method == "majority" else answers(quality, n=n, labels=labels)
        return [record(make_run(study, "final", method, seeds[0], **changes), {"test": part})]
    level = 0.4 if quality is None else quality
    for place, rate in enumerate(rates):
        part = answers(level - 0.12 * abs(place - 1), n=40, labels=labels, seed=place, part="train")
        run = make_run(study, "tune", method, 0, learning_rate=rate, **changes)
        records.append(record(run, {"selection": part}))
    for seed in seeds:
        part = constant(n, labels)
        if quality is not None:
            part = answers(quality, n=n, labels=labels, seed=seed + int(1000 * quality))
        run = make_run(study, "final", method, seed, learning_rate=rates[1], **changes)
        records.append(record(run, {"test": part}, "collapsed" if quality is None else "ok"))
    run = make_run(study, "cost", method, seeds[0], learning_rate=rates[1], **changes)
    return [*records, cost(run, MEGABYTES.get(method, 880.0))]


def state(run: Run, kind: str = "todo") -> RunStatus:
    """How a run stands in the store."""
    return RunStatus(
        run_id=hashlib.sha256(run.model_dump_json().encode()).hexdigest()[:20],
        run=run,
        state=kind,  # type: ignore[arg-type]
        is_claimable=kind == "todo",
        owner=None,
        attempt=0,
    )


def whole(study: Study, qualities: Mapping[str, float | None] | None = None) -> list[Record]:
    """Every cell of a study, baselines included."""
    level = {
        "full": 0.72,
        "lora": 0.7,
        "loha": 0.62,
        "prompt": None,
        "head_only": 0.5,
        "tfidf": 0.46,
    }
    level |= dict(qualities or {})
    names = [m.key for m in study.methods] + ["head_only"]
    records = []
    for task in study.tasks:
        records += cell(study, "majority", None, task=task.key)
        records += cell(study, "tfidf", level["tfidf"], task=task.key)
        for model in study.models:
            for name in dict.fromkeys(names):
                records += cell(study, name, level.get(name, 0.55), task=task.key, model=model)
    return records


def two_sizes(
    methods: Sequence[str] = ("full", "lora"), sized: Sequence[str] = ("small", "large")
) -> tuple[Study, list[Record]]:
    """Two models, of which the second is three times as large."""
    both = study(tasks=[own_task("t")], models=["small", "large"], methods=list(methods))
    records = []
    for record in whole(both):
        times = 3 if record.run.model.name == "large" else 1
        added = 1_000_000 if record.run.method.name == "lora" else 0
        result, measured = dict(record.result), dict(record.measured)
        if result.get("trained_parameters"):
            result |= {"trained_parameters": times * result["trained_parameters"]}
            result["method_parameters"] = added
        if record.run.stage == "cost" and record.run.model.name in sized:
            parts = {"weights_bytes": 4 * (50_000_000 * times + added)}
            measured |= {"precision": "fp32", "components": {**measured["components"], **parts}}
        records.append(replace(record, result=result, measured=measured))
    return both, records
