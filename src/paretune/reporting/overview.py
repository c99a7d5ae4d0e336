"""What a report says of the study as a whole: its sentence, signs, health, runs and settings."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.learning_rates import find_primary_metric
from paretune.data.finding import Finding
from paretune.methods.baselines import WITH_MODEL
from paretune.methods.core.titles import title_of
from paretune.reporting.document import (
    FINAL_RUNS,
    Failure,
    HealthItem,
    StudyReport,
    TaskReport,
    list_rows,
    name_rivals,
)
from paretune.reporting.text.formatting import format_bytes, format_parameters, join_names
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.study import UNNAMED_MODEL, Study
from paretune.study.presets import load_preset
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

SIGNS = {
    "▲": "better than every {rival}",
    "≈": "undecided against {a_rival}",
    "▼": "worse than {a_rival}",
    "*": "the one to take",
    "c": "at least half of the seeds give every example the same answer",
    "–": "memory not measured",
    "~": "predicted, not measured",
}
_MOST_NAMED = 4
"""Of more tasks than this the sentence gives the number, not the names."""


def explain_signs(tasks: Sequence[TaskReport]) -> dict[str, str]:
    """Return the signs that occur in the first table, with their meanings."""
    present = {sign for task in tasks for cell in task.cells for sign in cell.signs}
    rows = list_rows(tasks)
    memory = [row.memory for row in rows] if any(row.memory for row in rows) else []
    present |= {*memory, *(text[:1] for text in memory)}
    signs = name_rivals(SIGNS, tasks)
    lost = any(
        "▲" in cell.signs and cell.verdict and cell.verdict.of_trained
        for task in tasks
        for cell in task.cells
    )
    return {
        sign: f"{text}, of runs that trained" if sign == "▲" and lost else text
        for sign, text in signs.items()
        if sign in present
    }


def write_sentence(tasks: Sequence[TaskReport]) -> str:
    """Write the result of the study over all its tasks in one sentence."""
    if len(tasks) == 1:
        return tasks[0].advice.lead.text if tasks[0].advice else ""
    by_kind: dict[str, list[TaskReport]] = {}
    for task in tasks:
        if task.advice is not None:
            kind = task.advice.kind if any(cell.score for cell in task.cells) else ""
            by_kind.setdefault(kind, []).append(task)
    clauses = []
    if of_kind := by_kind.get("method"):
        verdicts = [cell.verdict for task in of_kind for cell in task.cells if "*" in cell.signs]
        failed = any(verdict and verdict.of_trained for verdict in verdicts)
        condition = ", of runs that trained" if failed else ""
        clauses.append(
            f"take {_join_recommended(of_kind)}: proven better than every "
            f"{of_kind[0].rival}{condition}"
        )
    if of_kind := by_kind.get("guess"):
        clauses.append(f"the best guess is {_join_recommended(of_kind)}: not proven")
    for kind, clause in (
        ("baseline", "no method scores above the baselines on"),
        ("none", "nothing can be recommended on"),
        ("", "no score yet on"),
    ):
        if of_kind := by_kind.get(kind):
            clauses.append(f"{clause} {_join_tasks(of_kind)}")
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _join_recommended(tasks: Sequence[TaskReport]) -> str:
    """``LoRA on a and b, full fine-tuning on c``."""
    by_title: dict[str, list[TaskReport]] = {}
    for task in tasks:
        for cell in task.cells:
            if "*" in cell.signs:
                by_title.setdefault(cell.title, []).append(task)
    return ", ".join(f"{title} on {_join_tasks(of_title)}" for title, of_title in by_title.items())


def _join_tasks(tasks: Sequence[TaskReport]) -> str:
    if len(tasks) > _MOST_NAMED:
        return f"{len(tasks)} tasks"
    return join_names([task.key for task in tasks])


def check_health(
    study: StudyReport, tasks: Sequence[TaskReport], findings: Sequence[Finding]
) -> Iterable[HealthItem]:
    """Count what ended, failed or is missing; counts that need attention have an alarm."""
    cells = [cell for task in tasks for cell in task.cells]
    trained = [cell for cell in cells if not cell.baseline or cell.name in WITH_MODEL]
    going_on = study.waiting > 0 or not all(cell.finished for cell in cells)
    # How many there will be is not known before the last trial has chosen its rate.
    scheduled = f", {study.waiting:,} scheduled" if study.waiting else ""
    finished = f"{study.runs:,} so far{scheduled}, more may follow"
    text = finished if going_on else f"{study.runs:,} of {study.runs:,}"
    if study.judged:
        yield HealthItem(title="runs judged", text=f"{study.runs:,}")
    else:
        yield HealthItem(title="runs finished", text=text, alarm=going_on)
    runs = sum(len(cell.runs) for cell in trained)
    endings: dict[str, Sequence[str]] = {"constant": ("collapsed",)}
    if not study.judged:  # what was trained elsewhere and failed is not known
        endings |= {"diverged": ("diverged",), "failed": UNSCORED_OUTCOMES[1:]}
    for ended, outcomes in endings.items():
        count = sum(cell.outcomes.get(outcome, 0) for cell in trained for outcome in outcomes)
        yield HealthItem(
            title=f"{ended}{FINAL_RUNS}", text=f"{count:,} of {runs:,}", alarm=count > 0
        )
    tuned = [cell for cell in trained if len(cell.tried) > 1]
    if tuned:
        edge = sum(bool(cell.rate_edge) for cell in tuned)
        text = "inside the range tried"
        if edge:
            methods = pluralise(len(tuned), "method")
            text = f"the lowest or highest tried, for {edge:,} of {methods}"
        yield HealthItem(title="best learning rate", text=text, alarm=edge > 0)
    elif any(c.rate for c in trained) and study.settings["protocol"]["preset"] == "passes":
        doubted = sum(bool(cell.rate_reason) for cell in trained)
        text = "the middle one of each list, with no evidence against it"
        if doubted:
            methods = pluralise(len([c for c in trained if c.rate]), "method")
            text = f"evidence asks for further ones, for {doubted:,} of {methods}"
        yield HealthItem(title="learning rates", text=text, alarm=doubted > 0)
    elif any(cell.rate for cell in trained):
        yield HealthItem(title="learning rates", text="only one tried, so a better one may exist")
    measured = [measurement for cell in cells for measurement in cell.costs]
    doubtful = sum(
        bool((m.get("step_seconds") or {}).get("timed_out") or m.get("contradicted"))
        for m in measured
    )
    if doubtful:
        text = f"{doubtful} of {len(measured)}"
        yield HealthItem(
            title="step times that a busy machine may have distorted", text=text, alarm=True
        )
    counts = Counter(finding.severity for finding in findings)
    if urgent := [pluralise(counts[s], s) for s in ("error", "warning") if counts[s]]:
        yield HealthItem(title="data", text=join_names(urgent), alarm=True)


def list_facts(
    study: StudyReport, tasks: Sequence[TaskReport], environment: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """List model, machine and date, by title."""
    sizes = {size.model: size for task in reversed(tasks) for size in task.model_sizes}
    models = dict.fromkeys(cell.model for task in tasks for cell in task.cells if cell.model)
    names = [
        f"{name} ({format_parameters(sizes[name].parameters)} parameters)"
        if name in sizes
        else name
        for name in models
    ]
    if names != [UNNAMED_MODEL.key]:
        yield "model" if len(names) == 1 else "models", join_names(names)
    machine = [
        environment.get("device_name") or environment.get("processor"),
        environment.get("device"),
    ]
    if described := [text for text in machine if text]:
        yield "machine", ", ".join(described)
    if study.date:
        yield "date", study.date


def collect_failures(cells: Sequence[Cell]) -> Iterable[Failure]:
    """Count runs that diverged, ran out of memory or stopped with an error, by message."""
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


SEEDS, EXAMPLES = 10, 100
"""With as many seeds and examples, coverage was at least 93 % in every simulated study."""


def collect_notes(study: Study, cells: Sequence[Cell]) -> Iterable[str]:
    """Collect notes on metrics and intervals, notes of the runs, and truncated examples."""
    for task in study.tasks:
        of_task = [cell for cell in cells if cell.task == task.key]
        recorded = find_primary_metric([r for c in of_task for r in (*c.final, *c.tuning)])
        if recorded is None and any(cell.run_scores for cell in of_task):
            yield (
                f"{task.key}: the report does not know the primary score of the records; "
                f"{metrics.get(of_task[0].metric).title} is shown."
            )
    # Where intervals may be too narrow: one sentence for each reason that some score gives.
    scored = [(cell, cell.interval) for cell in cells if cell.interval is not None]
    few = {
        i.n_seeds for _, i in scored if 1 < i.n_seeds < SEEDS and not i.design.is_cross_validation
    }
    if few:
        counts = join_names([str(count) for count in sorted(few)], "or")
        yield (
            f"Intervals over {counts} seeds cover the true score in at least 93 % of simulated "
            "studies where seeds scatter around their mean. Where a method succeeds with most "
            "seeds and fails with some, few seeds may show only one kind, and coverage is lower."
        )
    small = {
        cell.run_scores.units
        for cell, i in scored
        if i.examples_only and cell.run_scores and cell.objective.predicts_labels
    }
    if small and min(small) < EXAMPLES:
        yield (
            f"Scores of one run on {min(small)} examples: 95 % is the coverage averaged over true "
            "scores. A proportion of so few examples takes few values, and for some true scores "
            "coverage is only 90 to 93 %."
        )
    # What runs noted, most often first.
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
    for cell in cells:
        described = [r.result["word_tables"] for r in cell.cost if "word_tables" in r.result]
        for tables in described[-1:]:
            yield sanitise_line(
                f"{cell.task}, {cell.model}: {title_of(cell.method)} was measured with gradients "
                f"and moments of {tables['trained_rows']:,} of {tables['rows']:,} word embeddings, "
                "those that occur in the texts of train; of all of them it takes "
                f"{format_bytes(tables['spared_bytes'])} more."
            )
    for (key, model), parts in truncated.items():
        amounts = join_names([f"{count:,} {part}" for part, count in parts.items()])
        yield sanitise_line(
            f"{key}, {model}: {amounts} examples were truncated to the maximum length."
        )


def collect_environment(records: Sequence[Record]) -> Iterable[tuple[str, str]]:
    """Collect every value that occurs, most frequent first: runs may come from several machines."""
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
    """Write the study as YAML, with defaults and without absent settings.

    A preset has its own seed, rate and training options for each run: those of the study are not
    used, so they are left out. What was trained elsewhere has no settings here.
    """
    if study.is_judged:
        return ""
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
