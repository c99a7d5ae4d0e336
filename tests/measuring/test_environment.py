"""A measurement names the card, not its place in this machine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from paretune.measuring.machine import describe_device, describe_environment


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
