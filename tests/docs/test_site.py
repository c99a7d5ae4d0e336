"""The site: its pages are there, and its reference has all that the code has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.pages import DOCS, docs_script

import paretune
from paretune import methods
from paretune.cli import VERBS
from paretune.methods import baselines
from paretune.study import Study

ROOT = DOCS.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("reference_pages")


def pages_of(nav: list[Any]) -> set[str]:
    """Paths of all pages of a navigation, whatever its depth."""
    paths: set[str] = set()
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        paths |= pages_of(value) if isinstance(value, list) else {value}
    return paths


def test_every_page_has_its_place(script: ModuleType) -> None:
    settings = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    generated = {*script.PAGES, "reference/changelog.md", "agents.md"}
    assert pages_of(settings["nav"]) == written | generated
    assert settings["strict"] is True


def test_the_reference_has_every_verb_and_option(script: ModuleType) -> None:
    page = script.cli_page()
    assert [verb for verb in VERBS if f"\n## {verb}\n" not in page] == []
    for verb, command, _ in script.commands():
        part = page.partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
        options = [name for one in command.params for name in one.opts if name.startswith("--")]
        assert [name for name in options if name not in part] == [], verb
        assert "--json" in options, verb


def test_the_reference_has_every_key_of_a_study_file(script: ModuleType) -> None:
    page = script.study_file_page()
    assert {"tasks", "protocol", "training"} <= {name for name, _ in script.sections()}
    for name, model in (("The file", Study), *script.sections()):
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        keys = [field.alias or key for key, field in model.model_fields.items()]
        assert [key for key in keys if f"| `{key}` |" not in part] == [], name
    assert "<class" not in page and "typing." not in page


def test_the_reference_has_the_whole_package(script: ModuleType) -> None:
    page = script.python_page()
    for name in paretune.__all__:
        value = getattr(paretune, name)
        assert f"::: {value.__module__}.{name}\n" in page and value.__doc__


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Which fine-tuning method" in index and "https://fonts" not in index


@pytest.fixture(scope="module")
def page_script() -> ModuleType:
    return docs_script("methods")


@pytest.mark.parametrize("name", sorted({*methods.available()} - baselines.NAMES - {"command"}))
def test_every_file_tells_what_a_reader_looks_for(page_script: ModuleType, name: str) -> None:
    module = methods.get(name)
    blocks = "\n".join(page_script.section(module))
    headings = ["When", "Equation", "Trained parameters", "Start"]
    if name != "stack":
        headings.append("Source")
    assert [word for word in headings if f"- **{word}**: " not in blocks] == []


def test_the_baselines_are_described() -> None:
    assert [name for name in baselines.METHODS if f"- ``{name}``: " not in baselines.__doc__] == []


@pytest.fixture(scope="module")
def exports_script() -> ModuleType:
    return docs_script("exports")


def test_every_exception_is_still_one(exports_script: ModuleType) -> None:
    """Where PEFT has come to do it, the exception and the sentence about it have to go."""
    attempts = [
        *exports_script.prefixes(),
        *exports_script.prompts(),
        *exports_script.missing(),
        exports_script.stacked(),
    ]
    obsolete = [(one.method, one.model) for one in attempts if one.error().startswith("none")]
    assert obsolete == []
