"""Joules from a RAPL tree of plain files: which zones count, wrap-around, and each reason."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from paretune.measuring import devices, energy
from paretune.measuring.energy import EnergyMeter, find_rapl_zones


def _zone(root: Path, folder: str, name: str, value: int, wraps_at: int = 10_000_000) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{value}\n")
    (path / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return path / "energy_uj"


def _tick(counter: Path, value: int) -> None:
    """Set a counter in one step, as the kernel does: a reader never finds the file empty."""
    following = counter.with_suffix(".next")
    following.write_text(f"{value}\n")
    following.replace(counter)


def test_packages_and_memory_are_added_and_parts_of_a_package_are_not(tmp_path):
    package = _zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    core = _zone(tmp_path, "intel-rapl:0:0", "core", 500_000)
    dram = _zone(tmp_path, "intel-rapl:0:1", "dram", 100_000)
    psys = _zone(tmp_path, "intel-rapl:1", "psys", 2_000_000)
    with EnergyMeter("cpu", tmp_path) as meter:
        package.write_text("3500000")
        core.write_text("2500000")
        dram.write_text("600000")
        psys.write_text("9000000")
    assert meter.joules == pytest.approx(2.5 + 0.5)
    assert meter.counter.startswith("RAPL")
    assert meter.not_measured == ""


def test_a_counter_that_wraps_is_followed_each_time(tmp_path):
    counter = _zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, wraps_at=10_000_000)
    (zone,), _ = find_rapl_zones(tmp_path)
    zone.last_microjoules = zone.read()
    for value in (500_000, 8_000_000, 200_000):
        counter.write_text(str(value))
        zone.advance()
    assert zone.used_microjoules == 1_500_000 + 7_500_000 + 2_200_000


def test_a_long_phase_is_read_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POLL_SECONDS", 0.01)
    counter = _zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000, wraps_at=10_000_000)
    zones, _ = find_rapl_zones(tmp_path)
    monkeypatch.setattr(energy, "find_rapl_zones", lambda root: (zones, ""))
    with EnergyMeter("cpu", tmp_path) as meter:
        _tick(counter, 9_000_000)
        for _ in range(300):
            if zones[0].used_microjoules == 8_000_000:
                break
            time.sleep(0.01)
        _tick(counter, 2_000_000)  # wrapped: seen only because 9,000,000 was read
    assert meter.joules == pytest.approx(8.0 + 3.0)


def read_reason(device: str, root: Path, meanwhile: Callable[[], object] = lambda: None) -> str:
    """Why a phase has no joules."""
    with EnergyMeter(device, root) as meter:
        meanwhile()
    assert meter.joules is None
    return meter.not_measured


def test_a_machine_without_rapl_says_so(tmp_path):
    folder = tmp_path / "powercap"
    assert "no RAPL" in read_reason("cpu", folder)
    folder.mkdir()
    assert find_rapl_zones(folder) == ([], f"{folder} has no RAPL package")


def test_what_a_counter_cannot_say_is_not_zero_joules(tmp_path, monkeypatch):
    counter = _zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    assert "shorter than" in read_reason("cpu", tmp_path)  # it did not move
    assert "stopped answering" in read_reason("cpu", tmp_path, counter.unlink)

    def refuse(zone: energy.RaplZone) -> int:
        raise PermissionError

    monkeypatch.setattr(energy.RaplZone, "read", refuse)  # the tests may run as root
    counter.touch()
    assert "may only be read by root" in read_reason("cpu", tmp_path)


def test_cuda_uses_the_cards_own_counter(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="12ab")
    )
    readings = iter([5_000, 12_500])
    fake = types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert devices.why_nvml_unavailable() == ""
    with EnergyMeter("cuda") as meter:
        pass
    assert meter.joules == 7.5
    assert "NVML" in meter.counter


def test_cuda_without_the_drivers_library_and_unknown_devices_say_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="12ab")
    )
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "not installed" in read_reason("cuda", Path())
    assert "no energy counter" in read_reason("mps", Path())
