"""How to translate with what was exported: the search and the words that the scores are of."""

from __future__ import annotations

from paretune.models.load import Loaded
from paretune.study import Generation, Run
from paretune.training.translate import search

CODE = """
given = tokenizer({texts}, padding=True, return_tensors="pt")
tokens = model.generate(
    **given,
    {settings},
)
translations = tokenizer.batch_decode(tokens, skip_special_tokens=True)"""


def code(run: Run, loaded: Loaded) -> str:
    """Lines that follow the opening of a translation model; "" for other kinds.

    ``TEXTS`` in them is a list of sentences. What a model is told of the languages (mBART's codes,
    T5's words) is in no weights, so whoever opens it has to tell it too.
    """
    told = loaded.direction
    if told is None:
        return ""
    by = search(loaded, run.generation or Generation())
    settings = {
        "num_beams": by.num_beams,
        "length_penalty": by.length_penalty,
        "max_new_tokens": by.max_length - 1,
        "do_sample": False,
    }
    lines = []
    if told.first_token is not None:
        settings["forced_bos_token_id"] = told.first_token
        lines = [f"tokenizer.src_lang = {loaded.tokenizer.src_lang!r}"]
    texts = f"[{told.prefix!r} + text for text in TEXTS]" if told.prefix else "TEXTS"
    given = ",\n    ".join(f"{name}={value!r}" for name, value in settings.items())
    return "\n".join(["", *lines]) + CODE.format(texts=texts, settings=given)
