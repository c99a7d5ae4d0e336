"""The files that a host, an index or an agent reads are true; wheel and sdist hold the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github").rglob("*.yml"))
TEXTS = ("AGENTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")


def test_the_citation_names_the_version_and_its_day() -> None:
    cited = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {PROJECT['version']} - {cited['date-released']}" in changelog


@pytest.mark.parametrize("path", [*FORMS, ROOT / ".pre-commit-config.yaml"], ids=lambda p: p.name)
def test_forms_and_workflows_are_yaml(path: Path) -> None:
    assert YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def test_workflows_run_what_there_is() -> None:
    goals = (ROOT / "Makefile").read_text(encoding="utf-8")
    steps = "\n".join(path.read_text(encoding="utf-8") for path in FORMS)
    scripts = re.findall(r"(?:run|bash):? (\.?[\w./-]+(?:\.sh|/run))\b", steps)
    assert {"dev/release_check.sh", ".ci/run"} <= set(scripts)
    assert [name for name in scripts if not os.access(ROOT / name, os.X_OK)] == []
    named = re.findall(r"\bmake (\w+)", steps)
    assert [goal for goal in named if not re.search(rf"^{goal}:", goals, re.MULTILINE)] == []


@pytest.mark.parametrize("name", TEXTS)
def test_texts_name_only_what_there_is(name: str) -> None:
    """Files that are linked to; commands are those of every page (test_page_commands.py)."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "src" / "paretune" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
    pythons = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: Python :: 3." in c}
    assert PROJECT["requires-python"].removeprefix(">=") in pythons


def build(source: Path, target: str, folder: Path) -> Path:
    """Build one distribution with what builds releases; nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.mark.wide
def test_the_wheel_of_the_sdist_is_the_package_and_answers_alone(tmp_path: Path) -> None:
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path / "tree", filter="data")
    (tree,) = (tmp_path / "tree").iterdir()
    wheel = build(tree, "wheel", tmp_path / "wheel")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    source = ROOT / "src" / "paretune"
    here = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package = tmp_path / "installed" / "paretune"
    assert {path.relative_to(package) for path in package.rglob("*") if path.is_file()} == here
    command = [sys.executable, "-m", "paretune", "data", "sample", "spam"]
    alone = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "spam" / "train.csv").is_file()
