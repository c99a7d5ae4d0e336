"""The paper's conclusions with their verdicts, as one HTML page in the report's own style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from paretune.analysis.cells import group_into_cells
from paretune.analysis.statistics.sample_size import FOUND_POINTS, SampleSize
from paretune.reporting.text.comparison import approximate, describe_rows
from paretune.reporting.text.conclusions import describe_protocol
from paretune.reporting.text.escape import open_templates
from paretune.reporting.text.formatting import (
    format_bytes,
    format_interval,
    format_n_by_seeds,
    format_p_value,
    format_parameters,
    join_names,
)
from paretune.store.record import Record, RunStatus
from paretune.study import Study
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune_slovene.paper import measured, published
from paretune_slovene.paper.claims import (
    MARGIN,
    VERDICTS,
    Claim,
    ClaimComparison,
    ClaimVerdict,
    Standing,
    Verdict,
    load_claims,
    paper_title,
)

MARKS: dict[Verdict, str] = {
    "holds": "✓",
    "does not hold": "✗",
    "cannot be decided": "?",
    "comes from constant answers": "▬",
    "not run": "–",
}
_STANDINGS: dict[Standing, str] = {
    "for": "for it",
    "against": "against it",
    "constant": "a constant answer",
    "unlike": "not run alike",
    "unclear": "no verdict",
    "absent": "not there",
}


@dataclass(frozen=True)
class Evidence:
    """One source of evidence.

    Attributes:
        basis: what it is based on, in a sentence.
        bars: what the paper's figures show, of this source.
        of_paper: whether it is the paper's own numbers.
        page: file of its report, if it has one.
        unfinished: number of unfinished cells.
    """

    title: str
    basis: str
    judged: tuple[ClaimVerdict, ...]
    bars: tuple[SimpleNamespace, ...]
    of_paper: bool = False
    page: str = ""
    unfinished: int = 0

    @property
    def summary(self) -> str:
        """``holds: 2, does not hold: 3 ...``: the verdicts, counted."""
        counts = Counter(judged.verdict for judged in self.judged)
        return ", ".join(f"{verdict}: {counts[verdict]}" for verdict in VERDICTS if counts[verdict])

    def cases(self, judged: ClaimVerdict) -> str:
        """``Of 6 cases: a constant answer 4, for it 2; to hold it needs 6 of 6``."""
        if judged.verdict == "not run":
            return "Nothing of it was measured here."
        cases = judged.cases
        counted = [f"{text} {cases[name]}" for name, text in _STANDINGS.items() if cases[name]]
        models = ""
        if judged.stand_in:
            models = f" The paper says it of {join_names(judged.claim.models)}."
        return (
            f"Of {pluralise(sum(cases.values()), 'case')}: {', '.join(counted)}; "
            f"to hold it needs {judged.required} of {judged.total}.{models}"
        )

    def rows(self, judged: ClaimVerdict) -> tuple[SimpleNamespace, ...]:
        """Every comparison of a claim as texts, by column."""
        return tuple(self._row(judged.claim, comparison) for comparison in judged.compared)

    def _row(self, claim: Claim, compared: ClaimComparison) -> SimpleNamespace:
        values, contrast, basis = ("–", "–"), "–", "–"
        if compared.scores is not None and compared.difference is not None:
            values = format_interval(compared.scores[0]), format_interval(compared.scores[1])
            contrast = format_interval(compared.difference)
            basis = format_n_by_seeds(compared.difference, "×")
        elif compared.amounts is not None:
            values = (
                self._amount(claim, compared.amounts[0]),
                self._amount(claim, compared.amounts[1]),
            )
            contrast = f"{compared.amounts[0] / compared.amounts[1]:.2f} times"
            basis = _readings(compared.readings)
        details = [compared.why, describe_sample_size(compared.sample_size, compared.examples)]
        detail = "; ".join(text for text in details if text)
        outcome = _STANDINGS[compared.standing] + (f": {detail}" if detail else "")
        names = {name: getattr(compared, name) for name in ("task", "model", "higher", "lower")}
        return SimpleNamespace(
            **{name: sanitise_line(text) for name, text in names.items()},
            values=values,
            contrast=contrast,
            basis=basis,
            p="–" if compared.p_holm is None else format_p_value(compared.p_holm),
            outcome=sanitise_line(outcome),
        )

    def _amount(self, claim: Claim, value: float) -> str:
        if claim.kind == "parameters":
            return format_parameters(value)
        return f"{value / published.GIGA:.1f} GB" if self.of_paper else format_bytes(value)


def _readings(counts: tuple[int, int]) -> str:
    """Number of measurements of each side: ``1 and 1``; ``counted`` for parameters."""
    return f"{counts[0]} and {counts[1]}" if any(counts) else "counted"


def describe_sample_size(size: SampleSize | None, examples: int | None) -> str:
    """The sample that would decide a comparison, as a phrase; empty if it is decided."""
    if examples is not None:
        return f"{approximate(examples, 'example')} would decide it, unpaired"
    if size is None:
        return ""
    rows = describe_rows(size)
    text = f"{rows} would decide it" if rows else ""
    return f"{text}, if seeds moved nothing" if text and size.blind else text


def published_evidence(runs: Sequence[published.PublishedRun]) -> Evidence:
    """The paper's own numbers, from its published runs."""
    sizes = {r.task: r.n for r in runs if r.n}
    rows = join_names([f"{n} ({task})" for task, n in sizes.items()]) or "no"
    return Evidence(
        title="The paper’s own numbers",
        basis=f"One seed; {rows} validation rows, which also selected the checkpoint. Right "
        "answers of n are compared unpaired (Newcombe), since the answers themselves were not "
        "published; memory was read once.",
        judged=tuple(published.judge_published(claim, runs) for claim in load_claims()),
        bars=published.list_bars(runs),
        of_paper=True,
    )


