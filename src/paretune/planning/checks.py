"""Checks a prepared study before it trains; results are not stored.

It checks what metrics need, models and splits. Where a user asks for it, each method takes one step
on two examples, and it reports which texts are cut and which way a model translates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from paretune import methods, metrics
from paretune.data.audit import audit_truncation
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.errors import ModelError, ParetuneError
from paretune.methods import Trains
from paretune.models.load import LoadedModel
from paretune.models.pass_context import PassContext
from paretune.objectives.readouts import for_readout
from paretune.planning.prepare import PreparedStudy
from paretune.preparation import ProcessCache
from paretune.study import Generation, ModelSpec, Run, TaskSpec
from paretune.training.evaluation.evaluator import prepare_metrics
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward.passes import Compute, StepBatch
from paretune.training.forward.select import forward_for, make_forward
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import allows_bf16_weights, prepare, usable_length
from paretune.training.run_state import DivergedError, RunOptimizer
from paretune.training.word_tables import WordTable, replace_tables, train_occurring_rows


def check_optional_metrics(
    datasets: Iterable[Dataset],
    generation: Generation,
    caches: ProcessCache,
    *,
    offline: bool = True,
) -> None:
    """Check before training that packages and data that the metrics need are installed.

    Args:
        generation: names further metrics of texts that are generated.
        offline: do not fetch the encoder of BERTScore; a run never fetches it.

    Raises:
        MissingDependencyError: NLTK, its data, WordNet or a package that a task's metric needs is
            missing, or lacks the language.
        ModelError: the encoder of BERTScore is missing.
    """
    for dataset in datasets:
        require = metrics.get(dataset.metric).require
        if require is not None:
            require()
        if not generation.metrics:
            continue
        if generation.bertscore_model is not None:
            caches.source(ModelSpec(name=generation.bertscore_model), offline=offline)
        if dataset.objective.generates:
            prepare_metrics(generation, dataset.language, caches)


def check_models(runs: Iterable[Run], caches: ProcessCache) -> None:
    """Open the model of every run without its weights, so that unusable models are found early.

    Raises:
        ModelError: a model cannot be used; the error names each of them.
    """
    distinct = {
        (run.model.model_dump_json(), run.task.model_dump_json(), run.readout): run for run in runs
    }
    errors: dict[str, ModelError] = {}
    for run in distinct.values():
        if not run.uses_model:
            continue
        try:
            caches.outline(run.model, caches.dataset(run.task), readout=run.readout)
        except ModelError as error:
            errors.setdefault(str(error), error)
    if len(errors) > 1:
        lines = "\n".join(f"  {message}" for message in errors)
        raise ModelError(f"{len(errors)} models cannot be used:\n{lines}")
    for only in errors.values():
        raise only


def check_splits(runs: Iterable[Run], caches: ProcessCache) -> None:
    """Cut the rows of each task as the runs will, so that errors of splits are found early.

    Raises:
        DataError: a part would be empty.
    """
    for run in {(r.task.key, r.outer, r.split_seed, r.selection): r for r in runs}.values():
        caches.parts(run)


@dataclass(frozen=True)
class DryStep:
    """One training step of a cell.

    Attributes:
        summary: what is trained (``in 24 layers, 147,456 method + 148,995 head parameters``), or
            that the first step is not finite; "" after an error.
        findings: texts that are truncated because the method leaves fewer positions for them.
        error: None after a successful step.
    """

    run: Run
    summary: str
    findings: tuple[Finding, ...] = ()
    error: ParetuneError | None = None


def take_dry_step(run: Run, caches: ProcessCache, device: str = "cpu") -> DryStep:
    """Prepare the run and take one training step on its two longest examples.

    The step has the precision of the run, on the device where it would train.

    Raises:
        ParetuneError: the method cannot serve this model or task.
    """
    parts = caches.parts(run)
    dataset = caches.dataset(run.task)
    outline = caches.outline(run.model, dataset, readout=run.readout)
    if methods.configure_method(run.method).trains is Trains.NOTHING:
        # There is no step to try, and weights may take minutes to read and to quantise.
        room = usable_length(run, outline, 0)
        return DryStep(run, "trains nothing", _find_truncations(run, outline, caches, room, 0))
    objective = caches.objective(run)
    loaded = caches.run_model(run, bf16=allows_bf16_weights(run))
    prepared = prepare(run, loaded, device)
    forward = make_forward(prepared, Compute.of(run, device), run.training.backend)
    virtual_tokens, tables = prepared.injection.positions_before_text, list[WordTable]()
    try:
        encoded = caches.encode(
            parts.train[:16],
            loaded,
            caches.source(run.model),
            prepared.max_length,
            objective.encoder("train"),
        )
        longest = sorted(range(len(encoded.lengths)), key=lambda i: -encoded.lengths[i])[:2]
        batch = StepBatch(
            data=encoded,
            indices=longest,
            seed=run.seed,
            objective=objective,
            loss_options=objective.loss_options(
                parts.train,
                dataset.labels,
                run.training.label_smoothing,
                run.training.class_weights,
            ),
            micro_batch=2,
        )
        tables = train_occurring_rows(prepared, encoded, run.training.backend)
        loaded.model.train()
        losses = accumulate_gradients(batch, forward)
        num_classes = prepared.num_classes(objective, len(dataset.labels))
        trained = replace_tables(prepared.trained, tables)
        RunOptimizer(trained, run.training, num_classes).step(0, 0.0, losses)
        method = sum(p.numel() for p in prepared.injection.parameters.values())
        head = sum(p.numel() for p in prepared.head.values())
        adapters = len(prepared.injection.adapters)
        places = f"in {adapters} layers, " if adapters else ""
        places += f"{virtual_tokens} virtual tokens, " if virtual_tokens else ""
        summary = f"{places}{method:,} method + {head:,} head parameters"
    except DivergedError as error:
        summary = str(error)
    finally:
        loaded.model.eval()
        for table in tables:
            table.restore()
        prepared.undo()
        if prepared.method.trains is Trains.EVERYTHING:
            caches.drop_model()
    room = prepared.max_length
    return DryStep(run, summary, _find_truncations(run, outline, caches, room, virtual_tokens))


def _find_truncations(
    run: Run, outline: LoadedModel, caches: ProcessCache, room: int, virtual_tokens: int
) -> tuple[Finding, ...]:
    """Find texts that are truncated with this method, but not without its virtual tokens.

    ``room`` is the number of tokens of a sequence that are left for the text.
    """
    if room >= _text_length(run.training.max_length, outline):
        return ()
    dataset, objective = caches.dataset(run.task), caches.objective(run)
    what = (
        f"{run.method.key}: {virtual_tokens} virtual tokens leave {room} of "
        f"{outline.anatomy.max_length} positions for the text. "
    )
    remedy = "Use fewer virtual tokens, or compare it knowing that it reads less."
    return tuple(
        replace(finding, code="less-room", what=what + finding.what, remedy=remedy)
        for finding in audit_truncation(
            dataset, outline.tokenizer, room, outline.direction.prefix, objective
        )
    )


@dataclass(frozen=True)
class DirectionLosses:
    """Mean loss of a token, in nats, in the requested and in the opposite direction."""

    requested: float
    reversed: float
    pairs: int

    @property
    def looks_reversed(self) -> bool:
        """Whether the opposite direction is much likelier: by half a nat a token.

        A model that knows neither language finds both directions about equally unlikely; a model of
        the right direction is nats apart.
        """
        return self.reversed < self.requested - 0.5


def compare_directions(task: TaskSpec, model: ModelSpec, caches: ProcessCache) -> DirectionLosses:
    """Compute the losses of a pretrained model in both directions, on 64 training pairs."""
    dataset = caches.dataset(task)
    loaded = caches.model(model, dataset)
    pairs = [e for e in dataset.train if e.target is not None][:64]
    reversed_pairs = [
        replace(e, segments=((str(e.target), None),), target=e.segments[0][0]) for e in pairs
    ]
    length = min(128, loaded.anatomy.max_length or 128)
    forward = forward_for(loaded, PassContext(), Compute())
    requested, backwards = (
        evaluate(
            forward,
            caches.encode(examples, loaded, caches.source(model), length),
            dataset.objective.collector,
        ).mean
        for examples in (pairs, reversed_pairs)
    )
    return DirectionLosses(requested, backwards, len(pairs))


def find_truncations(
    prepared: PreparedStudy, task: TaskSpec, model: ModelSpec
) -> Iterator[Finding]:
    """Find texts that exceed the study's or the model's length, by the model's tokenizer."""
    dataset, study = prepared.datasets[task.key], prepared.study
    named = {method.name for method in study.methods}
    readouts = [
        cell.readout
        for cell in prepared.cells
        if cell.key[:2] == (task.key, model.key) and cell.method.name in named
    ]
    for readout in dict.fromkeys(readouts):
        loaded = prepared.caches.outline(model, dataset, readout=readout)
        objective = for_readout(dataset.objective, readout, dataset.prompt)
        yield from audit_truncation(
            dataset,
            loaded.tokenizer,
            _text_length(study.training.max_length, loaded),
            loaded.direction.prefix,
            objective,
        )


def run_dry_steps(
    prepared: PreparedStudy, runs: Iterable[Run], device: str = "cpu"
) -> Iterator[DryStep]:
    """Take one step with every method on every model on every task of the study.

    Args:
        runs: all runs of the study: each cell's cost run is tried.
    """
    for run in runs:
        if run.stage == "cost" and isinstance(methods.get(run.method.name), methods.Method):
            try:
                yield take_dry_step(run, prepared.caches, device)
            except ParetuneError as error:
                yield DryStep(run, "", error=error)


def _text_length(max_length: int, loaded: LoadedModel) -> int:
    """Return how many tokens of text fit without virtual tokens."""
    return min(max_length, loaded.anatomy.max_length or max_length)
