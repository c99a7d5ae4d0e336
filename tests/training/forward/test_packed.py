"""Packed batches give what padded ones give; only dropout draws otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from paretune import methods, objectives
from paretune.data.batch import split_packed, split_packed_for_evaluation
from paretune.models.dropout.masks import draw_mask, keep_scale, keep_threshold
from paretune.models.dropout.rng import DropoutRng
from paretune.models.load import reset_head
from paretune.models.packing.attention import compute_packed_attention
from paretune.models.packing.attention_plan import AttentionSettings
from paretune.models.packing.encoder import PACKED_ENCODERS
from paretune.models.packing.layout import GROUP_OVERHEAD_SCORES, AttentionRole, PackedLayout
from paretune.models.packing.state import Packing
from paretune.testing.tiny_marian import tiny_pairs
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import translator_folder
from paretune.training import session
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.predict import evaluate_alone
from paretune.training.forward import select
from paretune.training.forward.micro_batch import MicroBatch
from paretune.training.forward.select import enable_packing, forward_for
from paretune.training.optimisation.precision import Compute
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run

ROWS = [3, 17, 8, 0, 21, 11, 5, 30, 2]
METHODS = tuple(
    n
    for n, m in methods.available().items()
    if isinstance(m, methods.Method)
    and not methods.refusal(m, objectives.get("classification"), tabular=False)
    and (m.learning_rates is not None)
)
PLACES = (
    *(("bert", method, "pair") for method in METHODS if method != "unipelt"),
    *((family, "lora", "pair") for family in PACKED_ENCODERS if family != "bert"),
    *((family, "prefix", "classification") for family in ("modernbert", "distilbert", "roberta")),
    *((family, "prompt", "multiple_choice") for family in ("bert", "roberta", "modernbert")),
    ("electra", "full", "multiple_choice"),
    ("bert", "lora", "regression"),
)


@pytest.mark.parametrize(("family", "method", "kind"), PLACES)
def test_a_packed_batch_gives_the_same_logits_and_gradients(
    family: str, method: str, kind: str, tmp_path: Path, tiny_model: Any
) -> None:
    """float64, every text of its own length, against the padded batch; then as it was before."""
    run = tiny_run(tiny_task(tmp_path, kind), tiny_model(family), method, training={"dropout": 0.0})
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    draw = torch.Generator().manual_seed(3)
    if method != "full":
        with torch.no_grad():
            for parameter in prepared.injection.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.2)
    model = loaded.model.double().train()
    data = bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64)
    objective = objectives.get(kind)
    options = objective.loss_options(bench.parts(run).train)

    def compute() -> tuple[Tensor, list[Tensor]]:
        forward = forward_for(loaded, prepared.fleet, Compute())
        (logits,) = forward([MicroBatch(data, ROWS)])
        loss = objective.loss(logits, data, ROWS, options)
        parameters = list(prepared.trained.values())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return logits, [torch.zeros(1) if g is None else g for g in gradients]

    padded = compute()
    assert enable_packing(prepared)
    packed_outputs = compute()
    torch.testing.assert_close(packed_outputs[0], padded[0], rtol=0, atol=1e-10)
    assert any(g.abs().max() > 1e-3 for g in padded[1])
    for name, one, other in zip(prepared.trained, packed_outputs[1], padded[1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10, msg=name)
    prepared.undo()
    if method != "full":
        assert prepared.fleet.packing is None
        reset_head(loaded, 1)
        assert "forward" not in {name for m in model.modules() for name in vars(m)}


def test_what_cannot_be_packed_is_padded(tmp_path: Path, tiny_model: Any) -> None:
    for family, method in (("deberta-v2", "lora"), ("bert", "unipelt"), ("bert", "peft:vera")):
        run = tiny_run(tiny_task(tmp_path), tiny_model(family), method)
        bench = ProcessCache()
        prepared = prepare(run, bench.model(run.model, bench.dataset(run.task)))
        assert not enable_packing(prepared) and prepared.fleet.packing is None


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_prompt_leaves_the_text_where_it_was(
    family: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Where the study asks for it, packed as padded: (a translation asks for it by itself)."""
    options = {"num_virtual_tokens": 4, "text_positions": "kept"}
    run = tiny_run(tiny_task(tmp_path), tiny_model(family), "prompt", options=options)
    bench = ProcessCache()
    prepared = prepare(run, bench.model(run.model, bench.dataset(run.task)))
    prepared.loaded.model.double().eval()
    data = bench.encode(bench.parts(run).train, prepared.loaded, bench.source(run.model), 64)

    def logits() -> Tensor:
        forward = forward_for(prepared.loaded, prepared.fleet, Compute())
        return forward([MicroBatch(data, ROWS)])[0]  # type: ignore[no-any-return]

    padded = logits()
    assert enable_packing(prepared)
    torch.testing.assert_close(logits(), padded, rtol=0, atol=1e-10)


