"""Runs of a fleet get what each gets alone: steps, early stops, answers, weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.joint_runs import Job, alone, assert_as_alone, equal, together

from paretune import methods, objectives
from paretune.errors import StaleClaimError
from paretune.planning.predicted_cost import CostPredictor
from paretune.study import MethodSpec, Run
from paretune.testing.tiny_tasks import silent, small, tiny_run, tiny_task
from paretune.training import Outcome, TrainerOptions, fleet
from paretune.training.caches import ProcessCache
from paretune.training.fleet import fleet_key
from paretune.training.forward.passes import PaddedForward
from paretune.training.forward.select import MAX_STACK_TOKENS, PassSplitter
from paretune.training.prepare import prepare
from paretune.training.trainer import Trainer, train_run

MIXING = ("lora", "loha", "lokr", "ia3", "bitfit", "layer_norm", "houlsby", "pfeiffer", "parallel")
JOINING = [
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method)
    and (method.learning_rates is not None)
    and not methods.refusal(method, objectives.get("classification"), tabular=False)
    and name not in MIXING[1:]  # below, with others
    and not methods.configure_method(MethodSpec(name=name, **small(name))).trains_alone
]
PLACES = [
    *(("bert", name, "pair") for name in ("lora", "prefix")),
    ("roberta", "prompt", "multiple_choice"),
    ("electra", "head_only", "classification"),
    ("bert", "kept prompt", "classification"),
    ("gemma3", "prefix", "pair"),
]
MORE = [
    ("llama", "lora", "pair"),
    ("qwen3", "ia3", "multiple_choice"),
    ("opt", "prompt", "pair"),
    ("gpt_neox", "prefix", "pair"),
    *(("bert", name, "pair") for name in JOINING if name not in ("lora", "prefix")),
    *(("roberta", name, "multiple_choice") for name in ("lora", "prefix")),
    ("distilbert", "loha", "pair"),
    ("modernbert", "prefix", "pair"),
    ("xlm-roberta", "houlsby", "regression"),
    ("roberta", "kept prompt", "multiple_choice"),
]
PADDED = [("deberta-v2", "lora", "pair"), ("mean modernbert", "prompt", "classification")]
MORE_PADDED = [
    *(("deberta-v2", name, "pair") for name in JOINING if name != "lora"),
    *(("deberta-v2", name, "multiple_choice") for name in ("layer_norm", "prefix")),
    ("deberta-v2", "dropping lora", "pair"),
    ("deberta-v2", "bitfit", "regression"),
    ("mean modernbert", "lora", "pair"),
    ("mean modernbert", "prefix", "multiple_choice"),
]


@pytest.fixture
def model_of(tiny_model: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A tiny model; ``mean modernbert`` reads the mean of all tokens, so it is not packed."""

    def give(family: str) -> Path:
        if family != "mean modernbert":
            return Path(tiny_model(family))
        folder = Path(tiny_model("modernbert", tmp_path / "mean"))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "classifier_pooling": "mean"}))
        return folder

    return give


