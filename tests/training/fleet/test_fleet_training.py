"""Runs of a fleet get what each gets alone: steps, early stops, answers, weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.joint_runs import Job, alone, assert_as_alone, equal, together
from support.tiny_study import say_numbers

from paretune import methods, objectives
from paretune.errors import StaleClaimError
from paretune.models.packing.apply import PACKED_ENCODERS
from paretune.planning.predicted_cost import CostPredictor
from paretune.study import Generation, MethodSpec, Run
from paretune.testing.tiny_models import encoder_tokenizer, unsettle_vectors
from paretune.testing.tiny_tasks import small, tiny_run, tiny_task
from paretune.testing.translator_folders import TRANSLATORS, tiny_pairs, translator_folder
from paretune.training import Outcome, TrainerOptions, fleet
from paretune.training.caches import ProcessCache
from paretune.training.fleet import fleet_key
from paretune.training.forward.select import MAX_STACK_TOKENS, SHAREABLE, PassSplitter
from paretune.training.prepare import prepare
from paretune.training.trainer import train_fleet

Member = Mapping[str, Any]
"""What a run of a fleet has for itself: changes of ``tiny_run``."""
SLOW, WIDE = pytest.mark.slow, pytest.mark.wide


def trio(method: str = "lora", **options: Any) -> list[Member]:
    """Two seeds and two rates of one method."""
    chosen = {"method": method, **({"options": options} if options else {})}
    pairs = ((1, 1e-3), (2, 1e-3), (1, 3e-3))
    return [{**chosen, "seed": seed, "learning_rate": rate} for seed, rate in pairs]


MIXING = ("lora", "loha", "lokr", "ia3", "bitfit", "layer_norm", "houlsby", "pfeiffer", "parallel")
OF_EACH = {r"0\..*": 3}
"""Another rank in the first layer."""
MIX: list[Member] = [
    {"method": "lora", "seed": 1},
    {"method": "lora", "seed": 2},
    {"method": "lora", "options": {"rank": 5, "alpha": 3.0}},
    *({"method": m, "options": {"rank": 2, "rank_pattern": OF_EACH}} for m in MIXING[:3]),
    *({"method": method} for method in MIXING[1:]),
]
SUBSETS: list[Member] = [
    {"method": "lora", "options": {"rank": 2, "layers": "upper:1"}},
    {"method": "pfeiffer", "options": {"reduction_factor": 8, "layers": "0"}},
    {
        "method": "stack",
        "options": {
            "methods": [
                {"name": "lora", "rank": 2, "layers": "0"},
                {"name": "lora", "rank": 4, "layers": "1"},
                "ia3",
            ]
        },
    },
    {
        "method": "stack",
        "options": {
            "methods": [
                {"name": "parallel", "reduction_factor": 8, "layers": "upper:1"},
                {"name": "bitfit", "layers": "0"},
            ]
        },
    },
    {"method": "lora"},
]
STAGES: list[Member] = [
    {"method": "lora", "stage": "tune", "fold": 1},
    {"method": "lora", "stage": "tune", "fold": 2},
    {"method": "lora", "learning_rate": 3e-3},
]
KEPT_PROMPT = trio("prompt", num_virtual_tokens=4, text_positions="kept")
JOINING = [
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method)
    and method.learning_rates is not None
    and not methods.refusal(method, objectives.get("classification"), tabular=False)
    and not methods.configure_method(MethodSpec(name=name, **small(name))).trains_alone
]
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", {"embedding_size": 16}),
    "data2vec-text": ("Data2VecText", {}),
    "ernie": ("Ernie", {}),
    "eurobert": ("EuroBert", {"num_key_value_heads": 4}),
    "mpnet": ("MPNet", {}),
    "nomic_bert": ("NomicBert", {}),
    "roberta-prelayernorm": ("RobertaPreLayerNorm", {}),
}
"""Further architectures whose runs may train together, padded: classes and their options."""
AGAIN = {"activation_checkpointing": True}
FLEETS: list[tuple[str, str, Sequence[Member], dict[str, Any], tuple[Any, ...]]] = [
    ("bert", "pair", trio(), {}, ()),
    ("bert", "pair", trio("prefix"), {}, ()),
    ("roberta", "multiple_choice", trio("prompt"), {}, ()),
    ("bert", "classification", KEPT_PROMPT, {}, ()),
    ("gemma3", "pair", trio("prefix"), {}, ()),
    ("deberta-v2", "pair", trio(), {}, ()),
    ("mean modernbert", "classification", trio("prompt"), {}, ()),
    ("bert", "pair", SUBSETS, {}, ()),
    ("marian", "translation", trio(), {}, (WIDE,)),
    ("mbart", "translation", trio("ia3"), {}, (WIDE,)),
    ("llama", "instruction", trio(), {}, (WIDE,)),
    ("bert", "pair", MIX, {}, (WIDE,)),
    ("bert", "classification", STAGES, {}, (WIDE,)),
    *(
        ("bert", "pair", trio(m), {}, (SLOW,))
        for m in JOINING
        if m not in ("lora", "prefix") and m not in MIXING
    ),
    *(("deberta-v2", "pair", trio(m), {}, (SLOW,)) for m in JOINING if m != "lora"),
    *(("roberta", "multiple_choice", trio(m), {}, (SLOW,)) for m in ("lora", "prefix")),
    *(("deberta-v2", "multiple_choice", trio(m), {}, (SLOW,)) for m in ("layer_norm", "prefix")),
    *(
        ("marian", "translation", trio(m), {}, (SLOW,))
        for m in ("prompt", "loha", "lokr", "prefix", "houlsby", "bitfit", "parallel")
    ),
    *(("mbart", "translation", trio(m), {}, (SLOW,)) for m in ("lora", "prompt", "prefix")),
    *(
        (f, "instruction", trio(m), {}, (SLOW,))
        for f in ("gemma3", "opt", "gemma2")
        for m in ("prefix", "ia3", "prompt", "lora")
    ),
    ("llama", "pair", trio(), {}, (SLOW,)),
    ("qwen3", "multiple_choice", trio("ia3"), {}, (SLOW,)),
    ("opt", "pair", trio("prompt"), {}, (SLOW,)),
    ("gpt_neox", "pair", trio("prefix"), {}, (SLOW,)),
    ("electra", "classification", trio("head_only"), {}, (SLOW,)),
    ("distilbert", "pair", trio("loha"), {}, (SLOW,)),
    ("modernbert", "pair", trio("prefix"), {}, (SLOW,)),
    ("xlm-roberta", "regression", trio("houlsby"), {}, (SLOW,)),
    ("roberta", "multiple_choice", KEPT_PROMPT, {}, (SLOW,)),
    ("mean modernbert", "pair", trio(), {}, (SLOW,)),
    ("mean modernbert", "multiple_choice", trio("prefix"), {}, (SLOW,)),
    ("deberta-v2", "pair", trio("lora", rank=2, dropout=0.2), {}, (SLOW,)),
    ("deberta-v2", "regression", trio("bitfit"), {}, (SLOW,)),
    *((f, "pair", MIX, {}, (SLOW,)) for f in ("modernbert", "deberta-v2")),
    ("roberta", "multiple_choice", MIX, {}, (SLOW,)),
    *((f, "pair", SUBSETS, {}, (SLOW,)) for f in ("deberta-v2", "opt")),
    ("deberta-v2", "classification", STAGES, {}, (SLOW,)),
    *((f, "classification", trio(), AGAIN, (SLOW,)) for f in ("bert", "deberta-v2")),
    *(
        (family, "pair", trio(m), {}, (SLOW,))
        for family in SHAREABLE
        if family not in (*PACKED_ENCODERS, "deberta-v2")
        for m in ("lora", "layer_norm", "prompt")
    ),
]
"""Family, kind of task, members, changes of the training, and marks."""
PADDED = ("deberta-v2", "mean modernbert", *CLASSES)


@pytest.fixture
def model_of(tiny_model: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A tiny model; ``mean modernbert`` reads the mean of all tokens, so it is not packed."""

    def give(family: str) -> Path:
        if family in TRANSLATORS:
            return translator_folder(family, tmp_path / family)
        if family in CLASSES:
            return write_checkpoint(family, tmp_path / family)
        if family != "mean modernbert":
            return Path(tiny_model(family))
        folder = Path(tiny_model("modernbert", tmp_path / "mean"))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "classifier_pooling": "mean"}))
        return folder

    return give


