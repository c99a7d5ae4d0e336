"""Parts of the report's document: scores, cells, advice, fronts, tables, differing examples.

Field descriptions are those of the site's page on JSON; names in JSON are the fields' aliases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    field_validator,
)
from rich.cells import cell_len, set_cell_size

from paretune.analysis.design import TestDesign
from paretune.analysis.memory_breakdown import MemoryBreakdown
from paretune.analysis.outcomes import FailureRate
from paretune.analysis.pairs import RankRange, Standing
from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.pareto.expected_scores import Prospect
from paretune.study import Axis
from paretune.terminal.notebook import html_block, html_code, html_lines

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that may be infinite or unknown: null in JSON."""
Limit = Annotated[float, BeforeValidator(lambda value: math.inf if value is None else value)]
"""A highest value: null in JSON where there is none."""
Count = Annotated[int | None, BeforeValidator(lambda value: value or None)]
"""A count that is null where it is 0."""
MOST_LABELS = 20
"""The most labels to look at that are printed of a task."""


_NAMES = {
    "n_examples": "examples",
    "n_clusters": "groups",
    "n_questions": "questions",
    "n_seeds": "seeds",
    "share_seeds": "from_seeds",
    "advice": "recommendation",
}
"""Names in JSON of fields that have another name here."""


class Part(BaseModel):
    """A part of the document; made from values that have attributes of the same names."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        validate_by_name=True,
        ser_json_inf_nan="null",
        defer_build=True,
        alias_generator=lambda name: _NAMES.get(name, name),
    )

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Make the part from the attributes of a value; None from None."""
        return None if value is None else cls.model_validate(value)


