"""Small real studies: data made here, tiny models, and a way to run them inside one process."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from paretune.execution.signals import StopRequest
from paretune.execution.study_runs import add_missing_runs
from paretune.execution.worker import make_executor, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.planning.shard import Shard
from paretune.store import Record, Store
from paretune.study import Study, TaskSpec, digest
from paretune.testing.tiny_tasks import tiny_task

WORDS = ("cat", "dog", "ice", "door", "room", "water", "window", "prices")


def two_files(folder: Path, train: int = 40, test: int = 20) -> Path:
    """``train.csv`` and ``test.csv``: texts of known words, label yes or no; the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, shift in (("train", train, 0), ("test", test, 1)):
        rows = [
            f"The {WORDS[i % 8]} {'sat on' if i % 2 else 'turns into'} {name} {i + shift},"
            f"{'yes' if i % 2 else 'no'}"
            for i in range(count)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return folder / "train.csv"


def say_numbers(folder: Path) -> TaskSpec:
    """A task of instructions: forty numbers that are to be said."""
    rows = [{"prompt": f"Say {i}:", "completion": f" {i}"} for i in range(40)]
    file = folder / "say.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return TaskSpec(name="say", kind="instruction", train=str(file))


def small(folder: Path, model: Path, **changes: Any) -> Study:
    """One task of two files, one model, LoRA beside the baselines, two steps a run."""
    raw: dict[str, Any] = {
        "study": "small",
        "tasks": [
            {
                "name": "words",
                "kind": "classification",
                "train": str(two_files(folder)),
                "test": str(folder / "test.csv"),
                "text": "text",
                "label": "label",
                "labels": ["no", "yes"],
            }
        ],
        "models": [{"name": str(model), "label": "tiny"}],
        "methods": [{"name": "lora", "rank": 2}],
        "protocol": {"trials": 1, "folds": 1, "seeds": [1, 2], "cost_seconds": 1},
        "training": {"max_steps": 2, "eval_every": 2, "max_length": 32, "precision": "fp32"},
    }
    return Study.parse({**raw, **changes})


def planning_study(folder: Path, model: Path, **changes: Any) -> Study:
    """Three methods on a tiny task in two folds, of which nothing is trained."""
    task = tiny_task(folder / "data").model_dump(exclude_none=True)
    defaults: dict[str, Any] = {
        "study": "tiny",
        "tasks": [task],
        "methods": ["full", "lora", "prompt"],
        "protocol": {"seeds": [1, 2, 3], "outer": "split", "folds": 2},
        "training": {"precision": "fp32"},
    }
    return small(folder, model, **{**defaults, **changes})


def end_run(planned: PlannedRun, primary: float = 0.5, outcome: str = "ok") -> Record:
    """What a planned run leaves, with this selection score."""
    scores = {"selection": {"primary": primary, "loss": 1.0}} if outcome == "ok" else {}
    result: Any = {"outcome": outcome, "scores": scores}
    measured: Any = {"layer_gradients": [1.0, 3.0]} if planned.run.stage == "tune" else {}
    return Record(planned.run_id, planned.run, "done", None, None, result, measured)


def finished(folder: Path, model: Path, **changes: Any) -> tuple[Study, Path]:
    """A :func:`small` study on a tiny task, run to its end without measuring costs; its store."""
    tasks = [tiny_task(folder / "data").model_dump(exclude_none=True)]
    study = small(folder, model, **{"tasks": tasks, **changes})
    return train(study, folder / "store")


def train(study: Study, store: Path) -> tuple[Study, Path]:
    """Run a study to its end without measuring costs; the study and its store."""
    finish(study, store, costs=0).close()
    return study, store


def finish(
    study: Study, folder: Path, *, costs: int | None = None, shard: Shard | None = None
) -> Store:
    """Run a study in this process; ``costs``: only so many cost measurements (each takes long)."""
    store = Store.open(folder, create=True)
    prepared = prepare_study(study, shard=shard).in_store(store, "cpu")
    store.save_study(study.study_hash, study.study, "", study.canonical_form())
    executor = make_executor()
    while add_missing_runs(prepared, store):
        settings = WorkerSettings(stages=("tune", "final"))
        run_worker(store, study.study_hash, executor, StopRequest(), settings)
    if costs != 0:
        options = WorkerSettings(stages=("cost",), limit=costs)
        run_worker(store, study.study_hash, executor, StopRequest(), options)
    return store


def load_finals(study: Study, store: Path, method: str) -> list[Record]:
    """The final runs of a method, with their answers."""
    with Store.open(store) as opened:
        records = opened.load_records(study.study_hash, predictions=True)
    return [r for r in records if (r.run.stage, r.run.method.name) == ("final", method)]


def stack_scores(rows: list[list[float]]) -> np.ndarray:
    """(examples, scores); where examples have unlike numbers of scores, all one after another."""
    even = len({len(row) for row in rows}) == 1
    return np.array(rows if even else [score for row in rows for score in row])


def digests(store: Store, study_hash: str) -> dict[str, str]:
    """What must be the same bits in every repetition: results, with the hashes of their blobs."""
    return {
        record.run_id: digest({"result": dict(record.result)})
        for record in store.load_records(study_hash)
    }


def superglue(folder: Path, layout: str, rows: int = 20) -> Path:
    """All six tasks with made-up rows, as SloBench's ``zips`` or as ``folders`` (CLARIN's)."""
    for part, count in (("train", rows), ("val", rows // 2)):
        for task, make in ROWS.items():
            lines = "\n".join(json.dumps({"idx": i, **make(part, i)}) for i in range(count))
            if layout == "folders":
                (folder / task).mkdir(parents=True, exist_ok=True)
                (folder / task / f"{part}.jsonl").write_text(lines, encoding="utf-8")
                continue
            folder.mkdir(parents=True, exist_ok=True)
            name = "qa_train.zip" if part == "train" else "qa_validation.zip"
            with zipfile.ZipFile(folder / name, "a") as archive:
                archive.writestr(f"{task}.jsonl", lines)
    return folder


def _sentence(part: str, i: int) -> str:
    return f"The {WORDS[i % 8]} sat by the {part} door {i}."


ROWS = {
    "BoolQ": lambda part, i: {
        "question": f"Is {WORDS[i % 8]} true?",
        "passage": _sentence(part, i),
        "label": bool(i % 2),
    },
    "CB": lambda part, i: {
        "premise": _sentence(part, i),
        "hypothesis": f"{WORDS[i % 8]} is true",
        "label": ("entailment", "contradiction", "neutral")[i % 3],
    },
    "COPA": lambda part, i: {
        "premise": _sentence(part, i),
        "choice1": f"Water {i}.",
        "choice2": f"Ice {i}.",
        "question": ("cause", "effect")[i % 2],
        "label": i // 2 % 2,
    },
    "RTE": lambda part, i: {
        "premise": _sentence(part, i),
        "hypothesis": f"{WORDS[i % 8]} is true",
        "label": ("entailment", "not_entailment")[i % 2],
    },
    "MultiRC": lambda part, i: {
        "passage": {
            "text": _sentence(part, i),
            "questions": [
                {
                    "idx": 2 * i + q,
                    "question": f"What is it {'by' if q else 'for'}?",
                    "answers": [
                        {"idx": 4 * i + 2 * q + a, "text": answer, "label": (q + a + i) % 2}
                        for a, answer in enumerate(("The door.", "Water."))
                    ],
                }
                for q in range(2)
            ],
        }
    },
    "WSC": lambda part, i: {
        "text": f"The {WORDS[i // 2 % 8]} sat by the {part} door {i // 2}, as it is true.",
        "target": {
            **({"span1_text": "door", "span1_index": 6} if i % 2 else {}),
            **({} if i % 2 else {"span1_text": WORDS[i // 2 % 8], "span1_index": 1}),
            "span2_text": "it",
            "span2_index": 9,
        },
        "label": bool(i % 2),
    },
}


def as_file(study: Study, path: Path) -> Path:
    """Write a study as the file that a user would have written."""
    with path.open("w", encoding="utf-8") as handle:
        YAML(typ="safe", pure=True).dump(study.model_dump(mode="json", exclude_none=True), handle)
    return path


def command(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, standard output, standard error."""
    from paretune.cli import main

    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err
