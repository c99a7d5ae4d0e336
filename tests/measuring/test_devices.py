"""Devices are checked before anything starts, and the process that plans makes no CUDA context."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import torch

from paretune.errors import StudyError
from paretune.execution.memory_budget import fit_workers
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring import devices
from paretune.measuring.devices import (
    Gpu,
    has_native_bf16,
    identify_device,
    resolve_device,
    resolve_devices,
)

CARD = Gpu("NVIDIA L4", 24 << 30, 20 << 30, (8, 9))


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, where whatever would make a context here fails."""

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a CUDA context in the process that plans")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("_lazy_init", "get_device_properties", "get_device_capability", "mem_get_info"):
        monkeypatch.setattr(torch.cuda, name, refused)
    monkeypatch.setattr(devices, "_query_in_subprocess", lambda device: CARD)


@pytest.mark.parametrize(
    "option", ["gpu", "xpu", "cuda:x", "cuda:-1", "cuda:", "cpu:0", "CUDA", ""]
)
def test_what_is_no_device_is_refused_with_a_sentence(two_cards: None, option: str) -> None:
    with pytest.raises(StudyError, match="invalid device"):
        resolve_device(option)


def test_a_gpu_that_is_not_there_is_refused(two_cards: None) -> None:
    with pytest.raises(StudyError, match="no such GPU: torch sees cuda:0 to cuda:1"):
        resolve_device("cuda:7")
    assert [resolve_device(option) for option in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda",
        "cuda",
        "cuda:1",
        "cpu",
    ]


@pytest.mark.parametrize(
    ("option", "devices"),
    [
        ("auto", ("cuda",)),
        ("all", ("cuda:0", "cuda:1")),
        ("cuda:1, cpu,cuda:1", ("cuda:1", "cpu")),
        ("cuda,cuda:0", ("cuda:0",)),
        ("cuda", ("cuda",)),
    ],
)
def test_several_devices(two_cards: None, option: str, devices: tuple[str, ...]) -> None:
    assert resolve_devices(option) == devices


def test_all_devices_without_a_gpu_are_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for available, expected in ((False, ("cpu",)), (True, ("mps",))):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda it=available: it)
        assert resolve_devices("all") == expected


def test_a_card_has_one_name_whatever_a_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [identify_device(d) for d in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    assert [identify_device(d) for d in ("cuda", "cuda:1", "mps")] == ["cuda:2", "cuda:3", "mps"]


def test_workers_of_a_gpu_share_its_memory(two_cards: None) -> None:
    needs = [2 << 30, 6 << 30]
    (alone,) = fit_workers([WorkerSettings("cuda:1", device_workers=0)], needs)
    assert (alone.device_workers, alone.memory_bytes) == (1, None)
    (shared,) = fit_workers([WorkerSettings("cuda:1", device_workers=4)], needs)
    assert (shared.device_workers, shared.memory_bytes) == (4, 15 << 30)
    assert [shared.count_fitting(need) for need in needs] == [4, 2]


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for option, reply in (("cuda", "no CUDA"), ("cuda:0", "no CUDA"), ("mps", "no MPS")):
        with pytest.raises(StudyError, match=reply):
            resolve_device(option)
    assert resolve_device("auto") == "cpu"


def test_what_planning_asks_of_a_gpu_makes_no_context(two_cards: None) -> None:
    assert has_native_bf16("cuda:1") == (True, "compute capability 8.9 has native bf16")


def test_a_gpu_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: Xid 79\n")

    monkeypatch.setattr(subprocess, "run", broken)
    devices._query_in_subprocess.cache_clear()
    with pytest.raises(StudyError, match="Xid 79"):
        devices.query_gpu("cuda")


def test_a_card_that_another_process_has_for_itself_is_known_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Seen:
        name, total_memory, major, minor = "NVIDIA H100", 80 << 30, 9, 0

    def busy(device: str) -> Any:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Seen)
    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    assert devices._query_here("cuda") == Gpu("NVIDIA H100", 80 << 30, 0, (9, 0))
