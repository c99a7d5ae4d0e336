"""Energy of a phase in joules, where the machine has a counter: RAPL for the CPU, NVML for CUDA.

Both count the whole package or card, other programs included: measure on an idle machine.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from paretune.measuring.nvml import read_millijoules

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


@dataclass
class EnergyMeter:
    """Joules between entering and leaving.

    Use::

        with EnergyMeter("cpu") as energy:
            ...
        energy.joules, energy.not_measured

    ``joules`` is None where there is no counter, and ``not_measured`` then has the reason.
    """

    device: str = "cpu"
    root: Path = POWERCAP
    joules: float | None = None
    counter: str | None = None
    not_measured: str = ""
    seconds: float = 0.0
    _zones: list[RaplZone] = field(default_factory=list)
    _card: tuple[str, int] | None = None
    _begun: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _lost: str = ""

    def __enter__(self) -> EnergyMeter:
        self.joules, self._begun = None, time.perf_counter()
        if self.device.startswith("cuda"):
            self._enter_card()
        elif self.device.startswith("cpu"):
            self._enter_package()
        else:
            self.not_measured = f"no energy counter is known for {self.device}"
        return self

    def _enter_card(self) -> None:
        import torch

        torch.cuda.synchronize(self.device)
        uuid = str(torch.cuda.get_device_properties(self.device).uuid)
        begun, self.not_measured = read_millijoules(uuid)
        if begun is not None:
            self._card, self.counter = (uuid, begun), "NVML total energy of the card"

    def _enter_package(self) -> None:
        self._zones, self.not_measured = find_rapl_zones(self.root)
        if not self._zones:
            return
        self.counter = "RAPL, packages and memory (all programs of the machine)"
        for zone in self._zones:
            zone.last_microjoules = zone.read()
        self._ended.clear()
        self._lost = ""
        self._thread = threading.Thread(target=self._watch, name="energy reader", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._advance()

    def _advance(self) -> None:
        try:
            for zone in self._zones:
                zone.advance()
        except (OSError, ValueError) as error:
            self._lost = f"the counter stopped answering: {error}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._card is not None:
            import torch

            torch.cuda.synchronize(self.device)
            uuid, begun = self._card
            ended, self.not_measured = read_millijoules(uuid)
            self.joules = None if ended is None else (ended - begun) / 1e3
        elif self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self._advance()
            self.not_measured = self._lost
            used = sum(zone.used_microjoules for zone in self._zones)
            self.joules = None if self._lost else used / 1e6
        self.seconds = time.perf_counter() - self._begun
        if self.joules == 0:
            # Counters move in steps of milliseconds: nothing seen is not nothing used.
            self.joules, self.not_measured = None, "the phase was shorter than the counter's step"
        if self.joules is None:
            self.counter = None
