"""The study files of ``examples`` on a tiny model: few rows, one seed, two steps a run."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

from ruamel.yaml import YAML

from paretune.study import Study
from support.six_tasks import release
from support.tiny_study import superglue

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
