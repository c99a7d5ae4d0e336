"""The command that was meant, where the first word of a command line is none."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from paretune.errors import StudyError

DATA_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".gz", ".xlsx")
STUDY_ENDINGS = (".yaml", ".yml")
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("train", "fit", "finetune", "fine-tune", "start", "benchmark"), "run"),
    **dict.fromkeys(("init", "create"), "new"),
    **dict.fromkeys(("validate", "lint", "audit"), "check"),
    **dict.fromkeys(("estimate", "dry-run"), "plan"),
    **dict.fromkeys(("status", "progress", "monitor"), "watch"),
    **dict.fromkeys(("eval", "evaluate", "results", "show", "score", "scores"), "report"),
    **dict.fromkeys(("best", "choose", "select", "suggest"), "recommend"),
    **dict.fromkeys(("diff", "versus", "vs"), "compare"),
    **dict.fromkeys(("save", "push", "upload", "deploy", "predict"), "export"),
    **dict.fromkeys(("list", "methods", "models", "studies"), "ls"),
    **dict.fromkeys(("info", "env", "diagnose"), "doctor"),
}
"""What other programs call a verb."""


def refuse_near_miss(words: Sequence[str]) -> None:
    """Name the command that was meant, where the words of a command line tell it.

    Args:
        words: from the first on, which names no command.

    Raises:
        StudyError: the first is a file, or another program's word for a command.
    """
    first, rest = words[0].lower(), words[1:]
    if first.endswith(DATA_ENDINGS):
        what, suggestion = f"{words[0]} is a data file.", _command("tune", words)
    elif first.endswith(STUDY_ENDINGS):
        what, suggestion = f"{words[0]} is a study file.", _command("run", words)
    elif first in SYNONYMS:
        verb = SYNONYMS[first]
        if verb == "run" and any(word.lower().endswith(DATA_ENDINGS) for word in rest):
            verb = "tune"
        what, suggestion = f"there is no command {words[0]}.", _command(verb, rest)
        if verb == "run" and not rest:
            suggestion = "paretune tune DATA, or: paretune run STUDY"
    else:
        return
    raise StudyError(what, remedy=f"Did you mean: {suggestion}")


def _command(verb: str, words: Sequence[str]) -> str:
    return shlex.join(["paretune", verb, *words])
