"""A method inside a tiny decoder with its LM head, with a batch to read and to continue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from paretune import methods
from paretune.models.load import to_linear_layers
from paretune.models.structure.anatomy import read_anatomy
from paretune.testing.tiny_models import decoder_tokenizer, random_model
from support.seq2seq_walk import Case, configure

ROWS, LONGEST, NEW = 3, 20, 4
"""Texts of a batch, tokens of the longest (more than a sliding window sees), and new ones."""
PAD = 3
TRAINED = tuple(
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method) and method.trains is methods.Trains.ADAPTER
)
WITHOUT_BIAS = ("llama", "qwen3", "gemma2", "gemma3", "mistral", "phi3")


_tokenizer = cache(decoder_tokenizer)


def tiny_decoder(family: str) -> Any:
    """A model of ``family`` in evaluation mode, the same bits every time; no text ends."""
    model = random_model(family, _tokenizer(family))
    to_linear_layers(model)
    model.generation_config.eos_token_id = None
    return model


@dataclass
class DecoderCase(Case):
    """A model and a method's module and options; ``inject`` puts the method in."""

    def texts(self) -> list[list[int]]:
        """Texts of unlike lengths."""
        draw = torch.Generator().manual_seed(5)
        words = self.model.config.vocab_size
        return [
            torch.randint(10, words, (LONGEST - 7 * row,), generator=draw).tolist()
            for row in range(ROWS)
        ]

    def batch(self, rows: int = ROWS, pad: int = 0, *, left: bool = False) -> dict[str, Tensor]:
        """The first texts, padded behind or in front, by ``pad`` more than needed."""
        ids, mask = [], []
        for text in self.texts()[:rows]:
            filler = LONGEST + pad - len(text)
            own, seen = [PAD] * filler, [0] * filler
            ids.append(own + text if left else text + own)
            mask.append(seen + [1] * len(text) if left else [1] * len(text) + seen)
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    def forced(self, texts: list[list[int]]) -> list[Tensor]:
        """Logits of all tokens of each text, read alone and without a cache."""
        with torch.no_grad():
            return [
                self.model(input_ids=torch.tensor([text]), use_cache=False).logits[0]
                for text in texts
            ]

    def continuations(self, beams: int, **batch: Tensor) -> Tensor:
        """The texts with what follows, by a search that keeps a cache."""
        with torch.no_grad():
            tokens: Tensor = self.model.generate(
                **batch, num_beams=beams, max_new_tokens=NEW, do_sample=False, pad_token_id=PAD
            )
        return tokens


def decoder_case(method: str, family: str, **overrides: Any) -> DecoderCase:
    """The method with small options on a fresh model."""
    model = tiny_decoder(family)
    return DecoderCase(*configure(method, overrides), model, read_anatomy(model))
