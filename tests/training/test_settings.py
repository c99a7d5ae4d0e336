"""Every setting of ``training``, and every option of a method, changes a run or is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import torch
from support.tiny_study import WORDS, superglue
from torch import Tensor

from paretune import methods, objectives
from paretune.errors import MethodError, StudyError
from paretune.planning.prepare import prepare_study
from paretune.preparation import ProcessCache
from paretune.study import Study, TaskSpec, Training, digest
from paretune.testing.tiny_tasks import KINDS, silent, small, tiny_task
from paretune.testing.translator_folders import tiny_pairs
from paretune.training.trainer import train_run

BASE: dict[str, Any] = {
    **{"batch_size": 8, "epochs": 2, "eval_every": 2, "patience": 3, "max_length": 16},
    **{"weight_decay": 0.5, "warmup_fraction": 0.25, "max_grad_norm": 0.02, "dropout": 0.2},
    "precision": "fp32",
}
"""Settings of which half makes a difference within ten steps."""
PLACES = {
    **{kind: (kind, "bert", "head") for kind in KINDS},
    "span_pair": ("span_pair", "bert", "head"),
    "answer_set": ("answer_set", "bert", "head"),
    "translation": ("translation", "marian", "head"),
    "instruction": ("instruction", "llama", "text"),
    "label words": ("classification", "llama", "label_words"),
    "label text": ("classification", "llama", "text"),
    "preference": ("preference", "llama", "reward"),
    "chosen answers": ("preference", "llama", "likelihood"),
    "unpaired_preference": ("unpaired_preference", "llama", "reward"),
    "good answers": ("unpaired_preference", "llama", "likelihood"),
}
"""Kinds of tasks, with a family of models and a readout each."""
NO_GAIN = {"patience": 1e-30}
"""Learning rates with which a setting makes a difference; by default 0.01."""


def write_task(kind: str, folder: Path) -> dict[str, Any]:
    """A task of the kind in files, as a study file has it."""
    if kind in ("span_pair", "answer_set"):
        name = {"span_pair": "wsc", "answer_set": "multirc"}[kind]
        source = superglue(folder / "superglue", "folders", 40)
        return {"name": name, "language": "sl", "source": str(source)}
    if kind in KINDS:
        return tiny_task(folder, kind).model_dump(exclude_none=True)
    if kind == "translation":
        task = tiny_pairs(folder, 40).model_dump(exclude_none=True)
        path = folder / "train.tsv"
        header, *pairs = path.read_text("utf-8").splitlines()
        long = ["\t".join(" ".join([side] * 4) for side in pair.split("\t")) for pair in pairs]
        path.write_text("\n".join([header, *long]), "utf-8")
        return task
    rows = []
    for i in range(40):
        answers = f" water {WORDS[i % 5]}.", f" ice {WORDS[-(i % 4)]} room."
        columns: dict[str, dict[str, Any]] = {
            "instruction": {"completion": answers[0]},
            "preference": {"chosen": answers[0], "rejected": answers[1]},
            "unpaired_preference": {"completion": answers[i % 3 > 0], "label": i % 3 == 0},
        }
        rows.append({"prompt": f"Why {WORDS[i % 7]} {i}?", **columns[kind]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {"name": "rows", "kind": kind, "train": str(folder / "train.jsonl")}


class Bench:
    """A kind of task, on which studies of one run are trained; what was read stays."""

    def __init__(self, place: str, checkpoint: Any, folder: Path) -> None:
        kind, family, self.readout = PLACES[place]
        self.model, self.folder, self.caches = checkpoint(family), folder, ProcessCache()
        self.task = write_task(kind, folder / "data")
        self.train = cache(self._train)

    def study(
        self, rate: float | None, method: Mapping[str, Any], training: Mapping[str, Any]
    ) -> Study:
        """A study with one method; ``rate`` None: one that learns nothing."""
        named = {"label": "method", "readout": self.readout, **method}
        named |= {} if rate is None else {"learning_rates": [rate]}
        return Study.parse(
            {
                "study": "settings",
                "tasks": [self.task],
                "models": [str(self.model)],
                "methods": [named],
                "protocol": {"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
                "training": {**BASE, **training},
                "generation": {"max_new_tokens": 3} if self.generates else {},
            }
        )

    @property
    def generates(self) -> bool:
        """Whether texts are generated."""
        return self.readout == "text" or self.task.get("kind") == "translation"

    def _train(self, rate: float | None, method: str, training: str) -> tuple[str, int]:
        """What a run leaves, and how much was kept for its backward passes; options as JSON."""
        study = self.study(rate, json.loads(method), json.loads(training))
        prepared = prepare_study(study, self.caches)
        cell = next(cell for cell in prepared.cells if cell.method.key == "method")
        run = prepared.make_run(cell, "final", rate, 1)
        with count_kept() as kept:
            outcome = train_run(
                run, checkpoint=self.folder / "x", report=silent, caches=self.caches
            )
        assert outcome.result["outcome"] != "diverged"
        return digest(dict(outcome.result)), sum(kept)

    def outcome(
        self, *, rate: float | None = 1e-2, method: Mapping[str, Any] | None = None, **training: Any
    ) -> tuple[str, int]:
        """:meth:`_train`, each study once."""
        chosen = {"name": "lora", "rank": 2} if method is None else method
        return self.train(rate, json.dumps(chosen), json.dumps(training))


@contextmanager
def count_kept() -> Iterator[list[int]]:
    """Elements that are kept for backward passes."""
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield sizes


def find_types(annotation: Any) -> Iterator[Any]:
    """The plain types and the values that a field may have."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        for inner in get_args(annotation):
            yield from find_types(inner)
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        yield annotation


