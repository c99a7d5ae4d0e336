"""What a person sees of the verbs that read a store: one golden text each, at 80 columns.

``PARETUNE_WRITE_SCREENS=1`` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.stored_records import READING_VERBS, stored, study_file
from support.tiny_study import command

SCREENS = Path(__file__).parent / "screens"
STORE = ("--store", "store")
COMMANDS = {
    "compare": ("compare", "s.yaml", "full", "lora", *STORE),
    "compare-baselines": ("compare", "s.yaml", "majority", "tfidf", *STORE),
    "recommend": ("recommend", "s.yaml", *STORE),
    "recommend-within": ("recommend", "s.yaml", "--within", "5pt", "--max-memory", "4GiB", *STORE),
    "recommend-quiet": ("recommend", "s.yaml", "--quiet", *STORE),
    "why": ("why", "s.yaml", "full", "lora", *STORE),
    "watch": ("watch", "s.yaml", *STORE),
    "verify": ("verify", "s.yaml", *STORE),
    "merge": ("merge", "store", "--output", "merged"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file and a store with made-up records of all its runs."""
    folder = tmp_path_factory.mktemp("screens")
    methods = ["full", "lora", "loha", "prompt"]
    study = study_file(fake.study(methods=methods), folder / "s.yaml")
    stored(study, fake.whole(study), folder / "store").close()
    return folder


def test_screens_are_the_golden_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    screens = {}
    for name, arguments in COMMANDS.items():
        code, out, err = command(capsys, *arguments)
        assert (code, err) == (0, ""), name
        screens[name] = re.sub(r"\d+ s of work", "0 s of work", out)
        if os.environ.get("PARETUNE_WRITE_SCREENS"):
            (SCREENS / f"{name}.txt").write_text(screens[name], encoding="utf-8")
    assert screens == {path.stem: path.read_text("utf-8") for path in SCREENS.glob("*.txt")}


WITHOUT_TORCH = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from paretune.cli import main
codes = {}
for verb, arguments in json.loads(sys.argv[1]).items():
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            main([verb, "s.yaml", *arguments, "--store", "store"])
        except SystemExit as end:
            codes[verb] = end.code
heavy = ("torch", "transformers", "peft", "sklearn")
print(json.dumps([codes, [name for name in heavy if name in sys.modules]]))
"""


def test_the_reading_verbs_need_no_model_library(folder: Path) -> None:
    verbs = {verb: READING_VERBS[verb] for verb in ("report", "recommend", "watch", "verify")}
    verbs |= {"compare": ("full", "lora"), "why": ("full", "lora")}
    argv = [sys.executable, "-c", WITHOUT_TORCH, json.dumps(verbs)]
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == [dict.fromkeys(verbs, 0), []]
    assert "<h1" in (folder / "store" / "report.html").read_text(encoding="utf-8")
