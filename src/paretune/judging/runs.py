"""A study and its records, from rows of answers; what cannot be judged is refused in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paretune import metrics
from paretune.answers import Answer
from paretune.data.columns import cell_text, parse_number
from paretune.data.finding import Finding
from paretune.data.rows import Row
from paretune.errors import DataError, require_name, spell_option
from paretune.judging.rows import COLUMNS, OPTIONAL
from paretune.methods import baselines
from paretune.methods.core.titles import title_of
from paretune.metrics import Metric
from paretune.metrics.row_scores import MEAN_SCORE, SHARE_RIGHT
from paretune.store.record import Measurements, Predictions, Record
from paretune.study import (
    NO_MODEL,
    UNNAMED_MODEL,
    MethodSpec,
    ModelSpec,
    OuterFold,
    Protocol,
    Run,
    Study,
    TaskSpec,
    digest,
)
from paretune.study.presets import JUDGED
from paretune.terminal.plural import pluralise

KINDS = {"label": "classification", "number": "regression", "answer": "instruction"}
"""Kinds of tasks by what their metric scores."""
KINDS["text"] = KINDS["answer"]
TASK = "answers"
"""The task of rows that name none."""
MOST_CLASSES = 20
"""More labels than this, half as many as rows, are texts rather than classes."""
_REQUIRED = ("method", "id")


@dataclass(frozen=True)
class JudgedRow:
    """One answer. ``label`` and ``prediction`` are texts; of scores the label is empty."""

    task: str
    model: str
    method: str
    seed: int
    fold: str
    id: str
    label: str
    prediction: str
    cluster: str
    costs: tuple[float | None, float | None]
    where: str

    @property
    def run(self) -> tuple[str, str, int, str]:
        """The values that tell the runs of a task apart."""
        return self.model, self.method, self.seed, self.fold

    @property
    def run_title(self) -> str:
        """The run for a reader."""
        fold = f", fold {self.fold}" if self.fold else ""
        return f"{self.method} (seed {self.seed}{fold})"


def build_study(
    rows: Sequence[Row],
    findings: Iterable[Finding] = (),
    *,
    name: str = "predictions",
    metric: str | None = None,
    reference: str | None = None,
) -> tuple[Study, list[Record], list[Finding]]:
    """The study that rows of answers tell of, its records, and notes on how they were read.

    Args:
        rows: of :func:`~paretune.judging.rows.read_sources`.
        findings: of reading them.
        name: of the study.
        metric: that scores labels and predictions; accuracy or R² by default.
        reference: the method with which all others are compared.

    Raises:
        DataError: rows are incomplete, contradict each other, or cannot be paired.
        StudyError: no such metric or method.
    """
    notes = list(findings)
    of_scores = _check_columns(rows, notes)
    by_task: dict[str, list[JudgedRow]] = {}
    tested = [row for row in rows if cell_text(row.values.get("split")) in (None, "test")]
    if not tested:
        splits = {str(cell_text(row.values.get("split"))) for row in rows}
        raise DataError(
            f"no row is of split test, only of {', '.join(sorted(splits))}.",
            where=rows[0].file,
            remedy="Call the rows that no choice has used test, or remove the column split.",
        )
    for row in tested:
        judged = _read_row(row, of_scores=of_scores)
        by_task.setdefault(judged.task, []).append(judged)
    records: list[Record] = []
    for task_rows in by_task.values():
        _check_answers(task_rows)
        scored = None if of_scores else _choose_metric(task_rows, metric, notes)
        records += _build_records(task_rows, scored)
    runs = [record.run for record in records]
    methods = {run.method.key: run.method for run in runs}
    for method in methods:
        title = title_of(method)
        if _letters(title) != _letters(method):
            what = f"{method} is written {title}, as paretune calls the method of this name."
            notes.append(Finding("note", "name", name, what, "Rename it if it is another."))
    if reference is not None:
        require_name("method", reference, methods, name)
    # Names are those of the files: no folder is called by them, so none is refused.
    study = Study.model_construct(
        study=name,
        tasks=tuple({run.task.key: run.task for run in runs}.values()),
        models=tuple({run.model.key: run.model for run in runs}.values()),
        methods=tuple(methods.values()),
        protocol=Protocol(preset=JUDGED, reference=reference),
    )
    return study, records, notes


def _letters(text: str) -> str:
    """A name without case and signs."""
    return "".join(filter(str.isalnum, text.casefold()))


def _check_columns(rows: Sequence[Row], notes: list[Finding]) -> bool:
    """Check that the rows have the columns that are needed; whether they have scores."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    of_scores = "score" in names and "prediction" not in names
    required = (*_REQUIRED, *(("score",) if of_scores else ("label", "prediction")))
    if missing := [column for column in required if column not in names]:
        raise DataError(
            f"no row has {' or '.join(missing)}.",
            where=rows[0].file,
            remedy=f"Its columns are {', '.join(names)}. Known are {', '.join(COLUMNS)}: "
            "rename them.",
        )
    if unread := [str(name) for name in names if name not in (*required, *OPTIONAL)]:
        what = f"the rows have columns that are not used: {', '.join(unread)}."
        notes.append(Finding("note", "unread", rows[0].file, what, ""))
    return of_scores


