"""Wheel and sdist hold the whole package: what is built from the sdist is what is built here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(source: Path, target: str, folder: Path) -> Path:
    """Build one distribution with what builds releases; nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


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
