"""Every own method takes a training step on a GPU that is not there (walk.py says how)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import FAMILIES, every_case, few_cases

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that pretends a GPU to the CPU build of torch."""
    compiler = shutil.which("g++")
    include, libraries = (Path(torch.__file__).parent / name for name in ("include", "lib"))
    if torch.version.cuda is not None or torch.version.hip is not None:
        pytest.skip("this torch is built for GPUs: the tests marked gpu ask a real one")
    if compiler is None:
        pytest.skip("g++ is not installed, which builds the fake GPU")
    if not (include / "c10/core/impl/DeviceGuardImplInterface.h").is_file():
        pytest.skip("this torch comes without its C++ headers, from which the fake GPU is built")
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    command = [compiler, "-std=c++20", "-O0", "-shared", "-fPIC", f"-I{include}"]
    command += [f"-I{include}/torch/csrc/api/include", str(HERE / "guard.cpp"), "-o", str(library)]
    built = subprocess.run(
        [*command, f"-L{libraries}", "-lc10", "-ltorch_cpu"], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return library


def walk(guard: Path, cases: list[str]) -> dict[str, str]:
    """What stopped each of the cases that something stopped."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "begin.py"), str(guard), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    stopped = dict(json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0 and list(stopped) == cases, done.stderr
    return {case: stopped for case, stopped in stopped.items() if stopped is not None}


@pytest.mark.wide
def test_each_method_takes_a_step_in_bf16(guard: Path) -> None:
    """And what a GPU refuses is refused, and what a run keeps for later is kept beside the GPU."""
    cases = few_cases()
    assert len(cases) > 25
    assert walk(guard, ["self-check", "keep-aside", *cases]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_method_takes_a_step_on_each_family(guard: Path, family: str) -> None:
    cases = every_case(family)
    assert len(cases) >= 40
    assert walk(guard, cases) == {}
