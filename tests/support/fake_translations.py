"""Plausible records of translations without training: words lost, changed and moved at a rate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paretune import metrics
from paretune.metrics import translation
from paretune.store.record import Predictions, Record
from paretune.study import Run, Study
from support import fake_records as fake

WORDS = ["file", "window", "text", "menu", "page", "the", "new", "open", "choose", "select", "your"]
WORDS += ["table", "cell", "of", "in", "and", "with", "is", "not", "to", "if", "you", "want"]
WORDS += ["print"]
QUALITY = {"full": 0.84, "lora": 0.82, "prompt": 0.56, "untuned": 0.72, "copy_source": 0.1}
MEGABYTES = {"full": 310.0, "lora": 184.0, "prompt": 196.0}


def study(**changes: Any) -> Study:
    """One translation, one model, three methods, three seeds."""
    raw: dict[str, Any] = {
        "study": "help",
        "tasks": [
            {
                "name": "help",
                "kind": "translation",
                "train": "train.tsv",
                "test": "test.tsv",
                "source_lang": "sl",
                "target_lang": "en",
            }
        ],
        "models": [{"name": "Helsinki-NLP/opus-mt-sla-en", "label": "opus"}],
        "methods": ["full", "lora", "prompt"],
        "protocol": {"seeds": [1, 2, 3], "folds": 1},
    }
    return Study.parse({**raw, **changes})


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
    answers = []
    for text in targets:
        kept = [w if rng.random() < quality else str(rng.choice(WORDS)) for w in text.split()]
        answers.append(" ".join(kept) if quality else "")
    return Predictions(
        uid=tuple(f"test-{i}" for i in range(n)),
        label=targets,
        prediction=tuple(answers),
        scores=((),) * n,
        segment={name: tuple(rng.normal(quality, 0.1, n).clip(0, 1)) for name in segment},
    )


def record(run: Run, parts: Mapping[str, Predictions], loss: float = 1.2) -> Record:
    """What a run of a translation leaves."""
    scores = {name: {**_scores(p), "loss": loss} for name, p in parts.items()}
    falling = [loss + 0.8 / step**0.5 for step in range(1, 9)]
    curve = [
        {"step": 10 * s, "epoch": s, "loss": v + 0.3, "selection": {"primary": -v, "loss": v}}
        for s, v in enumerate(falling, start=1)
    ]
    trained = run.learning_rate is not None
    result = {
        "scores": scores,
        "signatures": metrics.signatures(("bleu", "chrf", "ter")),
        "curve": curve if trained else [],
        "trained_parameters": fake.PARAMETERS.get(run.method.name) if trained else 0,
    }
    base = fake.record(run, result=result)
    identity = hashlib.sha256(f"{base.run_id}{len(parts)}".encode()).hexdigest()[:20]
    return replace(base, run_id=identity, predictions=parts)


def cell(
    study: Study, method: str, quality: float, *, segment: Sequence[str] = (), **changes: Any
) -> list[Record]:
    """Tuning, final and cost records; of a baseline the one final run, and the model's cost."""
    changes.setdefault("generation", study.generation)
    seeds = study.protocol.seeds
    alone = method == "copy_source"
    if alone or method == "untuned":
        changes["learning_rate"] = None
        changes["model"] = fake.NO_MODEL if alone else changes.get("model", study.models[0])
        run = fake.make_run(study, "final", method, seeds[0], **changes)
        records = [record(run, {"test": translated(quality, segment=segment)})]
        return records if alone else [*records, fake.cost(run, None, evaluation=130.0)]
    records = []
    for place, rate in enumerate((1e-4, 1e-3, 1e-2)):
        part = translated(max(quality - 0.1 * abs(place - 1), 0.0), n=40, seed=place)
        run = fake.make_run(study, "tune", method, 0, learning_rate=rate, **changes)
        records.append(record(run, {"selection": part}, 1.2 + 0.1 * abs(place - 1)))
    for seed in seeds:
        run = fake.make_run(study, "final", method, seed, learning_rate=1e-3, **changes)
        part = translated(quality, seed=seed, segment=segment)
        records.append(record(run, {"test": part}, 2 - quality + seed / 50))
    run = fake.make_run(study, "cost", method, seeds[0], learning_rate=1e-3, **changes)
    return [*records, fake.cost(run, MEGABYTES.get(method, 190.0))]


def _scores(part: Predictions) -> dict[str, float]:
    values = {m.name: m.compute(part.label, part.prediction, ()) for m in translation.METRICS}
    return {**values, "primary": values["bleu"], "n": len(part.label)}


def whole(
    study: Study, qualities: Mapping[str, float] | None = None, segment: Sequence[str] = ()
) -> list[Record]:
    """Every cell of a study of one translation, baselines included."""
    level = {**QUALITY, **(qualities or {})}
    records = cell(study, "copy_source", level["copy_source"], segment=segment)
    for model in study.models:
        for name in (*(m.key for m in study.methods), "untuned"):
            records += cell(study, name, level.get(name, 0.8), segment=segment, model=model)
    return records
