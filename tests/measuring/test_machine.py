"""What the machine is: limits from cgroup files, flags, speed, and the page that shows it."""

from __future__ import annotations

import gc
import os
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from paretune.measuring import devices, machine, processor
from paretune.measuring.devices import Gpu
from paretune.measuring.machine import describe_device, describe_environment
from paretune.store.record import ComputeCost
from paretune.verbs.doctor import Machine, doctor


def _files(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


LIMITS = {
    "the tightest level": (
        "0::/jobs/one\n",
        {
            "jobs/one/cpu.max": "max 100000\n",
            "jobs/cpu.max": "250000 100000\n",
            "jobs/one/memory.max": "max\n",
            "jobs/memory.max": "3000000\n",
            "memory.max": "8000000\n",
        },
        (2.5, 3_000_000),
    ),
    "version one": (
        "4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n",
        {
            "cpu/job/cpu.cfs_quota_us": "150000\n",
            "cpu/job/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/job/memory.limit_in_bytes": "5000\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        (1.5, 5000),
    ),
    "none": ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, (None, None)),
    "no cgroups": ("", {}, (None, None)),
    "the top of a container's mount": (
        "0::/host/path/that/is/not/mounted/here\n",
        {"cpu.max": "400000 100000"},
        (4.0, None),
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits_are_those_of_cgroups(tmp_path, case):
    mounted, files, limits = LIMITS[case]
    cgroup = tmp_path / "cgroup"
    if mounted:
        cgroup.write_text(mounted)
    _files(tmp_path / "fs", files)
    assert processor.read_cpu_quota(cgroup, tmp_path / "fs") == limits[0]
    assert processor.read_memory_limit(cgroup, tmp_path / "fs") == limits[1]


def test_a_quota_below_affinity_bounds_the_usable_cores(monkeypatch):
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for quota, cores in ((None, here), (1.9, 1), (0.5, 1), (1000.0, here)):
        monkeypatch.setattr(processor, "read_cpu_quota", lambda quota=quota: quota)
        assert processor.count_usable_cores() == cores


def test_libraries_start_no_more_threads_than_a_quota_bears(monkeypatch):
    for variable in processor.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")  # put back after the test
        monkeypatch.delenv(variable)
    monkeypatch.setattr(processor, "read_cpu_quota", lambda: None)
    processor.limit_threads_to_quota()
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setattr(processor, "read_cpu_quota", lambda: 1.5)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    processor.limit_threads_to_quota()
    assert [os.environ[v] for v in processor.THREAD_VARIABLES] == ["1", "7", "1", "1"]


@pytest.mark.parametrize(
    ("mounted", "files"),
    [
        ("0::/jobs/one\n", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/jobs/one\n",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_what_a_container_leaves_is_all_that_is_available(tmp_path, mounted, files):
    """Its limit less what it uses, without file pages that nobody uses now."""
    cgroup, top = tmp_path / "cgroup", "" if mounted.startswith("0") else "memory/"
    cgroup.write_text(mounted)
    limit, usage, statistic = files
    _files(
        tmp_path / "fs",
        {
            f"{top}jobs/{limit}": "9000\n",
            f"{top}jobs/{usage}": "5000\n",
            f"{top}jobs/memory.stat": f"anon 7\n{statistic} 500\n",
        },
    )
    assert processor.read_available_bytes(cgroup, tmp_path / "fs") == 4500
    (tmp_path / "fs" / top / "jobs" / usage).write_text("9900\n")
    assert processor.read_available_bytes(cgroup, tmp_path / "fs") == 0
    free = processor.read_available_bytes(cgroup, tmp_path / "elsewhere")
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.5)


def test_flags_are_whole_words(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: X\nflags\t\t: fpu avx512_bf16x amx_bf16 sse\n")
    assert processor.read_bf16_flags(cpuinfo) == ["amx_bf16"]
    cpuinfo.write_text("Features\t: fp asimd bf16\n")
    assert processor.read_bf16_flags(cpuinfo) == ["bf16"]
    assert processor.read_bf16_flags(tmp_path / "none") == []


def test_without_native_bf16_it_is_not_timed(monkeypatch):
    monkeypatch.setattr(devices, "read_bf16_flags", list)
    assert machine.measure_bf16_speedup("cpu") is None
    speed = machine.measure_matmul_speed()
    assert "bf16_one_thread" not in speed
    assert set(speed["not_measured"]) == {"bf16_one_thread", "bf16_all_threads"}
    assert "no avx512_bf16" in speed["not_measured"]["bf16_one_thread"]


def test_the_speedup_is_a_ratio_of_medians(monkeypatch):
    monkeypatch.setattr(devices, "read_bf16_flags", lambda: ["amx_bf16"])

    def took(work, device):
        return 1.0 if torch.is_autocast_enabled("cpu") else 2.0

    monkeypatch.setattr(machine, "time_once", took)
    assert machine.measure_bf16_speedup("cpu") == pytest.approx(2.0)


RULES = [
    (["amx_bf16", "avx512_bf16"], "GenuineIntel", 384, "bf16", "amx_bf16"),
    (["avx512_bf16"], "AuthenticAMD", 256, "bf16", "AMD"),
    (["avx512_bf16"], "AuthenticAMD", 255, "fp32", "AMD"),
    (["avx512_bf16"], "AuthenticAMD", None, "fp32", "AMD"),
    (["avx512_bf16"], "GenuineIntel", 1024, "fp32", "without amx_bf16"),
    (["bf16"], "", 1024, "fp32", "Arm"),
    ([], "GenuineIntel", 1024, "fp32", "no avx512_bf16"),
]


@pytest.mark.parametrize(("flags", "maker", "width", "precision", "why"), RULES)
def test_auto_precision_is_a_rule_and_no_timing(monkeypatch, flags, maker, width, precision, why):
    """The same answer on a busy machine: nothing is timed."""
    monkeypatch.setattr(devices, "read_bf16_flags", lambda: flags)
    monkeypatch.setattr(devices, "read_vendor", lambda: maker)
    monkeypatch.setattr("time.perf_counter", lambda: pytest.fail("timed"))
    assert devices.resolve_auto_precision("cpu", width) == precision
    assert why in devices.is_bf16_fast("cpu")[1]


@pytest.mark.parametrize(
    ("capability", "width", "precision"),
    [((8, 0), 768, "bf16"), ((9, 0), 384, "fp32"), ((7, 5), 4096, "fp32")],
)
def test_auto_precision_of_a_gpu_follows_its_capability(monkeypatch, capability, width, precision):
    card = devices.Gpu("a card", 2**34, 2**33, capability)
    monkeypatch.setattr(devices, "query_gpu", lambda device: card)
    assert devices.resolve_auto_precision("cuda:0", width) == precision


def test_the_vendor_is_read_from_cpuinfo(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: X\n")
    assert processor.read_vendor(cpuinfo) == "AuthenticAMD"
    assert processor.read_vendor(tmp_path / "none") == ""


def test_speed_is_believable_and_leaves_the_threads_alone():
    before = torch.get_num_threads()
    speed = machine.measure_matmul_speed()
    assert torch.get_num_threads() == before
    assert 0.05 < speed["fp32_one_thread"] < 1e5
    assert 0.05 < speed["fp32_all_threads"] < 1e6  # on a busy machine below that of one thread
    assert 0.005 < speed["gigabytes_per_second"] < 1e5


def test_steps_take_what_products_and_memory_take() -> None:
    speed = machine.MachineSpeed({"fp32": 2.0, "bf16": 8.0}, gigabytes_per_second=4.0)
    work = ComputeCost(8e9, held_bytes=1, saved_bytes=1, moved_bytes=2_000_000_000)
    assert speed.predict_step_seconds(work, "fp32") == pytest.approx(4.5)
    assert speed.predict_step_seconds(work, "bf16") == pytest.approx(1.5)


def test_doctor_shows_the_machine(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    machine = doctor()
    for word in ("usable", "precision: auto", "GFLOP/s", "torch", "memory"):
        assert word in str(machine)
    facts = machine.to_json()
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["processor"]["usable_cores"] >= 1
    assert facts["memory"]["total"] > facts["memory"]["available"] > 0
    assert facts["torch"]["devices"][-1]["device"] == "cpu"
    assert facts["torch"]["bf16"]["reason"]


def test_two_cards_of_one_name_are_the_same_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"cuda": "NVIDIA L4", "cuda:1": "NVIDIA L4", "cuda:2": "NVIDIA H100"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device])
    first, second, other = (describe_device(device) for device in names)
    assert first == second == {"device": "cuda", "device_name": "NVIDIA L4"}
    assert other == {"device": "cuda", "device_name": "NVIDIA H100"}
    values: dict[str, Any] = describe_environment("cuda:2")
    assert values.items() >= other.items()


def test_a_processor_has_no_card() -> None:
    assert describe_device("cpu") == {"device": "cpu"}


@pytest.fixture
def an_old_and_a_new_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {"cuda:0": ("Tesla T4", (7, 5)), "cuda:1": ("NVIDIA L4", (8, 9))}

    def properties(device: Any) -> Any:
        name, (major, minor) = cards[str(device)]
        return SimpleNamespace(
            name=name, total_memory=16 << 30, major=major, minor=minor, uuid=f"of {name}"
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(
        devices, "_query_in_subprocess", lambda d: Gpu(cards[d][0], 16 << 30, 1, cards[d][1])
    )
    monkeypatch.setattr(devices, "why_nvml_unavailable", lambda: "NVML: not supported")


def test_each_card_has_what_it_can_do_and_what_it_cannot(an_old_and_a_new_card: None) -> None:
    old, new, cpu = machine.list_devices()
    assert [d["device"] for d in (old, new, cpu)] == ["cuda:0", "cuda:1", "cpu"]
    assert [d["native_bf16"] for d in (old, new)] == [False, True]
    missing = {"counter": None, "reason": "NVML: not supported"}
    assert old["measures"]["process_memory"] == missing
    facts = doctor().facts
    texts = {
        device["device"]: str(Machine({**facts, "torch": {**facts["torch"], "devices": [device]}}))
        for device in (old, cpu)
    }
    assert "process memory: cannot be measured: NVML: not supported" in texts["cuda:0"]
    assert "never run on such a device" in texts["cuda:0"]
    assert "never run" not in texts["cpu"]


def test_of_mps_the_memory_of_the_process_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8 << 30)
    mps, _ = machine.list_devices()
    measures = mps["measures"]
    assert (mps["device"], mps["native_bf16"], mps["tried"]) == ("mps", False, False)
    assert measures["memory"]["counter"] and not measures["process_memory"]["counter"]
    assert measures["process_memory"]["reason"]


def test_garbage_is_collected_again_after_imports_as_it_was_before() -> None:
    with pytest.raises(ImportError), processor.defer_collection():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with processor.defer_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_only_the_precisions_that_are_asked_for_are_timed(monkeypatch) -> None:
    monkeypatch.setattr(machine, "TIMING_SECONDS", 0.0)
    before = torch.get_num_threads()
    assert set(machine.MachineSpeed.measure(["fp32"]).gigaflops) == {"fp32"}
    assert set(machine.MachineSpeed.measure().gigaflops) == {"fp32", "bf16"}
    assert torch.get_num_threads() == before
