"""How often the package's verdicts hold: simulated and replayed studies, and the page of them.

    python bench/calibration.py measure                          (hours on one core: --share 0.2)
    python bench/calibration.py page                             prints the page of the site

``measure`` asks the code that is on PYTHONPATH, so an older commit can be measured by the same
bench. It goes on where it stopped: scenarios that FILE holds are not simulated again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from verdicts.page import write_page
from verdicts.scenarios import Scenario, list_scenarios
from verdicts.simulate import simulate

RESULTS = Path(__file__).parent / "calibration"
BEFORE_COMMIT = "af5cf86"


def measure(file: Path, share: float, scenarios: list[Scenario]) -> None:
    """Simulate what ``file`` does not hold yet, and save after each scenario."""
    results = json.loads(file.read_text()) if file.exists() else {}
    for scenario in scenarios:
        if scenario.name in results:
            continue
        began = time.process_time()
        results[scenario.name] = simulate(scenario, max(1, round(share * scenario.studies)))
        file.write_text(json.dumps(results, indent=1, sort_keys=True))
        print(f"{scenario.name}: {time.process_time() - began:.0f} s", flush=True)


def make_page() -> str:
    """The page, from the results that are kept."""
    files = [RESULTS / f"{name}.json" for name in ("before", "after")]
    before, after = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    template = (RESULTS / "page.md").read_text(encoding="utf-8")
    return write_page(template, before, after, BEFORE_COMMIT)


def main(arguments: list[str] | None = None) -> None:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--json", type=Path, default=RESULTS / "after.json")
    measuring.add_argument("--share", type=float, default=1.0, help="of the studies")
    measuring.add_argument("--only", default="", help="scenarios whose name contains this")
    measuring.add_argument("--split-only", action="store_true", help="no cross-validation")
    verbs.add_parser("page")
    options = parser.parse_args(arguments)
    if options.verb == "page":
        print(make_page())
        return
    scenarios = [
        scenario
        for scenario in list_scenarios()
        if options.only in scenario.name and not (options.split_only and scenario.design.folds)
    ]
    measure(options.json, options.share, scenarios)


if __name__ == "__main__":
    main()