def _read_row(row: Row, *, of_scores: bool) -> JudgedRow:
    """One row, checked alone."""
    values = row.values

    def read(column: str, default: str | None = None) -> str:
        value = values.get(column)
        if isinstance(value, list | dict):
            what = f"holds several values as {column}."
            raise DataError(what, where=row.where, remedy="Give one label and one answer a row.")
        text = cell_text(value)
        if text is None and default is None:
            raise DataError(
                f"has no {column}.",
                where=row.where,
                remedy="Fill it in; a model that gave no answer is wrong: write none.",
            )
        return str(default if text is None else text)

    def read_number(column: str) -> float | None:
        text = read(column, "")
        number = parse_number(text) if text else None
        if text and number is None:
            raise DataError(f'has "{text}" as {column}, which is no number.', where=row.where)
        return number

    method, seed = read("method"), read_number("seed") or 0.0
    if not seed.is_integer():
        raise DataError("has a seed that is no whole number.", where=row.where)
    model = read("model", UNNAMED_MODEL.name)
    if method in baselines.NAMES - baselines.WITH_MODEL:
        model = NO_MODEL.name
    score = values.get("score")
    return JudgedRow(
        task=read("task", TASK),
        model=model,
        method=method,
        seed=int(seed),
        fold=read("fold", ""),
        id=read("id"),
        label="" if of_scores else read("label"),
        prediction=str(float(score) if isinstance(score, bool) else read("score"))
        if of_scores
        else read("prediction"),
        cluster=read("cluster", ""),
        costs=(read_number("seconds"), read_number("peak_bytes")),
        where=row.where,
    )


def _check_answers(rows: Sequence[JudgedRow]) -> None:
    """Check that the rows of a task agree, each answer is there once, and costs are of runs."""
    first: dict[str, JudgedRow] = {}
    answers: dict[tuple[object, ...], JudgedRow] = {}
    of_run: dict[tuple[object, ...], JudgedRow] = {}
    for column in ("fold", "cluster"):
        bare = [row for row in rows if not getattr(row, column)]
        if 0 < len(bare) < len(rows):
            raise DataError(
                f"has no {column}, and other rows have one.",
                where=bare[0].where,
                remedy=f"Give each row its {column}, or none.",
            )
    if len({row.cluster or row.id for row in rows}) < 2:
        raise DataError(
            "has one example, or one cluster, so nothing is known of others.",
            where=rows[0].task,
            remedy="Give at least two; an interval that helps needs dozens.",
        )
    for row in rows:
        example = first.setdefault(row.id, row)
        for column in ("label", "cluster"):
            values = getattr(example, column), getattr(row, column)
            if values[0] != values[1]:
                raise DataError(
                    f'{row.id} has the {column} "{values[1]}", and "{values[0]}" at '
                    f"{example.where}.",
                    where=row.where,
                    remedy="Rows of one id are the same example: correct the ids or the values.",
                )
        earlier = answers.setdefault((*row.run, row.id), row)
        if earlier is not row:
            raise DataError(
                f"{row.run_title} answers {row.id} twice, first at {earlier.where}.",
                where=row.where,
                remedy="Give runs their seeds, or remove one of the rows.",
            )
        begun = of_run.setdefault(row.run, row)
        if begun.costs != row.costs:
            raise DataError(
                f"{row.run_title} has other seconds or peak_bytes than at {begun.where}.",
                where=row.where,
                remedy="Write those of the run in each of its rows.",
            )