def write_checkpoint(family: str, folder: Path) -> Path:
    """A tiny checkpoint of a further architecture, with BERT's tokenizer."""
    name, options = CLASSES[family]
    config_of = getattr(transformers, f"{name}Config", None)
    if config_of is None:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    tokenizer = encoder_tokenizer("bert")
    config = config_of(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.2,
        max_position_embeddings=130,
        **options,
    )
    assert config.model_type == family
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
        unsettle_vectors(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Of each training pass of a fleet, the longest text of each run that has examples in it."""
    longest: list[list[int]] = []
    split = PassSplitter.split_training

    def noting(self: PassSplitter, batches: Any) -> Any:
        cut = split(self, batches)
        if not self.alone:
            longest.extend(
                [max(part.data.lengths[i] for i in part.indices) for part in own if part.indices]
                for own in cut
            )
        return cut

    monkeypatch.setattr(PassSplitter, "split_training", noting)
    return longest


@pytest.mark.parametrize(
    ("family", "kind", "members", "training", "stack_tokens"),
    [
        pytest.param(
            *case,
            300 if n % 2 and case[1] == "pair" and case[0] not in PADDED else 1000,
            marks=marks,
        )
        for n, (*case, marks) in enumerate(FLEETS)
    ],
)
def test_each_run_of_a_fleet_as_alone(
    family: str,
    kind: str,
    members: Sequence[Member],
    training: dict[str, Any],
    stack_tokens: int,
    tmp_path: Path,
    model_of: Any,
    passes: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout, in one fleet: 20 steps, losses within 1e-5.

    In passes of all runs, or of fewer where the others have no rows; padded, also of texts that
    alone would be of unlike lengths.
    """
    monkeypatch.setitem(MAX_STACK_TOKENS, "cpu", stack_tokens)
    changes: dict[str, Any] = {"training": {"max_steps": 20, "eval_every": 5, "dropout": 0.1}}
    changes["training"] |= {"batch_size": 4, **training}
    if kind == "translation":
        task = tiny_pairs(tmp_path / "data")
        changes["generation"] = Generation(max_new_tokens=8, num_beams=2)
    elif kind == "instruction":
        task = say_numbers(tmp_path)
        changes |= {"generation": Generation(max_new_tokens=4), "readout": "text"}
    else:
        task = tiny_task(tmp_path, kind)
    model = model_of(family)
    runs = [
        tiny_run(task, model, **{"learning_rate": 1e-3, "seed": n, **changes, **own})
        for n, own in enumerate(members, 1)
        if (family, own["method"]) != ("modernbert", "bitfit")  # it has no biases
    ]
    bench = ProcessCache()
    if members is not MIX:
        assert CostPredictor(bench).predict_fleet_size(runs[0], len(runs), 1 << 30)[0] == len(runs)
    assert len({fleet_key(run) for run in runs}) == 1
    joint = together(runs, tmp_path, bench=bench)
    assert max(map(len, passes)) > 1
    assert family not in PADDED or any(len({*own}) > 1 for own in passes)
    losses = set()
    for n, run in enumerate(runs):
        expected = alone(run, tmp_path / f"alone{n}", bench)
        actual = joint[run.seed, run.learning_rate, run.fold]
        equal(actual, expected, of_choices=kind == "multiple_choice")
        texts = [json.loads(outcome.blobs["predictions"]) for outcome in (actual, expected)]
        if kind in ("translation", "instruction"):
            assert texts[0]["test"]["prediction"] == texts[1]["test"]["prediction"]
        losses.add(round(expected.result["curve"][-1]["loss"], 5))
    assert len(losses) == len(runs)  # they are different runs


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


@FAMILIES
def test_who_diverges_leaves_the_others_alone(tmp_path: Path, tiny_model: Any, family: str) -> None:
    runs = fleet_of(tmp_path, tiny_model, family, learning_rate=1e-3)[:3]
    runs[1] = runs[1].model_copy(update={"learning_rate": 1e30})
    left = together(runs, tmp_path)
    outcomes = [left[r.seed, r.learning_rate, r.fold] for r in runs]
    assert [o.result["outcome"] == "diverged" for o in outcomes] == [False, True, False]
    for run, outcome in zip(runs, outcomes, strict=True):
        equal(outcome, alone(run, tmp_path))


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
        options = TrainerOptions(checkpoint_seconds=-1)
        train_fleet(jobs, lambda free: [], lambda job, outcome: None, options=options)
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
    train_fleet(jobs, lambda free: [], lambda job, o: left.update({job.run.seed: o}))
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


@pytest.mark.wide
def test_a_run_that_ends_translates_while_others_go_on(tmp_path: Path) -> None:
    """It is alone in the model for that; the others go on as before, and one takes its place."""
    task, model = tiny_pairs(tmp_path / "data"), translator_folder("marian", tmp_path / "marian")
    training = {"max_steps": 12, "eval_every": 2, "patience": 1, "dropout": 0.1}
    changes = {"training": training, "generation": Generation(max_new_tokens=8, num_beams=2)}
    rates = enumerate((1e-3, 3.0, 3.0), 1)
    runs = [tiny_run(task, model, seed=seed, learning_rate=r, **changes) for seed, r in rates]
    joint = together(runs, tmp_path, places=2)
    expected = [alone(run, tmp_path) for run in runs]
    for run, outcome in zip(runs, expected, strict=True):
        equal(joint[run.seed, run.learning_rate, run.fold], outcome)
    assert len({outcome.result["steps"] for outcome in expected}) > 1
    assert any(outcome.result["best_step"] < outcome.result["steps"] for outcome in expected)
