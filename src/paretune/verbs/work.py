"""``work``: this machine executes runs of a study that is served, or that a bundle brought."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from paretune.errors import StoreError, StudyError
from paretune.verbs.workers import WorkerOptions, Workers

if TYPE_CHECKING:
    from paretune.execution.executor import StudySummary
    from paretune.execution.progress.observer import Observer
    from paretune.planning.context import StudyContext
    from paretune.planning.inputs import StudyInputs
    from paretune.store import Storage
    from paretune.store.remote.client import RemoteStore
    from paretune.store.remote.transport import PatientTransport


@dataclass(frozen=True)
class WorkResult:
    """What came of the study while this machine worked on it.

    Attributes:
        folder: of this machine: checkpoints and the study's data; of a bundle, the results.
        ended: runs that ended meanwhile, on any machine.
        left: runs that had not ended when this machine stopped.
    """

    study: str
    folder: Path
    ended: int
    left: int


@dataclass(frozen=True)
class WorkPlan:
    """How a machine works.

    Attributes:
        models: folders or names by the name in the study, where they differ here.
        minutes: after which all runs in hand are given back; None: no limit.
        fleet: as of :func:`paretune.run`.
    """

    workers: Workers
    models: Mapping[str, str]
    minutes: float | None = None
    fleet: int | None = None


def work(
    server: str,
    *,
    token_file: Path | str,
    folder: Path | str | None = None,
    models: Mapping[str, str] | None = None,
    minutes: float | None = None,
    fleet: int | None = None,
    observer: Observer | None = None,
    **options: Unpack[WorkerOptions],
) -> WorkResult:
    """Execute runs of a served study until none is left, or the time does not suffice for another.

    Args:
        server: its address, as ``serve`` names it.
        token_file: with its token, readable by its owner alone.
        folder: of this machine, for checkpoints and the study's data; by default one in
            ``$PARETUNE_HOME``, named after server and host.
        models: a model's folder or name here, by its name in the study, where they differ.
        minutes: after which this machine stops. Runs that would take longer are left to others;
            what is in hand at the end is given back with its checkpoint.
        fleet: maximum number of runs that train together in one worker, as of :func:`run`.
        options: ``workers``, ``threads`` ... (:class:`WorkerOptions`).

    Raises:
        StudyError: a wrong address or token file, another version of paretune, or a method whose
            code differs.
        ModelError: a model is missing here, or has other files.
        StoreError: the server does not answer, or refuses the token.
        KeyboardInterrupt: stopped; the runs in hand were given back.
    """
    from paretune.execution.progress.observer import SilentObserver
    from paretune.store.remote.address import ServerAddress
    from paretune.store.remote.transport import check_url

    begun, observer = time.monotonic(), observer or SilentObserver()
    address = ServerAddress(check_url(server), str(Path(token_file).resolve()))
    transport = address.connector()()
    study = _get_study(transport, address.url)
    # After what costs no seconds: these import torch.
    from paretune.planning.context import StudyContext
    from paretune.planning.inputs import StudyInputs, place_inputs

    plan = WorkPlan(Workers.resolve(**options), models or {}, minutes, fleet)
    folder = Path(folder) if folder is not None else _default_folder(study, address.url)
    inputs = StudyInputs.from_json(study["inputs"])
    _fetch_files(inputs, folder / "inputs", transport)
    transport.close()
    context = StudyContext(offline=plan.workers.offline)
    places = place_inputs(inputs, folder / "inputs", plan.models, context)
    address = ServerAddress(address.url, address.token_file, places)
    address.save(folder)
    with address.open(folder) as store:
        observer.note(f'Working on "{study["name"]}" of {address.url}; this machine\'s: {folder}')
        summary = execute_runs(
            store,
            study["study_hash"],
            study["options"],
            plan,
            context,
            observer,
            begun=begun,
            add_runs=lambda: _wait_for_runs(store, study["study_hash"]),
        )
    return summarise(study["name"], folder, summary)


def execute_runs(
    store: Storage,
    study_hash: str,
    options: Mapping[str, Any],
    plan: WorkPlan,
    context: StudyContext,
    observer: Observer,
    *,
    begun: float,
    add_runs: Any,
) -> StudySummary:
    """Execute the runs of a storage in worker processes of this machine.

    Args:
        options: of the study: ``keep_bytes``, ``cost_seconds``.
        begun: when the minutes of the plan began, by the monotonic clock.
        add_runs: as of :class:`~paretune.execution.executor.StudyCallbacks`.
    """
    from paretune.execution.executor import StudyCallbacks
    from paretune.execution.local import LocalExecutor
    from paretune.planning import preflight
    from paretune.planning.inputs import check_identity
    from paretune.planning.predicted_cost import CostPredictor

    statuses = store.load_statuses(study_hash)
    # What this machine lacks is found before it takes a run, which would fail for everybody.
    check_identity([(status.run_id, status.run) for status in statuses], context)
    workers = plan.workers
    coming = [status.run for status in statuses if not status.ended]
    preflight.check_models(coming, context)
    preflight.check_optional_metrics([(run.task, run.generation) for run in coming], context)
    executor = LocalExecutor(
        workers.count(coming, CostPredictor(context, device=workers.device)),
        threads=workers.threads,
        fleet=plan.fleet,
        keep_bytes=options["keep_bytes"],
        cost_seconds=options["cost_seconds"],
        until=None if plan.minutes is None else begun + 60 * plan.minutes,
    )
    callbacks = StudyCallbacks(observer=observer, add_runs=add_runs, planned_runs=len(statuses))
    return executor.execute(store, study_hash, callbacks)


def summarise(study: str, folder: Path, summary: StudySummary) -> WorkResult:
    """What came of it."""
    left = summary.total - sum(summary.outcomes.values())
    return WorkResult(study, folder, summary.ended, left)


def _get_study(transport: PatientTransport, url: str) -> dict[str, Any]:
    """What the server says of its study.

    Raises:
        StudyError: it is another version's, or none.
    """
    from importlib.metadata import version

    from paretune.store.remote.messages import PROTOCOL, Request, decode_json

    response = transport.send(Request("GET", "/v1/study"))
    try:
        study: Any = decode_json(response.body) if isinstance(response.body, bytes) else None
    except ValueError:
        study = None
    if response.status != 200 or not isinstance(study, dict) or "protocol" not in study:
        raise StudyError(
            "no paretune server answers there.",
            where=url,
            remedy="Give the address that `paretune serve` prints.",
        )
    if (study["protocol"], study["version"]) != (PROTOCOL, version("paretune")):
        raise StudyError(
            f"runs paretune {study['version']}; this is {version('paretune')}.",
            where=url,
            remedy="Install the same version on all machines.",
        )
    return study


def _fetch_files(inputs: StudyInputs, folder: Path, transport: PatientTransport) -> None:
    """Fetch what is not here yet."""
    from paretune.store.remote.messages import Request

    folder.mkdir(parents=True, exist_ok=True)
    for sha256, name in inputs.file_names().items():
        path = folder / name
        if path.is_file() and _hash_file(path) == sha256:
            continue
        response = transport.send(Request("GET", f"/v1/files/{sha256}"), path)
        if response.status != 200 or _hash_file(path) != sha256:
            raise StoreError(
                "the study's data did not arrive as they are there.",
                where=name,
                remedy="Start the worker again.",
            )


def _wait_for_runs(store: RemoteStore, study_hash: str) -> int:
    """Where all known runs have ended, wait until the server has added more, or says it is over."""
    while True:
        complete = store.is_complete()
        if complete or any(not status.ended for status in store.load_statuses(study_hash)):
            return 0
        time.sleep(store.poll_seconds)


def _default_folder(study: Mapping[str, Any], url: str) -> Path:
    from paretune.data.sources.cache_dir import data_home

    name = hashlib.sha256(f"{url} {study['study_hash']}".encode()).hexdigest()[:16]
    return data_home() / "work" / f"{name}-{socket.gethostname()}"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