def _choose_metric(rows: Sequence[JudgedRow], name: str | None, notes: list[Finding]) -> Metric:
    """Choose the metric of a task's answers, and note assumptions."""
    where = rows[0].task
    if name is not None:
        fitting = [m.name for m in metrics.built_in() if m.selectable and m.target_type in KINDS]
        require_name(
            "metric",
            name,
            [m for m in fitting if metrics.get(m).reads == "prediction"],
            spell_option("metric"),
        )
        chosen = metrics.get(name)
        if chosen.require is not None:
            chosen.require()
        return chosen
    values = [value for row in rows for value in (row.label, row.prediction)]
    numbers = [parse_number(value) for value in values]
    labels, ids = {row.label for row in rows}, {row.id for row in rows}
    if all(number is not None for number in numbers):
        if any(number != int(number) for number in numbers if number is not None):
            return metrics.get("r2")
        if len(labels) > 2:
            what = "labels are whole numbers, and are read as classes."
            remedy = f"{spell_option('metric', 'r2')} reads them as numbers."
            notes.append(Finding("note", "numbers-as-classes", where, what, remedy))
    if len(labels) > MOST_CLASSES and 2 * len(labels) > len(ids):
        raise DataError(
            f"{len(labels)} labels of {len(ids)} rows are rather texts than classes.",
            where=where,
            remedy=f"Name their metric: {spell_option('metric', 'exact_match')}, token_f1, chrf "
            "..., or accuracy.",
        )
    return metrics.get("accuracy")


def _build_records(rows: Sequence[JudgedRow], metric: Metric | None) -> list[Record]:
    names = [*dict.fromkeys(row.label for row in rows)]
    names = sorted(names, key=_order) + sorted(
        {row.prediction for row in rows} - {*names}, key=_order
    )
    places = {label: place for place, label in enumerate(names)}
    ids = [*dict.fromkeys(row.id for row in rows)]
    order = {uid: place for place, uid in enumerate(ids)}
    clusters = {key: place for place, key in enumerate(dict.fromkeys(r.cluster for r in rows))}
    metric = metric or _metric_of_scores(rows)
    kind = KINDS.get(metric.target_type, "scores")
    task = TaskSpec.model_construct(
        name=rows[0].task,
        kind=kind,
        metric=metric.name,
        labels=tuple(names) if kind == KINDS["label"] else None,
    )

    def read_answer(text: str, where: str) -> Answer:
        if kind == KINDS["label"]:
            return places[text]
        if kind == KINDS["answer"]:
            return text
        number = parse_number(text or 0)
        if number is None:
            raise DataError(f'has "{text}" where {metric.title} needs a number.', where=where)
        return number

    of_runs: dict[tuple[str, str, int, str], list[JudgedRow]] = {}
    for row in rows:
        of_runs.setdefault(row.run, []).append(row)
    outers = _place_folds(of_runs)
    _check_complete(of_runs, outers, order)
    records = []
    for (model, method, seed, _), answered in of_runs.items():
        answered = sorted(answered, key=lambda row: order[row.id])
        run = Run.model_construct(  # checked above; a task without data is no study's
            stage="final",
            task=task,
            model=NO_MODEL if model == NO_MODEL.name else ModelSpec(name=model, label=model),
            # Only baselines are what their names say: any other is no method of paretune.
            method=MethodSpec(name=method if method in baselines.NAMES else JUDGED, label=method),
            learning_rate=None,
            seed=seed,
            outer=outers[answered[0].run],
        )
        predictions = Predictions(
            uid=tuple(row.id for row in answered),
            label=tuple(read_answer(row.label, row.where) for row in answered),
            prediction=tuple(read_answer(row.prediction, row.where) for row in answered),
            scores=((),) * len(answered),
            cluster=tuple(clusters[row.cluster] for row in answered) if rows[0].cluster else (),
        )
        content = [run.canonical_form(), predictions.uid, predictions.prediction]
        records.append(
            Record(
                run_id=digest(content)[:20],
                run=run,
                state="done",
                fail_kind=None,
                message=None,
                measured=_read_costs(*answered[0].costs),
                predictions={"test": predictions},
            )
        )
    return records


