"""The figure of the page of benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {False: "#8a9097", True: "#0072b2"}
"""The other side's bars, and ours."""


def figure(results: list[dict[str, Any]], path: Path) -> None:
    """Examples a second of each side in small panels, with the bound at the faster precision."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    cases = [case for one in results for case in one["cases"] if "sides" in case]
    if not cases:
        return
    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    drawn, panels = pyplot.subplots(
        rows, columns, figsize=(3.6 * columns, 0.5 + 2.2 * rows), squeeze=False
    )
    for panel, case in zip(panels.flat, cases, strict=False):
        names = list(case["sides"])[::-1]
        speeds = [case["sides"][n]["examples_per_second"] for n in names]
        middles = [middle for middle, _, _ in speeds]
        spread = [[m - low for m, low, _ in speeds], [high - m for m, _, high in speeds]]
        peak = max(case["peak_flop_per_second"].values())
        colours = [COLOURS[name.startswith("ours")] for name in names]
        panel.barh(names, middles, xerr=spread, color=colours, ecolor="#333333", height=0.7)
        panel.axvline(case["examples"] * peak / case["linear_flop"], color="#333333", ls=":")
        panel.set_title(f"{case['model']}, {case['task']}, {case['method']}", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.flat)[len(cases) :]:
        panel.set_visible(False)
    drawn.supxlabel("examples/s; dotted: the bound", fontsize=9)
    drawn.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(drawn)
