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
QUICK = ["--model", "tiny", "--rounds", "1", "--batches", "2", "--batch", "4", "--threads", "1"]
QUICK += ["--gate-starts", "1"]
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


@pytest.mark.parametrize("task", ["boolq", "rte", "cb", "copa"])
def test_texts_have_the_lengths_of_their_task(task: str) -> None:
    from workload import TASKS, grouped_by_length, mixed, random_tokens

    shape = TASKS[task]
    data = random_tokens(shape, 400)
    sizes = [len(s) for choices in data.ids for s in choices]
    assert len(sizes) == shape.rows * shape.choices and max(sizes) <= 256
    assert abs(sum(sizes) / len(sizes) - shape.tokens) < 0.6
    batches = grouped_by_length(data.lengths, shape.batch, 8)
    kept = sorted(i for batch in batches for i in batch)
    assert len(set(kept)) == 8 * shape.batch
    assert sorted(i for batch in mixed(batches) for i in batch) == kept
    mean = sum(data.lengths[i] for i in kept) / len(kept)
    assert mean == pytest.approx(sum(data.lengths) / len(data.lengths), rel=0.1)


def test_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gate
    import steps

    monkeypatch.setattr(gate, "CHANCE", 3.0)  # of a toy's one start
    monkeypatch.setattr(steps, "peak_rates", lambda: {"fp32": 1e11, "bf16": 2e11})
    file = tmp_path / "steps.json"
    steps.main([*QUICK, "--task", "copa", "--methods", "lora,prompt", "--json", str(file),
                "--variants", "a,b,ours,ours-mixed"])  # fmt: skip
    (case, without) = json.loads(file.read_text())["cases"]
    assert case["gate"]["passed"] == {"fp32": True, "bf16": True}
    assert case["gate"]["fp32_apart"] < 1e-5
    assert set(case["ratios"]) == {"a / ours", "b / ours", "b / ours-mixed", "fastest / fastest"}
    assert "several choices" in without["left_out"]
    printed = capsys.readouterr().out
    assert "gate in fp32 passed" in printed and "tiny, copa, lora" in printed


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


def test_peak_memory_of_one_side(toy: str) -> None:
    import peak_memory

    from paretune.measuring.memory import can_reset_high_water

    if not can_reset_high_water():
        pytest.skip("needs Linux's VmHWM")
    settings = Namespace(
        model="tiny", folder=toy, task="copa", steps=1, threads=1, variant="b", method="lora"
    )
    memory = peak_memory.measure_alone(settings)
    assert memory["peak"] >= memory["loaded"] >= memory["imports"] > 50 * 2**20
    other = memory | {"peak": memory["imports"] + (memory["peak"] - memory["imports"]) // 2}
    case = peak_memory.summary({"b": [memory], "ours": [other]})
    if memory["peak"] - memory["imports"] > 2**20:
        assert case["ratios"]["b / ours"] == pytest.approx(2, rel=0.01)


def test_where_a_step_goes(capsys: pytest.CaptureFixture[str]) -> None:
    import step_operations

    step_operations.main(["--model", "tiny", "--task", "copa", "--variants", "ours"])
    rows = dict(line.split(" | ") for line in capsys.readouterr().out.splitlines()[3:])
    shares = {name.lstrip("| "): float(share.rstrip("| ")) for name, share in rows.items()}
    assert sum(shares.values()) == pytest.approx(100, abs=1) and shares["products"] > 1


def test_predicted_steps_have_parts_that_are_fitted_again(toy: str) -> None:
    from step_seconds import fit_factors, time_steps
    from workload import Work

    from paretune.measuring.machine import MachineSpeed

    speed = MachineSpeed({"fp32": 2.0, "bf16": 4.0}, gigabytes_per_second=1.0)
    rows = [
        time_steps(Work("tiny", toy, task), method, "ours-nd-fp32", speed)
        for task in ("rte", "copa")
        for method in ("lora", "full")
    ]
    for row in rows:
        parts = row["products"] + row["layers"] + row["optimizer"]
        assert row["seconds"] > 0 and row["predicted"] == pytest.approx(parts)
        row["seconds"] = 0.5 * row["products"] + 2 * row["layers"] + 3 * row["optimizer"]
    assert fit_factors(rows) == pytest.approx([0.5, 2, 3], rel=1e-3)


SCRIPTS = (
    "method_costs.py --methods lora --rounds 1 --steps 1 --batch 2 --length 16 --threads 1",
    "memory_repeatability.py --processes 2 --width 64 --layers 2 --batch 2 --steps 2",
    "whole_study.py --methods lora --epochs 1",
    "cost_model.py --stacks 1 --seconds 1 --batch 2 --length 16",
    "load_peak.py llama-tiny --forms bf16",
    "step_seconds.py --model tiny --task copa --methods lora",
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
    sides = {"field", "ours", "fleet-4"}  # a decoder's, of a billion numbers, alone
    assert [set(one["ms"]) for one in results["steps"]] == [sides, {"field", "ours"}]
    assert {one["side"] for one in results["memory"]} == sides
    assert all(one["phases"]["train"]["peak_bytes"] > 0 for one in results["memory"])
    page = (tmp_path / "gpu.html").read_text(encoding="utf-8")
    assert "paretune, 4 runs together" in page and "Not measured" not in page
