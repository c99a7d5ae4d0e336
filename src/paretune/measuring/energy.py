"""Energy of a phase in joules, where the machine has a counter: RAPL for the CPU, NVML for CUDA.

Both count the whole package or card, other programs included: measure on an idle machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from paretune.measuring.devices import read_millijoules

POWERCAP = Path("/sys/class/powercap")

POLL_SECONDS = 30.0
"""A RAPL counter wraps after some minutes at full power, and is read more often than that."""


@dataclass
class RaplZone:
    """One RAPL domain: its folder, where its counter wraps, and the energy added up."""

    folder: Path
    max_microjoules: int
    last_microjoules: int = 0
    used_microjoules: int = 0

    def read(self) -> int:
        """The counter, in microjoules."""
        return int((self.folder / "energy_uj").read_text())

    def advance(self) -> None:
        """Add what was used since the last reading, over a wrap-around too."""
        value = self.read()
        self.used_microjoules += (
            value - self.last_microjoules
            if value >= self.last_microjoules
            else self.max_microjoules - self.last_microjoules + value
        )
        self.last_microjoules = value


def find_rapl_zones(root: Path = POWERCAP) -> tuple[list[RaplZone], str]:
    """RAPL's packages and memory, which do not overlap; or none, and why.

    ``core`` and ``uncore`` lie inside a package and ``psys`` around it, so they are left out.
    """
    if not root.is_dir():
        return [], f"the machine has no {root} (no RAPL: virtual machine, or not Intel or AMD)"
    zones = []
    for folder in sorted(root.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            if not name.startswith(("package", "dram")):
                continue
            zone = RaplZone(folder, int((folder / "max_energy_range_uj").read_text()))
            zone.read()
        except PermissionError:
            return [], f"{folder / 'energy_uj'} may only be read by root"
        except (OSError, ValueError) as error:
            return [], f"{folder}: {error}"
        zones.append(zone)
    return zones, "" if zones else f"{root} has no RAPL package"


class EnergyMeter:
    """Joules between entering and leaving.

    Use::

        with EnergyMeter("cpu") as energy:
            ...
        energy.joules, energy.not_measured

    ``joules`` is None where there is no counter, and ``not_measured`` then has the reason.
    """

    def __init__(self, device: str = "cpu", root: Path = POWERCAP) -> None:
        self.device, self.root = device, root
        self.joules: float | None = None
        self.counter: str | None = None
        self.not_measured = ""
        self.seconds = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> EnergyMeter:
        begun = time.perf_counter()
        self._stack.callback(lambda: setattr(self, "seconds", time.perf_counter() - begun))
        if self.device.startswith("cuda"):
            self._stack.enter_context(self._measure_card())
        elif self.device.startswith("cpu"):
            self._stack.enter_context(self._measure_package())
        else:
            self.not_measured = f"no energy counter is known for {self.device}"
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        if self.joules == 0:
            # Counters move in steps of milliseconds: nothing seen is not nothing used.
            self.joules, self.not_measured = None, "the phase was shorter than the counter's step"
        if self.joules is None:
            self.counter = None

    @contextmanager
    def _measure_card(self) -> Iterator[None]:
        import torch

        torch.cuda.synchronize(self.device)
        uuid = str(torch.cuda.get_device_properties(self.device).uuid)
        begun, self.not_measured = read_millijoules(uuid)
        yield
        if begun is None:
            return
        torch.cuda.synchronize(self.device)
        ended, self.not_measured = read_millijoules(uuid)
        if ended is not None:
            self.joules, self.counter = (ended - begun) / 1e3, "NVML total energy of the card"

    @contextmanager
    def _measure_package(self) -> Iterator[None]:
        zones, self.not_measured = find_rapl_zones(self.root)
        for zone in zones:
            zone.last_microjoules = zone.read()
        ended = threading.Event()

        def advance() -> None:
            try:
                for zone in zones:
                    zone.advance()
            except (OSError, ValueError) as error:
                self.not_measured = f"the counter stopped answering: {error}"

        def watch() -> None:
            while not ended.wait(POLL_SECONDS):
                advance()

        thread = threading.Thread(target=watch, name="energy reader", daemon=True)
        if zones:
            thread.start()
        yield
        if zones:
            ended.set()
            thread.join()
            advance()
        if not self.not_measured:
            self.joules = sum(zone.used_microjoules for zone in zones) / 1e6
            self.counter = "RAPL, packages and memory (all programs of the machine)"
