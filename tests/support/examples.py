"""Studies in small: the files of `examples`, and folders in which commands of pages run."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from ruamel.yaml import YAML

from paretune.execution.executor import StudyCallbacks, StudyLoop, StudySummary
from paretune.execution.local import LocalExecutor
from paretune.execution.signals import StopRequest
from paretune.execution.worker import make_executor, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.store import RunStatus, Storage
from paretune.study import Study
from paretune.testing.translator_folders import tiny_marian
from paretune.verbs import new as new_verb
from paretune_slovene.slobench import superglue_zip, translation_submission
from paretune_slovene.slobench.official_scores import LABELS, Answers
from support.slobench import release
from support.tiny_study import as_file, finish, superglue

EXAMPLES = Path(__file__).parents[2] / "examples"
LAYOUTS = {
    "slovene-superglue": "zips",
    "slovene-cb": "zips",
    "paper": "folders",
    "paper-fair": "zips",
}


def read_small(name: str, model: Path, data: Path | None = None) -> dict[str, Any]:
    """The file's own tasks, methods and protocol; one tiny model, few rows, seeds and steps.

    Args:
        data: where the data of tasks lies that have none of their own.
    """
    path = EXAMPLES / f"{name}.yaml"
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    for task in raw["tasks"] if data else ():
        task |= {part: str(data / task[part]) for part in ("train", "test")}
    Study.parse(raw, base=EXAMPLES)  # as it stands, it is a study
    raw["models"] = [{"name": str(model), "label": "tiny"}]
    for task in raw["tasks"]:
        task["limit"] = {"train": 20, "test": 10}
    if raw["protocol"].get("preset") != "paper":
        few = {"seeds": raw["protocol"]["seeds"][:1], "folds": 1, "cost_seconds": 1}
        raw["protocol"] |= few
        raw["training"] = {"max_steps": 2, "eval_every": 2, "max_length": 64, "precision": "fp32"}
    if name in ("slovene-superglue", "slobench", "paper-fair"):
        raw["protocol"]["trials"] = 1
    if "source_lang" in raw["tasks"][0]:
        raw["generation"] = {"max_new_tokens": 8}
    return raw


def small_example(name: str, folder: Path, model: Path) -> Study:
    """An example in small, with data that are made up in ``folder``."""
    if name == "table":
        folder.mkdir()
        run_path(str(EXAMPLES / "table.py"))["main"](folder)
    raw = read_small(name, model, folder if name == "table" else None)
    for task in raw["tasks"]:
        if name in LAYOUTS:
            task["source"] = str(superglue(folder / task["name"], LAYOUTS[name]))
        if name == "slobench":
            task["source"] = str(folder)
    if name == "slobench":
        release(folder)
    return Study.parse(raw, base=EXAMPLES)


TinyModel = Callable[..., Path]
SMALLER = {
    "  - full\n": "  - {name: full, learning_rates: [1e-2]}\n",
    "  - {name: lora, rank: 8}\n": "  - {name: lora, rank: 8, learning_rates: [1e-2]}\n",
    "  - {name: loha, rank: 8}\n": "",
    "  - {name: prompt, num_virtual_tokens: 20}\n": "",
    "trials: 3": "trials: 1",
    "seeds: [1, 2, 3, 4, 5]": "cost_seconds: 0.2\n  seeds: [1, 2]",
    "outer: auto": "outer: split",
    "epochs: 10": "max_steps: 2",
    "max_length: 256": "max_length: 32",
    "precision: auto": "precision: fp32",
}
"""Lines that ``new`` writes, and what a test can wait for."""
CHAT = (
    "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


def execute_here(
    self: LocalExecutor, store: Storage, study_hash: str, callbacks: StudyCallbacks
) -> StudySummary:
    """In the place of :meth:`LocalExecutor.execute`: the same runs, without worker processes."""
    executor = make_executor(self.devices[0])

    def work(waiting: Sequence[RunStatus]) -> None:
        # A command that waits for other people's runs would wait for ever.
        assert any(status.is_claimable for status in waiting), "no run can be executed here"
        trains = any(status.stage != "cost" for status in waiting)
        stages = ("tune", "final") if trains else ("cost",)
        run_worker(store, study_hash, executor, StopRequest(), WorkerSettings(stages=stages))

    loop = StudyLoop(store, study_hash, callbacks, self.devices[0].stages, self.worker_count)
    return loop.run(lambda: None, work)


def make_drafts_small(patch: pytest.MonkeyPatch, model: str) -> None:
    """Let ``new`` and ``tune`` write study files that end soon, and name a tiny model."""
    draft_study = new_verb.draft_study

    def draft_small(
        path: Path, output: Any, model_name: str | None, *others: Any, **options: Any
    ) -> Any:
        draft = draft_study(path, output, model_name or model, *others, **options)
        text = draft.text
        for before, after in SMALLER.items():
            text = text.replace(before, after)
        short = "max_steps: 2" in text and "seeds: [1, 2]" in text
        assert short or 'kind: "classification"' not in text  # others are only written
        return replace(draft, text=text)

    for module in ("verbs.tune", "verbs.new"):
        patch.setattr(f"paretune.{module}.draft_study", draft_small)


def write_rows(path: Path, rows: int) -> None:
    """Texts with a label yes or no, which no single word gives away."""
    names = ("cat", "dog", "ice", "door")
    lines = ["text,label"]
    for i in range(rows):
        one, other = i % 4, i // 4 % 4
        label = "yes" if (one < 2) == (other < 2) else "no"
        lines.append(f"The {names[one]} sat by the {names[other]} in room {i}.,{label}")
    path.write_text("\n".join(lines), encoding="utf-8")


def prepare_reviews(folder: Path, tiny_model: TinyModel) -> None:
    """A file of reviews, a model, experiments of peft."""
    tiny_model("bert", folder / "bert")
    write_rows(folder / "reviews.csv", 60)
    result(folder / "comparison" / "MetaMathQA" / "results", "lora", 600, n=1319)


def prepare_gallery(folder: Path, tiny_model: TinyModel) -> None:
    """The gallery's own files in small, the six tasks trained, and submissions to SloBench."""
    bert = tiny_model("bert")
    for name in ("slovene-cb", "manual-translation"):
        model = bert if name == "slovene-cb" else tiny_marian(folder / "marian")
        as_file(
            Study.parse(read_small(name, model), base=EXAMPLES),
            folder / f"{name}.yaml",
        )
    six = Study.load(folder / "shipped" / "slovene-superglue.yaml")
    finish(six, folder / "studies" / six.study, costs=0).close()
    shutil.copy(folder / "home" / "superglue-sl" / "qa_validation.zip", folder)
    answer_validation(folder / "qa_validation.zip", folder / "validation.zip")
    shutil.copy(folder / "slovene-cb.yaml", folder / "slobench")
    (folder / "source.txt").write_text("Hiša je velika.\nPes spi.\n", encoding="utf-8")
    (folder / "reference.txt").write_text("Hiša je velika.\nPes spi.\n", encoding="utf-8")
    for name in ("translation.zip", "source.zip"):
        lines = ["Hiša je velika.", "Pes ne spi."]
        translation_submission.write_translations(folder / name, lines)
    result(folder / "comparison" / "MetaMathQA" / "results", "lora", 600, n=1319)


