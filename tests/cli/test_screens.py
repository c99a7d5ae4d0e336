"""What a person sees of a verb: one golden text for each command line, at 80 columns.

``PARETUNE_WRITE_SCREENS=1`` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import fake_records as fake
from support.loaded_modules import list_loaded
from support.stored_records import READING_VERBS, stored, study_file
from support.tiny_study import command, two_files

from paretune.study import Study
from paretune.verbs.study_input import shipped_studies

SCREENS = Path(__file__).parent / "screens"
STORE = ("--store", "store")
COMMANDS = {
    "compare": ("compare", "s.yaml", "full", "lora", *STORE),
    "compare-baselines": ("compare", "s.yaml", "majority", "tfidf", *STORE),
    "recommend": ("recommend", "s.yaml", *STORE),
    "recommend-within": ("recommend", "s.yaml", "--within", "5pt", "--max-memory", "4GiB", *STORE),
    "recommend-quiet": ("recommend", "s.yaml", "--quiet", *STORE),
    "next": ("next", "s.yaml", *STORE),
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
        out = re.sub(r"\d+ s of work", "0 s of work", out)  # seconds of this machine
        screens[name] = re.sub(r"[ \d]\d s (?=\d\.\d)", " 0 s ", out)
    assert_golden("store", screens)


NEW: dict[str, tuple[str, ...]] = {
    "new": ("train.csv", "-o", "mine.yaml", "--model", "./m"),
    "new-exists": ("train.csv", "-o", "mine.yaml"),
    "new-options": ("train.csv", "--test", "none", "--drop-unlabelled", "-o", "b.yaml"),
    "new-no-folder": ("train.csv", "-o", "no/such/folder.yaml"),
    "new-no-study": ("sampel",),
    "new-unsure": ("a.csv",),
    "new-label": ("a.csv", "--label", "r"),
    "new-pair": ("a.csv", "--label", "r", "--text", "p", "--pair", "q", "-o", "pair.yaml"),
    "new-columns": ("a.csv", "--source", "q", "--target", "p", "-o", "c.yaml"),
    "new-half": ("a.csv", "--source", "q"),
    "new-translation": ("pairs.tsv",),
    "new-back": ("pairs.tsv", "--from", "en", "-o", "back.yaml"),
    "new-model": ("pairs.tsv", "--model", "./m", "-o", "own.yaml"),
    "new-two-files": ("plain.sl",),
    "new-not-parallel": ("train.csv", "--from", "sl"),
}


def test_what_new_says_and_writes_is_the_golden_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = two_files(tmp_path / "data").parent
    monkeypatch.chdir(folder)
    rows = [f"Some text {i},Other text {i},one class" for i in range(20)]
    Path("a.csv").write_text("\n".join(["p,q,r", *rows]), encoding="utf-8")
    pairs = "".join(f"Poved številka {i}.\tSentence number {i}.\n" for i in range(9))
    Path("pairs.tsv").write_text(f"sl\ten\n{pairs}", encoding="utf-8")
    for language in ("sl", "en"):
        Path(f"plain.{language}").write_text(pairs, encoding="utf-8")
    screens = {}
    for name, words in NEW.items():
        before = set(folder.glob("*.yaml"))
        code, out, err = command(capsys, "new", *words)
        written = [path.read_text("utf-8") for path in sorted(set(folder.glob("*.yaml")) - before)]
        assert all(Study.parse(YAML(typ="safe", pure=True).load(text)) for text in written)
        screen = "".join([f"exit code {code}\n", out, err, *written])
        screens[name] = screen.replace(str(tmp_path), "...")
    assert_golden("new", screens)
    for name, file in shipped_studies().items():
        assert command(capsys, "new", name)[0] == 0
        assert Path(f"{name}.yaml").read_text("utf-8") == file.read_text("utf-8")


def test_help_is_the_golden_text(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The help of options is read from docstrings."""
    monkeypatch.setenv("COLUMNS", "80")
    verbs = ("tune", "new", "run", "report", "export", "merge")
    screens = {verb: command(capsys, verb, "--help")[1] for verb in verbs}
    assert_golden("help", {"paretune": command(capsys, "--help")[1], **screens})


def assert_golden(kind: str, screens: Mapping[str, str]) -> None:
    folder = SCREENS / kind
    if os.environ.get("PARETUNE_WRITE_SCREENS"):
        for name, screen in screens.items():
            (folder / f"{name}.txt").write_text(screen, encoding="utf-8")
    assert screens == {path.stem: path.read_text("utf-8") for path in folder.glob("*.txt")}


@pytest.mark.wide
def test_the_reading_verbs_need_no_model_library(folder: Path) -> None:
    verbs = {verb: READING_VERBS[verb] for verb in ("report", "recommend", "watch", "verify")}
    verbs |= {"compare": ("full", "lora"), "next": ()}
    commands = [(verb, "s.yaml", *arguments, *STORE) for verb, arguments in verbs.items()]
    assert list_loaded(*commands, folder=folder) == ([0] * len(verbs), [])
    assert "<h1" in (folder / "store" / "report.html").read_text(encoding="utf-8")
