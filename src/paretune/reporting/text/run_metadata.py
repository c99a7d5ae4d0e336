"""What stands around the scores: failures, notes, the machines, the study with its defaults."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from paretune.analysis.cells import Cell
from paretune.reporting.text.formatting import join_names, pluralise
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.study import Study
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class Failure:
    """Runs of one cell and stage that ended without a score, with the same message."""

    where: str
    outcome: str
    runs: int
    message: str


def collect_failures(cells: Sequence[Cell]) -> Iterable[Failure]:
    """Runs that diverged, did not fit or stopped, counted by what they said."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for cell in cells:
        for record in (*cell.tuning, *cell.final, *cell.cost):
            if record.outcome in UNSCORED_OUTCOMES:
                where = f"{sanitise_line(' / '.join(record.run.cell))}, {record.run.stage}"
                said = record.message or "; ".join(record.result.get("notes", ()))
                seen[(where, record.outcome.replace("_", " "), sanitise_line(said))] += 1
    for (where, outcome, said), runs in seen.items():
        yield Failure(where, outcome, runs, said)


def collect_notes(cells: Sequence[Cell]) -> Iterable[str]:
    """What runs noted, and how many examples were cut."""
    said: Counter[str] = Counter()
    cut: dict[tuple[str, str], Counter[str]] = {}
    for cell in cells:
        for record in (*cell.tuning, *cell.final):
            if record.outcome not in UNSCORED_OUTCOMES:
                said.update(record.result.get("notes", ()))
            parts = {k: v for k, v in (record.result.get("truncated") or {}).items() if v}
            if parts:
                most = cut.setdefault((cell.task, cell.model), Counter())
                most |= Counter(parts)
                cut[(cell.task, cell.model)] = most
    for note, runs in said.most_common():
        yield sanitise_line(f"{note} ({pluralise(runs, 'run')})")
    for (task, model), parts_cut in cut.items():
        amounts = join_names([f"{count:,} {part}" for part, count in parts_cut.items()])
        yield sanitise_line(f"{task}, {model}: {amounts} examples were cut to the longest length.")


def collect_environment(records: Sequence[Record]) -> Iterable[tuple[str, str]]:
    """Every value that occurs, most frequent first: runs may come from several machines."""
    seen: dict[str, Counter[str]] = {}
    for record in records:
        for key, value in _flat(record.measured.get("environment") or {}):
            seen.setdefault(key, Counter())[value] += 1
    for key, values in sorted(seen.items()):
        yield (
            sanitise_line(key),
            sanitise_line("; ".join(value for value, _ in values.most_common())),
        )


def _flat(value: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    for key, item in value.items():
        name = f"{before}{key}"
        if isinstance(item, Mapping):
            yield from _flat(item, "" if key == "packages" else f"{name} ")
        elif item is not None:
            yield name, str(item)


def format_settings(study: Study) -> str:
    """The study as YAML, defaults included, absent settings left out.

    The paper's preset has every run's own seed, rate and training: those of the study's form are
    not used, so they are not shown.
    """
    out = io.StringIO()
    form = study.canonical_form()
    if study.overrides:
        out.write(f"# From the command line: {sanitise_line(' '.join(study.overrides))}\n")
    if study.protocol.preset == "paper":
        out.write("# Seed, rates and training are the preset's, for each run its own.\n")
        form["protocol"] = {name: form["protocol"].get(name) for name in ("preset", "as_run")}
        del form["training"]
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(_present(form), out)
    return out.getvalue()


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _present(item) for key, item in value.items() if item is not None}
    return [_present(item) for item in value] if isinstance(value, list) else value