def study_evidence(
    study: Study, records: Sequence[Record], states: Sequence[RunStatus], page: str
) -> Evidence:
    """The evidence of a study's records; ``page`` is the file of its report, beside this one."""
    cells = group_into_cells(study, records, states)
    models = join_names([sanitise_line(m.key) for m in study.models])
    by_paper = study.protocol.preset == "paper"
    return Evidence(
        title=f"{'The paper’s' if by_paper else 'The fair'} protocol on {models}",
        basis=describe_protocol(study),
        judged=tuple(measured.judge_study(claim, study, cells) for claim in load_claims()),
        bars=measured.list_bars(study, cells),
        page=page,
        unfinished=sum(not c.finished for c in cells),
    )


def tabulate_bars(evidence: Sequence[Evidence]) -> Iterator[SimpleNamespace]:
    """A table for each task: its methods, and beside each other every model of every source."""
    bars = [((source.title, source.page), bar) for source in evidence for bar in source.bars]
    for task in dict.fromkeys(bar.task for _, bar in bars):
        cells = {(b.method, (*source, b.model)): b for source, b in bars if b.task == task}
        columns = tuple(dict.fromkeys(column for _, column in cells))
        methods = dict.fromkeys(b.method for s in evidence[::-1] for b in s.bars if b.task == task)
        rows = {m: [cells.get((m, column)) for column in columns] for m in methods}
        heads = [t if t.endswith(model) else f"{t}: {model}" for t, _, model in columns]
        of_task = [b.interval for b in cells.values() if b.interval]
        ends = sorted(end for interval in of_task for end in (interval.low, interval.high))
        yield SimpleNamespace(task=task, heads=heads, rows=rows, ends=ends)


def render_replication_page(evidence: Sequence[Evidence]) -> str:
    """The page as text. Everything that comes from data or names is escaped.

    If the paper's own numbers are missing, it says how to get them in.
    """
    # style.css is in the latter.
    jinja = open_templates("paretune_slovene.paper", "paretune.reporting", html=True)
    return jinja.get_template("replication.html.j2").render(
        evidence=evidence,
        claims=load_claims(),
        figures=tuple(tabulate_bars(evidence)),
        title=paper_title(),
        with_paper=any(source.of_paper for source in evidence),
        marks=MARKS,
        margin=f"{MARGIN:.2f}",
        close=f"{measured.CLOSE:.0%}",
        found_points=f"{FOUND_POINTS:.0f}",
        pluralise=pluralise,
    )
