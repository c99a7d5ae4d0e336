"""Training the rows of words that occur ends where AdamW on the whole table ends, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from transformers import get_linear_schedule_with_warmup

from paretune.data.batch import shuffle_order
from paretune.execution.cost_probe import measure_cost
from paretune.models.dropout import set_dropout
from paretune.models.load import reset_head
from paretune.models.structure.anatomy import read_anatomy
from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.store import Claim
from paretune.study import Run
from paretune.testing.tiny_models import DECODERS, FAMILIES
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.tiny_translators import TRANSLATORS, WORDS, tiny_translator
from paretune.training import Outcome, TrainerOptions, word_tables
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run
from paretune.training.word_tables import WordTable, find_word_tables, train_occurring_rows

SETTINGS = {"max_steps": 6, "eval_every": 2, "weight_decay": 0.5, "batch_size": 8}
TABLE = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def occurring(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether rows are trained in place of tables from now on; the tiny models know few words."""

    def choose(rows: bool) -> None:
        monkeypatch.setattr(word_tables, "LARGEST_SHARE", 1.0 if rows else 0.0)

    return choose


def train(run: Run, checkpoint: Path, **changes: Any) -> tuple[list[float], Outcome]:
    """The loss of each step, and what the run leaves."""
    losses: list[float] = []

    def note(progress: dict[str, Any]) -> None:
        losses.append(progress["loss"])

    arguments: dict[str, Any] = {"report": note} | changes
    return losses, train_run(run, checkpoint=checkpoint, **arguments)


def assert_same_weights(outcome: Outcome, expected: Outcome) -> None:
    weights, reference = (load_tensors(o.blobs["weights"]) for o in (outcome, expected))
    assert {n: t.shape for n, t in weights.items()} == {n: t.shape for n, t in reference.items()}
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, reference[name], rtol=1e-4, atol=1e-5, msg=name)


def held_bytes(outcome: Outcome) -> int:
    return int(outcome.measured["work"]["held_bytes"])


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_a_run_is_that_on_the_whole_table(
    family: str, tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model(family), "full", training=SETTINGS)
    occurring(False)
    losses, whole = train(run, tmp_path / "whole")
    occurring(True)
    of_rows, outcome = train(run, tmp_path / "rows")
    assert of_rows == pytest.approx(losses, abs=1e-4) and len(losses) == 6
    assert_same_weights(outcome, whole)
    for key in ("trained_parameters", "method_parameters", "head_parameters", "trained_bytes"):
        assert outcome.result[key] == whole.result[key]
    assert held_bytes(outcome) < held_bytes(whole)