def test_answers_do_not_depend_on_packing(tmp_path: Path, tiny_model: Any) -> None:
    run = tiny_run(tiny_task(tmp_path, "multiple_choice"), tiny_model("bert"))
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    data = bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64)
    padded = evaluate_alone(forward_for(loaded, prepared.fleet, Compute()), data)
    assert enable_packing(prepared)
    packed = evaluate_alone(forward_for(loaded, prepared.fleet, Compute()), data)
    np.testing.assert_allclose(packed, padded, rtol=0, atol=1e-5)


def test_losses_of_a_run_are_those_of_padded_batches(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 steps, fp32, within 1e-5; and with dropout the same bits every time."""
    training: dict[str, Any] = {"dropout": 0.0, "max_steps": 20}
    task, runs = tiny_task(tmp_path), []

    def losses(**changes: Any) -> list[float]:
        steps: list[float] = []
        run = tiny_run(task, tiny_model("bert"), training={**training, **changes})
        train_run(run, checkpoint=tmp_path / "x", report=lambda p: steps.append(p["loss"]))
        return steps

    with_dropout = losses(dropout=0.1)
    assert with_dropout == losses(dropout=0.1)
    runs.append(losses())
    monkeypatch.setattr(select, "can_pack", lambda model: False)
    runs.append(losses())
    assert len(set(runs[0])) == 20 and runs[0] == pytest.approx(runs[1], abs=1e-5)
    # Dropout does something, and not much else than torch's own.
    assert with_dropout != pytest.approx(runs[0], abs=1e-3)
    assert np.mean(with_dropout) == pytest.approx(np.mean(losses(dropout=0.1)), abs=0.3)


LOOKING = [(role, w) for role in ("self", "pooled") for w in (None, 2)]
LOOKING += [("causal", None), ("cross", None)]


def attention(
    role: AttentionRole, window: int | None, dropout: float, front: bool
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Packed attention of five texts (or pairs) of two runs, as a function of its tensors."""
    lengths, runs, heads, width = [6, 5, 2, 5, 3], [3, 2], 2, 8
    targets = [2, 4, 1, 3, 3]
    packing = Packing()
    packing.layout.begin_batch(lengths, runs, targets=targets)
    module = torch.nn.Module()
    module.packing = packing  # type: ignore[assignment]
    draw = torch.Generator().manual_seed(1)
    whole, target_rows = sum(lengths), sum(targets)
    rows, seen = {
        "self": (whole, whole),
        "pooled": (len(lengths), whole),
        "causal": (target_rows, target_rows),
        "cross": (target_rows, whole),
    }[role]
    shapes = [(rows, width), (seen, width), (seen, width)]
    shapes += [(len(lengths), 3, width)] * 2 if front else []
    tensors = [
        torch.randn(*shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]

    def attend(q: Tensor, k: Tensor, v: Tensor, *fronts: Tensor) -> Tensor:
        if fronts:
            module.prefixes = "ours"  # type: ignore[assignment]
            prefix = torch.nn.Module()
            prefix.keys_and_values = lambda rows: fronts  # type: ignore[assignment]
            module.ours = prefix
        packing.dropout_rng.begin_pass([11, 12], [])
        settings = AttentionSettings(heads, dropout, 0.7, role, window)
        return compute_packed_attention(module, q, k, v, settings)

    return attend, tensors


@pytest.mark.parametrize(("role", "window"), LOOKING)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_attention_has_the_gradients_that_it_says(
    role: AttentionRole,
    window: int | None,
    dropout: float,
    front: bool,
    together: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gradcheck in float64, texts each alone, and with padding between them."""
    monkeypatch.setattr(
        "paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", 10**6 if together else 0
    )
    attend, tensors = attention(role, window, dropout, front)
    assert torch.autograd.gradcheck(attend, tensors)


@pytest.mark.parametrize(("role", "window"), LOOKING)
@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_attention_in_bf16_is_that_of_float64_rounded(
    role: AttentionRole,
    window: int | None,
    front: bool,
    together: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There keys are rounded up to whole vectors, which nobody sees."""
    monkeypatch.setattr(
        "paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", 10**6 if together else 0
    )
    attend, tensors = attention(role, window, 0.0, front)
    exact = attend(*tensors)
    expected = torch.autograd.grad(exact.square().sum(), tensors)
    rounded = [x.detach().bfloat16().requires_grad_() for x in tensors]
    near = attend(*rounded)
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=0.03)
    gradients = torch.autograd.grad(near.double().square().sum(), rounded)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.15)


@pytest.mark.parametrize("mixed", range(5))
def test_attention_computes_in_one_dtype_under_autocast(mixed: int) -> None:
    """Whatever a method left in fp32; and its gradient is in fp32 again."""
    attend, inputs = attention("self", None, 0.0, front=True)
    dtypes = [torch.float32 if i == mixed else torch.bfloat16 for i in range(len(inputs))]
    tensors = [
        x.detach().to(dtype).requires_grad_() for x, dtype in zip(inputs, dtypes, strict=True)
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = attend(*tensors)
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.double(), attend(*inputs), rtol=0, atol=0.03)
    # Outside of autocast, as training does it.
    gradients = torch.autograd.grad(near.float().square().sum(), tensors)
    assert [g.dtype for g in gradients] == dtypes


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    x = torch.full((400, 500), 3.0, dtype=dtype, requires_grad=True)
    rng = DropoutRng()
    rng.begin_pass([5], [])
    out = rng.drop(x, p)
    gone = float((out == 0).double().mean())
    assert gone == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5 + 1e-9)
    rest = out[out != 0].double()
    assert rest.eq(torch.tensor(3.0, dtype=dtype).mul(keep_scale(p)).double()).all()
    out.sum().backward()
    assert x.grad is not None and torch.equal(x.grad != 0, out != 0)
    rng.begin_pass([5], [])
    assert torch.equal(rng.drop(x, p), out)
    again = rng.drop(x, p)  # the next place draws anew
    assert p == 0 or not torch.equal(again, out)


