"""Writes build/performance.md from what the benchmarks left in bench/results.

    python bench/page.py

`make bench` runs them and this. A section stands for each benchmark whose files are there, and
says on what machine, when, and with which versions it was measured. No number is written by hand.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
INTRODUCTION = """
# Speed and memory

Written by `make bench` (`python bench/page.py`) from what was measured; ratios above 1 mean that
paretune is faster, or needs less. The other side is `transformers` with `peft`: (a) is the paper's
way, every text padded to 256 tokens in fp32; (b) is good practice: SDPA, dynamic padding, batches
grouped by length, bf16 autocast, dropout 0.1; (b-nd) is the same without dropout. Where a machine
gains nothing by bf16, both sides are measured in fp32 too (-fp32). Texts are random tokens with the
lengths of the tasks named; all sides see the same examples in the same effective batches. A speed
is told only where both sides train the same thing, in that precision: losses of 20 steps within
1e-5 in fp32, and in bf16 paretune's no farther from fp32 than autocast's, a factor of 1.25 being
chance.
"""


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """The files of one benchmark: ``steps.json``, ``steps-bert-base.json`` ..."""
    files = sorted([*folder.glob(f"{name}.json"), *folder.glob(f"{name}-*.json")])
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def page(folder: Path) -> str:
    """The whole page."""
    lines = INTRODUCTION.strip().splitlines()
    for name, section in SECTIONS.items():
        entries = read(folder, name)
        if entries:
            lines += ["", *section(entries)]
    return "\n".join(lines) + "\n"


def machine(entries: dict[str, Any]) -> str:
    """On what, when, with what."""
    versions = ", ".join(f"{name} {number}" for name, number in entries["versions"].items())
    flags = f" ({', '.join(entries['flags'])})" if entries["flags"] else ""
    threads = f", {entries['threads']} thread(s)" if "threads" in entries else ""
    return (
        f"{entries['processor']}{flags}, {entries['cores']} cores, "
        f"{entries['memory_bytes'] / 2**30:.0f} GiB{threads}, {entries['rounds']} round(s), "
        f"{entries['date']}; {versions}."
    )


def format_quartiles(value: list[float], digits: int = 2) -> str:
    """``1.52 [1.36, 1.65]``."""
    middle, low, high = (f"{v:.{digits}f}" for v in value)
    return f"{middle} [{low}, {high}]"


def steps(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Step speed."""
    yield "## Steps"
    yield ""
    yield "`bench/steps.py`: medians of rounds in turn in one process, with quartiles. The bound is"
    yield "what the products with the backbone's layers would take (forward, inputs' gradients, and"
    yield "weights' in full fine-tuning) at the machine's peak in the side's precision."
    yield ""
    for one in entries:
        yield from ["", machine(one), ""]
        names = list(dict.fromkeys(n for case in one["cases"] for n in case.get("sides", {})))
        yield f"| examples/s | {' | '.join(names)} | paretune / its like | fastest / fastest |"
        yield f"|---|{'---|' * len(names)}---|---|"
        for case in one["cases"]:
            label = f"{case['model']}, {case['task']}, {case['method']}"
            if "sides" not in case:
                why = case.get("left_out", "the gate failed: no ratio")
                yield f"| {label} | {' | '.join([''] * len(names))} | {why} | |"
                continue
            speeds = [
                f"{case['sides'][n]['examples_per_second'][0]:.1f}" if n in case["sides"] else ""
                for n in names
            ]
            like = [
                f"{format_quartiles(medians['ratio'])} {pair}"
                for pair, medians in case["ratios"].items()
                if pair != "fastest / fastest"
            ]
            best = case["ratios"].get("fastest / fastest")
            ends = (
                f"{format_quartiles(best['ratio'])} ({best['theirs']}, {best['ours']})"
                if best
                else ""
            )
            yield f"| {label} | {' | '.join(speeds)} | {'; '.join(like)} | {ends} |"
        yield ""
        yield "| share of the bound, % | " + " | ".join(names) + " | peak GFLOP/s, fp32 and bf16 |"
        yield f"|---|{'---|' * len(names)}---|"
        for case in one["cases"]:
            if "sides" in case:
                shares = [
                    f"{100 * case['sides'][n]['share_of_bound'][0]:.0f}"
                    if n in case["sides"]
                    else ""
                    for n in names
                ]
                peak = case["peak_flop_per_second"]
                label = f"{case['model']}, {case['task']}, {case['method']}"
                rates = f"{peak['fp32'] / 1e9:.0f}, {peak['bf16'] / 1e9:.0f}"
                yield f"| {label} | {' | '.join(shares)} | {rates} |"
        yield ""
        yield "| gate | passed | fp32 losses apart | bf16 from fp32: autocast | paretune |"
        yield "|---|---|---|---|---|"
        for case in one["cases"]:
            if "gate" in case:
                gate = case["gate"]
                far = gate.get("bf16_from_fp32")
                halves = f"{far['field']:.1e} | {far['paretune']:.1e}" if far else "not timed | "
                ends = ", ".join(
                    f"{name} {'yes' if ok else 'NO'}" for name, ok in gate["passed"].items()
                )
                yield (
                    f"| {case['model']}, {case['task']}, {case['method']} | {ends} | "
                    f"{gate['fp32_apart']:.0e} | {halves} |"
                )