def change(value: Any, annotation: Any) -> list[Any]:
    """Other values for a field: its other words, or half of a number."""
    types = [*find_types(annotation)]
    if isinstance(value, bool):
        return [not value]
    if words := [word for word in types if isinstance(word, str)]:
        return [word for word in words if word not in (value, "auto")]
    if value is None:
        return [1 if int in types else 0.25]
    return [type(value)(value / 2)]


SETTINGS = [(place, name) for place in PLACES for name in Training.model_fields]
BY_DEFAULT = ("classification", "preference", "unpaired_preference")


def mark(place: str, name: str) -> Any:
    """Losses differ in what :data:`~paretune.objectives.LOSS_SETTINGS` they read, so all try it."""
    fast = place in BY_DEFAULT and name in objectives.LOSS_SETTINGS
    fast |= place == "classification"
    return pytest.param(place, name, marks=[] if fast else [pytest.mark.wide])


@pytest.fixture(scope="module")
def benches(checkpoint: Any, tmp_path_factory: Any) -> Any:
    """A bench for each place, made when it is asked for."""
    return cache(lambda place: Bench(place, checkpoint, tmp_path_factory.mktemp("bench")))


def test_every_kind_has_a_place() -> None:
    untrained = {"scores", "external", "external_regression"}
    assert {kind for kind, _, _ in PLACES.values()} == {*objectives.names()} - untrained


@pytest.mark.parametrize(("place", "name"), [mark(*case) for case in SETTINGS])
def test_a_setting_changes_the_run_or_is_refused(place: str, name: str, benches: Any) -> None:
    bench, field = benches(place), Training.model_fields[name]
    (*_, changed) = change(BASE.get(name, field.default), field.annotation)
    if name == "class_weights":  # classes may be balanced
        labels = bench.caches.dataset(TaskSpec.model_validate(bench.task)).labels
        changed = dict.fromkeys(labels[:1] or ["none"], 3.0)
    try:
        outcome, kept = bench.outcome(rate=NO_GAIN.get(name, 1e-2), **{name: changed})
    except StudyError as refused:
        assert name in objectives.LOSS_SETTINGS and f"has no {name}" in refused.what
        assert refused.where == f"training.{name}"
        return
    before, kept_before = bench.outcome(rate=NO_GAIN.get(name, 1e-2))
    if name == "activation_checkpointing":
        assert (outcome, kept < kept_before) == (before, True)
    else:
        assert outcome != before


OPTIONS: Mapping[str, Sequence[Any]] = {
    "layers": ["0"],
    "target_modules": [["query"]],
    "exclude_modules": [["query"]],
    "layers_to_transform": [[0]],
    "rank_pattern": [{".*": 1}],
    "alpha_pattern": [{".*": 1.0}],
    "modules_to_save": [["embeddings"]],
    "decompose_factor": [2],
    "dropout": [0.5],
    "loraplus_lr_ratio": [8.0],
    "drop": [0],
    "robust_up_to": [0],
    "init_text": ["dog ice"],
    "methods": [["lora", "houlsby"]],
}
"""Values for options of which :func:`change` knows none; names of modules fit every family."""
READ_WITH: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("mam", "encoder_hidden_size"): {"prefix_projection": True},
    ("prompt", "init_text"): {"init": "text", "init_text": "cat"},
}
"""What an option goes with, where its method's ``READ_WITH`` does not say it."""
WITHOUT_EFFECT = {
    "allow_unmatched": ("bert", "marian", "llama"),  # lets pass what would be refused
    "text_positions": ("llama",),  # whose positions are not absolute: there is nothing to keep
}
"""Options that change no run on some families of models, whatever the kind."""
NAMES = [name for name, m in methods.available().items() if isinstance(m, methods.Method)]
FIRST = ("lora", "prefix")
CASES = [
    pytest.param(
        place,
        name,
        option,
        marks=()
        if place == "classification" and name in FIRST
        else (pytest.mark.wide if place in BY_DEFAULT else pytest.mark.slow,),
    )
    for place in PLACES
    for name in NAMES
    for option in methods.get(name).options.model_fields
    if PLACES[place][1] not in WITHOUT_EFFECT.get(option, ())
]


