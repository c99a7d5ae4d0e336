"""The sample tasks: small files inside the package (CC0, written for paretune), by language."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune.data.tags import read_table
from paretune.data.task import Task, TaskRows
from paretune.errors import StudyError, require_name, spell_option
from paretune.objectives.example import Segments
from paretune.objectives.prompt import Prompt
from paretune.study import TaskSpec

SAMPLES_FOLDER = Path(__file__).parents[1] / "samples"
LANGUAGES = ("en", "sl")


def single_text(row: Mapping[str, str], language: str) -> Segments:
    """The message alone; there is no second text."""
    return ((row["text"], None),)


def both_sentences(row: Mapping[str, str], language: str) -> Segments:
    """Both sentences in the order of the file."""
    return ((row["sentence1"], row["sentence2"]),)


def two_continuations(row: Mapping[str, str], language: str) -> Segments:
    """The first sentence, then one of the two that may follow."""
    return (row["premise"], row["choice1"]), (row["premise"], row["choice2"])


def sample_names() -> tuple[str, ...]:
    """The sample tasks, each in each of its languages: ``routing-en`` ..."""
    folders = (folder for language in LANGUAGES for folder in (SAMPLES_FOLDER / language).iterdir())
    return tuple(sorted(f"{folder.name}-{folder.parent.name}" for folder in folders))


def copy_sample(name: str, folder: Path) -> list[Path]:
    """Copy a sample's ``train`` and ``test`` into a folder; nothing there is written over.

    Args:
        name: a task and its language, ``routing-en``; without the latter it is English.

    Raises:
        StudyError: no such sample, or a file cannot be written.
    """
    full = name if name in sample_names() else f"{name}-en"
    require_name("sample", full, sample_names(), "paretune")
    task, _, language = full.rpartition("-")
    copies = []
    for file in sorted((SAMPLES_FOLDER / language / task).glob("t[re]*")):
        target = folder / file.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy)
        except OSError as error:
            raise StudyError(
                f"cannot be written ({error.strerror}).",
                where=str(target),
                remedy=f"Name another folder with {spell_option('output')}.",
            ) from None
        copies.append(target)
    return copies


def _sample(
    name: str,
    files: str,
    languages: tuple[str, ...] = LANGUAGES,
    metric: str = "accuracy",
    **about: Any,
) -> Task:
    """A sample task; ``files`` is where they lie, without ``train`` and ``test``."""
    folder, _, ending = files.rpartition(".")

    def read(spec: TaskSpec, language: str, data_home: Path | None) -> TaskRows:
        if spec.source is not None:
            what = f"task {spec.key} comes with paretune and takes no source."
            raise StudyError(what, remedy="Remove it.")
        place = SAMPLES_FOLDER / folder.format(language=language)
        train, test = (read_table(str(place / f"{part}.{ending}"))[0] for part in ("train", "test"))
        return TaskRows(train, test)

    return Task(
        name=name,
        languages=languages,
        metric=metric,
        licence=dict.fromkeys(languages, "CC0-1.0"),
        source=dict.fromkeys(languages, "written for paretune; see the README beside the files"),
        read_rows=read,
        **about,
    )


_DEPARTMENTS = ("billing", "delivery", "technical", "praise")
_PRODUCTS = ("account", "card", "insurance", "mortgage", "transfer")

TASKS = (
    _sample(
        "complaints",
        "en/complaints.csv",
        ("en",),
        title="sample: complaints to a bank, by product",
        kind="classification",
        labels=_PRODUCTS,
        columns=("text",),
        templates={"pair": single_text},
        prompts={"en": Prompt(template="Complaint: {text}\nProduct:", label_texts=_PRODUCTS)},
    ),
    _sample(
        "follows",
        "{language}/follows.jsonl",
        title="sample: which sentence follows?",
        kind="multiple_choice",
        labels=("0", "1"),
        columns=("premise", "choice1", "choice2"),
        templates={"pair": two_continuations},
        prompts=dict.fromkeys(LANGUAGES, Prompt()),  # the choice is put behind the first sentence
    ),
    _sample(
        "manual",
        "en/manual.tsv",
        ("sl", "en"),
        "bleu",
        title="sample: help of a garden planner, Slovene to English or back",
        kind="translation",
        columns=("sl", "en"),
    ),
    _sample(
        "names",
        "{language}/names.conll",
        metric="entity_f1",
        title="sample: people, places and organisations in sentences",
        kind="token_classification",
        columns=("tokens",),
        label="tags",
    ),
    _sample(
        "paraphrase",
        "{language}/paraphrase.tsv",
        title="sample: do two sentences say the same?",
        kind="pair",
        labels=("different", "same"),
        columns=("sentence1", "sentence2"),
        templates={"pair": both_sentences},
        # English: lm-evaluation-harness, ``glue/mrpc``; Slovene: the same in translation.
        prompts={
            "en": Prompt(
                template="Sentence 1: {text}\nSentence 2: {text_pair}\n"
                "Question: Do both sentences mean the same thing?\nAnswer:",
                label_texts=("no", "yes"),
            ),
            "sl": Prompt(
                template="Poved 1: {text}\nPoved 2: {text_pair}\n"
                "Vprašanje: Ali obe povedi pomenita isto?\nOdgovor:",
                label_texts=("Ne", "Da"),
            ),
        },
    ),
    _sample(
        "replies",
        "en/replies.jsonl",
        ("en",),
        "reward_accuracy",
        title="sample: which of two replies to a customer is better?",
        kind="preference",
        columns=("prompt", "chosen", "rejected"),
    ),
    _sample(
        "routing",
        "{language}/routing.csv",
        title="sample: customer messages for four departments",
        kind="classification",
        labels=_DEPARTMENTS,
        columns=("text",),
        templates={"pair": single_text},
        prompts={
            "en": Prompt(template="Message: {text}\nDepartment:", label_texts=_DEPARTMENTS),
            "sl": Prompt(
                template="Sporočilo: {text}\nOddelek:",
                label_texts=("računi", "dostava", "tehnika", "pohvale"),
            ),
        },
    ),
    _sample(
        "spam",
        "en/spam.csv",
        ("en",),
        title="sample: short messages, wanted or spam",
        kind="classification",
        labels=("ham", "spam"),
        columns=("text",),
        templates={"pair": single_text},
        prompts={"en": Prompt(template="Message: {text}\nIs it spam?", label_texts=("no", "yes"))},
    ),
    _sample(
        "tickets",
        "en/tickets.jsonl",
        ("en",),
        "multilabel_macro_f1",
        title="sample: what a message to a bicycle shop is about, any of five",
        kind="multilabel",
        labels=("advice", "complaint", "order", "payment", "repair"),
        columns=("text",),
        label="labels",
    ),
)