def answer_validation(release_file: Path, path: Path) -> None:
    """A submission that answers all validation rows, as the data do."""
    answers: dict[str, Answers] = {}
    with zipfile.ZipFile(release_file) as archive:
        for name in archive.namelist():
            task = Path(name).stem
            rows = map(json.loads, archive.read(name).decode().splitlines())
            if task == "MultiRC":
                answers[task] = {
                    (row["idx"], question["idx"], answer["idx"]): answer["label"]
                    for row in rows
                    for question in row["passage"]["questions"]
                    for answer in question["answers"]
                }
            else:  # true in the data is "true" of BoolQ, "True" of WSC
                spelled = {str(label).lower(): label for label in LABELS[task]}
                answers[task] = {row["idx"]: spelled[str(row["label"]).lower()] for row in rows}
    superglue_zip.write_answers(path, answers)


def prepare_instructions(folder: Path, tiny_model: TinyModel) -> None:
    """Conversations and parallel text, and a decoder."""
    tiny_model("bert", folder / "bert")
    decoder = tiny_model("llama", folder / "models" / "smollm2")
    file = decoder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"chat_template": CHAT}
    file.write_text(json.dumps(config), encoding="utf-8")
    rows = [
        [{"role": "user", "content": f"Is it {i}?"}, {"role": "assistant", "content": "yes"}]
        for i in range(40)
    ]
    lines = [json.dumps({"messages": messages}) for messages in rows]
    (folder / "dates.jsonl").write_text("\n".join(lines), encoding="utf-8")
    write_rows(folder / "reviews.csv", 40)
    pairs = [(f"Voda {i}.", f"Water {i}.") for i in range(40)]
    text = "\n".join(["sl\ten", *("\t".join(pair) for pair in pairs)])
    (folder / "pairs.tsv").write_text(text, encoding="utf-8")
    for side, language in enumerate(("sl", "en")):
        text = "\n".join(pair[side] for pair in pairs)
        (folder / f"corpus.{language}").write_text(text, encoding="utf-8")


