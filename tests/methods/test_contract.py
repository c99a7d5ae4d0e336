"""The contract of every method on every model family and task kind (design.md, "Contract").

Each combination is walked through once: injected, stepped three times, run as a whole, loaded
again; the tests look at what was seen. By default every method walks on BERT and on one rotating
family, LoRA and prompt tuning on all; ``-m slow`` walks the rest.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes
from tiny_models import FAMILIES
from tiny_tasks import KINDS, silent, tiny_run, tiny_task
from torch import Tensor, nn

from paretune import methods
from paretune.data.scale import scale_of
from paretune.errors import MethodError
from paretune.methods import options as method_options
from paretune.methods.fleet import Fleet
from paretune.models.load import Loaded, load, reset_head
from paretune.study import Run
from paretune.training.evaluate import inputs, logits
from paretune.training.execute import Outcome, execute_run
from paretune.training.loop import Plan, adamw, train_step
from paretune.training.prepare import Prepared, prepare
from paretune.training.workbench import Workbench

METHODS = tuple(n for n, m in methods.available().items() if methods.trains_a_model(m))
ROTATING = FAMILIES[1:][datetime.date.today().toordinal() % (len(FAMILIES) - 1)]


def combinations() -> list[Any]:
    found = []
    for family in FAMILIES:
        for kind in KINDS:
            for method in METHODS:
                always = family in ("bert", ROTATING) or (
                    # One segment or two makes no difference to a model's classes.
                    method in ("lora", "prompt") and kind != "classification"
                )
                marks = () if always else pytest.mark.slow
                name = f"{method}-{family}-{kind}"
                found.append(pytest.param((method, family, kind), id=name, marks=marks))
    return found


REFUSED = {("bitfit", "modernbert"): "has no biases"}
"""Pairs that a method cannot do, and what its refusal says."""


@dataclass
class Walk:
    """What was seen of one method on one model and task."""

    method: str
    run: Run
    base: Tensor
    count: int = 0
    trained: dict[str, int] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    start: Tensor = field(default_factory=lambda: torch.empty(0))
    moved_frozen: list[str] = field(default_factory=list)
    without_gradient: list[str] = field(default_factory=list)
    unmoved: list[str] = field(default_factory=list)
    batched: Tensor = field(default_factory=lambda: torch.empty(0))
    padded: Tensor = field(default_factory=lambda: torch.empty(0))
    single: Tensor = field(default_factory=lambda: torch.empty(0))
    undone: Tensor = field(default_factory=lambda: torch.empty(0))
    same_names: bool = False
    pristine: tuple[str, str] = ("", "")
    outcome: Outcome = field(default_factory=Outcome)
    again: Tensor = field(default_factory=lambda: torch.empty(0))
    merged: Tensor = field(default_factory=lambda: torch.empty(0))


@pytest.fixture(scope="module")
def bench() -> Workbench:
    """Models are kept from one walk to the next, so a method that leaves a trace is found."""
    return Workbench()


@pytest.fixture(scope="module", params=combinations())
def walk(
    request: pytest.FixtureRequest,
    bench: Workbench,
    tiny_model: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Walk:
    method, family, kind = request.param
    folder = tmp_path_factory.mktemp("walk")
    task = tiny_task(folder, kind, train=30, test=6)
    run = tiny_run(task, tiny_model(family), method)
    loaded = bench.model(run.model, bench.dataset(task))
    reset_head(loaded, run.seed)
    seen = Walk(method, run, base=answers(loaded, run, bench))
    before = dict(loaded.model.named_parameters())
    pristine = loaded.pristine()
    module = methods.get(method)
    options = method_options.parse(method, module.Options, run.method.options)
    if reason := REFUSED.get((method, family)):
        with pytest.raises(MethodError, match=reason):
            prepare(run, loaded)
        pytest.skip(f"refused: {method} on {family} {reason}")
    seen.count = module.parameter_count(loaded.model, loaded.anatomy, options)
    prepared = prepare(run, loaded)
    seen.trained = {n: p.numel() for n, p in prepared.injection.parameters.items()}
    seen.head = loaded.head
    seen.start = answers(loaded, run, bench, prepared.fleet)
    three_steps(prepared, run, bench, seen)
    seen.batched = answers(loaded, run, bench, prepared.fleet)
    seen.single, seen.padded = one_by_one(prepared, run, bench)
    prepared.undo()
    if method == "full":
        bench.drop_model()
    seen.outcome = execute_run(run, checkpoint=folder / "x", report=silent, bench=bench)
    loaded = bench.model(run.model, bench.dataset(task))
    reset_head(loaded, run.seed)
    seen.undone = answers(loaded, run, bench)
    seen.same_names = list(dict(loaded.model.named_parameters())) == list(before)
    seen.pristine = (pristine, loaded.pristine())
    load_again(run, bench, seen)
    return seen


def answers(loaded: Loaded, run: Run, bench: Workbench, fleet: Fleet | None = None) -> Tensor:
    """Logits of the test part, (examples, labels)."""
    encoded = encoded_test(loaded, run, bench)
    found = logits(
        loaded.model,
        encoded,
        fleet=fleet or Fleet(),
        pad_id=loaded.anatomy.pad_id or 0,
        device="cpu",
        precision="fp32",
    )
    return torch.from_numpy(found)


def encoded_test(loaded: Loaded, run: Run, bench: Workbench) -> Any:
    return bench.encode(bench.parts(run).test, loaded, bench.source(run.model), 64)


def three_steps(prepared: Prepared, run: Run, bench: Workbench, seen: Walk) -> None:
    """Three real steps, dropout on; what has moved and what has not."""
    model, trained = prepared.loaded.model, prepared.trained
    given = bench.source(run.model)
    data = bench.encode(bench.parts(run).train, prepared.loaded, given, prepared.max_length)
    names = {id(p): n for n, p in trained.items()}
    frozen = {n: p for n, p in model.named_parameters() if id(p) not in names}
    frozen |= dict(model.named_buffers())
    copies = {n: t.detach().clone() for n, t in frozen.items()}
    starts = {n: p.detach().clone() for n, p in trained.items()}
    graded: set[str] = set()

    def note(name: str) -> Any:
        return lambda gradient: graded.add(name) if gradient.abs().max() > 0 else None

    hooks = [p.register_hook(note(n)) for n, p in trained.items()]
    scale = scale_of(bench.parts(run).train)
    plan = Plan(
        run.training, 1e-2, 1, 8, 3, prepared.pad_id, "cpu", "fp32", Path("unused"), scale=scale
    )
    optimizer = adamw(trained, 0.0)
    model.train()
    for step in range(3):
        rows = list(range(8 * step, 8 * step + 8))
        train_step(model, trained, optimizer, data, rows, step, 1e-2, plan, prepared.fleet)
    for hook in hooks:
        hook.remove()
    model.eval()
    # The bias of a single score moves all choices alike: its gradient is 0 but for rounding.
    free = {n for n, p in trained.items() if p.numel() > 1}
    seen.without_gradient = sorted(free - graded)
    seen.moved_frozen = [n for n, t in frozen.items() if not torch.equal(t, copies[n])]
    seen.unmoved = [n for n in free if torch.equal(trained[n], starts[n])]


def one_by_one(prepared: Prepared, run: Run, bench: Workbench) -> tuple[Tensor, Tensor]:
    """Logits of each example alone, and of all with twelve more padding tokens."""
    model, pad_id = prepared.loaded.model, prepared.pad_id
    encoded = encoded_test(prepared.loaded, run, bench)
    rows = list(range(len(encoded.labels)))
    choices = len(encoded.ids[0])
    with torch.inference_mode():
        single = []
        for row in rows:
            prepared.fleet.share([choices])
            single.append(model(**inputs(encoded, [row], pad_id, "cpu")).logits)
        given = inputs(encoded, rows, pad_id, "cpu")
        for name, value in given.items():
            filler = pad_id if name == "input_ids" else 0
            given[name] = nn.functional.pad(value, (0, 12), value=filler)
        prepared.fleet.share([len(rows) * choices])
        padded = model(**given).logits
    return torch.cat(single), padded


def load_again(run: Run, bench: Workbench, seen: Walk) -> None:
    """A fresh model, the weights that the run left, and the method merged where it merges."""
    dataset = bench.dataset(run.task)
    fresh = load(bench.source(run.model), kind=dataset.kind, num_labels=len(dataset.labels))
    prepared = prepare(run.model_copy(update={"seed": 99}), fresh)
    kept = from_bytes(seen.outcome.blobs["weights"])
    assert set(kept) == set(prepared.trained)
    with torch.no_grad():
        for name, parameter in prepared.trained.items():
            parameter.copy_(kept[name])
    seen.again = answers(fresh, run, bench, prepared.fleet)
    if merge := getattr(methods.get(seen.method), "merge", None):
        merge(fresh.model, prepared.injection)
        names = [name for name, _ in fresh.model.named_parameters()]
        assert names == [name for name in names if name not in prepared.injection.parameters]
        seen.merged = answers(fresh, run, bench)


def test_it_starts_where_it_says(walk: Walk) -> None:
    if methods.get(walk.method).STARTS_AS_BASE:
        assert torch.equal(walk.start, walk.base)
    else:
        assert not torch.allclose(walk.start, walk.base, atol=1e-3)


def test_what_it_trains_is_declared_and_counted(walk: Walk) -> None:
    assert sum(walk.trained.values()) == walk.count
    result = walk.outcome.result
    assert result["method_parameters"] == walk.count
    kept = from_bytes(walk.outcome.blobs["weights"])
    assert set(kept) == {*walk.trained, *walk.head}
    assert result["trained_parameters"] == sum(t.numel() for t in kept.values())


def test_frozen_tensors_keep_their_bits(walk: Walk) -> None:
    assert walk.moved_frozen == []


def test_every_trained_tensor_gets_a_gradient_and_moves(walk: Walk) -> None:
    assert walk.without_gradient == []
    assert walk.unmoved == []


def test_the_whole_head_is_trained_and_kept(walk: Walk) -> None:
    kept = from_bytes(walk.outcome.blobs["weights"])
    assert walk.head and set(walk.head) <= set(kept)
    assert walk.outcome.result["head_parameters"] == sum(kept[n].numel() for n in walk.head)


def test_padding_and_batch_size_do_not_change_logits(walk: Walk) -> None:
    torch.testing.assert_close(walk.single, walk.batched, rtol=0, atol=1e-5)
    torch.testing.assert_close(walk.padded, walk.batched, rtol=0, atol=1e-5)


def test_undo_restores_the_base(walk: Walk) -> None:
    """Full fine-tuning cannot be undone: there the next run is given a model loaded anew."""
    assert walk.same_names
    assert walk.pristine[0] == walk.pristine[1]
    assert torch.equal(walk.undone, walk.base)


def test_saved_and_loaded_it_answers_the_same(walk: Walk) -> None:
    told = json.loads(walk.outcome.blobs["predictions"])["test"]
    assert torch.equal(walk.again, torch.tensor(told["scores"]))
    assert not torch.allclose(walk.again, walk.base, atol=1e-3)


def test_merged_equals_unmerged(walk: Walk) -> None:
    if not hasattr(methods.get(walk.method), "merge"):
        pytest.skip("does not merge")
    torch.testing.assert_close(walk.merged, walk.again, rtol=0, atol=1e-5)
    assert not torch.allclose(walk.merged, walk.base, atol=1e-3)