def method_named(name: str) -> dict[str, Any]:
    """``kept prompt`` leaves the text where it was."""
    match name:
        case "kept prompt":
            options = {"num_virtual_tokens": 4, "text_positions": "kept"}
            return {"method": "prompt", "options": options}
        case "dropping lora":
            return {"method": "lora", "options": {"rank": 2, "dropout": 0.2}}
    return {"method": name}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Of each padded pass of several runs, how long the texts of each are; filled as they go."""
    lengths: list[list[int]] = []
    call = PaddedForward.__call__

    def noting(self: PaddedForward, micro_batches: Any) -> Any:
        outputs = call(self, micro_batches)
        lengths.append([length for length in self.dropout_rng.run_lengths if length])
        return outputs

    monkeypatch.setattr(PaddedForward, "__call__", noting)
    return lengths


@pytest.mark.parametrize(
    ("family", "method", "kind", "stack_rows"),
    [
        *((*place, 100 if n % 2 else 1000) for n, place in enumerate(PLACES)),
        *((*place, 1000) for place in PADDED),
        *(
            pytest.param(*place, 100 if n % 2 else 1000, marks=pytest.mark.slow)
            for n, place in enumerate(MORE)
        ),
        *(pytest.param(*place, 1000, marks=pytest.mark.slow) for place in MORE_PADDED),
    ],
)
def test_each_run_of_a_fleet_as_alone(
    family: str,
    method: str,
    kind: str,
    stack_rows: int,
    tmp_path: Path,
    model_of: Any,
    passes: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two seeds and two rates with dropout, in one fleet: 20 steps, losses within 1e-5.

    In stacks of all three, or of fewer where the others have no rows; padded, also of texts that
    alone would be of unlike lengths.
    """
    monkeypatch.setitem(MAX_STACK_TOKENS, "cpu", stack_rows)
    training = {"max_steps": 20, "eval_every": 5, "dropout": 0.1, "batch_size": 4}
    task, model = tiny_task(tmp_path, kind), model_of(family)
    runs = [
        tiny_run(
            task, model, training=training, seed=seed, learning_rate=rate, **method_named(method)
        )
        for seed, rate in ((1, 1e-3), (2, 1e-3), (1, 3e-3))
    ]
    bench = ProcessCache()
    assert CostPredictor(bench).predict_fleet_size(runs[0], 3, 1 << 30)[0] == 3
    assert len({fleet_key(run) for run in runs}) == 1
    joint = together(runs, tmp_path, bench=bench)
    if (family, method, kind) in PADDED + MORE_PADDED:
        assert any(len({*lengths}) > 1 for lengths in passes)
    else:
        assert not passes
    scores = []
    for n, run in enumerate(runs):
        alone = train_run(run, checkpoint=tmp_path / f"alone{n}", report=silent, caches=bench)
        outcome = joint[run.seed, run.learning_rate, run.fold]
        equal(outcome, alone, of_choices=kind == "multiple_choice")
        scores.append(json.loads(alone.blobs["predictions"])["test"]["scores"])
    assert not np.allclose(scores[0], scores[1], atol=1e-3)  # they are three different runs
    assert not np.allclose(scores[0], scores[2], atol=1e-3)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param("bert", "pair", marks=pytest.mark.wide),
        pytest.param("roberta", "multiple_choice", marks=pytest.mark.slow),
        pytest.param("modernbert", "pair", marks=pytest.mark.slow),
        pytest.param("deberta-v2", "pair", marks=pytest.mark.slow),
    ],
)
def test_methods_and_ranks_mix(
    family: str, kind: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that mix, LoRA with two ranks and two seeds, in one fleet with dropout, each as alone.

    In stacks in which several have no rows.
    """
    monkeypatch.setitem(MAX_STACK_TOKENS, "cpu", 200)
    training = {"max_steps": 20, "eval_every": 10, "dropout": 0.1, "batch_size": 4}
    task, model = tiny_task(tmp_path, kind), tiny_model(family)

    def of(method: str, seed: int, **options: Any) -> Run:
        method_options_ = options or small(method)
        return tiny_run(
            task,
            model,
            method,
            training=training,
            seed=seed,
            options=method_options_,
            learning_rate=1e-3,
        )

    runs = [of("lora", 1), of("lora", 2), of("lora", 3, rank=5, alpha=3.0)]
    of_each = {r"0\..*": 3}  # in the first layer
    runs += [of(name, 4 + n, rank=2, rank_pattern=of_each) for n, name in enumerate(MIXING[:3])]
    known = [m for m in MIXING[1:] if not (family == "modernbert" and m == "bitfit")]
    runs += [of(method, 10 + n) for n, method in enumerate(known)]
    bench = ProcessCache()
    assert len({fleet_key(run) for run in runs}) == 1
    joint = together(runs, tmp_path, bench=bench)
    for run in runs:
        one = train_run(run, checkpoint=tmp_path / "alone", report=silent, caches=bench)
        outcome = joint[run.seed, run.learning_rate, run.fold]
        equal(outcome, one, of_choices=kind == "multiple_choice")


def test_what_does_not_mix(tmp_path: Path, tiny_model: Any) -> None:
    """What changes the sequence or attention, or draws dropout."""
    task, model = tiny_task(tmp_path), tiny_model("bert")
    options: tuple[tuple[str, dict[str, Any]], ...] = (
        ("lora", {}), ("lora", {"rank": 2, "dropout": 0.1}), ("prompt", {}), ("prefix", {}),
        ("adapterdrop", {}), ("head_only", {}),
    )  # fmt: skip
    kinds = {fleet_key(tiny_run(task, model, name, options=chosen)) for name, chosen in options}
    assert len(kinds) == len(options)
    few_layers = tiny_run(task, model, "lora", options={"target_modules": ["layer.1.*query"]})
    assert fleet_key(few_layers) in kinds


FAMILIES = pytest.mark.parametrize(
    "family", ["bert", pytest.param("deberta-v2", marks=pytest.mark.slow)]
)
BOTH_FAMILIES = pytest.mark.parametrize("family", ["bert", "deberta-v2"])


def fleet_of(tmp_path: Path, tiny_model: Any, family: str = "bert", **changes: Any) -> list[Run]:
    training = {"max_steps": 12, "eval_every": 3, "dropout": 0.1, "batch_size": 4}
    training |= changes.pop("training", {})
    task = tiny_task(tmp_path)
    return [
        tiny_run(task, tiny_model(family), "lora", training=training, seed=seed, **changes)
        for seed in (1, 2, 3, 4, 5)
    ]


@pytest.mark.wide
@BOTH_FAMILIES
def test_a_run_that_ends_leaves_and_another_takes_its_place(
    tmp_path: Path, tiny_model: Any, family: str
) -> None:
    """Five runs on two seats; early stops leave them at different steps."""
    runs = fleet_of(tmp_path, tiny_model, family, learning_rate=3e-2, training={"patience": 1})
    left = together(runs, tmp_path, places=2)
    outcomes = {run.seed: alone(run, tmp_path) for run in runs}
    assert len({outcome.result["steps"] for outcome in outcomes.values()}) > 1
    assert len(left) == 5
    for (seed, _, _), outcome in left.items():
        equal(outcome, outcomes[seed], within=2e-3)


SUBSETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lora", {"rank": 2, "layers": "upper:1"}),
    ("pfeiffer", {"reduction_factor": 8, "layers": "0"}),
    ("stack", {"methods": [{"name": "lora", "rank": 2, "layers": "0"},
                           {"name": "lora", "rank": 4, "layers": "1"}, "ia3"]}),
    ("stack", {"methods": [{"name": "parallel", "reduction_factor": 8, "layers": "upper:1"},
                           {"name": "bitfit", "layers": "0"}]}),
)  # fmt: skip
"""What stands in some layers, and several methods in one run."""


@pytest.mark.parametrize(
    "family", ["bert", *(pytest.param(f, marks=pytest.mark.slow) for f in ("deberta-v2", "opt"))]
)
def test_stacks_and_layer_subsets_mix(tmp_path: Path, tiny_model: Any, family: str) -> None:
    training = {"max_steps": 10, "eval_every": 5, "dropout": 0.1, "batch_size": 4}
    task, model = tiny_task(tmp_path, "pair"), tiny_model(family)
    runs = [
        tiny_run(
            task, model, method, training=training, seed=n, options=options, learning_rate=1e-3
        )
        for n, (method, options) in enumerate(SUBSETS)
    ]
    runs.append(tiny_run(task, model, training=training, seed=9, learning_rate=1e-3))
    bench = ProcessCache()
    assert len({fleet_key(run) for run in runs}) == 1
    assert_as_alone(runs, tmp_path, bench)


@pytest.mark.wide
@FAMILIES
def test_rates_folds_and_stages_mix(tmp_path: Path, tiny_model: Any, family: str) -> None:
    same_runs = fleet_of(tmp_path, tiny_model, family)[:3]
    changes: tuple[dict[str, Any], ...] = (
        {"stage": "tune", "fold": 1},
        {"stage": "tune", "fold": 2},
        {"learning_rate": 1e-3},
    )
    runs = [run.model_copy(update=new) for run, new in zip(same_runs, changes, strict=True)]
    assert_as_alone(runs, tmp_path)


@FAMILIES
def test_who_diverges_leaves_the_others_alone(tmp_path: Path, tiny_model: Any, family: str) -> None:
    runs = fleet_of(tmp_path, tiny_model, family, learning_rate=1e-3)[:3]
    runs[1] = runs[1].model_copy(update={"learning_rate": 1e30})
    left = together(runs, tmp_path)
    outcomes = [left[r.seed, r.learning_rate, r.fold] for r in runs]
    assert [o.result["outcome"] == "diverged" for o in outcomes] == [False, True, False]
    for run, outcome in zip(runs, outcomes, strict=True):
        equal(outcome, alone(run, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_activations_computed_again(tmp_path: Path, tiny_model: Any, family: str) -> None:
    """In the backward pass each run draws the dropout of its forward pass."""
    runs = fleet_of(tmp_path, tiny_model, family, training={"activation_checkpointing": True})[:2]
    assert_as_alone(runs, tmp_path)


@pytest.mark.wide
@BOTH_FAMILIES
def test_a_fleet_leaves_the_base_as_it_was(tmp_path: Path, tiny_model: Any, family: str) -> None:
    run = fleet_of(tmp_path, tiny_model, family)[0]
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    before, modules = loaded.backbone_digest(), [name for name, _ in loaded.model.named_modules()]
    together(fleet_of(tmp_path, tiny_model, family)[:3], tmp_path, places=2, bench=bench)
    assert bench.model(run.model, bench.dataset(run.task)) is loaded
    assert loaded.backbone_digest() == before
    assert [name for name, _ in loaded.model.named_modules()] == modules
    assert not any("forward" in vars(module) for module in loaded.model.modules())


class KilledError(Exception):
    """The process ends here."""


@FAMILIES
def test_a_fleet_goes_on_from_its_checkpoints(tmp_path: Path, tiny_model: Any, family: str) -> None:
    """Killed after a step of the second run; the first ones of each come to the same end."""
    runs = fleet_of(tmp_path, tiny_model, family)[:2]

    class Dying(Job):
        def report(self, progress: dict[str, Any]) -> None:
            super().report(progress)
            if progress["step"] == 8:
                raise KilledError

    jobs = [Job(runs[0], tmp_path / "joint0"), Dying(runs[1], tmp_path / "joint1")]
    with pytest.raises(KilledError):
        trainer = Trainer(options=TrainerOptions(checkpoint_seconds=-1))
        trainer.train_fleet(jobs, lambda free: [], lambda job, outcome: None)
    assert_as_alone(runs, tmp_path)


def test_a_run_that_another_worker_has_leaves_without_an_end(
    tmp_path: Path, tiny_model: Any
) -> None:
    runs = fleet_of(tmp_path, tiny_model)[:3]

    class Lost(Job):
        def report(self, progress: dict[str, Any]) -> None:
            if progress["step"] == 5:
                raise StaleClaimError("taken")

    jobs = [Job(run, tmp_path / f"x{n}") for n, run in enumerate(runs)]
    jobs[1] = Lost(runs[1], tmp_path / "x1")
    left: dict[int, Outcome] = {}
    Trainer().train_fleet(jobs, lambda free: [], lambda job, o: left.update({job.run.seed: o}))
    assert sorted(left) == [1, 3]
    for run in (runs[0], runs[2]):
        equal(left[run.seed], alone(run, tmp_path))


def test_a_run_is_cut_into_passes_as_alone(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pass costs depends on what the run itself trains, not on how many stand beside it."""
    runs = fleet_of(tmp_path, tiny_model, "deberta-v2", training={"max_steps": 2})
    bench, overheads = ProcessCache(), set()
    loaded = bench.model(runs[0].model, bench.dataset(runs[0].task))
    prepared = prepare(runs[0], loaded)
    alone = prepared.pass_tokens
    prepared.undo()

    split = PassSplitter.split_training

    def noting(self: PassSplitter, batches: Any) -> Any:
        overheads.update(batch.pass_overhead_tokens for batch in batches)
        return split(self, batches)

    monkeypatch.setattr(PassSplitter, "split_training", noting)
    together(runs, tmp_path, bench=bench)
    assert overheads == {alone}
    many = fleet.SharedModel(runs[0], loaded, "cpu", objectives.get("classification"))
    assert many.place([fleet.RunParameters(run) for run in runs])
    assert many.prepared.pass_tokens != alone  # it counts all of them
    many.remove_all()
