"""``doctor``: what this machine has, what can be measured on it, and the plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from paretune import methods, metrics, objectives, plugins, tasks
from paretune.errors import PluginError
from paretune.measuring.machine import describe_machine
from paretune.reporting.measures import REPORT_TABLES, ReportTable
from paretune.reporting.text.formatting import format_bytes
from paretune.study.presets import PROTOCOLS, Preset, load_preset
from paretune.study.specs import Proposer
from paretune.verbs.result import Result, to_json_value

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, repr=False)
class Machine(Result):
    """The abilities of a machine and an installation.

    Attributes:
        facts: ``system``, ``processor``, ``memory``, ``torch``, ``packages``,
            ``plugins`` (``fault``: why one cannot be used) ...; fields of its JSON object.
    """

    facts: dict[str, Any]

    def describe(self) -> Iterable[RenderableType]:
        """A table."""
        cpu, memory, torch = (self.facts[name] for name in ("processor", "memory", "torch"))
        quota = "" if cpu["quota"] is None else f", quota of {cpu['quota']:g}"
        limit = memory["limit"]
        limited = "no limit set" if limit is None else f"limited to {format_bytes(limit)}"
        bf16, speed = torch["bf16"], torch["speed"]
        auto = f"bf16 for models of width {bf16['min_width']} or more" if bf16["fast"] else "fp32"
        timing = ""
        if bf16["speedup"] is not None:
            timing = f"; just now a layer was {bf16['speedup']:.2f} times as fast in bf16"
        products = [
            f"{dtype}: {speed[f'{dtype}_one_thread']:.0f} GFLOP/s on one thread, "
            f"{speed[f'{dtype}_all_threads']:.0f} on {speed['threads']}"
            for dtype in ("fp32", "bf16")
            if f"{dtype}_one_thread" in speed
        ]
        devices = {}
        for device in torch["devices"]:
            precisions = "fp32 and bf16" if device["native_bf16"] else "fp32"
            lines = [
                f"{device['name']}, {format_bytes(device['memory'])}, {precisions} "
                f"({device['reason']})"
            ]
            for name, counter in device["measures"].items():
                text = counter["counter"] or f"cannot be measured: {counter['reason']}"
                lines.append(f"{name.replace('_', ' ')}: {text}")
            if not device["tried"]:
                lines.append("paretune was never run on such a device; `make gpu` tries it")
            devices[device["device"]] = "\n".join(lines)
        rows = [
            ("system", self.facts["system"]),
            ("processor", cpu["name"]),
            (
                "cores",
                f"{cpu['usable_cores']} usable of {cpu['logical_cores']} logical, "
                f"{cpu['physical_cores'] or 'unknown'} physical{quota}",
            ),
            (
                "memory",
                f"{format_bytes(memory['total'])}, {format_bytes(memory['available'])} available, "
                f"{limited}",
            ),
            *devices.items(),
            ("precision: auto", f"{auto} ({bf16['reason']}{timing})"),
            ("torch threads", str(torch["threads"])),
            ("products", "; ".join(products)),
            ("between products", f"{speed['gigabytes_per_second']:.0f} GB/s (fp32, one thread)"),
            ("python", self.facts["python"]),
            *((name, number or "not installed") for name, number in self.facts["packages"].items()),
            *(
                (f"plug-in {plugin['name']}", f"{plugin['group']}: {plugin['fault'] or 'loads'}")
                for plugin in self.facts["plugins"]
            ),
        ]
        table = Table(title="This machine", show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        yield table

    def to_json(self) -> dict[str, Any]:
        """``system``, ``processor``, ``memory``, ``torch``, ``packages``,
        ``plugins`` (``fault``: why one cannot be used) ... of here.
        """
        return dict(to_json_value(self.facts))


def doctor() -> Machine:
    """Show what this machine and installation can do.

    Devices, precision, memory counters, versions, and plug-ins.
    """
    return Machine({**describe_machine(), "plugins": check_plugins()})


def check_plugins() -> list[dict[str, str | None]]:
    """Every plug-in with its ``group`` and ``name``; ``fault``: why it cannot be used, or None."""
    groups: tuple[tuple[str, type[Any], Callable[[str], Any] | None], ...] = (
        (plugins.METHODS, methods.Method, methods.get),
        (plugins.TASKS, tasks.Task, tasks.get),
        (plugins.METRICS, metrics.Metric, metrics.get),
        (plugins.OBJECTIVES, objectives.Objective, objectives.get),
        (PROTOCOLS, Preset, load_preset),
        (plugins.PROPOSERS, Proposer, None),
        (REPORT_TABLES, ReportTable, None),
    )
    rows: list[dict[str, str | None]] = []
    for group, expected, get in groups:
        for name in plugins.names(group):
            fault = None
            try:
                value = plugins.load(group, name, expected)
                if get is not None and get(name) is not value:
                    fault = "paretune has one of this name and uses that"
            except PluginError as error:
                fault = str(error)
            rows.append({"group": group, "name": name, "fault": fault})
    return rows
