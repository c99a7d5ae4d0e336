"""What a person reads of a study, for studies of every kind: one golden text each.

``PARETUNE_WRITE_SCREENS=1`` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import Budget, recommend
from paretune.reporting.build import build_report
from paretune.reporting.text.recommendation import Advice, write_advice
from paretune.reporting.text.terminal import (
    print_answer,
    print_headlines,
    print_screen,
    print_tables,
)
from paretune.store.record import ComputeCost, Record, RunStatus
from paretune.study import Study

SCREENS = Path(__file__).parent / "screens"
MIB = 2**20
FOUR = ("full", "lora", "loha", "prompt")
LOW = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}


@dataclass(frozen=True)
class World:
    """A study with its records, what is shown of it, and the limits of its recommendations.

    Attributes:
        tables: the width of the tables of ``--details``; 0 shows none.
    """

    study: Study
    records: Sequence[Record]
    states: Sequence[RunStatus] = ()
    budgets: tuple[Budget, ...] = ()
    tables: int = 0


WORLDS: dict[str, Callable[[], World]] = {}


def world(make: Callable[[], World]) -> Callable[[], World]:
    """Register a study by the name of the function that makes it."""
    WORLDS[make.__name__.replace("_", "-")] = make
    return make


def of_levels(levels: dict[str, float | None] | None, *budgets: Budget, **changes: Any) -> World:
    """Whole records of one task, at these levels."""
    settings = {"methods": list(FOUR), "tasks": [fake.own_task("topics")], **changes}
    study = fake.study(**settings)
    return World(study, fake.whole(study, levels), budgets=budgets)


@world
def three_tasks() -> World:
    names = ("routing-en", "paraphrase-en", "follows-en")
    study = fake.study(methods=list(FOUR), tasks=[fake.own_task(name) for name in names])
    return World(study, fake.whole(study, {"prompt": 0.55}))


@world
def proven() -> World:
    return of_levels(
        None,
        Budget(within_points=5.0),
        Budget({"memory": 900 * MIB}),
        Budget({"memory": float(MIB)}),
    )


@world
def details() -> World:
    study = fake.study()
    return World(study, fake.whole(study), tables=200)


@world
def every_table() -> World:
    """Predicted costs, likelihoods of a selection part, and models of two sizes."""
    study, records = fake.two_sizes()
    work = asdict(ComputeCost(40.0, 300 * MIB, 400 * MIB))
    part = {"selection": fake.answers(0.6, n=40, part="selection")}
    records = [
        replace(r, measured={"environment": fake.ENVIRONMENT, **r.measured, "work": work})
        for r in fake.add_parts(records, lambda run: part)
    ]
    return World(study, records, tables=140)


@world
def nothing_above_the_constant_answer() -> World:
    return of_levels({**LOW})


@world
def guess() -> World:
    return of_levels({**LOW, "full": 0.6})


@world
def guess_beside_a_baseline() -> World:
    return of_levels({**LOW, "full": 0.6, "tfidf": 0.55})


@world
def baseline() -> World:
    return of_levels({**LOW, "tfidf": 0.6}, Budget({"memory": float(MIB)}))


@world
def baselines_alone() -> World:
    return of_levels({"head_only": 0.8}, methods=["head_only"])


@world
def nothing_learned() -> World:
    world = of_levels({"full": None, "lora": None, "tfidf": 0.6}, methods=["full", "lora"])
    for record in world.records:  # they learn their training rows
        for point in record.result.get("curve", ())[-1:]:
            point["loss"] = 0.01
    return world


@world
def nothing_learned_at_the_highest_rate() -> World:
    study, records = fake.mostly_collapsed(tfidf=0.7)
    return World(study, [*records, *trials(study, "full", 1e-4, 1e-3)])


@world
def rates_at_the_edge() -> World:
    """LoRA's best rate is the highest; prompt tuning's the lowest, better than the other."""
    study = fake.study(methods=["lora", "prompt"], tasks=[fake.own_task("t")])
    records = [r for r in fake.whole(study) if r.run.method.name not in ("lora", "prompt")]
    records += trials(study, "lora", 1e-4, 1e-3)
    for rate, level in ((1e-4, 0.7), (1e-3, 0.6)):
        run = fake.make_run(study, "tune", "prompt", 0, learning_rate=rate)
        records.append(fake.record(run, {"selection": fake.answers(level, part="selection")}))
    final = fake.make_run(study, "final", "prompt", 1, learning_rate=1e-4)
    records.append(fake.record(final, {"test": fake.answers(0.6)}))
    for seed, outcome in ((1, "ok"), (2, "diverged"), (3, "out_of_memory")):
        parts = {"test": fake.answers(0.8)} if outcome == "ok" else {}
        records.append(fake.record(fake.make_run(study, "final", "lora", seed), parts, outcome))
    return World(study, records, tables=200)


@world
def unfinished() -> World:
    study = fake.study(methods=["full", "lora"], tasks=[fake.own_task("topics")])
    records = with_a_lost_run(fake.whole(study, {"lora": 0.6}))
    waiting = fake.state(fake.make_run(study, "final", "lora", 9))
    return World(study, records, (waiting,))


@world
def proven_of_runs_that_trained() -> World:
    study = fake.study(methods=["full"], protocol={"seeds": list(range(1, 9))})
    return World(study, with_a_lost_run(fake.whole(study, {"full": 0.99})))


@world
def without_tfidf() -> World:
    study = fake.study(tasks=[fake.own_task("topics")])
    return World(study, [r for r in fake.whole(study) if r.run.method.name != "tfidf"])


@world
def without_costs() -> World:
    study = fake.study(methods=["full", "lora"], tasks=[fake.own_task("routing-en")])
    records = [r for r in fake.whole(study) if r.run.stage != "cost"]
    return World(study, records, budgets=(Budget({"memory": 900 * MIB}),))


@world
def costs_in_doubt() -> World:
    """A shut counter, other conditions, and a step that was slower than those of training."""
    study = fake.study(tasks=[fake.own_task("t")])
    records = []
    for record in fake.whole(study):
        measured = dict(record.measured)
        if record.run.stage == "cost" and record.run.method.name == "lora":
            slow = {"own_step_seconds": 0.2, "runs": 3, "ratio": 4.2}
            measured |= {"batch_size": 4, "contradicted": slow}
        elif record.run.stage == "cost" and record.run.method.name == "full":
            measured = dict(fake.cost(record.run, None).measured)
        records.append(replace(record, measured=measured))
    return World(study, records, tables=200)


@world
def before_training() -> World:
    study = fake.study(methods=["full", "lora"], tasks=[fake.own_task("topics")])
    baselines = [r for r in fake.whole(study) if r.run.method.name in ("tfidf", "head_only")]
    waiting = [fake.state(fake.make_run(study, "final", name, 1)) for name in ("full", "lora")]
    return World(study, baselines, waiting)


@world
def empty() -> World:
    return World(fake.study(), [], tables=80)


@world
def several_models() -> World:
    study = fake.study(models=["a", "b"], tasks=[fake.own_task("topics")])
    return World(study, fake.whole(study), tables=120)


@world
def many_tasks() -> World:
    study = fake.study(
        tasks=[fake.own_task(f"task{i}") for i in range(5)],
        models=["a", "b", "c"],
        methods=["full", "lora", "loha", "prompt"],
        protocol={"seeds": [1, 2, 3, 4, 5]},
    )
    return World(study, fake.whole(study))


@world
def selected_on_the_test_part() -> World:
    study = fake.study(protocol={"preset": "paper"}, tasks=[fake.own_task("topics")])
    run = fake.make_run(study, "final", "lora", 42, selection="test")
    records = [fake.record(run, {"test": fake.answers(0.7)}), *fake.cell(study, "majority", None)]
    return World(study, records, tables=200)


@world
def few_seeds_and_examples() -> World:
    study = fake.study(tasks=[fake.own_task("topics")])
    seeds = {"full": (1, 2), "lora": (1,)}
    runs = [fake.make_run(study, "final", name, seed) for name in seeds for seed in seeds[name]]
    records = [fake.record(r, {"test": fake.answers(0.7, seed=r.seed)}) for r in runs]
    return World(study, records, tables=160)


@world
def below_the_untrained_model() -> World:
    study = fake.study(tasks=[fake.own_task("topics")], methods=["full", "lora"])
    further = [*fake.cell(study, "few_shot", 0.6), *fake.cell(study, "untuned", 0.2)]
    return World(study, [*fake.whole(study, {"full": 0.97, "lora": 0.6}), *further], tables=160)


@world
def a_first_look() -> World:
    return in_passes(1)


@world
def passes_that_are_settled() -> World:
    return in_passes(5)


@world
def passes_that_go_on() -> World:
    return in_passes(5, full=0.76)


@world
def folds_that_a_baseline_wins() -> World:
    return in_passes(5, 5, full=0.75, tfidf=0.95)


@world
def translation() -> World:
    generation = {"metrics": ["meteor", "bertscore"], "bertscore_model": "FacebookAI/roberta-large"}
    task = fake.translation_study().tasks[0].model_dump() | {"target_lang": "de"}
    study = fake.translation_study(generation=generation, tasks=[task])  # SloBench has no German
    records = fake.whole(study, {"prompt": 0.0}, segment=("meteor", "bertscore"))
    return World(study, records, tables=120)


@world
def empty_translation() -> World:
    return World(fake.translation_study(), [], tables=80)


def trials(study: Study, method: str, *rates: float) -> Iterator[Record]:
    """Trials of rates, the last of which was best."""
    for place, rate in enumerate(rates):
        run = fake.make_run(study, "tune", method, 0, learning_rate=rate)
        part = fake.answers(0.3 + 0.3 * place, n=40, part="selection")
        yield fake.record(run, {"selection": part})


def with_a_lost_run(records: Sequence[Record]) -> list[Record]:
    """The records, one run of full fine-tuning diverged."""
    return [
        fake.record(r.run, outcome="diverged")
        if (r.run.method.name, r.run.stage, r.run.seed) == ("full", "final", 2)
        else r
        for r in records
    ]


def in_passes(seeds: int, outer: str | int = "split", **changed: float) -> World:
    """Passes after so many runs of each method."""
    study = fake.study(
        methods=["full", "lora", "prompt", "ia3"],
        tasks=[fake.own_task("topics")],
        protocol={"preset": "passes", "outer": outer},
    )
    baselines = {"majority": 0.5, "tfidf": 0.55, "head_only": 0.6}
    levels = baselines | {"full": 0.95, "lora": 0.75, "prompt": 0.7, "ia3": 0.65} | changed
    records = fake.draw_records(study, levels, np.random.default_rng(0), rows=300)
    ended = [r for r in records if r.run.seed <= seeds or r.run.method.name in baselines]
    return World(study, ended, tables=160)


def printed(width: int, show: Callable[..., None], *arguments: Any) -> str:
    """What a function prints on a terminal."""
    out = io.StringIO()
    show(*(Console(file=out, width=width) if a is Console else a for a in arguments))
    return out.getvalue()


def advices(case: World) -> Iterator[tuple[str, Advice]]:
    """The recommendation for each task, in all its words, without limits and with each."""
    cells = group_into_cells(case.study, case.records, case.states)
    for task in dict.fromkeys(cell.task for cell in cells):
        for budget in (Budget(), *case.budgets):
            chosen = recommend([cell for cell in cells if cell.task == task], budget)
            yield f"{task} {budget}", write_advice(chosen, study="s.yaml")


def render(case: World) -> str:
    """The whole golden text."""
    report = build_report(case.study, case.records, case.states)
    blocks = [printed(80, print_screen, report, Console, "s.yaml")]
    if case.tables:
        blocks.append(printed(case.tables, print_tables, report, Console))
    for title, advice in advices(case):
        blocks.append("\n".join([f"== {title}", *advice.lines, "", str(advice)]) + "\n")
    text = "\n".join(blocks)
    return "\n".join(
        line.rstrip() for line in re.sub(r"version:[\d.]+", "version:", text).split("\n")
    )


@pytest.mark.parametrize("name", WORLDS)
def test_a_study_reads_as_in_its_golden_text(name: str) -> None:
    path, text = SCREENS / f"{name}.txt", render(WORLDS[name]())
    if os.environ.get("PARETUNE_WRITE_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_golden_text_is_of_a_study() -> None:
    assert {path.stem for path in SCREENS.glob("*.txt")} == {*WORLDS}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_screen_of_three_tasks_fits_its_terminal(width: int) -> None:
    case = three_tasks()
    report = build_report(case.study, case.records)
    lines = printed(width, print_screen, report, Console, "s.yaml").splitlines()
    assert max(map(cell_len, lines)) <= width
    assert width < 80 or len(lines) <= 40
    stopped = tuple(
        line.model_copy(update={"comparison": replace(line.comparison, withheld="a reason")})
        for line in report.over_tasks
    )
    report = report.model_copy(update={"over_tasks": stopped})
    text = printed(width, print_screen, report, Console, "s.yaml")
    assert "3 comparisons are undecided: a reason." in text and "on 3 tasks" not in text


@pytest.mark.parametrize("name", WORLDS)
def test_advice_is_of_three_lines_and_of_short_sentences(name: str) -> None:
    for _, advice in advices(WORLDS[name]()):
        assert 1 <= len(advice.lines) <= 3 and max(map(len, advice.lines)) <= 80
        for text in (advice.lead, *advice.details):
            bare = re.sub(r"\([^()]*\)|\[[^\]]*\]", "", text.text)
            for sentence in re.split(r"(?<=[.;]) ", bare):
                assert len(sentence.split()) <= 30, sentence


def test_the_command_of_a_recommendation_is_quoted() -> None:
    cells = group_into_cells(proven().study, proven().records)
    advice = write_advice(recommend(cells), study="my study.yaml", store="a b")
    assert shlex.split(advice.command) == [
        "paretune", "export", "my study.yaml", "--task", "topics", "--model", "e5-small",
        "--method", "full", "--store", "a b",
    ]  # fmt: skip


def test_a_demonstration_has_the_answer_first_and_quiet_the_answer_alone() -> None:
    study = fake.study(methods=["full", "lora"], tasks=[fake.own_task("routing-en")])
    report = build_report(study, fake.whole(study))
    answer, table = printed(80, print_answer, report, Console, "It took 9 s.").split("\n\n", 1)
    assert answer.strip().splitlines()[1].startswith("On routing-en, take full fine-tuning: 0.")
    assert answer.endswith("\n  It took 9 s.") and "full fine-tuning " in table
    assert printed(40, print_headlines, report, Console).startswith("On routing-en, ")


def test_names_cannot_steer_the_terminal() -> None:
    study = fake.labelled(fake.study(models=["m"]), {"m": "x\x1b[2J[red]y\n"})
    text = printed(200, print_tables, build_report(study, fake.whole(study)), Console)
    assert "\x1b" not in text
    assert "x\N{REPLACEMENT CHARACTER}[2J[red]y\N{REPLACEMENT CHARACTER}" in text
