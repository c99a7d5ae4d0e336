"""Peaks by phase: real allocations of known size, in this process and in fresh ones."""

from __future__ import annotations

import json
import mmap
import os
import platform
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch

from paretune.measuring import memory
from paretune.measuring.memory import (
    HighWaterMark,
    PeakMeter,
    SampledGauge,
    can_reset_high_water,
    choose_counter,
)

MIB = 2**20


NOISE = 15 * MIB
"""What a test process's allocator and its other threads move meanwhile (10 MiB were seen)."""


def _touch(mebibytes: int, meter: PeakMeter | None = None) -> np.ndarray:
    """Memory that is resident until the sampler of ``meter``, if it has one, has read it."""
    # Mapped, not allocated: an allocator may hand out pages that were resident all along (glibc
    # does below 32 MiB), and then the resident set does not grow.
    touched = np.frombuffer(mmap.mmap(-1, mebibytes * MIB), dtype=np.uint8)
    touched[:] = 1
    counter = None if meter is None else meter._counter
    if isinstance(counter, SampledGauge):
        # The read that is under way may have begun before; the one after it has not.
        last = counter.read_bytes.reads + 2
        while counter.read_bytes.reads < last:
            time.sleep(0.001)
    return touched


class CountedReads:
    """The gauge of a sampler, and how often it was read."""

    def __init__(self) -> None:
        self.reads = 0
        self._read = memory.read_resident_bytes

    def __call__(self) -> int:
        resident_bytes = self._read()
        self.reads += 1
        return resident_bytes


@pytest.fixture(params=["high water", "sampled"])
def meter(request, monkeypatch) -> PeakMeter:
    if request.param == "high water" and not can_reset_high_water():
        pytest.skip("this system has no VmHWM that may be reset")
    if request.param == "sampled":
        monkeypatch.setattr(memory, "can_reset_high_water", lambda: False)
        monkeypatch.setattr(memory, "read_resident_bytes", CountedReads())
    meter = PeakMeter("cpu")
    expected = HighWaterMark if request.param == "high water" else SampledGauge
    assert isinstance(meter._counter, expected)
    return meter


def test_each_phase_has_its_own_peak_above_the_baseline(meter):
    before = _touch(64)  # held before the baseline: no phase's
    meter.baseline()
    with meter.phase("load"):
        model = _touch(40, meter)
    with meter.phase("train"):
        _touch(120, meter)  # gone again when the phase ends
    with meter.phase("evaluation"):
        _touch(20, meter)
    phases = meter.result()["phases"]
    assert list(phases) == ["load", "train", "evaluation"]
    for name, mebibytes in (("load", 40), ("train", 160), ("evaluation", 60)):
        assert phases[name]["peak_bytes"] == pytest.approx(mebibytes * MIB, abs=NOISE)
    assert meter.result()["not_measured"] == {}
    assert len(before) + len(model) == 104 * MIB


def test_a_phase_entered_twice_keeps_the_larger_peak(meter):
    meter.baseline()
    for mebibytes in (30, 90, 30):
        with meter.phase("train"):
            _touch(mebibytes, meter)
    assert meter.result()["phases"]["train"]["peak_bytes"] == pytest.approx(90 * MIB, abs=NOISE)


def test_a_phase_that_fails_keeps_the_peak_that_it_reached(meter):
    meter.baseline()
    with pytest.raises(MemoryError), meter.phase("train"):
        block = _touch(50, meter)
        raise MemoryError
    assert meter.result()["phases"]["train"]["peak_bytes"] == pytest.approx(50 * MIB, abs=NOISE)
    with meter.phase("evaluation"):  # and the meter still works
        assert block[0] == 1


def test_a_phase_that_never_ran_or_stayed_below_the_baseline_is_not_zero():
    meter = PeakMeter("cpu")
    block = _touch(80)
    meter.baseline()
    del block
    with meter.phase("train"):
        pass
    result = meter.result()
    assert "peak_bytes" not in result["phases"]["train"]
    assert set(result["not_measured"]) == {
        "phases.train.peak_bytes",
        "phases.load",
        "phases.evaluation",
    }
    with meter.phase("train"):
        block = _touch(150)  # to the phase's end, where every counter reads once more
    assert len(block) == 150 * MIB
    result = meter.result()
    assert result["phases"]["train"]["peak_bytes"] > 50 * MIB
    assert "phases.train.peak_bytes" not in result["not_measured"]


