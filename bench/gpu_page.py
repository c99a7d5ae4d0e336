"""What `make gpu` found, as lines for the terminal and as one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from turns import format_quartiles

TITLES = {
    "field": "transformers + peft",
    "ours": "paretune",
}
MIB = 1 << 20
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ccc;
text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;background:#f4f4f4;padding:.6em}"""


def summarise(results: Mapping[str, Any]) -> list[str]:
    """A few lines: the tests, and how many times as fast as the field each side is."""
    tests = results["tests"]
    counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(tests["outcomes"].items()))
    lines = [f"tests on {results['device']}: {counts or 'none'} in {tests['seconds']:.0f} s"]
    lines += [f"  failed: {one['test']}: {one['message'][:120]}" for one in tests["failed"]]
    lines += [f"  {tests['stopped']}"] if tests["stopped"] else []
    for one in results.get("steps", ()):
        name = f"{one['model']} {one['method']} {one['precision']}"
        if "failed" in one:
            lines.append(f"{name}: {one['failed'].strip().splitlines()[-1]}")
            continue
        ratios = ", ".join(f"{s} {format_quartiles(r)}" for s, r in one["ratio"].items())
        lines.append(f"{name}: field / side, a step of a run: {ratios}")
    memory = results.get("memory", ())
    measured = sum("failed" not in one for one in memory)
    lines.append(f"memory: {measured} of {len(memory)} sides measured")
    if "seconds" in results:
        lines.append(f"all: {results['seconds']} s")
    return lines


def render(results: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>paretune on {escape(results['device'])}"
        f"</title><style>{STYLE}</style><h1>paretune on {escape(results['device'])}</h1>",
        _paragraph(_describe_machine(results)),
        "<h2>Tests</h2>",
        *_tests(results["tests"]),
    ]
    if results.get("steps"):
        parts += ["<h2>Training steps</h2>", _paragraph(STEPS_NOTE), _steps(results["steps"])]
    if results.get("memory"):
        parts += ["<h2>Memory</h2>", _paragraph(MEMORY_NOTE), _memory(results["memory"])]
    failed = [m for part in ("steps", "memory") for m in results.get(part, ()) if "failed" in m]
    if failed:
        parts.append("<h2>Not measured</h2>")
        for one in failed:
            side = TITLES[one["side"]] if "side" in one else "steps"
            name = f"{one['model']}, {one['method']}, {one['precision']}: {side}"
            parts.append(f"<p>{escape(name)}</p><pre>{escape(one['failed'])}</pre>")
    return "\n".join(parts) + "\n"


STEPS_NOTE = (
    "Milliseconds of an optimizer step of one run, median and quartiles of rounds; both sides in "
    "turn in one process, the same batches, dropout 0.1. The ratio is that of transformers with "
    "peft to the side: above 1 the side is faster."
)
MEMORY_NOTE = (
    "Peaks in MiB, each side in a fresh process. On a GPU: allocated, above what was allocated "
    "before the model was opened (what paretune reports), reserved by torch's allocator, and what "
    "NVML says that the process holds, the CUDA context included: the number that nvidia-smi "
    "shows, and that the paper read. On a CPU: the resident set, above the libraries."
)


def _describe_machine(results: Mapping[str, Any]) -> str:
    devices = results["machine"]["torch"]["devices"]
    names = ", ".join(
        f"{d['device']}: {d['name']} ({d['memory'] / 2**30:.0f} GiB)" for d in devices
    )
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    tiny = " A toy model: this tries the program, and says nothing of speed." * results["tiny"]
    return f"{results['date']}. {names}. Python {results['python']}, {versions}.{tiny}"


def _tests(tests: Mapping[str, Any]) -> Iterable[str]:
    counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(tests["outcomes"].items()))
    yield _paragraph(f"{counts or 'none ran'}; {tests['seconds']:.0f} s.")
    if tests["failed"]:
        yield _table(("test", "message"), [(f["test"], f["message"]) for f in tests["failed"]])
    if tests["stopped"]:
        yield f"<pre>{escape(tests['stopped'])}</pre>"


def _steps(measured: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["model"],
            one["method"],
            one["precision"],
            TITLES[side],
            format_quartiles(ms, 1),
            format_quartiles(one["ratio"][side]) if side in one["ratio"] else "",
        )
        for one in measured
        if "failed" not in one
        for side, ms in one["ms"].items()
    ]
    return _table(("model", "method", "precision", "side", "ms", "ratio"), rows)


def _memory(measured: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in measured:
        if "failed" in one:
            continue
        for phase, peaks in one["phases"].items():
            keys = ("peak_bytes", "reserved_peak_bytes", "process_bytes")
            sizes = [f"{peaks[k] / MIB:.1f}" if k in peaks else "" for k in keys]
            case = (one["model"], one["method"], one["precision"], TITLES[one["side"]], phase)
            rows.append((*case, *sizes))
    head = ("model", "method", "precision", "side", "phase", "peak", "reserved", "process (NVML)")
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' * (tag == 'td' and cell[:1].isdigit())}>{escape(cell)}</{tag}>"
            for cell in row
        )

    lines = [f"<tr>{cells('th', head)}</tr>", *(f"<tr>{cells('td', row)}</tr>" for row in rows)]
    return "<table>" + "\n".join(lines) + "</table>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
