"""``verify``: whether a store still says what was written to it. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paretune.data.cache_dir import activation_cache_home, converted_models_home
from paretune.files import has_valid_checksum
from paretune.models.sources.convert import is_whole_copy
from paretune.study import Study
from paretune.verbs import study_input


@dataclass(frozen=True)
class VerifyResult:
    """``problems``: a sentence each; ``runs``: how many ended runs were read."""

    folder: Path
    runs: int
    problems: tuple[str, ...]


def verify(study: Study | Path | str, *, store: Path | str | None = None) -> VerifyResult:
    """Read all that a store holds, and compare it with what was written.

    Every record, every blob, the checkpoints of runs that have not ended, and what is kept for all
    studies of this user: cached activations and converted models.

    Args:
        study: a study, its file, or the name of a shipped one; all studies of its store are read.
        store: folder of the results; ``studies/NAME`` by default.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing, cannot be read at all.
    """
    from paretune.store import Store

    folder = study_input.store_folder(study_input.resolve_study(study), store)
    with Store.open(folder) as opened:
        problems = [*opened.verify(), *_find_damaged_files(folder)]
        return VerifyResult(folder, opened.count_ended(), tuple(problems))


def _find_damaged_files(store: Path) -> Iterator[str]:
    """A sentence for each damaged file that nothing rests on."""
    checks: tuple[tuple[Iterable[Path], Callable[[Path], bool], str], ...] = (
        (
            (store / "checkpoints").glob("*.safetensors"),
            has_valid_checksum,
            "a checkpoint has changed since it was written; its run starts anew",
        ),
        (
            activation_cache_home().glob("*.npy"),
            has_valid_checksum,
            "cached activations have changed since they were written; they are computed again",
        ),
        (
            converted_models_home().glob("[!.]*"),
            is_whole_copy,
            "a converted model has changed since it was written; it is converted again",
        ),
    )
    for paths, is_whole, problem in checks:
        for path in sorted(paths):
            if not is_whole(path) and path.exists():  # a run may end meanwhile
                yield f"{path}: {problem}"
