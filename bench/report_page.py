"""How long a report's page takes: a study of more than a thousand runs, with made-up answers.

Processor seconds of all threads (what the clock shows on an idle machine, or more) beside the
clock's own. The records and what draws the front, kept on the machine from its first page on, are
made before. `tests/reporting/html/test_page.py` holds the page's size and how often scores are
resampled.

    python bench/report_page.py
    python bench/report_page.py --tasks 20 --rounds 9 --json page.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
GOAL_SECONDS = 3.0
"""What a page of a thousand runs may take on two cores."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The page of one study, several times."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    from support import fake_records
    from turns import quartiles

    from paretune.reporting.build import build_report
    from paretune.reporting.page import load_vega, write_page

    study = fake_records.large(options.tasks)
    records = fake_records.whole(study)
    load_vega()
    processor, clock = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            began = time.process_time(), time.perf_counter()
            page = write_page(build_report(study, records), Path(folder) / "page.html")
            processor.append(time.process_time() - began[0])
            clock.append(time.perf_counter() - began[1])
        size = page.stat().st_size
    return {
        "runs": len(records),
        "tasks": options.tasks,
        "page_bytes": size,
        "processor_seconds": quartiles(processor),
        "wall_seconds": quartiles(clock),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    from turns import about, format_quartiles, save

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    case = measure(options)
    print(f"a page of {case['runs']} runs, {case['page_bytes'] / 2**20:.1f} MiB, median of "
          f"{options.rounds} (goal: {GOAL_SECONDS:.0f} s)")  # fmt: skip
    print(f"  processor: {format_quartiles(case['processor_seconds'])} s")
    print(f"  clock:     {format_quartiles(case['wall_seconds'])} s")
    save(about(rounds=options.rounds, cases=[case]), options.json)


if __name__ == "__main__":
    main()