def prepare_machines(folder: Path, tiny_model: TinyModel) -> None:
    """A study of two tasks of which nothing has been executed."""
    raw = read_small("slovene-superglue", tiny_model("bert"))
    raw |= {"study": "shared-work", "methods": ["lora"]}
    raw["tasks"] = [task for task in raw["tasks"] if task["name"] in ("boolq", "cb")]
    as_file(Study.parse(raw, base=EXAMPLES), folder / "study.yaml")


def ship_small_studies(folder: Path, model: Path) -> dict[str, Path]:
    """The shipped studies in small, by name; the data of Slovene SuperGLUE lies where fetched."""
    folder.mkdir()
    files = {}
    for name in ("demo", "sample", "spam", "complaints", "slovene-superglue"):
        raw = read_small(name, model)
        raw["protocol"]["cost_seconds"] = 0.2
        methods = ("full", "lora") if name in ("demo", "sample") else ("lora",)
        raw["methods"] = [m for m in raw["methods"] if isinstance(m, dict) and m["name"] in methods]
        files[name] = as_file(Study.parse(raw, base=EXAMPLES), folder / f"{name}.yaml")
    return files


def place_release(home: Path) -> None:
    """Slovene SuperGLUE with made-up rows, where ``data fetch`` would put it."""
    release(home / "superglue-sl")


def result(
    folder: Path, name: str, right: int | None, *, n: int = 500, old: bool = False, **changes: Any
) -> None:
    """A file in the form of peft's method_comparison, with made-up numbers."""
    memory = "cuda_memory_max" if old else "accelerator_memory_max"
    metrics: list[dict[str, Any]] = [{"step": 10, "valid accuracy": 0.3, "train loss": 0.9}]
    if right is not None:
        metrics.append({"step": 20, "test accuracy": right / n, "train loss": 0.8})
    contents = {
        "run_info": {
            "experiment_name": name,
            "train_config": {"model_id": changes.pop("model", "made/up-1B"), "seed": 0},
            "error_msg": changes.pop("error", ""),
        },
        "train_info": {
            memory: changes.pop("memory", 2**30),
            "train_time": 60.5,
            "file_size": changes.pop("size", 5_000_000),
            "num_trainable_params": 1_000_000,
            "status": changes.pop("status", "success"),
            "metrics": metrics,
        },
        "meta_info": {
            "package_info": {"peft-version": "0.19.0"},
            "system_info": {"gpu" if old else "accelerator": changes.pop("card", "card A")},
        },
    }
    assert not changes
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace('/', '--')}.json"
    file.write_text(json.dumps(contents), encoding="utf-8")
