"""peft's own comparison read again, as one HTML page: every accuracy with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.contrib.peft_comparison.experiment_table import (
    ExperimentStanding,
    PeftResults,
    conclude,
    describe_basis,
    row_texts,
)
from paretune.reporting.text.formatting import format_interval
from paretune.reporting.writing import write_file
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

LEFT, WIDTH, ROW = 330, 420, 20
"""Of the figure, in pixels: the column of names, the axis, and the height of a row."""
TOPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""Ends of the axis, below 1."""


@dataclass(frozen=True)
class FigureRow:
    """One experiment in the figure: places in pixels; ``verdict`` names its colour."""

    name: str
    y: int
    x: float
    low: float
    high: float
    verdict: str
    text: str


@dataclass(frozen=True)
class ModelPart:
    """What the page says of the experiments on one model."""

    model: str
    count: int
    sentences: tuple[str, ...]
    rows: tuple[FigureRow, ...]
    ticks: tuple[tuple[float, str], ...]
    height: int
    texts: tuple[tuple[str, ...], ...]


def write_peft_page(results: PeftResults, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all.

    Raises:
        StoreError: it cannot be written there.
    """
    return write_file(path, render_peft_page(results), "the page")


def render_peft_page(results: PeftResults) -> str:
    """The page as text; everything that comes from the files is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    packages = ("paretune.contrib.peft_comparison", "paretune.reporting.html")
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    models = dict.fromkeys(one.experiment.model for one in results.standings)
    parts = [
        _lay_out(model, [s for s in results.standings if s.experiment.model == model])
        for model in models
    ]
    return jinja.get_template("peft.html.j2").render(
        parts=parts,
        basis=tuple(describe_basis(results.standings)),
        headline=_write_headline(results.standings),
        titles=results.table.titles,
        left=LEFT,
        width=WIDTH,
        row=ROW,
        pluralise=pluralise,
    )


def _write_headline(standings: Sequence[ExperimentStanding]) -> str:
    scored = [one for one in standings if one.score is not None]
    unclear = sum(one.behind is not None and not one.proven_worse for one in scored)
    rest = len(standings) - len(scored)
    without = f"; {rest} have no accuracy" if rest else ""
    return (
        f"Of {pluralise(len(standings), 'experiment')} there is no verdict by accuracy for "
        f"{unclear} against the best of their model{without}."
    )


def _lay_out(model: str, standings: Sequence[ExperimentStanding]) -> ModelPart:
    scored = [one for one in standings if one.score is not None]
    highest = max((one.score.high for one in scored if one.score), default=1.0)
    top = next((share for share in TOPS if share >= highest), 1.0)
    rows = []
    for number, one in enumerate(scored):
        score = one.score
        assert score is not None  # noqa: S101 - filtered above
        x, low, high = (
            LEFT + WIDTH * share / top for share in (score.estimate, score.low, score.high)
        )
        verdict = "best" if one.behind is None else "below" if one.proven_worse else "unclear"
        name = sanitise_line(one.experiment.name)
        text = format_interval(score, 3)
        rows.append(FigureRow(name, ROW * (number + 1), x, low, high, verdict, text))
    step = 0.1 if top > 0.3 else top / 4
    ticks = [step * i for i in range(round(top / step) + 1)]
    return ModelPart(
        sanitise_line(model) or "no model named",
        len(standings),
        tuple(conclude(model, standings)),
        tuple(rows),
        tuple((LEFT + WIDTH * share / top, f"{share:.2g}") for share in ticks),
        ROW * (len(rows) + 2),
        tuple(row_texts(one) for one in standings),
    )
