"""What TRL's SFTTrainer, DPOTrainer and KTOTrainer make of a few rows, for tests to compare with.

TRL is installed in an environment of its own (bench/oracles/README.md). What it gave is kept in
tests/oracle/trl.json: of each row the token ids and labels, by a small tokenizer that is kept with
them, and the loss of the batch by a Llama whose weights follow from a formula, in fp32; of
preferences the loss and its gradients. This file imports nothing of paretune.

    python bench/oracles/trl_oracle.py            # writes tests/oracle/trl.json
    python bench/oracles/trl_oracle.py --check    # compares with what is written
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

FILE = Path(__file__).parents[2] / "tests" / "oracle" / "trl.json"
CORPUS = [
    "What is the capital of Slovenia? Ljubljana is the capital.",
    "Kateri je glavni grad? Ljubljana.",
    "Translate to Slovene: cherry, češnja. Answer in one word.",
    "You answer briefly. Good morning! Dobro jutro.",
]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The same template, in which every answer is marked for ``assistant_only_loss``."""
PLAIN: list[dict[str, Any]] = [
    {"prompt": "What is the capital of Slovenia?", "completion": " Ljubljana."},
    # The blank at the end of the prompt and the word behind it are one token.
    {"prompt": "Translate to Slovene: cherry. Answer: ", "completion": "češnja"},
    {"prompt": "Good morning", "completion": "! Dobro jutro.<|im_end|>"},
]
CONVERSATIONS: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "user", "content": "What is the capital of Slovenia?"}],
        "completion": [{"role": "assistant", "content": "Ljubljana."}],
    },
    {
        "prompt": [
            {"role": "system", "content": "You answer briefly."},
            {"role": "user", "content": "Good morning!"},
            {"role": "assistant", "content": "Dobro jutro."},
            {"role": "user", "content": "Translate to Slovene: cherry."},
        ],
        "completion": [{"role": "assistant", "content": "češnja"}],
    },
]
PAIRS: list[dict[str, Any]] = [
    {"prompt": row["prompt"], "chosen": row["completion"], "rejected": " Good grad."}
    for row in PLAIN
]
WORSE = [{"role": "assistant", "content": "Good grad, one word."}]
CHATS = [
    {"chosen": row["prompt"] + row["completion"], "rejected": row["prompt"] + WORSE}
    for row in CONVERSATIONS
]
RATED = [{**row, "label": bool(place % 2)} for place, row in enumerate(PLAIN)]
REFERENCE_SCALE = 0.17
MESSAGES = [{"messages": row["prompt"] + row["completion"]} for row in CONVERSATIONS]
CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few words, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.eos_token, fast.pad_token = "<|im_end|>", "<|endoftext|>"
    fast.chat_template = TEMPLATE
    return fast


def make_model(vocabulary: int, scale: float = 0.2) -> LlamaForCausalLM:
    """A Llama whose weights are sines: no library's random numbers are in them."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **CONFIG))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(places * (number + 1)).mul(scale).view_as(parameter)
            parameter.copy_(values + 1 if parameter.ndim == 1 else values)
    return model.eval()


def compute_loss(
    kinds: tuple[Any, Any], rows: list[dict[str, Any]], tokenizer: Any, **options: Any
) -> tuple[Any, Any, list[Any]]:
    """The loss of these rows as one batch, the model with its gradients, and the encoded rows."""
    base = {"ref_model": make_model(len(tokenizer), REFERENCE_SCALE)}
    with tempfile.TemporaryDirectory() as folder:
        settings = kinds[0](
            output_dir=folder,
            report_to=[],
            bf16=False,
            use_cpu=True,
            max_length=256,
            per_device_train_batch_size=len(rows),
            gradient_checkpointing=False,
            **options,
        )
        trainer = kinds[1](
            model=make_model(len(tokenizer)),
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            **({} if kinds[1] is SFTTrainer else base),
        )
        items = [trainer.train_dataset[i] for i in range(len(rows))]
        loss = trainer.compute_loss(trainer.model, dict(trainer.data_collator(items)))
        loss.backward()
    return float(loss.detach()), trainer.model, items


def record(rows: list[dict[str, Any]], tokenizer: Any, *, all_answers: bool = False) -> Any:
    """Ids and labels of these rows, and the loss of all of them."""
    kinds = SFTConfig, SFTTrainer
    loss, _, items = compute_loss(kinds, rows, tokenizer, assistant_only_loss=all_answers)
    encoded = [{"ids": list(item["input_ids"]), "labels": list(item["labels"])} for item in items]
    return {"rows": rows, "encoded": encoded, "loss": loss}


def record_preferences(rows: list[dict[str, Any]], tokenizer: Any, **options: Any) -> Any:
    """The loss of these rows, and what its gradients are along sines."""
    kinds, order = (DPOConfig, DPOTrainer), {}
    if "label" in rows[0]:
        kinds, order = (KTOConfig, KTOTrainer), {"train_sampling_strategy": "sequential"}
    loss, model, _ = compute_loss(kinds, rows, tokenizer, **options, **order)
    slopes = {
        name: float(p.grad.double().flatten() @ torch.arange(p.numel()).double().sin())
        for name, p in model.named_parameters()
    }
    return {"rows": rows, "options": options, "loss": loss, "slopes": slopes}


def main() -> None:
    """Write the file, or compare with it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    tokenizer = make_tokenizer()
    cases: list[Any] = [(PAIRS, {}), (CHATS, {"beta": 0.3}), (RATED, {"desirable_weight": 1.5})]
    preferences = [record_preferences(rows, tokenizer, **options) for rows, options in cases]
    plain, conversational = (record(rows, tokenizer) for rows in (PLAIN, CONVERSATIONS))
    tokenizer.chat_template = MARKED
    values = {
        "trl": trl.__version__,
        "config": CONFIG,
        "reference_scale": REFERENCE_SCALE,
        "preferences": preferences,
        "template": TEMPLATE,
        "plain": plain,
        "conversational": conversational,
        "marked_template": MARKED,
        "all_answers": record(MESSAGES, tokenizer, all_answers=True),
        "tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()),
    }
    if not check:
        FILE.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    for name in ("plain", "conversational", "all_answers"):
        assert recorded[name]["encoded"] == values[name]["encoded"], name
        assert abs(recorded[name]["loss"] - values[name]["loss"]) < 1e-5, name
    for kept, value in zip(recorded["preferences"], preferences, strict=True):
        assert abs(kept["loss"] - value["loss"]) < 1e-5, kept["options"]
    print(f"trl {trl.__version__} gives what {recorded['trl']} gave")


if __name__ == "__main__":
    main()
