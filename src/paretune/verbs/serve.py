"""``serve``: workers elsewhere execute a study, whose store this process alone touches."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import Study
from paretune.verbs.prepared import PreparedStudy, prepare_study
from paretune.verbs.run import RunResult

if TYPE_CHECKING:
    from paretune.execution.progress.observer import Observer
    from paretune.store.remote.service import ServedStudy

DEFAULT_PORT = 8765
INPUTS_FOLDER = "inputs"
"""Of a store: the files that its studies' workers fetch."""


def serve(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token_file: Path | str | None = None,
    retry: bool = False,
    online: bool = False,
    observer: Observer | None = None,
) -> RunResult:
    """Serve a study to ``paretune work`` until none of its runs is left.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default.
        host: the address of one interface of this machine; by default, nobody else reaches it.
        port: 0 for any that is free.
        token_file: whose token the workers need; made if missing. ``server-token`` in the folder of
            the results by default.
        retry: try runs again that failed or did not fit in memory, and those whose stored files are
            missing or damaged.
        online: models and data may be downloaded from the hub.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used, another process
            serves the store, or the address cannot be bound.
        KeyboardInterrupt: stopped; workers wait for the server to come back.
    """
    from importlib.metadata import version

    from paretune.execution.progress.observer import SilentObserver
    from paretune.execution.serving import ServingExecutor
    from paretune.store.remote.http_server import HttpServer, is_loopback
    from paretune.store.remote.service import StoreService
    from paretune.store.remote.token import TOKEN_FILE, create_token, hold_server_lock

    observer = observer or SilentObserver()
    with prepare_study(study, store, observer, offline=not online, retry=retry) as prepared:
        folder = prepared.store.folder
        file = folder / TOKEN_FILE if token_file is None else Path(token_file)
        with hold_server_lock(folder):
            token = create_token(file)
            service = StoreService(folder, token, _describe(prepared), version("paretune"))
            try:
                with HttpServer(service, host, port) as server:
                    observer.note(
                        f"{prepared.planned} runs, served at {server.url}; results in {folder}"
                    )
                    command = ["paretune", "work", "--server", server.url]
                    observer.note(
                        f"Workers: {shlex.join([*command, '--token-file', str(file.resolve())])}"
                    )
                    if not is_loopback(host):
                        observer.note(
                            "warning: what is sent is not encrypted; on a network that others use "
                            "too, put a TLS proxy in front (docs/cluster.md)."
                        )
                    summary = ServingExecutor(service).execute(
                        prepared.store,
                        prepared.study.study_hash,
                        prepared.callbacks(predict_seconds=True),
                    )
            finally:
                service.close()
    return RunResult(prepared.study, folder, summary)


def worker_options(study: Study) -> dict[str, int | float | None]:
    """What a study says to workers elsewhere of how runs are executed."""
    protocol = study.protocol
    return {"keep_bytes": protocol.keep_weights, "cost_seconds": protocol.cost_seconds}


def _describe(prepared: PreparedStudy) -> ServedStudy:
    from paretune.planning.inputs import collect_inputs
    from paretune.store.remote.service import ServedStudy

    study = prepared.study
    inputs, files = collect_inputs(study, prepared.context, prepared.store.folder / INPUTS_FOLDER)
    return ServedStudy(study.study_hash, inputs.to_json(), files, worker_options(study))
