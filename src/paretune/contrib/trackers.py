"""``track``: copy the ended runs of a store to an experiment tracker. Needs no torch.

The store is the source of truth. A tracker gets a row for each run and knows it by the run's id:
tracking again adds what is new, and writes a copy that was interrupted anew. A score stands beside
its interval over examples (``test/primary_low``, ``test/primary_high``) and their number
(``test/n``). What was not measured is absent, never 0.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paretune.analysis.statistics.intervals import score_interval
from paretune.errors import TrackerError, require_name, spell_option
from paretune.execution.progress import describe_run
from paretune.verbs.options import Folder, StoreFolder, StudyLike
from paretune.verbs.report import load_results
from paretune.verbs.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType


WANDB_WHOLE = "paretune-whole"
"""A file in the folder of a run that W&B's own process, which writes it, has finished."""


@dataclass(frozen=True, repr=False)
class TrackResult(Result):
    """Runs that a tracker has.

    Attributes:
        tracker: its name.
        output: where they are.
        new: copied now.
        there: copied before.
    """

    tracker: str
    output: str
    new: int
    there: int

    def describe(self) -> Iterable[RenderableType]:
        """One line."""
        yield f"{self.new} copied, {self.there} there before; {self.tracker} in {self.output}"


@dataclass(frozen=True)
class RunRow:
    """An ended run as flat values; nested ones by their path (``phases/train/peak_bytes``).

    Attributes:
        settings: what it was asked to do, and its outcome.
        numbers: scores, seconds and bytes as in the store.
        curve: training loss and selection scores, by step.
    """

    run_id: str
    name: str
    settings: Mapping[str, str | int | float | bool]
    numbers: Mapping[str, float]
    curve: Mapping[int, Mapping[str, float]]


