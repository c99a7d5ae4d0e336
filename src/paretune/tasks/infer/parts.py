"""Which rows are the test: a file beside train, or what a column of theirs may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune import objectives
from paretune.data.columns import find_possible_groups
from paretune.data.finding import InvalidRowsError
from paretune.errors import DataError, spell_option
from paretune.study import TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer.draft import InferredTask
from paretune.tasks.shapes import Columns
from paretune.terminal.plural import pluralise

NO_TEST = "none"
"""In the place of a test file: some of train is held out, whatever lies in the folder."""
HELD_OUT = "a fifth of train is held out for the test"
_SELECTION = "a fifth of train chooses learning rates and checkpoints"


def add_test_file(draft: InferredTask, test: str | None) -> None:
    """Name the test file: the user's, or one in the folder of train that is called like it.

    Args:
        test: what the user says: a file, or :data:`NO_TEST`; None: what is there.

    Raises:
        DataError: the file that the user names does not fit.
    """
    train, remarks = Path(draft.task["train"]), []
    chosen, reason = test, "as you said"
    if test == NO_TEST:
        chosen, reason = None, f"--test {NO_TEST}: {HELD_OUT}"
    elif test is not None and (misfit := _find_misfit(draft.task, test)):
        raise DataError(
            f"cannot be the test file: {misfit}.",
            where=test,
            remedy=f"Name another file, or {spell_option('test', NO_TEST)}: {HELD_OUT}.",
        )
    for word in ("test", "validation", "valid", "val", "dev") if test is None else ():
        name = train.name.replace("train", word) if "train" in train.name else word + train.suffix
        file = train.with_name(name)
        languages = (f".{draft.task[key]}" for key in ("source_lang", "target_lang"))
        endings = [""] if train.suffix else languages
        if file == train or not any(Path(f"{file}{ending}").is_file() for ending in endings):
            continue
        if chosen is not None:
            used = f"{Path(chosen).name} is the test, and {_SELECTION}"
            remarks.append(f"{name} is not used: {used}.")
        elif misfit := _find_misfit(draft.task, str(file)):
            remarks.append(f"{name} is not used: {misfit}.")
        else:
            chosen = str(file)
            part = f"the test (and {_SELECTION})" if word != "test" else "the test"
            remarks.append(
                f"{name} in the same folder is taken as {part}; --test {NO_TEST} leaves it out."
            )
    if test is None:
        reason = "found in the same folder" if chosen else f"no test file that fits: {HELD_OUT}"
    draft.task["test"], draft.reasons["test"] = chosen, reason
    if chosen is None:
        del draft.task["test"]
    draft.remarks = (*remarks, *draft.remarks)


def _find_misfit(task: Mapping[str, Any], file: str) -> str:
    """Why a task cannot be tested on a file, as the end of a sentence; empty if it can."""
    drop_unlabelled = not objectives.get(task["kind"]).generates
    trial = {**task, "train": file, "test": file, "drop_unlabelled": drop_unlabelled}
    try:
        load_dataset(TaskSpec.model_validate(trial))
    except InvalidRowsError as error:
        first, *rest = dict.fromkeys(error.findings)  # train and test are one file
        several = f", and {pluralise(len(rest), 'more fault')}" if rest else ""
        return f"{first.where}: {first.what.rstrip('.')}{several}"
    except DataError as error:
        return f"{error.where}: {error.what.rstrip('.')}"
    return ""


def propose_splits(draft: InferredTask, columns: Columns) -> None:
    """Columns by which the rows may be split: those that repeat, and dates."""
    task = draft.task
    if "text" not in task and "features" not in task:
        return
    lists = (value for value in task.values() if isinstance(value, list | tuple))
    used = {*map(str, task.values()), *(name for names in lists for name in names)}
    if "group" not in task:
        for name, reason in find_possible_groups(columns, used).items():
            draft.proposals.setdefault("group", (name, f"{reason}: one value, one side of a split"))
            draft.remarks += (
                f"{name} is not used and repeats ({reason}): if rows of one value hang together, "
                f"write group: {name} into the task.",
            )
    dates = [name for name, c in columns.items() if name not in used and c.holds_dates]
    if dates and not {"test", "split_by"} & {*task}:
        draft.proposals["split_by"] = (dates[0], "dates: the newest fifth is the test, then")
