"""``verify``: whether a store still says what was written to it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paretune.study import Study
from paretune.verbs import study_input


@dataclass(frozen=True)
class VerifyResult:
    """``problems``: a sentence each; ``set_aside``: what was put away; ``runs`` that were read."""

    folder: Path
    runs: int
    problems: tuple[str, ...]
    set_aside: tuple[str, ...] = ()


def verify(
    study: Study | Path | str, *, store: Path | str | None = None, set_aside: bool = False
) -> VerifyResult:
    """Read every record and every blob of a store, and compare them with what was written.

    Args:
        study: a study, its file, or the name of a shipped one; all studies of its store are read.
        store: folder of the results; ``studies/NAME`` by default.
        set_aside: put damaged records away, so that ``run`` makes them again.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing, cannot be read at all or, to set aside, be written.
    """
    from paretune.store import Store

    folder = study_input.store_folder(study_input.resolve_study(study), store)
    with Store.open(folder) as opened:
        away = opened.set_aside() if set_aside else []
        return VerifyResult(folder, opened.count_ended(), tuple(opened.verify()), tuple(away))
