"""``pack``: runs of a study in files, for machines that reach nobody."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study
from paretune.verbs.prepared import PreparedStudy, prepare_study

if TYPE_CHECKING:
    from paretune.execution.progress.observer import Observer
    from paretune.store import Claim

DEFAULT_DAYS = 7.0
MAX_DAYS = 30.0


@dataclass(frozen=True)
class PackedBundle:
    """A bundle that was written, with the number of its runs."""

    file: Path
    runs: int


def pack(
    study: Study | Path | str,
    output: Path | str,
    *,
    bundles: int = 1,
    runs: int | None = None,
    days: float = DEFAULT_DAYS,
    store: Path | str | None = None,
    online: bool = False,
    observer: Observer | None = None,
) -> tuple[PackedBundle, ...]:
    """Claim runs of a study and write them into bundles, with the data and settings they need.

    Costs are not packed: they are measured where the study is. Final runs whose learning rate is
    not chosen yet are packed by a second call, once the first bundles were merged.

    Args:
        study: a study, its file, or the name of a shipped one.
        output: the file; of several bundles, ``-1``, ``-2`` ... comes before its ending.
        bundles: among how many the runs are dealt out, in turn.
        runs: how many at most; None: all that can be claimed.
        days: how long the runs are kept for the bundles. Then they are claimable again.
        store: folder of the results; ``studies/NAME`` by default.
        online: models and data may be downloaded from the hub.

    Returns:
        The bundles; none where no run can be claimed.

    Raises:
        StudyError: no number of days that a bundle may have.
        ParetuneError: the study, its data, a model or a method cannot be used.
        StoreError: a bundle cannot be written; its runs are claimable again.
    """
    if not 0 < days <= MAX_DAYS:
        raise StudyError(f"is not between 0 and {MAX_DAYS:.0f}.", where=f"--days {days:g}")
    from paretune.execution.progress.observer import SilentObserver

    output = Path(output)
    observer = observer or SilentObserver()
    with prepare_study(study, store, observer, offline=not online) as prepared:
        prepared.add_runs(predict_seconds=True)
        opened, study_hash = prepared.store, prepared.study.study_hash
        claimable = [
            status.run_id
            for status in opened.load_statuses(study_hash)
            if status.is_claimable and status.stage != "cost"
        ]
        written = []
        for index in range(bundles):
            chosen = frozenset(claimable[:runs][index::bundles])
            bundle_id = uuid.uuid4().hex
            claims = _claim(prepared, chosen, bundle_id, days)
            if not claims:
                continue
            suffix = f"-{index + 1}" if bundles > 1 else ""
            file = output.with_name(f"{output.stem}{suffix}{output.suffix or '.zip'}")
            try:
                _write(prepared, claims, bundle_id, file)
            except BaseException:  # Ctrl-C too: nobody would execute them; raised again
                for claim in claims:
                    opened.release(claim)
                raise
            written.append(PackedBundle(file, len(claims)))
    return tuple(written)


def _claim(
    prepared: PreparedStudy, chosen: frozenset[str], bundle_id: str, days: float
) -> list[Claim]:
    from paretune.owner import BUNDLE_PREFIX

    return prepared.store.claim_matching(
        f"{BUNDLE_PREFIX}{bundle_id}",
        prepared.study.study_hash,
        lambda run_id, _: run_id in chosen,
        limit=len(chosen),
        lease_seconds=days * 24 * 3600,
    )


def _write(prepared: PreparedStudy, claims: Sequence[Claim], bundle_id: str, file: Path) -> None:
    from importlib.metadata import version

    from paretune.execution.bundle import Bundle, write_bundle
    from paretune.planning.inputs import collect_inputs
    from paretune.verbs.serve import INPUTS_FOLDER, worker_options

    store, study = prepared.store, prepared.study
    (entry,) = [one for one in store.list_studies() if one.study_hash == study.study_hash]
    inputs, files = collect_inputs(study, prepared.context, store.folder / INPUTS_FOLDER)
    names = inputs.file_names()
    run_ids = {claim.run_id for claim in claims}
    paths = {run_id: store.checkpoint_path(run_id) for run_id in run_ids}
    checkpoints = {run_id: path for run_id, path in paths.items() if path.is_file()}
    bundle = Bundle(
        bundle_id=bundle_id,
        version=version("paretune"),
        study={
            "study_hash": entry.study_hash,
            "name": entry.name,
            "text": entry.text,
            "canonical": study.canonical_form(),
        },
        inputs=inputs.to_json(),
        options=worker_options(study),
        runs=tuple((claim.run_id, claim.run.model_dump(mode="json")) for claim in claims),
        settings={
            key: value
            for key, value in store.get_settings("").items()
            if key.rpartition("/")[2] in run_ids
        },
        checkpoints={run_id: _hash_file(path) for run_id, path in checkpoints.items()},
    )
    packed = {names[sha256]: path for sha256, path in files.items()}
    write_bundle(file, bundle, packed, checkpoints)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