def _order(text: str) -> tuple[float, str]:
    """Numbers by their value, then texts."""
    number = parse_number(text)
    return (float("inf"), text) if number is None else (number, text)


def _metric_of_scores(rows: Sequence[JudgedRow]) -> Metric:
    """The share that is right where all scores are 0 or 1, otherwise their mean."""
    values = set()
    for row in rows:
        score = parse_number(row.prediction)
        if score is None or not 0 <= score <= 1:
            raise DataError(
                f'has the score "{row.prediction}", which is not between 0 and 1.',
                where=row.where,
                remedy="Scale all scores: (score - lowest) / (highest - lowest).",
            )
        values.add(score)
    return SHARE_RIGHT if values <= {0.0, 1.0} else MEAN_SCORE


def _place_folds(
    of_runs: Mapping[tuple[str, str, int, str], Sequence[JudgedRow]],
) -> dict[tuple[str, str, int, str], OuterFold | None]:
    """The outer fold of each run; None where rows have no folds, or all the same.

    A repeat answers all folds once: it has a seed for all of them, or one for each. Methods may
    differ in that: what draws nothing has one seed.
    """
    folds = sorted({fold for _, _, _, fold in of_runs}, key=_order)
    if len(folds) < 2:
        return dict.fromkeys(of_runs)
    places = Counter((model, method, seed) for model, method, seed, _ in of_runs)
    for_all_folds = {place[:2] for place, count in places.items() if count > 1}
    seeds: dict[tuple[bool, str], set[int]] = {}
    for model, method, seed, fold in of_runs:
        seeds.setdefault(((model, method) in for_all_folds, fold), set()).add(seed)
    return {
        run: OuterFold.model_construct(
            folds=len(folds),
            index=folds.index(run[3]),
            repeat=sorted(seeds[run[:2] in for_all_folds, run[3]]).index(run[2]),
        )
        for run in of_runs
    }


def _check_complete(
    of_runs: Mapping[tuple[str, str, int, str], Sequence[JudgedRow]],
    outers: Mapping[tuple[str, str, int, str], OuterFold | None],
    ids: Mapping[str, int],
) -> None:
    """Check that each run, or all folds of a repeat together, has answered every row once."""
    wholes: dict[tuple[object, ...], list[JudgedRow]] = {}
    for run, rows in of_runs.items():
        outer = outers[run]
        key = (*run[:2], run[2] if outer is None else outer.repeat)
        wholes.setdefault(key, []).extend(rows)
    for whole in wholes.values():
        answered = {row.id: row for row in whole}
        if len(answered) < len(whole):
            twice = next(row for row in whole if answered[row.id] is not row)
            raise DataError(
                f"{twice.method} answers {twice.id} in fold {twice.fold}, and again in fold "
                f"{answered[twice.id].fold}.",
                where=twice.where,
                remedy="A row is in one fold; repeats of all folds have seeds of their own.",
            )
        if missing := [uid for uid in ids if uid not in answered]:
            title = replace(whole[0], fold="").run_title
            raise DataError(
                f"{title} lacks {len(missing):,} of {pluralise(len(ids), 'row')} that others have "
                f"answered, the first is {missing[0]}.",
                where=whole[0].task,
                remedy="Methods are compared on the same rows: add them, or leave them out "
                "everywhere.",
            )


def _read_costs(seconds: float | None, peak_bytes: float | None) -> Measurements:
    measured = Measurements()
    if seconds is not None:
        measured["wall_seconds"] = {"train": seconds}
    if peak_bytes is not None:
        measured["phases"] = {"train": {"peak_bytes": int(peak_bytes)}}
    return measured
