"""``work --bundle``: execute the runs of a bundle into a store of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from paretune.errors import StudyError
from paretune.verbs.work import WorkPlan, WorkResult, execute_runs, summarise
from paretune.verbs.workers import WorkerOptions, Workers

if TYPE_CHECKING:
    from paretune.execution.bundle import Bundle
    from paretune.execution.progress.observer import Observer
    from paretune.planning.context import StudyContext
    from paretune.store import Store


def work_bundle(
    bundle: Path | str,
    *,
    folder: Path | str | None = None,
    models: Mapping[str, str] | None = None,
    minutes: float | None = None,
    fleet: int | None = None,
    observer: Observer | None = None,
    **options: Unpack[WorkerOptions],
) -> WorkResult:
    """Execute the runs of a bundle, or go on with them; nothing is asked of the network.

    Args:
        bundle: the file that ``pack`` wrote.
        folder: of the results, for ``merge``; by default beside the bundle, ``NAME-results``.
        models, minutes, fleet, options: as of :func:`paretune.verbs.work.work`.

    Raises:
        StudyError: the bundle is another version's, or a method's code differs.
        ModelError: a model is missing here, or has other files.
        StoreError: the bundle or the folder cannot be used.
        KeyboardInterrupt: stopped; the same call continues.
    """
    from paretune.execution.progress.observer import SilentObserver
    from paretune.planning.context import StudyContext

    begun, file = time.monotonic(), Path(bundle)
    plan = WorkPlan(Workers.resolve(**options), models or {}, minutes, fleet)
    observer = observer or SilentObserver()
    folder = file.with_name(f"{file.stem}-results") if folder is None else Path(folder)
    context = StudyContext(offline=plan.workers.offline)
    with unpack(file, folder, plan.models, context) as (packed, store):
        name, study_hash = packed.study["name"], packed.study["study_hash"]
        observer.note(f'{len(packed.runs)} runs of "{name}"; results in {folder}')
        summary = execute_runs(
            store, study_hash, packed.options, plan, context, observer, begun=begun, add_runs=_none
        )
    return summarise(name, folder, summary)


@contextmanager
def unpack(
    file: Path, folder: Path, models: Mapping[str, str], context: StudyContext
) -> Iterator[tuple[Bundle, Store]]:
    """A bundle and the store of its runs, which is made in the folder where it is not there yet.

    Raises:
        ParetuneError: as of :func:`work_bundle`.
    """
    from importlib.metadata import version

    from paretune.execution.bundle import read_bundle, unpack_checkpoint, unpack_inputs
    from paretune.planning.inputs import StudyInputs, place_inputs
    from paretune.store import Store
    from paretune.study import Run

    packed = read_bundle(file)
    if packed.version != version("paretune"):
        raise StudyError(
            f"was packed by paretune {packed.version}; this is {version('paretune')}.",
            where=str(file),
            remedy="Install the same version on both machines.",
        )
    inputs = StudyInputs.from_json(packed.inputs)
    unpack_inputs(file, inputs.file_names(), folder / "inputs")
    places = place_inputs(inputs, (folder / "inputs").resolve(), models, context)
    runs = [(run_id, places.relocate(Run.model_validate(run))) for run_id, run in packed.runs]
    study_hash = packed.study["study_hash"]
    with Store.open(folder, create=True) as store:
        known = {status.run_id for status in store.load_statuses(study_hash)}
        store.save_study(**packed.study)
        store.add_runs(study_hash, runs)
        for run_id in packed.checkpoints:
            if run_id not in known:
                unpack_checkpoint(file, packed, run_id, store.checkpoint_path(run_id))
        for key, value in packed.settings.items():
            store.set_default_setting(key, value)
        yield packed, store


def _none() -> int:
    """A bundle gets no further runs."""
    return 0
