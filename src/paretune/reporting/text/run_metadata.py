"""Metadata of the runs: failures, notes, environment, and the study with its defaults."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from paretune.analysis.cell import Cell
from paretune.reporting.document import Failure
from paretune.reporting.text.formatting import join_names
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.study import Study
from paretune.study.presets import load_preset
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


def collect_failures(cells: Sequence[Cell]) -> Iterable[Failure]:
    """Runs that diverged, ran out of memory or stopped with an error, counted by message."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for cell in cells:
        for record in (*cell.tuning, *cell.final, *cell.cost):
            if record.outcome in UNSCORED_OUTCOMES:
                where = f"{sanitise_line(' / '.join(record.run.cell))}, {record.run.stage}"
                message = record.message or "; ".join(record.result.get("notes", ()))
                outcome = record.outcome.replace("_", " ")
                counts[where, outcome, sanitise_line(message)] += 1
    for (where, outcome, message), runs in counts.items():
        yield Failure(where=where, outcome=outcome, runs=runs, message=message)


def collect_notes(cells: Sequence[Cell]) -> Iterable[str]:
    """Notes of the runs, and how many examples were truncated."""
    notes: Counter[str] = Counter()
    truncated: dict[tuple[str, str], Counter[str]] = {}
    for cell in cells:
        for record in (*cell.tuning, *cell.final):
            if record.outcome not in UNSCORED_OUTCOMES:
                notes.update(record.result.get("notes", ()))
            parts = {k: v for k, v in (record.result.get("truncated") or {}).items() if v}
            if parts:
                most = truncated.setdefault((cell.task, cell.model), Counter())
                most |= Counter(parts)
                truncated[(cell.task, cell.model)] = most
    for note, runs in notes.most_common():
        yield sanitise_line(f"{note} ({pluralise(runs, 'run')})")
    for (task, model), parts in truncated.items():
        amounts = join_names([f"{count:,} {part}" for part, count in parts.items()])
        yield sanitise_line(
            f"{task}, {model}: {amounts} examples were truncated to the maximum length."
        )


def collect_environment(records: Sequence[Record]) -> Iterable[tuple[str, str]]:
    """Every value that occurs, most frequent first: runs may come from several machines."""
    values_by_key: dict[str, Counter[str]] = {}
    for record in records:
        for key, value in _flatten(record.measured.get("environment") or {}):
            values_by_key.setdefault(key, Counter())[value] += 1
    for key, values in sorted(values_by_key.items()):
        yield (
            sanitise_line(key),
            sanitise_line("; ".join(value for value, _ in values.most_common())),
        )


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from _flatten(item, "" if key == "packages" else f"{name} ")
        elif item is not None:
            yield name, str(item)


def format_settings(study: Study) -> str:
    """The study as YAML, defaults included, absent settings left out.

    A preset has its own seed, rate and training options for each run: those of the study are not
    used, so they are left out.
    """
    out = io.StringIO()
    form = study.canonical_form()
    if study.overrides:
        out.write(f"# From the command line: {sanitise_line(' '.join(study.overrides))}\n")
    if (preset := load_preset(study.protocol.preset)) is not None:
        out.write("# Seed, rates and training are the preset's, for each run its own.\n")
        form["protocol"] = {name: form["protocol"].get(name) for name in preset.protocol_keys}
        del form["training"]
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(_drop_absent(form), out)
    return out.getvalue()


def _drop_absent(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_absent(item) for key, item in value.items() if item is not None}
    return [_drop_absent(item) for item in value] if isinstance(value, list) else value
