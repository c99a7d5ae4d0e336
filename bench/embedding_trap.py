r"""What does it cost to hand Marian embeddings instead of tokens?

Marian's encoder multiplies embeddings by sqrt(d_model) when it looks them up itself, and only then.
PEFT's prompt tuning looks them up outside and hands them in, so every word arrives at
1 / sqrt(d_model) of its size. This measures BLEU of the same model on the same texts

- as it comes: through tokens, through embeddings as PEFT hands them in, and through embeddings that
  were multiplied first;
- with a prompt trained by PEFT, and by paretune: the same virtual tokens to begin with, examples,
  order, steps, optimiser and rate; ours once with the text moved behind the prompt, as PEFT does,
  and once with the text at the positions that it has without a prompt.

    python bench/embedding_trap.py --model ./opus-mt --train train.tsv --test test.tsv \
        --source sl --target en
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import peft
import torch
from runs import open_run, train_to_end

from paretune import objectives
from paretune.data.batch import shuffle_order
from paretune.methods.core.run_axis import Fleet
from paretune.metrics.translation import BLEU, signature
from paretune.models.load import LoadedModel, load_model
from paretune.models.sources.resolve import resolve_source
from paretune.objectives.encoding import Encoded, encode_texts, pad_batch
from paretune.study import Generation, MethodSpec, ModelSpec, Run, TaskSpec, Training
from paretune.tasks import load_dataset as load_task
from paretune.training.evaluation.predict import generate, generation_config

BATCH, LONGEST, SEED = 32, 128, 1


def by_embeddings(loaded: LoadedModel, encoded: Encoded, factor: float) -> list[str]:
    """Translations of a model that is handed the embeddings, times a factor."""
    model, settings = (
        loaded.model,
        generation_config(loaded, Generation(num_beams=1, max_new_tokens=LONGEST)),
    )
    table = model.get_input_embeddings()
    texts: list[str] = []
    for start in range(0, len(encoded.ids), BATCH):
        rows = list(range(start, min(start + BATCH, len(encoded.ids))))
        inputs = _tensors(encoded, rows, loaded)
        with torch.inference_mode():
            tokens = model.generate(
                inputs_embeds=table(inputs["input_ids"]) * factor,
                attention_mask=inputs["attention_mask"],
                generation_config=settings,
            )
        texts += loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def by_peft(
    loaded: LoadedModel, data: Encoded, test: Encoded, start: torch.Tensor, inputs: Any
) -> Any:
    """PEFT's prompt tuning, trained and translating by PEFT's own code."""
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=inputs.virtual, num_transformer_submodules=1
    )
    model: Any = peft.get_peft_model(loaded.model, config)
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(start)
    prompt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(prompt, lr=inputs.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / inputs.steps)
    model.train()
    per_epoch = -(-len(data.ids) // BATCH)
    for step in range(inputs.steps):
        epoch, place = divmod(step, per_epoch)
        rows = shuffle_order(len(data.ids), SEED, epoch)[place * BATCH : (place + 1) * BATCH]
        loss = model(**_tensors(data, rows, loaded)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prompt, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    texts: list[str] = []
    settings = generation_config(loaded, Generation(num_beams=1, max_new_tokens=LONGEST))
    for begin in range(0, len(test.ids), BATCH):
        rows = list(range(begin, min(begin + BATCH, len(test.ids))))
        batch = _tensors(test, rows, loaded)
        batch.pop("labels")
        with torch.inference_mode():
            tokens = model.generate(**batch, generation_config=settings)
        texts += loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def by_paretune(
    run: Run, loaded: LoadedModel, data: Encoded, test: Encoded
) -> tuple[Any, list[str]]:
    """Ours; also the virtual tokens that it began with."""
    with tempfile.TemporaryDirectory() as folder:
        state, model = open_run(run, loaded, data, 0, Path(folder) / "state")
        (prompt,) = model.prepared.injection.parameters.values()
        start = prompt.detach()[0].clone()
        train_to_end(state, model)
    texts = _plain(loaded, test, model.prepared.fleet)
    model.remove_all()
    return start, texts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What it costs to hand Marian embeddings.")
    for name in ("--model", "--train", "--test", "--source", "--target"):
        parser.add_argument(name, required=True)
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--virtual", type=int, default=10, help="virtual tokens; the paper has 10")
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--threads", type=int, default=1)
    inputs = parser.parse_args()
    torch.set_num_threads(inputs.threads)
    task = TaskSpec(
        name="pairs", kind="translation", train=inputs.train, test=inputs.test,
        source_lang=inputs.source, target_lang=inputs.target,
    )  # fmt: skip
    dataset = load_task(task)
    spec = ModelSpec(name=inputs.model)
    source = resolve_source(spec, offline=True)
    loaded = load_model(source, objectives.get("translation").head_spec((), dataset.languages))
    examples = dataset.test[: inputs.texts]
    test = encode_texts(examples, loaded.tokenizer, LONGEST)
    data = encode_texts(dataset.train, loaded.tokenizer, LONGEST)
    references = [str(e.target) for e in examples]
    print(f"{len(references)} texts, greedy; BLEU|{signature('bleu')}")

    def say(what: str, texts: list[str]) -> None:
        print(f"{what:62} BLEU {BLEU.compute(references, texts, ()):6.2f}", flush=True)

    width = loaded.model.config.d_model
    say("untuned, through tokens", _plain(loaded, test, Fleet()))
    say("untuned, through embeddings as PEFT hands them in", by_embeddings(loaded, test, 1.0))
    say(f"untuned, through embeddings x sqrt({width})", by_embeddings(loaded, test, width**0.5))
    trained = f"prompt of {inputs.virtual}, {inputs.steps} steps at {inputs.rate:g},"
    start = torch.empty(0)
    for positions in ("kept", "shifted"):
        method = MethodSpec(
            name="prompt", num_virtual_tokens=inputs.virtual, text_positions=positions
        )
        run = Run(
            stage="final", task=task, model=spec, learning_rate=inputs.rate, seed=SEED,
            method=method,
            training=Training(
                batch_size=BATCH, max_steps=inputs.steps, eval_every=inputs.steps,
                max_length=LONGEST, weight_decay=0.0, warmup_fraction=0.0, precision="fp32",
                label_smoothing=0.0,
            ),
        )  # fmt: skip
        start, ours = by_paretune(run, loaded, data, test)
        say(f"{trained} by paretune, text {positions}", ours)
    fresh = load_model(source, objectives.get("translation").head_spec((), dataset.languages))
    say(f"{trained} by PEFT", by_peft(fresh, data, test, start, inputs))


def _plain(loaded: LoadedModel, encoded: Encoded, fleet: Fleet) -> list[str]:
    return generate(
        loaded, encoded, Generation(num_beams=1, max_new_tokens=LONGEST), fleet=fleet,
        pad_id=loaded.anatomy.pad_id or 0, device="cpu", precision="fp32",
    )  # fmt: skip


def _tensors(encoded: Encoded, rows: list[int], loaded: LoadedModel) -> dict[str, torch.Tensor]:
    padded = pad_batch(encoded, rows, loaded.anatomy.pad_id or 0)
    return {name: torch.from_numpy(array) for name, array in padded.items()}


if __name__ == "__main__":
    main()
