"""The core where ``paretune_autopeft`` is not there: only a study that names ``auto`` misses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, small

from paretune.execution.study_runs import add_missing_runs
from paretune.planning.prepare import prepare_study
from paretune.store import Store

CORE = """
import importlib, pkgutil, sys
from pathlib import Path

import support.without_autopeft
import paretune
from paretune import methods, plugins
from paretune.errors import MethodError
from paretune.store import Store
from paretune.testing.method_walk import walk_of, walked
from paretune.preparation import ProcessCache

for module in pkgutil.walk_packages(paretune.__path__, "paretune."):
    if module.name != "paretune.__main__":
        importlib.import_module(module.name)
assert not plugins.names(plugins.PROPOSERS) and "auto" not in methods.available()
folder, model, file = map(Path, sys.argv[1:])
walked(walk_of("lora", "pair", model, folder), ProcessCache(), folder)
with Store.open(folder / "store") as store:
    (study,) = store.list_studies()
    assert any(s.run.method.name == "auto" for s in store.load_statuses(study.study_hash))
    assert store.verify() == []
for verb in (paretune.plan, paretune.run):
    try:
        verb(file, store=folder / "store")
    except MethodError as error:
        print(error)
"""


@pytest.mark.thorough
def test_the_core_imports_trains_and_opens_stores(tmp_path: Path, tiny_model: Any) -> None:
    auto = {"name": "auto", "members": ["ia3"], "budget": 0.5, "controls": False}
    model = Path(tiny_model("bert"))
    study = small(tmp_path / "data", model, methods=[auto])
    file = as_file(study, tmp_path / "study.yaml")
    with Store.open(tmp_path / "store", create=True) as store:
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        add_missing_runs(prepare_study(study).in_store(store, "cpu"), store)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", CORE, tmp_path, model, file],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('method "auto" is not known: reinstall paretune') == 2