def profiled(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Where the time goes."""
    yield "## Where a step's time goes"
    yield ""
    yield "`bench/profile_steps.py`: shares of the operations' own time under torch's profiler, %."
    yield "Where products with the layers take the share p of paretune's step, nothing that is done"
    yield "about the rest makes it more than 1 / p times as fast."
    for one in entries:
        yield from ["", machine(one)]
        for case in one["cases"]:
            names = list(case["shares"])
            kinds = dict.fromkeys(kind for medians in case["shares"].values() for kind in medians)
            yield from ["", f"| {case['model']}, {case['task']}, {case['method']} | "
                        f"{' | '.join(names)} |", f"|---|{'---|' * len(names)}"]  # fmt: skip
            for kind in kinds:
                cells = (f"{100 * case['shares'][name].get(kind, 0.0):.0f}" for name in names)
                yield f"| {kind} | {' | '.join(cells)} |"


def adapters_table(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The library `adapters`."""
    yield "## Beside the library `adapters`"
    yield ""
    yield "`bench/adapters_steps.py`: it pins an older transformers, so it trains in a process of"
    yield "its own environment, in turn with paretune, on the same examples from the same weights"
    yield "and head. Both train equally many numbers; losses before the first step are within 1e-5,"
    yield "but for prefixes, which are drawn."
    for one in entries:
        yield from ["", machine(one)]
        first = next(case["versions"] for case in one["cases"])
        yield f"The other side: {', '.join(f'{name} {number}' for name, number in first.items())}."
        yield from ["", "| examples/s | dropout | adapters | paretune | adapters / paretune |"]
        yield "|---|---|---|---|---|"
        for case in one["cases"]:
            label = f"{case['model']}, {case['task']}, {case['method']}"
            dropout = "0" if "-nd" in case["variant"] else "0.1"
            if "ratio" not in case:
                yield f"| {label} | {dropout} | | | the sides differ: no ratio |"
                continue
            speeds = case["examples_per_second"]
            yield (
                f"| {label} | {dropout} | {speeds['adapters'][0]:.1f} | "
                f"{speeds['paretune'][0]:.1f} | {format_quartiles(case['ratio'])} |"
            )


def cached_activations(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Activations that are computed once."""
    yield "## Activations that never change"
    yield ""
    yield "`bench/trunk.py`: methods confined to the top quarter of the layers (of six: two), and"
    yield "the head alone, without dropout: examples a second in every epoch but the first, when"
    yield "what enters the lowest trained layer is read from disk. Keeping takes the steps named,"
    yield "once for a task and a model. Losses of 20 steps in fp32 are within 1e-5 of the field's."
    for one in entries:
        yield from ["", machine(one), ""]
        names = list(
            dict.fromkeys(n for c in one["cases"] for n in c.get("examples_per_second", {}))
        )
        yield (
            f"| examples/s | {' | '.join(names)} | field / kept | field / without the cache | "
            "keeping, in the field's steps (an epoch) |"
        )
        yield f"|---|{'---|' * len(names)}---|---|---|"
        for case in one["cases"]:
            where = f"top {case['top']} of {case['layers']}" if case["top"] else "head alone"
            label = f"{case['model']}, {case['task']}, {case['method']}, {where}"
            if "ratio" not in case:
                yield f"| {label} | {' | '.join([''] * len(names))} | the losses differ | | |"
                continue
            speeds = [f"{case['examples_per_second'][n][0]:.1f}" for n in names]
            yield (
                f"| {label} | {' | '.join(speeds)} | {format_quartiles(case['ratio'])} "
                f"{case['field']} | "
                f"{format_quartiles(case['ratio_without_cache'])} | {case['keeping_steps']:.0f} "
                f"({case['steps_of_an_epoch']:.0f}) |"
            )


def two(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Processes beside each other."""
    yield "## Two processes with one thread each"
    yield ""
    yield "`bench/two_processes.py`: examples a second of all processes together, in lock-step."
    for one in entries:
        yield from ["", machine(one)]
        for case in one["cases"]:
            yield from ["", f"{case['model']}, {case['task']}, {case['method']}:", ""]
            yield from ["| | examples/s |", "|---|---|"]
            for name, value in case["examples_per_second"].items():
                yield f"| {name} | {format_quartiles(value, 1)} |"
            yield ""
            for name, value in case["ratios"].items():
                yield f"- {name}: {format_quartiles(value)}"


def memory(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Peak memory."""
    yield "## Peak memory"
    yield ""
    yield "`bench/peak_memory.py`: a fresh process for each, the longest batch first, MiB of the"
    yield "resident set at its highest (what is over the imports in brackets)."
    for one in entries:
        yield from ["", machine(one), ""]
        names = list(dict.fromkeys(n for case in one["cases"] for n in case.get("sides", {})))
        yield f"| MiB | {' | '.join(names)} | ratios over the imports |"
        yield f"|---|{'---|' * len(names)}---|"
        for case in one["cases"]:
            cells = []
            for name in names:
                row = case.get("sides", {}).get(name)
                if row is None:
                    cells.append("")
                    continue
                over = statistics.median(row["over_imports"]) / 2**20
                cells.append(f"{row['peak'] / 2**20:.0f} ({over:.0f})")
            ratios = "; ".join(f"{n}: {v:.2f}" for n, v in case.get("ratios", {}).items())
            label = f"{case['model']}, {case['task']}, {case['method']}"
            yield f"| {label} | {' | '.join(cells)} | {case.get('left_out', ratios)} |"


def fleet(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Runs together."""
    yield "## Fleets"
    yield ""
    yield "`bench/fleet.py`: MiB of the resident set at its highest (over imports in brackets) of"
    yield "a fleet, of one of its runs alone, and of one run by hand, each in a fresh process;"
    yield "and how many times as long the same runs take one after another."
    for one in entries:
        yield from ["", machine(one), ""]
        yield "| case | runs | precision | fleet | alone | by hand | fleet / by hand | time |"
        yield "|---|---|---|---|---|---|---|---|"
        for case in one["cases"]:
            peaks = [
                f"{row['peak'] / 2**20:.0f} ({(row['peak'] - row['imports']) / 2**20:.0f})"
                for row in (case["peak_bytes"][n] for n in ("fleet", "alone", "by_hand"))
            ]
            over = case["ratio_over_imports"]
            yield (
                f"| {case['model']}, {case['task']}, {case['method']} | {case['runs']} | "
                f"{case['precision']} | {' | '.join(peaks)} | {case['ratio_of_peaks']:.2f} "
                f"({over:.2f}) | {format_quartiles(case['alone / fleet'])} |"
            )


def loha(entries: list[dict[str, Any]]) -> Iterator[str]:
    """One projection."""
    yield "## LoHa"
    yield ""
    yield "`bench/loha_extra.py`: extra milliseconds of one projection over its frozen layer,"
    yield "forward and backward."
    for one in entries:
        yield from ["", machine(one), ""]
        yield "| | layer alone | PEFT LoHa | paretune LoHa | PEFT LoRA | PEFT / paretune |"
        yield "|---|---|---|---|---|---|"
        for case in one["cases"]:
            extra = case["extra_seconds"]
            times = [case["layer_seconds"], *(extra[n] for n in
                     ("peft LoHa", "paretune LoHa", "peft LoRA"))]  # fmt: skip
            shown_cells = " | ".join(
                format_quartiles([1e3 * v for v in value], 1) for value in times
            )
            yield (
                f"| width {case['width']}, rank {case['rank']}, {case['tokens']} tokens, "
                f"{case['precision']} | {shown_cells} | {format_quartiles(case['ratio'])} |"
            )


def study(entries: list[dict[str, Any]]) -> Iterator[str]:
    """A whole study."""
    yield "## A whole study"
    yield ""
    yield "`bench/whole_study.py`: the same study by hand (a plain loop in good practice, one"
    yield "process for each core, the model opened for every run) and by `paretune run`, which also"
    yield "fits the baselines and measures what every method costs, alone. Prefix tuning"
    yield "is left out: PEFT's does not run on encoders in transformers 5. Accuracies are told with"
    yield "test rows x seeds, differences with 95 % intervals over rows and seeds, both drawn anew."
    for one in entries:
        yield from ["", f"{one['workers']} processes; {machine(one)}"]
        for case in one["cases"]:
            hand, own = (
                statistics.median(case[f"seconds_by_{who}"]) for who in ("hand", "paretune")
            )
            race = case["protocol"].get("race", "off")
            raced, same = ("", "the same runs")
            if race != "off":
                raced, same = f" (race: {race})", "the runs of either side"
            yield ""
            yield (
                f"{case['model']}, {case['training']['max_steps']} steps of "
                f"{case['training']['batch_size']}, {case['runs_by_hand']} runs by hand, "
                f"{case['precision']}: by hand {hand:.0f} s, paretune{raced} {own:.0f} s in all: "
                f"{format_quartiles(case['ratio'])}. The seconds of {same} alone: "
                f"{format_quartiles(case['ratio_same_runs'])}. paretune's runs, all processes "
                f"together: "
                + ", ".join(f"{n} {s:.0f} s" for n, s in case["seconds_of_paretune"][-1].items())
                + "."
            )
            yield ""
            seeds = len(case["protocol"]["seeds"])
            yield f"| accuracy, {case['test_rows']} x {seeds} | by hand | paretune | difference |"
            yield "|---|---|---|---|"
            for cell in case["cells"]:
                if "difference" in cell:
                    middle, low, high = cell["difference"]
                    yield (
                        f"| {cell['task']}, {cell['method']} | {cell['by_hand']:.2f} | "
                        f"{cell['paretune']:.2f} | {middle:+.2f} [{low:+.2f}, {high:+.2f}]"
                        f"{'' if cell['equal'] else ' not equal'} |"
                    )
                else:
                    yield f"| {cell['task']}, {cell['method']} | | | {cell['left_out']} |"


SECTIONS = {
    "steps": steps,
    "profile": profiled,
    "adapters": adapters_table,
    "trunk": cached_activations,
    "two": two,
    "memory": memory,
    "fleet": fleet,
    "loha": loha,
    "study": study,
}
"""In the order of the page, by the names of their files."""


def main(arguments: list[str] | None = None) -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=ROOT / "build" / "performance.md")
    options = parser.parse_args(arguments)
    if not any(read(options.results, name) for name in SECTIONS):
        raise SystemExit(f"nothing was measured yet: {options.results} has no results")
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(options.results), encoding="utf-8")
    print(f"{options.page} is written")


if __name__ == "__main__":
    main()
