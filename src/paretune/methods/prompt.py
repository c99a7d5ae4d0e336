"""Prompt tuning: trained virtual tokens before the text, the model frozen.

Source: Lester et al. 2021, arXiv:2104.08691, section 2.
Equation: h = f([P; E(x)]), with f and E frozen; the mask covers P, token types of P are 0.
Shapes: P (num_virtual_tokens, embedding width), before every sequence; for multiple choice
before every choice, which PEFT cannot do; in a translation before the source, so that the decoder
sees what the encoder makes of it.
Trained parameters: num_virtual_tokens * embedding width.
Start: not the base model: the text attends to the prompt too, and a head that reads the first
position reads the first virtual token, as in PEFT. The text is shifted by the prompt, as in PEFT,
but in translation models it keeps its positions (``text_positions``;
paretune.methods.core.virtual_tokens says why). ``init`` draws P from normal(0, 1) (``random``,
PEFT's RANDOM), takes the embeddings of random tokens (``vocabulary``, PEFT's SAMPLE_VOCAB), or of
``init_text``, repeated and cut to length (``text``, PEFT's TEXT).
Does not merge. PEFT export: PROMPT_TUNING (not for multiple choice nor a decoder's classifier, nor
where the model scales its embeddings behind its table, as Marian does: PEFT's prompts and texts
would both pass it by).
When: the model itself may not be touched; large models gain more from it than small ones.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods.core.initialisation import draw_normal, init_generator
from paretune.methods.core.injection import Injection, copy_tensor, wrap_in_peft
from paretune.methods.core.method import Method, PeftExport
from paretune.methods.core.options import MethodOptions
from paretune.methods.core.virtual_tokens import (
    TextPositions,
    keeps_text_positions,
    prepend_virtual_tokens,
)
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy, accepts_embeddings, read_anatomy
from paretune.models.structure.topology import topology_of
from paretune.models.weight_storage import embed_rows
from paretune.objectives import Objective

NAME = "prompt"


class PromptOptions(MethodOptions):
    """Length of the prompt and what it starts from; ``init_text`` goes with ``init: text``.

    ``text_positions``: ``shifted`` by the prompt, as PEFT does it, or ``kept`` as without it; by
    default kept in translation models with absolute positions, and shifted elsewhere.
    """

    num_virtual_tokens: int = Field(default=20, ge=1, le=512)
    text_positions: TextPositions = "auto"
    init: Literal["vocabulary", "random", "text"] = "vocabulary"
    init_text: str | None = None
    _init_ids: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check_init(self) -> PromptOptions:
        if (self.init == "text") != (self.init_text is not None):
            raise ValueError("init: text and init_text go together; give both")
        return self

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """A copy that also has the tokens of ``init_text``.

        Raises:
            MethodError: it has none.
        """
        if self.init_text is None:
            return self
        # All special tokens, as PEFT: a head that reads the first position finds its token there.
        ids = tokenizer(self.init_text)["input_ids"]
        if not ids:
            raise MethodError(
                "init_text has no tokens.", where=f"method {NAME}", remedy="Write some."
            )
        tokenised = self.model_copy()
        tokenised._init_ids = tuple(ids)
        return tokenised


class PromptTable(nn.Module):
    """The trained prompt itself; called, it is (virtual, embedding width)."""

    def __init__(self, prompt: Tensor) -> None:
        super().__init__()
        self.P = nn.Parameter(prompt)

    def forward(self) -> Tensor:
        """(virtual, embedding width)."""
        return self.P


def inject(
    model: nn.Module, anatomy: Anatomy, options: PromptOptions, context: PassContext, seed: int
) -> Injection:
    """Prepend the prompt to the input embeddings."""
    table = next(model.get_submodule(anatomy.word_embeddings).parameters())
    count = options.num_virtual_tokens
    generator = init_generator(seed, NAME)
    if options.init == "random":
        prompt = draw_normal((count, anatomy.embedding_width), 1, generator)
    else:
        if options.init == "text":
            times = -(-count // len(options._init_ids))
            ids = torch.tensor(options._init_ids * times)[:count]
        else:
            ids = torch.randint(len(table), (count,), generator=generator)
        # In fp32, whatever the table is held in.
        prompt = table[ids.to(table.device)].detach().float()
    return prepend_virtual_tokens(
        model,
        anatomy,
        PromptTable(prompt.to(table.device)),
        count,
        context,
        options.text_positions,
    )


def to_peft(
    model: nn.Module, options: PromptOptions, injection: Injection, common: dict[str, Any]
) -> Any:
    """Make PEFT's prompt on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.PromptTuningConfig(
        num_virtual_tokens=options.num_virtual_tokens,
        **peft_prompt_settings(model, common),
    )
    peft_model = wrap_in_peft(model, config)
    (prompt,) = injection.parameters.values()
    # PEFT's rows go in behind the table, so whatever its module makes of a row is made here.
    copy_tensor(
        peft_model.prompt_encoder["default"].embedding.weight, embed_prompt(peft_model, prompt)
    )
    return peft_model


def embed_prompt(peft_model: Any, rows: Tensor) -> Tensor:
    """These rows as the table's module gives its own; (n, embedding width) both."""
    base = peft_model.get_base_model()
    (words, *_) = topology_of(base.config).word_embeddings(base)
    return embed_rows(words, rows.to(words.weight))


def cannot_export_to_peft(options: Any, objective: Objective, model: Any) -> str:
    """Why PEFT cannot put this method before the texts of such a task or model, or ""."""
    if objective.peft_task_type is None:
        return "PEFT cannot put a prompt before several choices"
    if model is None:
        return ""
    if objective.peft_task_type == "SEQ_CLS" and topology_of(model.config).pooled_token == -1:
        return (
            "PEFT hands a decoder's classifier embeddings, of which transformers then reads the "
            "last place, whether it is padding or not"
        )
    if not accepts_embeddings(model):
        return (
            f"{type(model).__name__} scales the embeddings that it looks up itself, and PEFT's "
            "prompts hand it embeddings: prompt and text would be read unscaled"
        )
    if keeps_text_positions(read_anatomy(model), options.text_positions):
        return (
            "the text kept its positions, and PEFT moves it behind the prompt "
            "(text_positions: shifted can be exported)"
        )
    return ""


def peft_prompt_settings(model: Any, common: dict[str, Any]) -> dict[str, Any]:
    """The fields of PEFT's prompt configs that describe the model."""
    settings = {
        "token_dim": model.get_input_embeddings().embedding_dim,
        "num_layers": model.config.num_hidden_layers,
        "num_attention_heads": model.config.num_attention_heads,
    }
    if common.get("task_type") == "SEQ_2_SEQ_LM":
        settings["num_transformer_submodules"] = 1  # the encoder alone
    return {**settings, **common}


def count_parameters(model: nn.Module, anatomy: Anatomy, options: PromptOptions) -> int:
    """num_virtual_tokens * embedding width."""
    return options.num_virtual_tokens * anatomy.embedding_width


METHOD = Method(
    name=NAME,
    title="prompt tuning",
    options=PromptOptions,
    learning_rates=(6e-3, 2e-2, 6e-2),
    # PEFT's comparison on MetaMathQA takes 1e-3 from tokens of the vocabulary.
    decoder_learning_rates=(1e-3, 3e-3, 1e-2),
    inject=inject,
    count_parameters=count_parameters,
    peft_export=PeftExport(to_peft, cannot_export_to_peft),
    virtual_tokens="text",
    saved_widths=3.0,
)