def _add_properties(value: Any, write_fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
    members = vars(type(value)).items()
    names = [name for name, member in members if isinstance(member, property)]
    return {**write_fields(value), **{name: getattr(value, name) for name in names}}


WITH_PROPERTIES = WrapSerializer(_add_properties)
"""An analysis value in JSON: its fields, and its properties, which are not read back."""


class Score(Part):
    """A score with its 95 % interval, and what it is computed on."""

    estimate: Number = Field(description="the score")
    low: Number = Field(description="lower end of the 95 % interval")
    high: Number = Field(description="upper end of the 95 % interval")
    n_examples: int = Field(description="number of examples")
    n_clusters: Count = Field(
        default=None, description="groups of dependent examples, counted as a whole"
    )
    n_questions: Count = Field(default=None, description="questions that the examples answer")
    n_seeds: int = Field(description="number of seeds; under cross-validation of repeats")
    design: Annotated[TestDesign, WITH_PROPERTIES] = Field(description="how its answers came about")
    share_seeds: float | None = Field(
        description="share of the variance that comes from seeds; null: one seed, so it is not "
        "known and the interval is over examples only"
    )
    highest: Limit = Field(description="highest possible score")

    @field_validator("share_seeds")
    @classmethod
    def _hide_unknown_share(cls, share: float | None, info: Any) -> float | None:
        one_seed = info.data["n_seeds"] == 1 and not info.data["design"].is_cross_validation
        return None if one_seed else share


Plain = str | float | int | bool | None
"""A value of JSON without parts."""


class PairDifference(Part):
    """Two cells of one model."""

    model: str = Field(description="the model that both are on")
    a: str = Field(description="key of a method or baseline")
    b: str = Field(description="of another")
    difference: Score = Field(description="a minus b, paired on the same examples")
    p: float = Field(description="two-sided p-value against no difference")
    p_holm: float = Field(description="the same, corrected over all pairs of the model")
    standing: Standing = Field(
        description="of a, by p_holm under 0.05; unclear where a side is one run of a method that "
        "draws its seed"
    )
    mcnemar_p: float | None = Field(
        default=None,
        description="McNemar's exact p-value where both are one run; null: they are not",
    )


class TriedRate(Part):
    """One learning rate on trial."""

    rate: float = Field(description="the learning rate")
    score: Score | None = Field(
        description="mean on the selection parts, one tuning seed; null: all failed, or the "
        "predictions behind its interval are not stored"
    )
    folds: int = Field(description="number of selection parts")
    lost: int = Field(description="how many of them diverged or ran out of memory")


class BaselineVerdict(Part):
    """A cell beside all baselines."""

    standing: Literal["above", "unclear", "below", "none"] = Field(
        description="proven better than all, undecided, proven worse than one; none: no baseline "
        "has a score yet"
    )
    summary: str = Field(description="the same as a phrase")
    missing: tuple[str, ...] = Field(description="baselines that have no score yet")
    of_trained: bool = Field(description="true: runs failed, so it is of those that trained")

    @property
    def above_all(self) -> bool:
        """Whether it is proven better than every baseline, and none is missing."""
        return self.standing == "above" and not self.missing


class FinalRun(Part):
    """One final run."""

    run: str = Field(description="id of the run in the store")
    seed: int = Field(description="its seed")
    rate: float | None = Field(description="its learning rate; null: it has none")
    outer_fold: int | None = Field(
        description="fold of whose rows its score is; null: of the test part"
    )
    outer_repeat: int | None = Field(description="in which division into folds, from 0")
    outcome: str = Field(description="ok, collapsed, diverged, out_of_memory or error")
    steps: int | None = Field(description="training steps")
    best_step: int | None = Field(
        description="step of the checkpoint that was kept; null: the last"
    )
    trained_parameters: int | None = Field(
        description="number of trained parameters, head included"
    )
    score: Score | None = Field(description="on the test part; null: no predictions")
    score_shifted: Number | None = Field(description="on the shifted test part; null: none")
    selection: Score | None = Field(
        description="on the selection part, of the checkpoint that was kept: it selected the "
        "checkpoint, so it is biased upwards; null: no predictions there"
    )
    scores: dict[str, Any] | None = Field(
        description="every score on the test part, of n examples, without intervals"
    )
    wall_seconds: Any = Field(description="seconds by phase")
    curve: tuple[dict[str, Any], ...] = Field(
        description="learning curve: step, epoch, loss (mean training loss since the point before) "
        "and selection, the scores on the selection part, without intervals"
    )


class Value(Part):
    """A number, a score or words, with its text."""

    value: Score | Plain = Field(description="unrounded; null: not known, or there is only a text")
    text: str = Field(description="what readers see")


class Amount(Value):
    """A cost with its text."""

    value: float | None = Field(description="mean over the measurements; null: not known")
    text: str = Field(description="with its unit and range, or why it is not known")
    low: float | None = Field(default=None, description="lowest of several; null: one measurement")
    high: float | None = Field(default=None, description="highest of several")
    predicted: bool = Field(default=False, description="true: predicted, not measured")


class CellCost(Part):
    """What a cell costs."""

    memory: Amount = Field(description="peak bytes in training")
    step: Amount = Field(description="median seconds of a step")
    trained: Amount = Field(description="trained parameters, head included")
    saved: Amount = Field(description="bytes of the trained tensors on disk")
    evaluation: Amount = Field(description="peak bytes in evaluation")
    latency: Amount = Field(description="seconds of inference an example, unmerged")
    conditions: str = Field(description="device, threads, batch and length of the measurement")
    counter: str = Field(description="what the peaks were read from")
    of_runs: bool = Field(
        default=False, description="true: of runs that were trained elsewhere, as their files say"
    )


class CellReport(Part):
    """One model and method on one task."""

    model: str | None = Field(description="name of the model; null: the baseline needs none")
    method: str = Field(description="key of the method in the study")
    name: str = Field(description="name of the method")
    label: str = Field(description="the method as readers see it: LoRA")
    title: str = Field(description="the same, with the model where the task has several")
    baseline: bool = Field(description="true: a baseline, not a method under comparison")
    deterministic: bool = Field(description="true: it draws nothing, so seeds cannot differ")
    readout: str | None = Field(
        description="how it answers: head, label_words or text; null: the baseline needs no "
        "model, or no run has ended"
    )
    finished: bool = Field(description="true: all its runs have ended")
    all_trials_failed: bool = Field(description="true: no learning rate could be trained")
    rate: float | None = Field(
        description="learning rate of the final runs, in cross-validation of most; null: it has "
        "none"
    )
    rate_undecided: bool = Field(description="true: the runner-up is within one standard error")
    rate_edge: Literal["lowest", "highest", ""] = Field(
        description="which end of those tried it is; empty: neither"
    )
    rate_reason: str = Field(
        default="", description="what its runs say against the rate that it began with"
    )
    tried: tuple[TriedRate, ...] = Field(description="learning rates on trial")
    score: Score | None = Field(description="mean over the final seeds on the test part")
    rank: RankRange | None = Field(
        description="ranks that it may have among the methods of its model; null: a baseline"
    )
    at_most_points_worse: float | None = Field(
        description="points that it may be worse than the best of its model's methods and "
        "baselines, with 95 % for all at once; null: 10 or more, one run, or no score"
    )
    failures: Annotated[FailureRate, WITH_PROPERTIES] | None = Field(
        description="runs that diverged, ran out of memory or answer a constant; they are in no "
        "score; null: nothing is drawn, or no run has ended"
    )
    verdict: BaselineVerdict | None = Field(
        description="against the baselines; null: no score, or a baseline without a model"
    )
    collapsed: bool = Field(
        description="true: at least half of its seeds give every example the same answer"
    )
    signs: str = Field(description="its signs in the first table; signs has their meanings")
    flags: tuple[str, ...] = Field(description="what else must be known: collapsed 1/3")
    outcomes: dict[str, int] = Field(description="how the final runs ended, judged by answers")
    run_seconds: float | None = Field(description="median seconds of training of a final run")
    runs: tuple[FinalRun, ...] = Field(description="final runs, by seed")
    cost: CellCost = Field(description="what it costs: means over the solo measurements")
    costs: tuple[dict[str, Any], ...] = Field(
        description="solo measurements as the store has them: run, outcome, device, threads, "
        "batch_size, length, phases (each its peak_bytes), components, step_seconds, inference, "
        "saved_bytes ..., and not_measured with the reasons"
    )
    memory: Annotated[MemoryBreakdown, WITH_PROPERTIES] | None = Field(
        description="peak memory in training by part, means over the measurements; null: not "
        "measured"
    )

    @property
    def has_ended(self) -> bool:
        """Whether any final run has ended, or none will come."""
        return bool(self.runs) or self.all_trials_failed

    @property
    def model_label(self) -> str:
        """The name of the model for readers; a dash without a model."""
        return self.model or "-"


LINE_WIDTH = 80
"""Columns of a line of :attr:`Advice.lines`."""
Subject = Literal[
    "take", "proof", "chances", "warning", "passes", "score", "reason", "safe", "change"
]


class Sentence(Part):
    """A sentence of an advice. A line with little room may end it early."""

    about: Subject = Field(
        description="take (what to take), proof (or why nothing is taken), chances, warning, "
        "passes (of the study), score (with its interval), reason (of the choice), safe (what to "
        "stay with) or change (what would change it, the most important first)"
    )
    text: str = Field(description="the sentence")
    breaks: tuple[int, ...] = Field(
        default=(), description="places in the text where it may end, before its full stop"
    )

    @classmethod
    def join(cls, about: Subject, clauses: Sequence[str], separator: str = ", ") -> Self:
        """Make a sentence that may end after each of its clauses, the most important first."""
        text = separator.join(clauses)
        ends = accumulate(len(clause) + len(separator) for clause in clauses[:-1])
        return cls(
            about=about,
            text=f"{text[:1].upper()}{text[1:]}.",
            breaks=tuple(end - len(separator) for end in ends),
        )

    @property
    def clauses(self) -> list[str]:
        """The parts of the sentence with their separators, without its full stop."""
        ends = (0, *self.breaks, len(self.text.removesuffix(".")))
        return [self.text[start:end] for start, end in pairwise(ends)]

    def continue_line(self, before: str) -> list[str]:
        """Join the clauses for a place after other words."""
        first, *rest = self.clauses
        return [f"{before}{first[:1].lower()}{first[1:]}", *rest]


class Advice(Part):
    """What to take on a task, in sentences and numbers."""

    task: str = Field(description="the task")
    take: str = Field(description="the configuration, by its keys; empty: none")
    model: str = Field(default="", description="key of its model; empty: none")
    method: str = Field(default="", description="key of its method; empty: none")
    kind: str = Field(
        default="none",
        description="method (proven better than every baseline), guess (a method that is not), "
        "baseline or none",
    )
    proven: bool = Field(default=False, description="true: better than every baseline at 95 %")
    within_points: float = Field(
        default=1.0,
        description="how far below the best expected score is accepted for a lower cost; points "
        "are hundredths of the metric's highest value",
    )
    prospect: Prospect | None = Field(
        default=None,
        description="what taking it may bring; null: nothing is taken",
    )
    free_baseline: str = Field(
        default="", description="key of the best baseline without a model; empty: none"
    )
    lead: Sentence = Field(description="what to take, its score and what it costs")
    details: tuple[Sentence, ...] = Field(
        description="why, how sure, what must be known beside it, and what would change it"
    )
    command: str = Field(description="exports it; empty: it has no weights")

    def list_details(self, *about: Subject) -> list[Sentence]:
        """The details about these subjects."""
        return [sentence for sentence in self.details if sentence.about in about]

    @property
    def lines(self) -> tuple[str, ...]:
        """At most three lines of 80 columns: what to take, why, what would change it."""
        lines = [_fit_line(self.lead.continue_line(f"On {self.task}, "))]
        # The proof of a baseline is about the methods that it beats.
        chances = [] if self.kind == "baseline" else self.list_details("chances")
        further = [clause for sentence in chances for clause in sentence.continue_line(", ")]
        for proof in self.list_details("proof"):
            first, *rest = proof.clauses
            lines.append(_fit_line([f"  {first}", *rest, *further]))
        if self.take:
            changes = (f"  {change.clauses[0]}." for change in self.list_details("change"))
            lines += islice((line for line in changes if cell_len(line) <= LINE_WIDTH), 1)
        return tuple(lines)

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """What to take, and all but what would change it."""
        lead = "".join(self.lead.continue_line(f"On {self.task}, "))
        texts = (sentence.text for sentence in self.details if sentence.about != "change")
        return (f"{lead}.", *texts)

    def __str__(self) -> str:
        """What to take, why, what would change it, and the command that exports it."""
        changes = [f"- {sentence.text}" for sentence in self.list_details("change")]
        heading = ["What would change it:"] if changes else []
        command = [self.command] if self.command else []
        return "\n".join([*self.paragraphs, *heading, *changes, *command])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        command = html_code([self.command]) if self.command else ""
        changes = html_lines(sentence.text for sentence in self.list_details("change"))
        return html_block(self.paragraphs) + changes + command


def _fit_line(clauses: Sequence[str]) -> str:
    """Join as many clauses as fit a line; a first clause that does not fit is shortened."""
    texts = [f"{text}." for text in accumulate(clauses)]
    for text in reversed(texts):
        if cell_len(text) <= LINE_WIDTH:
            return text
    text = set_cell_size(texts[0], LINE_WIDTH - 1).rstrip()
    words, _, last = text.rpartition(" ")
    return f"{text}…" if cell_len(last) > LINE_WIDTH // 2 else f"{words.rstrip(',:')} …"


class DoubtfulLabel(Part):
    """A row whose label may be wrong."""

    uid: str = Field(description="identifier of the row")
    where: str = Field(description="file and line; its identifier where the data are not here")
    label: str = Field(description="its label")
    answer: str = Field(description="what most runs answer that have not trained on it")
    probability: float = Field(description="mean probability of this answer")
    agreeing: int = Field(description="runs that answer so")
    runs: int = Field(description="runs that have answered")


class NextStep(Part):
    """One thing to do, and what an hour of it may bring."""

    action: str = Field(description="what to do")
    points: float | None = Field(description="points that the next hour may bring; null: not known")
    interval: tuple[float, float] | None = Field(default=None, description="95 %, of the points")
    guess: bool = Field(default=False, description="true: no measurement says so")
    text: str = Field(description="what is known of it, as a sentence")


class NextSteps(Part):
    """What to do next on one task, from what has run."""

    task: str = Field(description="the task")
    rows: int = Field(description="rows whose labels were looked at; 0: answers are no labels")
    labels: tuple[DoubtfulLabel, ...] = Field(description="labels to look at, the clearest first")
    steps: tuple[NextStep, ...] = Field(description="the most points first")
    sentence: str = Field(description="the order for the next hour, and what is a guess")

    def __str__(self) -> str:
        """The order, what each step may bring, and the clearest of the labels to look at."""
        lines = [f"On {self.task}: {self.sentence}", *(f"- {step.text}" for step in self.steps)]
        lines += [
            f"  {label.where}: is {label.label}; {label.agreeing} of {label.runs} runs answer "
            f"{label.answer}, at {label.probability:.2f}"
            for label in self.labels[:MOST_LABELS]
        ]
        if left := len(self.labels[MOST_LABELS:]):
            lines.append(f"  and {left} more: --json has all")
        return "\n".join(lines)

    __repr__ = __str__


class FrontPoint(Part):
    """A configuration with its score and one cost."""

    model: str | None = Field(description="its model; null: none")
    method: str = Field(description="key of its method")
    title: str = Field(description="what readers see")
    score: Score = Field(description="expected score of its next run")
    cost: CostEstimate = Field(description="what it costs")
    on_front: bool = Field(description="true: by the estimates nothing is cheaper and better")
    share_of_draws: float = Field(description="of 2,000 draws in which it is on the front")


class CostFront(Part):
    """All configurations that have a score and one cost, cheapest first."""

    axis: Axis = Field(description="memory, time, parameters, saved, inference or forgetting")
    points: tuple[FrontPoint, ...] = Field(description="cheapest first")


class ComparedSide(Part):
    """One configuration, and what it says to the listed examples."""

    name: str = Field(description="what readers see")
    seeds: int = Field(description="number of seeds")
    answers: tuple[int, ...] = Field(
        description="places of its answers among the texts: of labels that of most seeds, of texts "
        "that of the run whose chrF is nearest to the mean"
    )
    scores: tuple[float, ...] = Field(
        description="means over seeds: of labels the share that is right, of texts chrF, 0 to 100"
    )


class ComparedPair(Part):
    """Two configurations, example by example; counts add up to examples x runs."""

    a: int = Field(description="place of one among the sides")
    b: int = Field(description="place of the other")
    runs: int = Field(description="pairs of runs; 0: they share no seed")
    basis: str = Field(description="what the counts are over, in words")
    both: int | None = Field(description="number in which both are right; null: answers are texts")
    only_a: int = Field(description="number in which only a is right, or a has the higher chrF")
    only_b: int = Field(description="the same of b")
    neither: int = Field(description="number in which none is right, or none has the higher chrF")
    differing: int = Field(
        description="number whose majority answers, or means of chrF over seeds, differ"
    )
    named: tuple[int, ...] = Field(description="places of the listed ones, the clearest first")
    summary: str = Field(description="the same as a sentence, and how many are listed")


class Disagreement(Part):
    """Test examples on which configurations differ."""

    n: int = Field(description="number of test examples")
    unit: str = Field(description="examples or answers, whose labels are compared; or segments")
    sides: tuple[ComparedSide, ...] = Field(description="the configurations")
    pairs: tuple[ComparedPair, ...] = Field(description="every pair of them")
    examples: tuple[tuple[str, int, int | None], ...] = Field(
        description="identifiers; places of the label or reference, and of the source, among the "
        "texts; null: it is not known"
    )
    texts: tuple[str, ...] = Field(description="names of labels, or texts, each once")
    languages: tuple[str, str] = Field(description="codes of source and target; empty: not known")
    cut: bool = Field(description="true: some text is shortened")
    default_pair: int = Field(description="place of the pair that is shown first")