def test_without_a_high_water_mark_the_counter_says_that_it_samples(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert not can_reset_high_water()
    assert "sampled" in choose_counter("cpu").name
    (tmp_path / "status").write_text("Name:\tx\nVmRSS:\t  12 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert not can_reset_high_water()  # a kernel that keeps no mark
    assert memory.read_status_bytes("VmRSS") == 12 * 1024
    with pytest.raises(OSError, match="no line VmHWM"):
        memory.read_status_bytes("VmHWM")


def test_to_ask_whether_the_mark_works_does_not_lower_it():
    if not can_reset_high_water():
        pytest.skip("this system has no VmHWM that may be reset")
    mark = HighWaterMark()
    mark.start()
    _touch(60)
    reached = mark.stop()[0]["peak_bytes"]
    assert can_reset_high_water()
    assert mark.stop()[0]["peak_bytes"] == reached


CHILD = """
import json
import torch
from paretune.measuring.memory import PeakMeter, warm_libraries
torch.set_num_threads(1)
torch.manual_seed(0)
warm_libraries()
meter = PeakMeter("cpu")
meter.baseline()
with meter.phase("load"):
    model = torch.nn.Sequential(*(torch.nn.Linear(768, 768) for _ in range(8)))
optimizer = torch.optim.AdamW(model.parameters())
with meter.phase("train"):
    for rows in (2000, 600, 1200):
        model(torch.randn(rows, 768)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
with meter.phase("evaluation"), torch.no_grad():
    model(torch.randn(1200, 768))
print(json.dumps(meter.result()))
"""


@pytest.mark.wide
def test_fresh_processes_agree_to_a_few_percent_and_with_arithmetic():
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CHILD], check=True, capture_output=True, text=True
        )
        runs.append(json.loads(done.stdout)["phases"])
    weights = 8 * (768 * 768 + 768) * 4
    for phase in ("load", "train", "evaluation"):
        first, second = (run[phase]["peak_bytes"] for run in runs)
        assert first == pytest.approx(second, rel=0.06)
    assert runs[0]["load"]["peak_bytes"] == pytest.approx(weights, rel=0.1)
    # The last step holds weights, two moments and eight inputs when its backward pass begins.
    least = 3 * weights + 8 * 1200 * 768 * 4
    assert least < runs[0]["train"]["peak_bytes"] < 2 * least


def test_settle_gives_pages_back_on_glibc():
    if not memory.release_memory():
        pytest.skip("this C library has no malloc_trim")
    small = [np.ones(1000, dtype=np.uint8) for _ in range(60_000)]  # below malloc's mmap threshold
    keep = small[-1]
    block = memory.read_status_bytes("VmRSS")
    del small
    memory.release_memory()
    assert memory.read_status_bytes("VmRSS") < block - 40 * MIB
    assert keep[0] == 1


def test_the_heap_is_trimmed_once_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    resident, trimmed = [0], []

    def trim() -> bool:
        trimmed.append(resident[0])
        resident[0] -= 100 * MIB
        return True

    monkeypatch.setattr(memory, "read_resident_bytes", lambda: resident[0])
    monkeypatch.setattr(memory, "trim_heap", trim)
    left = 0
    sizes = [200 * MIB, 300 * MIB, 440 * MIB, 460 * MIB]
    for resident[0] in sizes:
        left = memory.trim_heap_if_grown(left)
    assert trimmed == [300 * MIB, 460 * MIB]  # 200 were left of 300, and 256 more are 456


def fake_nvml(pid: int) -> types.SimpleNamespace:
    """What pynvml looks like to us; ``uuids``: of the cards that were asked for."""
    uuids: list[str] = []
    return types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=uuids.append,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [
            types.SimpleNamespace(pid=pid, usedGpuMemory=900)
        ],
        uuids=uuids,
    )


@pytest.fixture
def card(monkeypatch):
    """A CUDA card of plain numbers: no test machine needs one."""
    state = types.SimpleNamespace(allocated=100, peak=100, reserved=128)
    for name, answer in {
        "synchronize": lambda device: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device: state.allocated,
        "max_memory_allocated": lambda device: state.peak,
        "max_memory_reserved": lambda device: state.reserved,
        "reset_peak_memory_stats": lambda device: setattr(state, "peak", state.allocated),
        "get_device_properties": lambda device: types.SimpleNamespace(uuid="12ab"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return state


def test_cuda_reports_allocated_reserved_and_process_beside_each_other(card, monkeypatch):
    fake = fake_nvml(os.getpid())
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    meter = PeakMeter("cuda:0")
    meter.baseline()
    with meter.phase("train"):
        card.peak, card.reserved = 700, 800
    result = meter.result()
    assert result["phases"]["train"] == {
        "peak_bytes": 600,
        "allocated_peak_bytes": 700,
        "reserved_peak_bytes": 800,
        "process_bytes": 900,
    }
    assert fake.uuids == ["GPU-12ab"]
    assert "max_memory_allocated" in result["peak_counter"]


@pytest.mark.parametrize("nvml", [None, fake_nvml(-1)])
def test_cuda_without_process_bytes_says_why(card, monkeypatch, nvml):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = PeakMeter("cuda")
    meter.baseline()
    with meter.phase("train"):
        card.peak = 700
    result = meter.result()
    assert "process_bytes" not in result["phases"]["train"]
    reason = result["not_measured"]["phases.train.process_bytes"]
    assert ("not installed" if nvml is None else "no process with this id") in reason


def test_what_is_forgotten_is_measured_anew(meter):
    meter.baseline()
    with meter.phase("train"):
        block = _touch(96, meter)
    assert meter.result()["phases"]["train"]["peak_bytes"] > 90 * MIB
    del block
    meter.forget("train", "evaluation")
    assert meter.result()["not_measured"]["phases.train"] == "the run has no such phase"
    with meter.phase("train"):
        block = _touch(24, meter)
    assert len(block) == 24 * MIB
    assert 20 * MIB < meter.result()["phases"]["train"]["peak_bytes"] < 60 * MIB


FREED_BLOCKS = """
import resource
import sys

import numpy as np

from paretune.measuring.memory import reuse_freed_memory

if "reuse" in sys.argv:
    reuse_freed_memory()
for _ in range(3):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(2**17) for _ in range(256)]
    del blocks
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is a call of glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    def count_faults(*arguments: str) -> int:
        command = [sys.executable, "-c", FREED_BLOCKS, *arguments]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    # 256 blocks of 1 MiB have 65,536 pages of 4 KiB, or as many hundreds of larger ones.
    assert count_faults("reuse") < count_faults() / 10
