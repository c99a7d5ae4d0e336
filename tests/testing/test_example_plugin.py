"""examples/plugin: here quickly, and as a user would install it, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import paretune
from paretune.testing import MethodContract, MetricContract, TaskContract
from paretune.testing.tiny_tasks import tiny_task

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "plugin"
sys.path.insert(0, str(PLUGIN / "src"))

from paretune_ssf import cohen_kappa, ssf, sums  # noqa: E402


class TestSsf(MethodContract):
    method = ssf.METHOD
    places = (("bert", "pair"),)
    neutral = ("scale", "shift_bias")


class TestSums(TaskContract):
    task = sums.TASK


class TestCohenKappa(MetricContract):
    metric = cohen_kappa.METRIC


def test_kappa_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    references, predictions = [0, 1, 2, 2, 1, 0, 0, 2], [0, 1, 1, 2, 1, 0, 2, 2]
    expected = cohen_kappa_score(references, predictions)
    assert cohen_kappa.METRIC.compute(references, predictions, []) == pytest.approx(
        expected, abs=1e-12
    )
    assert cohen_kappa.METRIC.compute([1, 1], [1, 1], []) == 1


STUDY = """\
study: ssf
tasks: [{{name: words, kind: classification, train: {train}, test: {test}, text: text,
          label: label, metric: cohen_kappa}}]
models: [{{name: {model}, label: tiny}}]
methods: [ssf]
protocol: {{trials: 1, folds: 1, seeds: [1], cost_seconds: 0.5}}
training: {{max_steps: 4, batch_size: 8, max_length: 32, precision: fp32}}
"""


@pytest.mark.slow
def test_installed_in_an_environment_of_its_own(tmp_path: Path, tiny_model: Any) -> None:
    """Its tests pass, `ls` has it, and a study with its method and metric runs to the report."""
    environment, source = tmp_path / "venv", tmp_path / "plugin"
    shutil.copytree(PLUGIN, source)
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    # What paretune needs comes from here: nothing but the plug-in is installed.
    (site,) = environment.glob("lib/python*/site-packages")
    paths = [sysconfig.get_path("purelib"), Path(paretune.__file__).parents[1]]
    (site / "paretune.pth").write_text("\n".join(map(str, paths)))
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-index", "--no-deps", "--no-build-isolation", source)
    assert " passed" in run(python, "-m", "pytest", "-p", "no:cacheprovider", source)
    assert "SSF; learning rates 0.0003, 0.001, 0.003" in run(
        python, "-m", "paretune", "ls", "methods"
    )
    task = tiny_task(tmp_path / "data")
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(train=task.train, test=task.test, model=tiny_model("bert")))
    run(python, "-m", "paretune", "run", study, "--workers", "1", cwd=tmp_path)
    assert "ssf" in run(python, "-m", "paretune", "report", study, cwd=tmp_path)
    (task,) = json.loads(run(python, "-m", "paretune", "report", study, "--json", cwd=tmp_path))[
        "tasks"
    ]
    assert (task["metric"], task["metric_title"]) == ("cohen_kappa", "Cohen's kappa")
    assert "sums" in run(python, "-m", "paretune", "ls", "tasks")


def run(*command: Any, cwd: Path | None = None) -> str:
    """What a command printed; it must not fail. Imports come from its environment alone."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS")}
    ran = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
