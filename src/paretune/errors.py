"""Every error a user can meet: what happened, where, and what to do about it.

Exit codes (documented in docs/your-study/index.md):

====  =====================================================================
0     done; diverged, collapsed and out-of-memory runs are results, not errors
1     a defect in paretune (a traceback is shown: please report it)
2     the command line or the study file
3     the data
4     the model
5     the method: options, or a model or task that it cannot serve
6     the store
7     the network
8     the study ended, but some runs stopped with an unexpected error
10    only of a worker process: a CUDA error made its GPU unusable; a new worker goes on
11    no error, a decision of ``judge``: drop the candidate, or the gate fails
12    no error, a decision of ``judge``: two more seeds, or undecided
130   interrupted; the same command continues
====  =====================================================================
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

ANSWER_NO = 11
ANSWER_OPEN = 12
INTERRUPTED = 130
_on_command_line = False


@contextmanager
def use_command_line() -> Iterator[None]:
    """While the block runs, the user types commands; otherwise the user writes Python."""
    global _on_command_line
    before, _on_command_line = _on_command_line, True
    try:
        yield
    finally:
        _on_command_line = before


def spell_option(name: str, value: str | int | None = None) -> str:
    """An option as the user writes it: ``--max-memory 4GiB``, or ``max_memory="4GiB"`` in Python.

    Args:
        name: of the parameter.
        value: True of a flag; None: it is left out (``--max-memory``, or ``max_memory=``).
    """
    if not _on_command_line:
        quoted = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else value
        return f"{name}={'' if value is None else quoted}"
    option = f"--{name.replace('_', '-')}"
    return option if value is None or value is True else shlex.join([option, str(value)])


def suggest(word: str, names: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """A remedy: ``Did you mean epochs?``, or "" where no name is near.

    Args:
        synonyms: other words for names.
    """
    synonyms = synonyms or {}
    words = {name.casefold(): name for name in reversed([*names, *synonyms])}
    folded = word.strip().casefold().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(folded, list(words), n=1, cutoff=0.6)
    return f"Did you mean {synonyms.get(words[near[0]], words[near[0]])}?" if near else ""


class ParetuneError(Exception):
    """A mistake or obstacle outside the program, shown without a traceback.

    Args:
        what: one sentence, what is wrong.
        where: file and line, study key, or run; may be empty.
        remedy: what the user can do; may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} {self.remedy}" if self.remedy else head


class StoredResultsWarning(UserWarning):
    """Stored results are not what a study would give now, or not all of them are there."""


class StudyError(ParetuneError):
    """The study file or the command line asks for something impossible."""

    exit_code = 2


def require_name(what: str, name: str, names: Iterable[str], where: str) -> None:
    """Refuse the name of a method, task or model that a study does not have.

    Raises:
        StudyError: it names those that there are.
    """
    existing = dict.fromkeys(names)
    if name not in existing:
        remedy = f"It has {', '.join(existing)}."
        raise StudyError(f'has no {what} "{name}".', where=where, remedy=remedy)


class PluginError(StudyError):
    """An installed plug-in cannot be used."""


class DataError(ParetuneError):
    """A data file is missing, unreadable or not what the study expects."""

    exit_code = 3


class MissingDependencyError(DataError):
    """An optional package, or data that it needs, is not installed; nothing is fetched silently."""


@contextmanager
def explain_missing(requirement: str, purpose: str) -> Iterator[None]:
    """Import an optional package inside.

    Args:
        requirement: as pip takes it.
        purpose: what needs it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        yield
    except ImportError:
        raise MissingDependencyError(
            f"{purpose} needs the package {requirement}, which is not installed.",
            remedy=f'Install it: pip install "{requirement}".',
        ) from None


@contextmanager
def explain_hub_errors(where: str, kind: type[ParetuneError], remedy: str) -> Iterator[None]:
    """Turn errors of the hub's libraries into ours; their classes differ between versions.

    Args:
        kind: raised where what is asked for cannot be had, with ``remedy``; NetworkError where the
            hub does not answer.
    """
    from huggingface_hub import errors

    try:
        yield
    except ParetuneError:
        raise
    except errors.GatedRepoError as error:
        raise kind(
            "is gated: its owner asks you to accept terms first.",
            where=where,
            remedy="Accept them on its page of the hub, then log in with `hf auth login`.",
        ) from error
    except Exception as error:
        what = f"cannot be loaded ({first_line(error)})."
        is_from_library = type(error).__module__.startswith(("httpx", "requests"))
        is_absent = isinstance(error, FileNotFoundError | ValueError)
        if isinstance(error, errors.RevisionNotFoundError):
            what = "has no such revision on the hub."
        elif isinstance(error, errors.RepositoryNotFoundError):
            what = "does not exist on the hub, or is private."
        elif (
            isinstance(error, errors.LocalEntryNotFoundError)  # nor is it here
            or is_from_library
            or (isinstance(error, OSError) and not is_absent)
        ):
            raise NetworkError(
                f"could not be fetched ({first_line(error)}).",
                where=where,
                remedy="Try again with a network: finished downloads are kept.",
            ) from error
        raise kind(what, where=where, remedy=remedy) from error


class ModelError(ParetuneError):
    """A model cannot be found, opened safely, or understood."""

    exit_code = 4


class MethodError(ParetuneError):
    """A method cannot serve this model or task, or its options are wrong."""

    exit_code = 5


class StoreError(ParetuneError):
    """The store of a study is missing, damaged, or written by a newer version."""

    exit_code = 6


class WeightsNotKeptError(StoreError):
    """A run's trained weights are not in the store; training it again makes them."""


class StaleClaimError(StoreError):
    """The worker's lease on a run has passed to another worker; its result is not written."""


class NetworkError(ParetuneError):
    """A download failed, or its content is not what was expected."""

    exit_code = 7


class RunsFailedError(ParetuneError):
    """The study ended, but some runs stopped with an unexpected error."""

    exit_code = 8


class DeviceLostError(ParetuneError):
    """A CUDA error after which this process cannot use its GPU any more; another process can."""

    exit_code = 10


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class OutputClosedError(Exception):
    """The reader of stdout has closed it, as ``| head`` does.

    Not a BrokenPipeError, since that may also come from a pipe between processes: a defect.
    """
