"""Lists the tuners of ``peft`` that train here, with their rates, and why the others do not.

The table is made by hand, since no field of ``peft`` says it. Every line was tried on a classifier.
A test goes through all tuners of the installed ``peft``, and fails for a new one until somebody
decides. Nothing here imports ``peft``.

On encoders, a method that we have too gets our learning rates. Others have a factor of three to
each side of the rate of the paper or of ``peft``'s own comparison
(``method_comparison/MetaMathQA``, read 2026-11; LoRA's is 1e-4 there and 1e-3 here, because a
classifier on few examples takes fewer steps). All were then looked at in 39 steps of 8 examples on
``routing`` with MiniLM: the middle rate and the high one lower the loss. OSF and SHiRA stood still
at the comparison's rates (5e-5, 3e-4) and learn at ten times those; WaveFT has LoRA's, and
collapses at 1e-2.

On decoders, low-rank and orthogonal updates have our LoRA's rates, around the 1e-4 that the
comparison gives almost all of them; the others learn at the same rates as on encoders, which is
where the comparison has them on its decoder (IA3 5e-3, LoKr 3e-3, HiRA 4.5e-3, C3A 3e-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paretune.methods.core.method import Rates

PEFT_PREFIX = "peft:"
"""The names of ``peft``'s own tuners begin with this."""

USUAL: Rates = (3e-4, 1e-3, 3e-3)
"""Low-rank and orthogonal updates: LoRA's own."""
USUAL_IN_DECODERS: Rates = (5e-5, 1.5e-4, 5e-4)
"""Low-rank and orthogonal updates of decoder-only models."""
VECTORS: Rates = (1e-3, 3e-3, 1e-2)
"""Few numbers that act on many weights: IA3's own."""


@dataclass(frozen=True)
class SupportedTuner:
    """A tuner that trains here.

    Attributes:
        targets: the roles of the layers that it adapts by default; ``norms`` and ``embeddings`` are
            those of the backbone. None: the default of the model's topology.
        required_option: an option without which it does nothing, or "".
        head_learning_rate_factor: the head's learning rate over the method's, where the method's
            own would make the head diverge.
        rewriting_option: an option with which, if its value is a string, initialisation takes a
            part of the base's weights out of them (PiSSA, OLoRA); "" where there is none.
        closed_options: options that are not offered, with the reason.
        barred_values: by option, values that are not offered, with the reason.
        numbered_values: by option, the prefix of values that end in a number (``pissa_niter_16``).
        not_in_peft: why PEFT cannot save its adapter with a head, or "".
    """

    title: str
    rates: Rates = USUAL
    targets: tuple[str, ...] | None = None
    required_option: str = ""
    head_learning_rate_factor: float = 1.0
    rewriting_option: str = ""
    closed_options: Mapping[str, str] = field(default_factory=dict)
    barred_values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    numbered_values: Mapping[str, str] = field(default_factory=dict)
    not_in_peft: str = ""

    @property
    def decoder_rates(self) -> Rates:
        """Learning rates on decoder-only models."""
        return USUAL_IN_DECODERS if self.rates == USUAL else self.rates


_SAVED = "it describes a saved adapter, which paretune writes itself"
_LINEAR = "linear layers are torch's own here, whatever the checkpoint has"
_LOSS = "it adds a loss of its own, and a fair comparison trains all methods on the same one"
_DATA = "it starts from gradients or activations on data, for which there is no pass here"
_UNTRIED = "this variant was not tried here"

CLOSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("task_type", "peft_type", "auto_mapping", "peft_version", "inference_mode", "revision"),
        _SAVED,
    ),
    "base_model_name_or_path": _SAVED,
    "modules_to_save": "the whole head is trained and saved with every method; for other modules "
    "lora, dora, loha and lokr have it",
    "bias": "it trains the base's own biases; bitfit does that and leaves the base as it is",
    "fan_in_fan_out": _LINEAR,
    "layers_pattern": "layers_to_transform counts the layers of every architecture",
    "progressbar": "paretune shows its own progress",
    "target_parameters": _LINEAR,
}
"""Options that no tuner is given here, and why."""

_LORA_CLOSED = {
    **dict.fromkeys(("megatron_config", "megatron_core", "ensure_weight_tying"), _LINEAR),
    **dict.fromkeys(("eva_config", "corda_config", "lora_ga_config"), _DATA),
    **dict.fromkeys(("kasa_config", "monteclora_config"), _LOSS),
    **dict.fromkeys(("velora_config", "arrow_config", "use_bdlora"), _UNTRIED),
    **dict.fromkeys(
        ("use_qalora", "qalora_group_size", "loftq_config"), "the base is not quantised"
    ),
    "runtime_config": "the base is not offloaded",
    "layer_replication": "it changes the depth of the model",
    "alora_invocation_tokens": "it wants a text that invokes it in every prompt",
    "trainable_token_indices": "peft:trainable_tokens does that",
}