def track(
    study: StudyLike,
    *,
    to: Annotated[Literal["mlflow", "wandb", "trackio"], typer.Option()],
    output: Folder,
    store: StoreFolder = None,
) -> TrackResult:
    """Copy results into an experiment tracker.

    Settings, curves, scores and costs of the runs that have ended; one that stopped with an error
    waits until it has been repeated. The store is only read; what the tracker has already is left
    alone, so the command may be repeated. Nothing is sent anywhere, except to an address that
    --output names.

    Args:
        to: The tracker; its package is installed apart.
        output: Folder to write into; for mlflow also a server's address.

    Raises:
        StudyError: no such study or tracker.
        StoreError: the store is missing or damaged, or never ran this study.
        TrackerError: the tracker's library is not installed, or refused a run; the same call
            continues from there.
    """
    require_name("tracker", to, TRACKERS, spell_option("to"))
    results = load_results(study, store)
    metrics = {cell.task: cell.metric for cell in results.cells}
    rows = []
    for record in results.records:
        if record.outcome == "error":
            continue
        metric = metrics[record.run.task.key]
        scores = {part: dict(values) for part, values in record.result.get("scores", {}).items()}
        for part in scores.keys() & record.predictions.keys():
            interval = score_interval([record.predictions[part]], metric)
            scores[part] |= {"primary_low": interval.low, "primary_high": interval.high}
        numbers = {key: value for key, value in record.result.items() if key != "scores"}
        settings = {**record.run.canonical_form(), "metric": metric, "outcome": record.outcome}
        row = RunRow(
            run_id=record.run_id,
            name=describe_run(record.run),
            settings={
                path: value if isinstance(value, str | int | float) else ", ".join(map(str, value))
                for path, value in _flatten(settings)
                if value is not None
            },
            numbers=_keep_numbers({**numbers, **record.measured, **scores}),
            curve={
                point["step"]: _keep_numbers({"curve": {**point, "step": None}})
                for point in record.result.get("curve", ())
            },
        )
        rows.append(row)
    address = str(output) if "://" in str(output) else str(Path(output).resolve())
    try:
        new = TRACKERS[to](rows, address, results.study.study)
    except ImportError as error:
        raise TrackerError(
            f"the package of {to} cannot be imported ({error}).",
            where=spell_option("to", to),
            remedy=f"The extra paretune[{to}] has it: pip install {to}.",
        ) from None
    except Exception as error:
        raise TrackerError(
            f"{to} refused a run ({error}).",
            where=str(output),
            remedy="The same command continues from there.",
        ) from error
    return TrackResult(to, str(output), new, len(rows) - new)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _keep_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        path: float(value)
        for path, value in _flatten(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _log_to_mlflow(rows: Sequence[RunRow], output: str, study: str) -> int:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read at import
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    if "://" not in output:
        Path(output).mkdir(parents=True, exist_ok=True)
        output = f"sqlite:///{output}/mlflow.db"
    client: Any = MlflowClient(tracking_uri=output)
    experiment = client.get_experiment_by_name(study)
    place = experiment.experiment_id if experiment else client.create_experiment(study)
    new = 0
    for row in rows:
        copies = client.search_runs([place], f"tags.`paretune.identity` = '{row.run_id}'")
        if any(copy.info.status == "FINISHED" for copy in copies):
            continue
        for copy in copies:  # interrupted
            client.delete_run(copy.info.run_id)
        tags = {"paretune.identity": row.run_id}
        info = client.create_run(place, run_name=row.name, tags=tags).info
        params = [Param(name, str(value)) for name, value in row.settings.items()]
        client.log_batch(info.run_id, params=params)
        for step, values in [*row.curve.items(), (0, row.numbers)]:
            metrics = [Metric(name, value, info.start_time, step) for name, value in values.items()]
            client.log_batch(info.run_id, metrics)
        client.set_terminated(info.run_id, "FINISHED")
        new += 1
    return new


def _log_to_wandb(rows: Sequence[RunRow], output: str, study: str) -> int:
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # read at import
    import wandb

    Path(output).mkdir(parents=True, exist_ok=True)
    # Only the row: not the console, the repository or the machine.
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )
    written = []
    for row in rows:
        copies = list(Path(output, "wandb").glob(f"offline-run-*-{row.run_id}"))
        if any((copy / WANDB_WHOLE).exists() for copy in copies):
            continue
        for copy in copies:  # interrupted
            shutil.rmtree(copy)
        run = wandb.init(
            project=study,
            id=row.run_id,
            name=row.name,
            config=dict(row.settings),
            dir=output,
            mode="offline",
            reinit="create_new",
            settings=settings,
        )
        for step, values in row.curve.items():
            run.log(dict(values), step=step)
        run.summary.update(dict(row.numbers))
        run.finish()
        written.append(Path(run.dir).parent)
    wandb.teardown()  # waits for W&B's process
    for copy in written:
        (copy / WANDB_WHOLE).touch()
    return len(written)


def _log_to_trackio(rows: Sequence[RunRow], output: str, study: str) -> int:
    os.environ["TRACKIO_DIR"] = output  # read at import
    import trackio

    if str(trackio.TRACKIO_DIR) != output:
        raise ValueError(f"in this process it writes to {trackio.TRACKIO_DIR}")
    trackio.SQLiteStorage.validate_project_name(study)
    copies = {copy["id"] for copy in trackio.SQLiteStorage.get_run_records(study)}
    missing = [row for row in rows if row.run_id not in copies]
    for row in missing:  # each in one transaction, as trackio imports finished runs
        trackio.SQLiteStorage.bulk_log(
            study,
            row.name,
            metrics_list=[*row.curve.values(), row.numbers],
            steps=[*row.curve, max(row.curve, default=0) + 1],
            config=row.settings,
            run_id=row.run_id,
        )
    return len(missing)


TRACKERS: Mapping[str, Callable[[Sequence[RunRow], str, str], int]] = {
    "mlflow": _log_to_mlflow,
    "wandb": _log_to_wandb,
    "trackio": _log_to_trackio,
}
"""By their names, which are those of the packages: each takes the rows, a folder or an address, and
the name of the study; logs the runs that it lacks; and says how many these were."""
