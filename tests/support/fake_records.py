"""Studies and plausible records without training: answers drawn at a quality, costs made up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.statistics.intervals import Interval, score_difference
from paretune.analysis.statistics.scores import score_runs
from paretune.planning.prepare import PlannedRun
from paretune.store.record import Predictions, Record, RunStatus
from paretune.study import NO_MODEL, MethodSpec, OuterFold, Run, Study

PARAMETERS = {
    "full": 117_653_763,
    "lora": 296_067,
    "loha": 443_523,
    "prompt": 8_835,
    "head_only": 1_155,
}
MEGABYTES = {"full": 1890.0, "lora": 870.0, "loha": 905.0, "prompt": 940.0, "head_only": 512.0}
QUALITY = {"full": 0.72, "lora": 0.7, "loha": 0.62, "prompt": None, "head_only": 0.5, "tfidf": 0.46}
TRANSLATOR_MEGABYTES = {"full": 310.0, "lora": 184.0, "prompt": 196.0}
TRANSLATION_QUALITY = {
    "full": 0.84,
    "lora": 0.82,
    "prompt": 0.56,
    "untuned": 0.72,
    "copy_source": 0.1,
}
NEVER = {"phases.train.process_bytes": "NVML lists no process with this id"}
ENVIRONMENT = {
    "python": "3.11.2",
    "threads": 2,
    "device": "cpu",
    "packages": {"torch": "2.13.0", "paretune": "0.1.0"},
}
WORDS = ["file", "window", "text", "menu", "page", "the", "new", "open", "choose", "select", "your"]
WORDS += ["table", "cell", "of", "in", "and", "with", "is", "not", "to", "if", "you", "want"]
WORDS += ["print"]


# Studies


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


def study(**changes: Any) -> Study:
    """Two tasks, one model, three methods, three seeds."""
    raw: dict[str, Any] = {
        "study": "sample",
        "tasks": [own_task("topics"), own_task("entailment", metric="accuracy_f1")],
        "models": [{"name": "intfloat/e5-small", "label": "e5-small"}],
        "methods": ["full", "lora", "prompt"],
        "protocol": {"seeds": [1, 2, 3], "folds": 1},
    }
    raw |= changes
    # Records are made of trials and seeds where a test does not ask for passes.
    raw["protocol"] = {"preset": "trials", **raw["protocol"]}
    return Study.parse(raw)


def translation_study(**changes: Any) -> Study:
    """One translation, one model, three methods, three seeds."""
    task = {
        "name": "help",
        "kind": "translation",
        "train": "train.tsv",
        "test": "test.tsv",
        "source_lang": "sl",
        "target_lang": "en",
    }
    models = [{"name": "Helsinki-NLP/opus-mt-sla-en", "label": "opus"}]
    return study(**{"study": "help", "tasks": [task], "models": models, **changes})


def labelled(study: Study, labels: Mapping[str, str]) -> Study:
    """The study with labels by the names of models and methods, also such that it would refuse."""

    def label(specs: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(
            spec.model_copy(update={"label": labels.get(spec.name, spec.label)}) for spec in specs
        )

    return study.model_copy(update={"models": label(study.models), "methods": label(study.methods)})


# Answers


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


def predictions(label: Iterable[Any], answer: Iterable[Any], part: str = "test") -> Predictions:
    """Given labels and answers; numbers of labels have scores of 0 and 1, all else has none."""
    labels, predicted = (
        tuple(value.item() if isinstance(value, np.generic) else value for value in values)
        for values in (label, answer)
    )
    scores: tuple[tuple[float, ...], ...] = ()
    if all(isinstance(value, int) for value in (*labels, *predicted)):
        size = 1 + max(*labels, *predicted)
        scores = tuple(tuple(float(j == i) for j in range(size)) for i in predicted)
    uid = tuple(f"{part}-{i}" for i in range(len(labels)))
    return Predictions(uid, labels, predicted, scores)


def constant(n: int = 60, labels: int = 3, answer: int = 0) -> Predictions:
    """One answer for all examples."""
    return predictions(answers(0.5, n=n, labels=labels).label, [answer] * n)


def references(n: int = 80) -> tuple[str, ...]:
    """Sentences of 4 to 14 words."""
    rng = np.random.default_rng([11, n])
    lengths = rng.integers(4, 15, n)
    return tuple(" ".join(rng.choice(WORDS, int(k))).capitalize() + "." for k in lengths)


def translated(
    quality: float, *, n: int = 80, seed: int = 0, segment: Sequence[str] = ()
) -> Predictions:
    """Each word is right with the odds ``quality``; 0 answers nothing at all."""
    rng = np.random.default_rng([seed, n, int(1000 * quality)])
    targets = references(n)
    texts = []
    for text in targets:
        kept = [w if rng.random() < quality else str(rng.choice(WORDS)) for w in text.split()]
        texts.append(" ".join(kept) if quality else "")
    return Predictions(
        uid=tuple(f"test-{i}" for i in range(n)),
        label=targets,
        prediction=tuple(texts),
        scores=((),) * n,
        segment={name: tuple(rng.normal(quality, 0.1, n).clip(0, 1)) for name in segment},
    )


def take(part: Predictions, places: Sequence[int]) -> Predictions:
    """Some rows of a part; clusters and questions numbered by their first appearance."""

    def renumber(groups: tuple[int, ...]) -> tuple[int, ...]:
        numbers: dict[int, int] = {}
        return tuple(numbers.setdefault(groups[i], len(numbers)) for i in places) if groups else ()

    return Predictions(
        uid=tuple(part.uid[i] for i in places),
        label=tuple(part.label[i] for i in places),
        prediction=tuple(part.prediction[i] for i in places),
        scores=tuple(part.scores[i] for i in places),
        cluster=renumber(part.cluster),
        question=renumber(part.question),
        segment={name: tuple(v[i] for i in places) for name, v in part.segment.items()},
    )


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
    if metrics.get(metric).target_type == "text":
        names: tuple[str, ...] = ("bleu", "chrf", "ter")
    else:
        names = ("accuracy", "macro_f1", "weighted_f1")
    values = {m: metrics.get(m).compute(part.label, part.prediction) for m in names}
    primary = metrics.get(metric).compute(part.label, part.prediction)
    return {**values, "primary": primary, "loss": loss, "n": len(part.uid)}


# Records


def make_run(study: Study, stage: str, method: str, seed: int, **changes: Any) -> Run:
    """One run of a study's first task and model, or of what ``changes`` says."""
    key = changes.pop("task", study.tasks[0].key)
    task = next(t for t in study.tasks if t.key == key)
    spec = next((m for m in study.methods if m.key == method), MethodSpec(name=method))
    no_model = method in ("majority", "tfidf", "copy_source")
    base = {
        "stage": stage,
        "task": task,
        "model": NO_MODEL if no_model else study.models[0],
        "method": spec,
        "learning_rate": None if no_model or method == "untuned" else 1e-3,
        "seed": seed,
        "training": study.training,
    }
    return Run(**{**base, **changes})


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
    failed, translates = outcome == "error", run.task.kind == "translation"
    metric = run.task.metric or ("bleu" if translates else "accuracy")
    fields = {
        "outcome": outcome,
        "steps": 80,
        "scores": {name: scores(p, metric, loss) for name, p in parts.items()},
        "curve": [
            {"step": s, "epoch": s // 10, "loss": 0.5 / s**0.2, "selection": {"primary": p}}
            for s, p in ((s, 0.4 + s / 240) for s in range(10, 81, 10))
        ],
        "best_step": 80,
        "trained_parameters": PARAMETERS.get(run.method.name),
        "notes": [],
    }
    if translates:
        falling = enumerate((loss + 0.8 / step**0.5 for step in range(1, 9)), start=1)
        fields["signatures"] = metrics.signatures(("bleu", "chrf", "ter"))
        fields["curve"] = [
            {"step": 10 * s, "epoch": s, "loss": v + 0.3, "selection": {"primary": -v, "loss": v}}
            for s, v in falling
        ]
        if run.learning_rate is None:
            fields |= {"curve": [], "trained_parameters": 0}
    # As in life, the data is part of a run's identity.
    identity = run.model_dump_json() + repr([p.uid for p in parts.values()])
    return Record(
        run_id=hashlib.sha256(identity.encode()).hexdigest()[:20],
        run=run,
        state="failed" if failed else "done",
        fail_kind="error" if failed else None,
        message=message,
        result={} if failed else {**fields, **(result or {})},
        measured=measured or {"wall_seconds": {"train": 12.0}, "environment": ENVIRONMENT},
        predictions=parts,
    )


def add_parts(
    records: Sequence[Record], make: Callable[[Run], Mapping[str, Predictions]]
) -> list[Record]:
    """The records; those with answers to the test part have further parts."""
    return [
        replace(r, predictions={**r.predictions, **make(r.run)}) if "test" in r.predictions else r
        for r in records
    ]


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


# Cells and whole studies


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


def translation_cell(
    study: Study, method: str, quality: float, *, segment: Sequence[str] = (), **changes: Any
) -> list[Record]:
    """The same of a translation; of a model as it comes the one final run, and its cost."""
    changes.setdefault("generation", study.generation)
    seeds = study.protocol.seeds
    records = []
    if method in ("copy_source", "untuned"):
        run = make_run(study, "final", method, seeds[0], **changes)
        records = [record(run, {"test": translated(quality, segment=segment)}, loss=1.2)]
        return [*records, cost(run, None, evaluation=130.0)] if method == "untuned" else records
    for place, rate in enumerate((1e-4, 1e-3, 1e-2)):
        part = translated(max(quality - 0.1 * abs(place - 1), 0.0), n=40, seed=place)
        run = make_run(study, "tune", method, 0, learning_rate=rate, **changes)
        records.append(record(run, {"selection": part}, loss=1.2 + 0.1 * abs(place - 1)))
    for seed in seeds:
        run = make_run(study, "final", method, seed, **changes)
        part = translated(quality, seed=seed, segment=segment)
        records.append(record(run, {"test": part}, loss=2 - quality + seed / 50))
    run = make_run(study, "cost", method, seeds[0], **changes)
    return [*records, cost(run, TRANSLATOR_MEGABYTES.get(method, 190.0))]


def whole(
    study: Study,
    qualities: Mapping[str, float | None] | None = None,
    segment: Sequence[str] = (),
) -> list[Record]:
    """Every cell of a study of classifications, or of one translation; baselines included."""
    names = [m.key for m in study.methods]
    records = []
    if study.tasks[0].kind == "translation":
        level = TRANSLATION_QUALITY | dict(qualities or {})
        records += translation_cell(study, "copy_source", level["copy_source"], segment=segment)
        for model in study.models:
            for name in (*names, "untuned"):
                quality = level.get(name, 0.8)
                records += translation_cell(study, name, quality, segment=segment, model=model)
        return records
    level = QUALITY | dict(qualities or {})
    for task in study.tasks:
        records += cell(study, "majority", None, task=task.key)
        records += cell(study, "tfidf", level["tfidf"], task=task.key)
        for model in study.models:
            for name in dict.fromkeys([*names, "head_only"]):
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


def topic_cells(
    study: Study, records: Iterable[Record] | None = None, states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """The cells of the task ``topics``; of all records of the study by default."""
    records = whole(study) if records is None else records
    return [c for c in group_into_cells(study, records, states) if c.task == "topics"]


def mostly_collapsed(tfidf: float) -> tuple[Study, list[Record]]:
    """Full fine-tuning and LoRA with four seeds each, seven of which answer a constant."""
    two = study(methods=["full", "lora"], protocol={"seeds": [1, 2, 3, 4], "folds": 1})
    records = [*cell(two, "majority", None), *cell(two, "tfidf", tfidf)]
    for name in ("full", "lora"):
        for seed in two.protocol.seeds:
            learned = (name, seed) == ("lora", 4)
            part = answers(0.99, seed=seed) if learned else constant()
            run = make_run(two, "final", name, seed)
            records.append(record(run, {"test": part}, result={"steps": 60}))
    return two, records


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: Any) -> Interval:
    """Score of ``a`` minus score of ``b``, each with one :class:`Predictions` per seed."""
    return score_difference(score_runs(a, metric), score_runs(b, metric))


# Folds of outer cross-validation


def crossed_cell(
    study: Study, method: str, quality: float, folds: int, **changes: Any
) -> list[Record]:
    """Final records of a cell, one for each seed: its fold of the answers of its repeat."""
    records = []
    for position, seed in enumerate(study.protocol.seeds):
        outer = OuterFold.at(position, folds)
        part = answers(quality, seed=outer.repeat + int(1000 * quality))
        # Every n-th row, from another start in each repeat.
        rows = [
            i
            for i in range(len(part.uid))
            if (i // (outer.repeat + 1)) % outer.folds == outer.index
        ]
        run = make_run(study, "final", method, seed, outer=outer, **changes)
        records.append(record(run, {"test": take(part, rows)}))
    return records


def without_fold(records: Sequence[Record], position: int) -> list[Record]:
    """The records, one of which diverged before it had answers."""
    failed = records[position]
    lost = replace(failed, predictions={}, result={"outcome": "diverged"})
    return [*records[:position], lost, *records[position + 1 :]]


def draw_records(
    study: Study,
    levels: Mapping[str, float],
    rng: np.random.Generator,
    *,
    rows: int = 120,
    seed_sd: float | Mapping[str, float] = 0.02,
    failing: float = 0.0,
) -> list[Record]:
    """All final runs and costs of a full study; a seed that fails answers one label to all."""
    labels = rng.integers(0, 2, rows)
    ease = rng.normal(0, 0.15, rows)
    folds = study.protocol.outer if isinstance(study.protocol.outer, int) else 0
    records = []
    for name, level in levels.items():
        free = name in ("majority", "tfidf")
        sd = seed_sd if isinstance(seed_sd, float) else seed_sd.get(name, 0.02)
        for position, seed in enumerate(study.protocol.seeds):
            if free and position >= max(folds, 1):
                break
            chance = np.clip(level + ease + (0 if free else rng.normal(0, sd)), 0, 1)
            answer = np.where(rng.random(rows) < chance, labels, 1 - labels)
            failed = not free and rng.random() < failing
            if name == "majority" or failed:
                answer = np.zeros(rows, int)
            outer = OuterFold.at(position, folds) if folds else None
            inside = range(outer.index, rows, folds) if outer else range(rows)
            part = Predictions(
                tuple(f"row-{i}" for i in inside),
                tuple(labels[inside].tolist()),
                tuple(answer[inside].tolist()),
                (),
            )
            run = make_run(study, "final", name, seed, outer=outer)
            records.append(record(run, {"test": part}, "collapsed" if failed else "ok"))
        if not free:
            run = make_run(study, "cost", name, study.protocol.seeds[0])
            records.append(cost(run, MEGABYTES.get(name, 880.0)))
    return records


LEVELS = {"full": 0.95, "lora": 0.8, "prompt": 0.55, "head_only": 0.55, "tfidf": 0.5}


def end(planned: PlannedRun, levels: Mapping[str, float] = LEVELS, best_step: int = 40) -> Record:
    """What the run leaves: always the same. The highest rate on trial is 0.4 worse, others equal.

    Args:
        best_step: of 80; 80: it was still improving.
    """
    run, name, rows = planned.run, planned.run.method.name, 80
    if run.stage == "cost":
        ended = cost(run, {"full": 1900.0, "lora": 900.0, "prompt": 950.0}.get(name, 500.0))
        return replace(ended, run_id=planned.run_id)
    level = levels.get(name, 0.5)
    if run.stage == "tune" and run.learning_rate is not None and run.learning_rate > 2e-3:
        level -= 0.4
    part = "test" if run.stage == "final" else "selection"
    rng = np.random.default_rng([run.seed, run.fold, len(name), 0 if run.outer is None else 1])
    labels = np.arange(rows) % 2
    answer = np.where(rng.random(rows) < level + rng.normal(0, 0.01), labels, 1 - labels)
    if name == "majority":
        answer = np.zeros(rows, int)
    fold = 0 if run.outer is None else run.outer.index
    uid = tuple(f"{part}-{run.fold}-{fold}-{i}" for i in range(rows))
    drawn = Predictions(uid, tuple(labels.tolist()), tuple(answer.tolist()), ())
    parts = {"selection": drawn, part: drawn}
    return replace(record(run, parts, result={"best_step": best_step}), run_id=planned.run_id)


def finals(records: Sequence[Record]) -> Counter[str]:
    """How many final runs each method has."""
    return Counter(r.run.method.name for r in records if r.run.stage == "final")
