"""What is predicted of decoders: from their own shapes, not from a rule for encoders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paretune.measuring.costs import estimate_compute_cost
from paretune.measuring.model_shape import ModelShape, TrainedPart, measure_shape
from paretune.models.load import load_model
from paretune.models.quantised import count_parameters
from paretune.models.sources.resolve import resolve_source
from paretune.objectives import HeadSpec
from paretune.study import ModelSpec, Run
from paretune.study.specs import Quantisation
from paretune.testing.tiny_tasks import tiny_run, tiny_task

LENGTHS = [40] * 16


def shape_of(
    folder: Path, kind: str = "causal_lm", quantisation: Quantisation | None = None
) -> ModelShape:
    source = resolve_source(ModelSpec(name=str(folder), quantisation=quantisation))
    logits = 0 if kind == "causal_lm" else 2
    return measure_shape(load_model(source, HeadSpec(kind, "test", logits)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_run(tiny_task(tmp_path / "data"), tmp_path, "lora", training={"batch_size": 16})


def test_numbers_are_counted_from_the_modules_of_a_layer(tiny_model: Any) -> None:
    """The tiny ones: width 32, four heads of 8, two of keys and values, 64 inside."""
    saved = shape_of(tiny_model("llama")).saved
    assert saved is not None
    config = load_model(
        resolve_source(ModelSpec(name=str(tiny_model("llama")))), HeadSpec("causal_lm", "test")
    ).model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    assert saved.wide == (4 + 2) * config.hidden_size
    assert saved.narrow == size * (2 * heads + 2 * key_heads) + 3 * config.intermediate_size
    opt = shape_of(tiny_model("opt")).saved
    assert opt is not None and opt.wide < shape_of(tiny_model("gemma3")).saved.wide  # type: ignore[union-attr]


def test_encoders_and_translators_keep_the_rule_of_thumb(tiny_model: Any) -> None:
    assert shape_of(tiny_model("bert"), "sequence_classification").saved is None


def test_a_quantised_model_has_the_same_parameters_in_fewer_bytes(tiny_model: Any) -> None:
    plain, packed = (shape_of(tiny_model("llama"), quantisation=q) for q in (None, "int8"))
    assert packed.total_parameters == plain.total_parameters
    assert packed.backbone_parameters == plain.backbone_parameters
    assert packed.weights_bytes < plain.weights_bytes
    assert packed.saved == plain.saved


def test_words_are_scored_where_there_are_completions(tiny_model: Any, run: Run) -> None:
    shape = replace(shape_of(tiny_model("llama")), vocabulary=100_000)

    def cost(scored: float | None, **training: Any) -> Any:
        own = run.model_copy(update={"training": run.training.model_copy(update=training)})
        return estimate_compute_cost(own, shape, TrainedPart(1000), LENGTHS, 1, "cpu", scored)

    few, many = cost(1.0), cost(40.0)
    per_token = 4.0 * shape.width * shape.vocabulary * 16
    assert many.operations - few.operations == pytest.approx(39 * per_token)
    assert cost(None).operations == many.operations
    # In chunks: a plain pass holds the scores of all tokens, a packed one those of 128 at most.
    assert cost(40.0, backend="plain").saved_bytes > 4 * many.saved_bytes
    head = replace(shape, vocabulary=0)
    without = estimate_compute_cost(run, head, TrainedPart(1000), LENGTHS, 1, "cpu", 0.0)
    assert without.operations < few.operations and without.saved_bytes < few.saved_bytes


def test_parameters_of_tied_and_untied_heads_are_counted_once(tiny_model: Any) -> None:
    for family in ("llama", "gpt_neox"):
        source = resolve_source(ModelSpec(name=str(tiny_model(family))))
        loaded = load_model(source, HeadSpec("causal_lm", "test"))
        shape, model = measure_shape(loaded), loaded.model
        tables = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
        assert shape.backbone_parameters == count_parameters(model) - sum(t.numel() for t in tables)
