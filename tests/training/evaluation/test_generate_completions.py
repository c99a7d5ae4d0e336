"""What decoders write behind prompts: as transformers alone, whatever the batch; where it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from paretune import objectives
from paretune.models.load import LoadedModel, load_model
from paretune.models.pass_context import PassContext
from paretune.models.sources.resolve import resolve_source
from paretune.objectives import HeadSpec
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.study import Generation, ModelSpec
from paretune.training.evaluation import predict
from paretune.training.evaluation.predict import cut_at, generate
from paretune.training.forward.passes import Compute

FAMILIES = ("llama", "qwen3", "gemma3", "opt", "gpt2", "gpt_neox", "mistral", "phi3")
PROMPTS = (
    "The cat sat on the mat, and the dog slept by the",
    "Is it true",
    "Vlak iz Ljubljane v Celje zamuja skoraj",
    "Prices",
)
INSTRUCTION = for_readout(objectives.get("instruction"), "text", Prompt(delimiter=""))


@pytest.fixture
def load(tiny_model: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    def open_family(family: str) -> LoadedModel:
        source = resolve_source(ModelSpec(name=str(tiny_model(family))), offline=True)
        return load_model(source, HeadSpec("causal_lm", "instruction"))

    return open_family


def encode(loaded: LoadedModel) -> Encoded:
    examples = [
        Example(f"train:{i}", ((prompt, None),), None, f"line {i}", target=" door.")
        for i, prompt in enumerate(PROMPTS)
    ]
    return INSTRUCTION.encode(examples, loaded.tokenizer, 64, "")


def write(loaded: LoadedModel, data: Encoded, **changes: Any) -> list[str]:
    settings = Generation(max_new_tokens=changes.pop("max_new_tokens", 12), **changes)
    return generate(loaded, PassContext(), Compute("cpu", "fp32"), data, settings)


def write_alone(loaded: LoadedModel, data: Encoded, place: int, **settings: Any) -> str:
    """By transformers' own ``generate``, of one unpadded prompt."""
    starts = data.completion_starts
    assert starts is not None
    prompt = torch.tensor([data.ids[place][0][: starts[place][0]]])
    model: Any = loaded.model
    with torch.inference_mode():
        tokens = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            **{"do_sample": False, "max_new_tokens": 12, **settings},
        )
    new = tokens[0, prompt.shape[1] :]
    return loaded.tokenizer.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_texts_are_those_of_each_prompt_alone(
    family: str, load: Callable[[str], LoadedModel]
) -> None:
    loaded = load(family)
    data = encode(loaded)
    alone = [write_alone(loaded, data, place) for place in range(len(PROMPTS))]
    assert write(loaded, data) == alone
    assert len(set(alone)) > 1


def test_beams_are_transformers_own(
    load: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(predict.CACHED_TOKENS, "cpu", 1)  # each prompt is a batch of its own
    loaded = load("llama")
    data = encode(loaded)
    alone = [write_alone(loaded, data, place, num_beams=3) for place in range(len(PROMPTS))]
    assert write(loaded, data, num_beams=3) == alone


def test_a_text_ends_before_a_stop_and_may_begin_with_one(
    load: Callable[[str], LoadedModel],
) -> None:
    loaded = load("llama")
    data = encode(loaded)
    whole = write(loaded, data)
    end = whole[0][len(whole[0]) // 2 :][:2]
    stopped = write(loaded, data, stop=(end,))
    assert stopped == [cut_at(text, (end,)).strip() for text in whole]
    assert stopped[0] != whole[0]
    assert cut_at("\n Ja.\nNe.", ("\n",)) == "\n Ja."
    assert cut_at("Ja", ("\n", ".")) == "Ja"


def test_new_tokens_end_with_the_positions(load: Callable[[str], LoadedModel]) -> None:
    loaded = load("gpt2")
    assert loaded.anatomy.max_length is not None
    texts = write(loaded, encode(loaded), max_new_tokens=10 * loaded.anatomy.max_length)
    assert len(texts) == len(PROMPTS)
