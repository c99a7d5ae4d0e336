"""The fields of what each verb gives with ``--json``, for the site; a test compares."""

from __future__ import annotations

from collections.abc import Mapping

COMMON = ("format", "paretune", "verb")
"""Fields of every object below: the version of its form, of the program, and the verb."""

RUN = "task, model, method, stage, seed, fold, learning_rate"

SHAPES: Mapping[str, Mapping[str, str]] = {
    "demo": {
        "tasks": "as of `recommend`",
        "page": "the report's page",
    },
    "tune": {
        "file": "the study file",
        "advice": "as of `recommend`",
        "folder": "of the export; null where `notes` say why there is none",
        "notes": "what was not exported or not done, and the command that does it, as sentences",
    },
    "new": {
        "file": "the study file that was written",
        "doubts": "guesses to look at, as sentences",
    },
    "check": {
        "study": "its name",
        "can_run": "whether nothing stands in the way",
        "counts": "how many errors, warnings and notes",
        "failed": "what stands in the way: `task reviews`, `model m` ...",
        "models_checked": "false where the data could not be read, so that no model was opened",
        "items": "what was checked: kind, name, description, errors, error (kind, what, where, "
        "remedy, exit_code; or null), findings (severity, code, where, what, remedy, places: all "
        "rows of a finding about several)",
    },
    "plan": {
        "study": "its name",
        "runs": f"each: {RUN}, done, seconds (alone on one worker), peak_bytes, basis, "
        "memory_basis",
        "done": "how many have ended",
        "seconds_left": "predicted wall clock",
        "race": "null without a race; else spared_runs that it will not train and undecided_runs "
        "that it may not, with their seconds, one after another",
        "workers": "processes that train at once",
        "threads": "of each",
        "devices": "on which they train; costs are measured on the first",
        "precision": "",
        "too_large": "a sentence for each model and method that cannot fit into memory; with any, "
        "`run` starts nothing",
        "impossible": "findings: methods that cannot train on a model as it is held; these cells "
        "have no runs",
        "searches": "what each will try",
    },
    "run": {
        "study": "its name",
        "folder": "of the results",
        "ended": "how many runs have ended",
        "failed": f"runs that stopped with an error: {RUN}, run_id, message",
        "left": "runs that the time budget left out",
        "seconds_left": "predicted for them",
    },
    "watch": {
        "study": "its name",
        "finished": "whether every run has ended",
        "ended": "how many runs",
        "total": "how many runs, as far as is known",
        "running": f"each: {RUN}, seconds, progress (step, steps, loss)",
        "failed": f"each: {RUN}, run_id, message",
        "workers": "who work on it now",
        "seconds": "of work so far",
        "spared": "null without a race; else final runs that it does without (runs, and their "
        "seconds) and waiting ones that it may do without (undecided)",
        "seconds_left": "null where nobody works on it or too little is known",
        "cells": "each: task, model, method, done, running, waiting, failed, seconds, score (an "
        "interval, or null)",
    },
    "track": {
        "tracker": "its name",
        "output": "where it is mirrored",
        "new": "entries mirrored now",
        "there": "entries that were there before",
    },
    "why": {"pairs": "each: task, model, gaps (bytes by part), sentences"},
    "peft-results": {
        "sentences": "what follows",
        "titles": "of the columns",
        "rows": "each as texts",
    },
    "recommend": {
        "tasks": "each: task, take (empty: nothing is recommended), reasons, changes, command"
    },
    "compare": {
        "tasks": "each: task, model, metric, pair (a, b, difference as an interval, p_holm, "
        "mcnemar; or null), "
        "sample_size, failed_seeds, single_seed, why"
    },
    "export": {
        "folder": "that was made",
        "form": "peft, merged or paretune",
        "run": RUN,
        "largest_difference": "of logits, when it was opened again",
        "answers": "rows (test rows that the card's program was asked), different (answers that "
        "are not those that were scored)",
        "notes": "what to know before others are given the folder",
        "url": "of the repository that it was pushed to, or null",
    },
    "export slobench": {
        "folder": "that was made",
        "parts": "each: name, file, rows, run, notes",
        "warnings": "findings",
    },
    "merge": {
        "folder": "of the merged results",
        "stores": "each: folder, added, present (the same there), contradictory (another result "
        "there, which stays), running: numbers of runs",
    },
    "verify": {
        "folder": "of the results",
        "runs": "how many were read",
        "problems": "a sentence each; exit code 6 where there are any",
    },
    "ls": {
        "tasks": "each: name, about; only what was asked for is there",
        "methods": "each: name, about",
        "models": "each: name, about",
        "studies": "each: name, about",
    },
    "data fetch": {"name": "of the data", "folder": "where it lies"},
    "data sample": {"name": "of the sample", "files": "that were written"},
    "slobench check": {
        "kind": "superglue or translation",
        "answers": "by file, how many",
        "findings": "severity, code, where, what, remedy, places",
        "errors": "how many; exit code 3 where there are any",
        "warnings": "how many",
    },
}
OWN_SHAPES = {
    "report": "the study as above",
    "doctor": "`system`, `processor`, `memory`, `torch`, `packages`, `plugins` "
    "(`fault`: why one cannot be used) ... of here",
    "slobench score": "`kind`, `scores`, `intervals`, `missing`, `data`, `sacrebleu`, "
    "`sacrebleu_intervals`",
}
"""Verbs whose objects are without the common fields."""