def test_what_is_kept_is_independent_of_place_and_seed() -> None:
    """Correlation of masks of neighbouring seeds and places: 4 standard errors at most."""
    n, cpu = 1 << 18, torch.device("cpu")
    masks = [
        draw_mask(seed, place, n, 0.5, cpu).double()
        for seed in (7, 8)
        for place in ((1,), (2,), (1, 0))
    ]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            together = torch.corrcoef(torch.stack([one, other]))[0, 1]
            assert abs(float(together)) < 4 / n**0.5
    assert keep_threshold(1.0 - 2**-17) == 1  # something is always kept


def test_a_runs_dropout_does_not_depend_on_the_runs_beside_it() -> None:
    x = torch.randn(9, 4)
    rng = DropoutRng()
    rng.begin_pass([5, 6], [[6, 3], [2, 1]])
    both, few = rng.drop(x, 0.5), rng.drop(x[:3], 0.5)
    rng.begin_pass([6], [])
    assert torch.equal(rng.drop(x[6:], 0.5), both[6:])
    assert torch.equal(rng.drop(x[2:3], 0.5), few[2:])
    rng.begin_pass([5, 6], [[6, 3]])
    with pytest.raises(ValueError, match="4 rows are not those of the runs"):
        rng.drop(x[:4], 0.5)


def test_groups_are_the_cheapest() -> None:
    """Against every way to cut; scores of whole groups and a cost for each."""
    draw = np.random.default_rng(0)
    for _ in range(40):
        lengths = sorted(draw.integers(1, 130, draw.integers(1, 9)).tolist(), reverse=True)
        layout = PackedLayout()
        layout.begin_batch(lengths, [len(lengths)])
        groups = layout.groups("self")
        assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])]
        assert groups[-1].stop == len(lengths) and [g.index for g in groups] == [
            *range(len(groups))
        ]
        cost = sum((g.stop - g.start) * g.keys.length**2 + GROUP_OVERHEAD_SCORES for g in groups)
        lowest = min(
            sum(
                (b - a) * lengths[a] ** 2 + GROUP_OVERHEAD_SCORES
                for a, b in zip([0, *cut], [*cut, len(lengths)], strict=True)
            )
            for bits in range(1 << (len(lengths) - 1))
            for cut in [[i + 1 for i in range(len(lengths) - 1) if bits >> i & 1]]
        )
        assert cost == lowest