@pytest.mark.parametrize(
    ("method", "options"),
    [("setfit", {}), ("lora", {"rank": 2, "modules_to_save": ["embeddings"]})],
)
def test_other_methods_that_train_the_table(
    method: str, options: dict[str, Any], tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    task = tiny_task(tmp_path)
    run = tiny_run(task, tiny_model("bert"), method, training=SETTINGS, options=options)
    occurring(False)
    losses, whole = train(run, tmp_path / "whole")
    occurring(True)
    of_rows, outcome = train(run, tmp_path / "rows")
    assert of_rows == pytest.approx(losses, abs=1e-4)
    assert_same_weights(outcome, whole)
    assert held_bytes(outcome) < held_bytes(whole)


def test_a_plain_loop_ends_with_the_same_table(
    tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    """transformers' model, AdamW of torch on all of it, decay on matrices, clipped at 1."""
    occurring(True)
    settings = {**SETTINGS, "max_steps": 12, "eval_every": 12, "dropout": 0.0}
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "full", training=settings)
    losses, outcome = train(run, tmp_path / "rows")
    caches = ProcessCache()
    loaded, examples = caches.run_model(run), caches.parts(run).train
    model: Any = loaded.model
    set_dropout(model, 0.0)
    reset_head(loaded, run.seed)
    before = model.get_parameter(TABLE).detach().clone()
    named = list(model.named_parameters())
    matrices = [p for n, p in named if not n.endswith("bias") and "norm" not in n.lower()]
    vectors = [p for n, p in named if n.endswith("bias") or "norm" in n.lower()]
    groups = [
        {"params": matrices, "weight_decay": 0.5},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=run.learning_rate or 0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 12)
    labels = torch.tensor([e.label for e in examples])
    product, expected = 1.0, []
    model.train()
    for epoch in range(3):
        shuffled = shuffle_order(len(examples), run.seed, epoch)
        for start in range(0, len(shuffled), 8):
            rows = shuffled[start : start + 8]
            texts = [examples[i].segments[0][0] for i in rows]
            batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
            loss = F.cross_entropy(model(**batch).logits, labels[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            product *= 1 - optimizer.param_groups[0]["lr"] * 0.5
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            expected.append(loss.item())
    assert losses == pytest.approx(expected, abs=1e-4)
    table, after = load_tensors(outcome.blobs["weights"])[TABLE], model.get_parameter(TABLE)
    assert product < 0.99
    torch.testing.assert_close(table, after.detach(), rtol=1e-4, atol=1e-5)
    encoded = {i for e in examples for i in loaded.tokenizer(e.segments[0][0])["input_ids"]}
    absent = [i for i in range(len(table)) if i not in encoded]  # that of padding too
    assert model.config.pad_token_id in absent and len(absent) > 10
    torch.testing.assert_close(table[absent], before[absent] * product, rtol=1e-6, atol=0)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_killed_run_goes_on_to_the_same_bits(
    step: int, tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    occurring(True)
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "full", training=SETTINGS)
    _, whole = train(run, tmp_path / "whole")

    def stop(progress: dict[str, Any]) -> None:
        if progress["step"] == step + 1:
            raise InterruptedError

    options = TrainerOptions(checkpoint_seconds=0)
    with pytest.raises(InterruptedError):
        train_run(run, checkpoint=tmp_path / "killed", report=stop, options=options)
    losses, resumed = train(run, tmp_path / "killed")
    assert len(losses) == 6 - step
    assert resumed.blobs["weights"] == whole.blobs["weights"]
    assert resumed.blobs["predictions"] == whole.blobs["predictions"]


def test_a_checkpoint_of_the_whole_table_is_not_continued(
    tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "full", training=SETTINGS)

    def stop(progress: dict[str, Any]) -> None:
        if progress["step"] == 4:
            raise InterruptedError

    occurring(False)
    options = TrainerOptions(checkpoint_seconds=0)
    with pytest.raises(InterruptedError):
        train_run(run, checkpoint=tmp_path / "killed", report=stop, options=options)
    occurring(True)
    assert len(train(run, tmp_path / "killed")[0]) == 6


def test_the_best_weights_have_the_decay_of_their_step(
    tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    settings = {**SETTINGS, "max_steps": 12, "eval_every": 1, "patience": 2}
    task, model = tiny_task(tmp_path), tiny_model("bert")
    run = tiny_run(task, model, "full", training=settings, learning_rate=0.05)
    occurring(False)
    _, whole = train(run, tmp_path / "whole")
    occurring(True)
    _, outcome = train(run, tmp_path / "rows")
    assert outcome.result["steps"] > outcome.result["best_step"] > 1
    assert outcome.result["best_step"] == whole.result["best_step"]
    assert_same_weights(outcome, whole)


def test_the_plain_backend_trains_the_whole_table(tmp_path: Path, tiny_model: Any) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "full")
    caches = ProcessCache()
    prepared = prepare(run, caches.run_model(run))
    data = caches.encode(caches.parts(run).train[:2], prepared.loaded, caches.source(run.model), 64)
    assert train_occurring_rows(prepared, data, "plain") == []
    (table,) = train_occurring_rows(prepared, data, "fast")
    assert table.name == TABLE and len(table.rows) < len(table.whole) / 2


def untied_t5() -> Any:
    """As mT5 is published: one table for both stacks, and another that scores words."""
    model = tiny_translator("t5")
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def untied_marian() -> Any:
    return tiny_translator("marian", tie_word_embeddings=False)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        *((partial(tiny_translator, family), []) for family in TRANSLATORS),
        (untied_t5, ["shared.weight"]),
        (untied_marian, [f"model.{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")]),
    ],
)
def test_a_table_that_scores_words_is_trained_whole(
    make: Callable[[], Any], expected: list[str]
) -> None:
    model = make()
    tables = find_word_tables(model, read_anatomy(model), dict(model.named_parameters()))
    assert [*tables] == expected


