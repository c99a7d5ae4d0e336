"""The benchmarks run, on a toy, and tell no ratio where the sides train different things."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from paretune.models.load import quiet_transformers

BENCH = Path(__file__).resolve().parents[2] / "bench"
pytestmark = pytest.mark.wide


@pytest.fixture(autouse=True)
def add_bench_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As ``python bench/FILE.py`` finds its neighbours; what they silence is loud again."""
    monkeypatch.syspath_prepend(BENCH)
    with quiet_transformers():
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        from shapes import write_shape

        write_shape("tiny", folder)
    return str(folder)


def test_no_ratio_where_the_sides_differ(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import gate
    import steps
    from workload import Work

    work = Work("tiny", toy, "copa")
    monkeypatch.setattr(gate, "OURS", gate.OURS._replace(dropout=0.1))
    result = gate.gate(work, "lora", batch=2, starts=1)
    assert result["passed"] == {"fp32": False, "bf16": False} and result["fp32_apart"] > 1e-5
    monkeypatch.setattr(steps, "gate", lambda *_, **__: result)
    options = Namespace(gate_batch=2, gate_starts=1, variants="b,ours,ours-fp32")
    case = steps.measure(work, "lora", options)
    assert "ratios" not in case and "no ratio" in "\n".join(steps.tables(case))


@pytest.mark.parametrize("method", ["bitfit", "full", "head_only", "prompt", "ia3"])
def test_both_sides_train_the_same_number(toy: str, method: str) -> None:
    from sides import VARIANTS, side
    from workload import Work

    work = Work("tiny", toy, "cb")
    pair = [side(work, method, VARIANTS[name]) for name in ("b", "ours")]
    assert pair[0].trained == pair[1].trained


SCRIPTS = (
    "method_costs.py --methods lora --rounds 1 --steps 1 --batch 2 --length 16 --threads 1",
    "memory_repeatability.py --processes 2 --width 64 --layers 2 --batch 2 --steps 2",
    "whole_study.py --methods lora --epochs 1",
    "cost_model.py --stacks 1 --seconds 1 --batch 2 --length 16",
    "load_peak.py llama-tiny --forms bf16",
    "step_seconds.py --model tiny --task copa --methods lora",
    "step_operations.py --model tiny --task copa --variants ours",
    "steps.py --model tiny --task copa --methods lora --rounds 1 --batches 2 --batch 4 --threads 1",
)


@pytest.mark.slow
@pytest.mark.parametrize("command", SCRIPTS, ids=lambda c: c.partition(".")[0])
def test_scripts_run(command: str) -> None:
    script, *options = command.split()
    subprocess.run([sys.executable, str(BENCH / script), *options], check=True)


@pytest.mark.slow
def test_the_gpu_program_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "gpu.py"), "--out", str(tmp_path)]
    command += ["--device", "cpu", "--tiny", "--steps", "2", "--rounds", "2", "--minutes", "60"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert results["tests"]["outcomes"]["passed"] > 30 and not results["tests"]["failed"]
    sides = {"field", "ours"}
    assert [set(case["ms"]) for case in results["steps"]] == [sides, sides]
    assert {one["side"] for one in results["memory"]} == sides
    assert all(one["phases"]["train"]["peak_bytes"] > 0 for one in results["memory"])
    page = (tmp_path / "gpu.html").read_text(encoding="utf-8")
    assert "paretune" in page and "Not measured" not in page