@pytest.mark.parametrize(("place", "name", "option"), CASES)
def test_an_option_changes_the_run_or_is_refused(
    place: str, name: str, option: str, benches: Any
) -> None:
    bench, options = benches(place), methods.get(name).options
    flags = dict.fromkeys([options.READ_WITH[option]] if option in options.READ_WITH else (), True)
    base = {"name": name, **small(name), **flags, **READ_WITH.get((name, option), {})}
    field = options.model_fields[option]
    values = OPTIONS.get(option) or change(base.get(option, field.default), field.annotation)
    rate = None if name == "few_shot" else 1e-2
    try:
        before = bench.outcome(rate=rate, method=base)
    except MethodError as refused:
        # Which kinds a method serves is the contract's test, not this one's.
        pytest.skip(f"serves no such task: {refused}")
    try:
        outcomes = [bench.outcome(rate=rate, method={**base, option: value}) for value in values]
    except MethodError as refused:
        assert option in str(refused)
        return
    assert any(outcome[0] != before[0] for outcome in outcomes)


TASK = {"name": "t", "kind": "classification", "train": "none.csv", "label": "a", "text": "b"}


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ({"name": "prefix", "encoder_hidden_size": 64}, "encoder_hidden_size"),
        ({"name": "mam", "encoder_hidden_size": 64}, "encoder_hidden_size"),
        ({"name": "adapterdrop", "robust_up_to": 1}, "robust_up_to"),
        ({"name": "prompt", "init_text": "cat"}, "prompt"),
        ({"name": "lora", "layers": "0", "layers_to_transform": [0]}, "lora"),
        ({"name": "tfidf", "learning_rates": [1e-3]}, "learning_rates"),
        ({"name": "untuned", "learning_rates": [1e-3]}, "learning_rates"),
        ({"name": "majority", "readout": "text"}, "readout"),
        ({"name": "stack", "methods": ["lora", {"name": "bitfit", "rank": 1}]}, "bitfit"),
    ],
)
def test_what_a_method_does_not_read_is_refused_before_anything_is_opened(
    method: dict[str, Any], option: str
) -> None:
    study = Study.parse(
        {
            "study": "s",
            "tasks": [TASK],
            "models": ["./nowhere"],
            "methods": [method],
            "protocol": {"trials": 1},
        }
    )
    with pytest.raises(MethodError) as refused:
        prepare_study(study)
    assert option in refused.value.where


BESIDE_LIKELIHOODS: Sequence[tuple[str, dict[str, Any], str, str]] = (
    ("preference", {"preference_beta": 0.3}, "", ""),
    ("preference", {"label_smoothing": 0.3}, "", ""),
    ("unpaired_preference", {"preference_beta": 0.3}, "", ""),
    ("unpaired_preference", {"class_weights": "balanced"}, "likelihood has no class_", "sft"),
    ("unpaired_preference", {"label_smoothing": 0.3}, "reward has no label_smoothing", "lora"),
)


def test_a_method_that_reads_a_setting_does_not_excuse_one_beside_it(
    tmp_path: Path, tiny_model: Any
) -> None:
    """But beta is of rewards alone: likelihoods may stand beside them."""
    for kind, training, refused, method in BESIDE_LIKELIHOODS:
        study = Study.parse(
            {
                "study": "s",
                "tasks": [write_task(kind, tmp_path)],
                "models": [str(tiny_model("llama"))],
                "methods": ["lora", {"name": "lora", "label": "sft", "readout": "likelihood"}],
                "training": training,
            }
        )
        if not refused:
            prepare_study(study)
            continue
        with pytest.raises(StudyError, match=refused) as error:
            prepare_study(study)
        assert error.value.remedy == f"Remove it, or method {method}."