@pytest.mark.parametrize(("family", "tied"), [("qwen2", True), ("llama", False), ("qwen3", False)])
def test_a_decoder_that_writes_keeps_a_tied_table(
    family: str, tied: bool, tiny_model: Any, tmp_path: Path
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model(family), "full")
    caches = ProcessCache()
    loaded = caches.model(run.model, caches.dataset(run.task), readout="label_words")
    tables = find_word_tables(loaded.model, loaded.anatomy, dict(loaded.model.named_parameters()))
    assert [*tables] == ([] if tied else ["model.embed_tokens.weight"])


def test_both_stacks_of_a_translator_read_the_rows() -> None:
    """Gradients of occurring rows, and outputs for any words, are those of the whole table."""
    source, target = torch.tensor([[5, 9, 7, 0]]), torch.tensor([[0, 8, 5]])

    def compute(model: Any, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, decoder_input_ids=target).logits
        return logits

    whole, model = untied_t5(), untied_t5()
    ids = torch.tensor([0, 5, 7, 8, 9])
    table = WordTable(model, "shared.weight", model.shared.weight, ids)
    compute(whole, source).square().sum().backward()
    compute(model, source).square().sum().backward()
    gradient = whole.shared.weight.grad
    torch.testing.assert_close(table.rows.grad, gradient[ids], rtol=1e-4, atol=1e-4)
    assert gradient.abs().sum() > 0 and gradient[10:].abs().sum() == 0
    with pytest.raises(IndexError):
        compute(model, torch.tensor([[5, 11]]))
    table.shrink(0.5)
    table.shrink(0.5)
    unseen = torch.arange(WORDS)[None]
    with torch.no_grad():
        table.rows += 1
        expected = whole.shared.weight * 0.25
        expected[ids] = whole.shared.weight[ids] + 1
        whole.shared.weight.copy_(expected)
        before = compute(model, unseen)
        torch.testing.assert_close(before, compute(whole, unseen))
    table.restore()
    assert model.shared.weight is table.whole is model.get_encoder().embed_tokens.weight
    assert table.whole.requires_grad and [*model.state_dict()] == [*whole.state_dict()]
    torch.testing.assert_close(compute(model, unseen), before)


def test_costs_are_predicted_and_measured_without_idle_rows(
    tmp_path: Path, tiny_model: Any, occurring: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "full", training=SETTINGS)
    run = run.model_copy(update={"stage": "cost"})
    claim = Claim(run, tmp_path / "unused", silent)
    measured, predicted = {}, {}
    for rows in (False, True):
        occurring(rows)
        measured[rows] = measure_cost(claim, limit_seconds=0.1)
        predicted[rows] = CostPredictor(ProcessCache()).predict_work(run).held_bytes
    whole, outcome = measured[False], measured[True]
    assert outcome.result["trained_parameters"] == whole.result["trained_parameters"]
    assert outcome.measured["saved_bytes"] == whole.measured["saved_bytes"]
    assert "word_tables" not in whole.result
    described = outcome.result["word_tables"]
    idle = 4 * 32 * (described["rows"] - described["trained_rows"])
    parts, of_whole = outcome.measured["components"], whole.measured["components"]
    assert of_whole["gradients_bytes"] - parts["gradients_bytes"] == idle > 0
    assert of_whole["optimizer_bytes"] - parts["optimizer_bytes"] == 2 * idle
    assert parts["weights_bytes"] - of_whole["weights_bytes"] == 4 * 32 * described["trained_rows"]
    assert held_bytes(whole) - held_bytes(outcome) == described["spared_bytes"]
    assert predicted[True] == pytest.approx(held_bytes(outcome), rel=0.05)
    assert predicted[False] == held_bytes(whole)