SUPPORTED: Mapping[str, SupportedTuner] = {
    "adamss": SupportedTuner(
        "AdaMSS",
        VECTORS,
        closed_options=dict.fromkeys(
            (
                "use_asa",
                "asa_target_subspaces",
                "init_warmup",
                "final_warmup",
                "mask_interval",
                "asa_importance_beta",
                "asa_uncertainty_beta",
                "asa_schedule_exponent",
            ),
            "the search for subspaces wants a call after every step, which the loop does not make",
        ),
    ),
    "beft": SupportedTuner("BEFT", targets=("value",)),
    "boft": SupportedTuner("BOFT"),
    # 3e-1 in peft's comparison (of a model that has no head).
    "c3a": SupportedTuner("C3A", (3e-2, 1e-1, 3e-1), head_learning_rate_factor=0.03),
    "deft": SupportedTuner("DEFT"),
    "delora": SupportedTuner("DeLoRA"),
    # Its numbers are divided by the size of the weight; the paper's rates on GLUE are like these,
    # with a head that learns at a tenth of them (arXiv:2405.03003).
    "fourierft": SupportedTuner("FourierFT", (1e-2, 3e-2, 1e-1), head_learning_rate_factor=0.1),
    "frod": SupportedTuner(
        "FRoD", closed_options={"runtime_offload_base_weight": "the base is not offloaded"}
    ),
    "glora": SupportedTuner("GLoRA"),
    "gralora": SupportedTuner("GraLoRA"),
    "hira": SupportedTuner("HiRA", VECTORS),  # 4.5e-3 in peft's comparison
    "hra": SupportedTuner("HRA"),
    "ia3": SupportedTuner("IA3", VECTORS, ("key", "value", "feed_forward_down")),
    "ln_tuning": SupportedTuner("LayerNorm tuning", targets=("norms",)),
    "loha": SupportedTuner("LoHa"),
    "lokr": SupportedTuner("LoKr", VECTORS),
    "lora": SupportedTuner(
        "LoRA",
        rewriting_option="init_lora_weights",
        numbered_values={"init_lora_weights": "pissa_niter_"},
        closed_options=_LORA_CLOSED,
        barred_values={
            "init_lora_weights": {
                **dict.fromkeys(("eva", "corda", "lora_ga"), _DATA),
                "loftq": "the base is not quantised",
            }
        },
    ),
    "miss": SupportedTuner("MiSS"),
    "oft": SupportedTuner("OFT"),
    "osf": SupportedTuner("OSF"),
    "peanut": SupportedTuner("PEANuT"),
    "psoft": SupportedTuner("PSOFT"),
    "pvera": SupportedTuner(
        "PVeRA",
        VECTORS,
        closed_options={"sample_at_inference": "the same text would be answered by chance"},
    ),
    "randlora": SupportedTuner("RandLoRA"),
    "road": SupportedTuner("RoAd", VECTORS),
    "shira": SupportedTuner("SHiRA", VECTORS, closed_options={"mask_type": "peft has only one"}),
    "supertuning": SupportedTuner("Super-Tuning", VECTORS),
    "tinylora": SupportedTuner("TinyLoRA", VECTORS),
    "trainable_tokens": SupportedTuner(
        "trainable tokens",
        targets=("embeddings",),
        required_option="token_indices",
        closed_options={"target_modules": "it is the word embeddings"},
        not_in_peft="PEFT saves no head beside trainable tokens",
    ),
    "unilora": SupportedTuner("Uni-LoRA", VECTORS),  # 2e-3 there
    "vblora": SupportedTuner("VB-LoRA", VECTORS),
    # 4e-3 on SST-2 and 1e-2 on MRPC by its authors (arXiv:2310.11454).
    "vera": SupportedTuner("VeRA", (3e-3, 1e-2, 3e-2)),
    "waveft": SupportedTuner("WaveFT"),
}

_PROMPT = "peft puts it into the forward pass of its own wrapper, not into a model"

REFUSED: Mapping[str, str] = {
    "adalora": "it moves its ranks after every step of a plan whose length it must be told, and "
    "adds a loss of its own; without them it is LoRA of a fixed rank: use lora",
    "adaption_prompt": "it is for LLaMA, Mistral and GPT-2 alone",
    "cartridge": "it writes into the cache of PEFT's own wrapper of a decoder: use prefix",
    "cpt": "it trains on a loss of its own, over its examples too, in PEFT's own wrapper of a "
    "decoder: use prompt",
    "lily": "it mixes its experts by the mean over all tokens of a batch, padding too, so that "
    "what it answers to a text depends on the texts beside it",
    "multitask_prompt_tuning": "it wants the task of every example as an input of its own: "
    "use prompt",
    "p_tuning": f"{_PROMPT}: use p_tuning, which is the same and exports to it",
    "poly": "it wants the task of every example as an input of its own",
    "prefix_tuning": "it writes into the cache of PEFT's own wrapper of a decoder: use prefix, "
    "which is the same on causal LMs and exports to it",
    "prompt_tuning": f"{_PROMPT}: use prompt, which is the same and exports to it",
    "shadow": "it trains a second network beside the model, partly on a loss of its own",
    "xlora": "it mixes LoRA adapters that were trained before, and trains what mixes them alone",
}
"""Tuners that do not train here: why, and which method does what they would."""