@pytest.mark.parametrize("role", ["self", "causal", "cross"])
def test_groups_of_pairs_are_the_cheapest(role: AttentionRole) -> None:
    """The same where two sides go together, of which only the sum is sorted, or neither is."""
    draw = np.random.default_rng(3)
    for _ in range(40):
        sides = draw.integers(1, 130, (draw.integers(1, 9), 2)).tolist()
        sides.sort(key=lambda both: -sum(both))
        sources, targets = (list(side) for side in zip(*sides, strict=True))
        layout = PackedLayout()
        layout.begin_batch(sources, [len(sides)], targets=targets)
        groups = layout.groups(role)
        query_lengths, key_lengths = {
            "self": (sources, sources),
            "causal": (targets, targets),
            "cross": (targets, sources),
        }[role]
        for group in groups:
            each = slice(group.start, group.stop)
            assert group.queries.length == max(query_lengths[each])
            assert group.keys.length == max(key_lengths[each])
            assert group.causal == (role == "causal")
        cost = sum((g.stop - g.start) * g.queries.length * g.keys.length for g in groups)
        lowest = min(
            sum(
                (b - a) * max(query_lengths[a:b]) * max(key_lengths[a:b]) + GROUP_OVERHEAD_SCORES
                for a, b in zip([0, *cut], [*cut, len(sides)], strict=True)
            )
            for bits in range(1 << (len(sides) - 1))
            for cut in [[i + 1 for i in range(len(sides) - 1) if bits >> i & 1]]
        )
        assert cost + GROUP_OVERHEAD_SCORES * len(groups) == lowest


def test_a_batch_without_targets_is_not_looked_at_from_them() -> None:
    layout = PackedLayout()
    layout.begin_batch([3, 2], [2])
    with pytest.raises(ValueError, match="cross, but the batch has no targets"):
        layout.groups("cross")


def test_packed_batches_are_partitions_within_their_limits() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        tokens = draw.integers(3, 300, 64).tolist()
        batch = draw.permutation(64)[: draw.integers(1, 40)].tolist()
        most = int(draw.integers(1, 17))
        passes = split_packed(tokens, batch, most, pass_tokens=500)
        assert sorted(i for part in passes for i in part) == sorted(batch)
        assert max(map(len, passes)) <= most
        assert all(sum(tokens[i] for i in part) <= 500 + 300 for part in passes)
        assert passes == split_packed(tokens, batch[::-1], most, pass_tokens=500)
        in_order = [tokens[i] for part in passes for i in part]
        assert in_order == sorted(in_order, reverse=True)
        answered = split_packed_for_evaluation(tokens, 700)
        assert sorted(i for part in answered for i in part) == list(range(64))
        assert all(sum(tokens[i] for i in part) <= 700 for part in answered)
    assert split_packed([5, 5, 5, 5], [0, 1, 2, 3], 4) == [[0, 1, 2, 3]]


@pytest.mark.parametrize("method", ["lora", "loha", "prompt", "prefix", "houlsby"])
def test_a_base_held_in_bf16_gives_the_same_bits(
    method: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose matrices autocast casts in every step."""
    task = tiny_task(tmp_path)
    run = tiny_run(task, tiny_model("bert"), method, training={"precision": "bf16"})
    in_bf16 = train_run(run, checkpoint=tmp_path / "x", report=silent)
    monkeypatch.setattr(session, "allows_bf16_weights", lambda run: False)
    cast = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert (in_bf16.result, in_bf16.blobs) == (cast.result, cast.blobs)


@pytest.mark.parametrize("family", ["deberta-v2", "t5"])
def test_padded_batches_draw_their_dropout_from_the_seed_too(
    family: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every dropout of a forward pass, also those that are no module; the same bits again."""
    rates: list[float] = []
    drop = DropoutRng.drop
    monkeypatch.setattr(
        DropoutRng,
        "drop",
        lambda rng, x, p: rates.append(p) or drop(rng, x, p),  # type: ignore[func-returns-value]
    )
    if family == "t5":
        task, model = tiny_pairs(tmp_path / "data"), translator_folder("t5", tmp_path / "t5")
        run = tiny_run(task, model, training={"dropout": 0.1})
    else:
        run = tiny_run(tiny_task(tmp_path), tiny_model(family))
    outcomes = [train_run(run, checkpoint=tmp_path / "x", report=silent) for _ in range(2)]
    assert outcomes[0].result["curve"] == outcomes[1].result["curve"]
    assert len(rates) > 2 * 3 * 6 and {0.1} <= set(rates)
