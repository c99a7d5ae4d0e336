"""What `paretune doctor` says of devices that are not here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from paretune.cli.commands.doctor import _describe_device
from paretune.measuring import device_abilities, devices, nvml
from paretune.measuring.devices import Gpu
from paretune.models.packing import varlen


@pytest.fixture
def an_old_and_a_new_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {"cuda:0": ("Tesla T4", (7, 5)), "cuda:1": ("NVIDIA L4", (8, 9))}

    def properties(device: Any) -> Any:
        name, (major, minor) = cards[str(device)]
        return SimpleNamespace(
            name=name, total_memory=16 << 30, major=major, minor=minor, uuid=f"of {name}"
        )

    def energy(uuid: str) -> tuple[int | None, str]:
        return (5, "") if uuid == "of NVIDIA L4" else (None, "NVML: not supported")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d: cards[str(d)][1])
    monkeypatch.setattr(
        devices, "_query_in_subprocess", lambda d: Gpu(cards[d][0], 16 << 30, 1, cards[d][1])
    )
    monkeypatch.setattr(nvml, "read_millijoules", energy)
    monkeypatch.setattr(nvml, "why_unavailable", lambda: "")
    monkeypatch.delenv(varlen.VARIABLE, raising=False)


def test_each_card_has_what_it_can_do_and_what_it_cannot(an_old_and_a_new_card: None) -> None:
    old, new, cpu = device_abilities.list_devices()
    assert [d["device"] for d in (old, new, cpu)] == ["cuda:0", "cuda:1", "cpu"]
    assert [d["native_bf16"] for d in (old, new)] == [False, True]
    assert ["FlashAttention" in d["attention"] for d in (old, new, cpu)] == [False, True, False]
    assert old["measures"]["energy"] == {"counter": None, "reason": "NVML: not supported"}
    assert new["measures"]["energy"]["counter"] is not None
    description = _describe_device(old)
    assert "energy: cannot be measured: NVML: not supported" in description
    assert "never run on such a device" in description
    assert "never run" not in _describe_device(cpu)


def test_of_mps_neither_energy_nor_the_process_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8 << 30)
    mps, _ = device_abilities.list_devices()
    measures = mps["measures"]
    assert (mps["device"], mps["native_bf16"], mps["tried"]) == ("mps", False, False)
    assert measures["memory"]["counter"] and not measures["energy"]["counter"]
    assert measures["process_memory"]["reason"]
