"""Steps and memory of a decoder: paretune beside `transformers` + `peft`, and TRL's SFTTrainer.

Each side trains the same batches of the same model in a process of its own, one process after
another in every round, so that a slow moment meets all alike. A step is forward, the loss of the
completions' tokens, backward, clipping at 1 and fused AdamW; padding and packing belong to it.

    python bench/decoder_steps.py --model DECODER
    python bench/decoder_steps.py --model DECODER --methods lora,full --texts labels --rounds 5
    python bench/decoder_steps.py --model DECODER --trl-python VENV/bin/python --json steps.json

The sides of the field hold what is frozen in bf16, compute under bf16 autocast, pad each batch to
its longest text and, with `--order grouped`, batch texts of similar length. `full` has weights in
fp32 under autocast everywhere. Ratios are medians of those of rounds, with quartiles: above 1,
paretune is faster (seconds of the processor, which other processes disturb least, and of the
clock); of memory, the part that paretune takes of the other's peak, whole and over the imports.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

RANK, ALPHA, RATE = 16, 32, 1e-4


class Texts(NamedTuple):
    """Mean lengths of prompt and completion in tokens, and the spread of their logarithms."""

    prompt: float
    completion: float
    spread: float


TEXTS = {
    "instructions": Texts(80, 70, 0.6),
    "labels": Texts(140, 2, 0.45),
    "documents": Texts(20, 380, 0.4),
}
"""As of Alpaca; a yes or no behind a passage (BoolQ); texts of which nearly all is learnt."""
ROLES = {
    "query,value": ["q_proj", "v_proj"],
    "all_linear": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
"""Targets of LoRA, and their names in models of Llama's kind."""


class Batches(NamedTuple):
    """Token ids and lengths of prompts of all examples, and which are in each batch."""

    ids: list[list[int]]
    prompts: list[int]
    steps: list[list[int]]


def draw(options: argparse.Namespace, vocabulary: int) -> Batches:
    """Random tokens; the first batch has the longest texts."""
    shape, rng = TEXTS[options.texts], np.random.default_rng(0)
    count = options.batch * options.batches
    half = options.max_length // 2
    sizes = []
    for mean in (shape.prompt, shape.completion):
        raw = rng.lognormal(np.log(mean) - shape.spread**2 / 2, shape.spread, count)
        limit = options.max_length - 20 if mean > half else half
        sizes.append(np.clip(np.rint(raw), 2, limit).astype(int))
    prompts = [int(n) for n in sizes[0]]
    ids = [[int(t) for t in rng.integers(5, vocabulary, n)] for n in sizes[0] + sizes[1]]
    order = sorted(range(count), key=lambda i: -len(ids[i]))
    if options.order == "random":
        order = [int(i) for i in rng.permutation(count)]
    steps = [order[i : i + options.batch] for i in range(0, count, options.batch)]
    steps.sort(key=lambda own: -max(len(ids[i]) for i in own))
    return Batches(ids, prompts, steps)


Step = Callable[[int], float]
"""Makes the step with this batch; gives its mean loss of a token."""


def paretune_step(method: str, options: argparse.Namespace) -> tuple[Step, int]:
    """Our own step, as a run of a study makes it."""
    from paretune.measuring.memory import warm_libraries
    from paretune.objectives.encoding import Encoded
    from paretune.objectives.readouts import for_readout
    from paretune.preparation import ProcessCache
    from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training
    from paretune.training.forward.passes import Compute, StepBatch
    from paretune.training.forward.select import make_forward
    from paretune.training.loop import accumulate_gradients
    from paretune.training.prepare import allows_bf16_weights, prepare
    from paretune.training.run_state import RunOptimizer

    warm_libraries()
    rows = Path(options.scratch) / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "q {i}", "completion": "a {i}"}}\n' for i in range(9)))
    quantisation: Any = {"quantisation": "nf4"} if method == "qlora" else {}
    name = "full" if method == "full" else "lora"
    targets = options.targets.split(",")
    lora = {"rank": RANK, "alpha": ALPHA, "target_modules": targets, "dropout": 0.0}
    run = Run(
        stage="final",
        task=TaskSpec(kind="instruction", name="rows", train=str(rows), test=str(rows)),
        model=ModelSpec(name=options.model, **quantisation),
        method=MethodSpec(name=name, **(lora if name == "lora" else {})),
        readout="text",
        learning_rate=RATE,
        seed=1,
        training=Training(
            batch_size=options.batch, max_steps=10, max_length=options.max_length, precision="bf16"
        ),
    )
    caches = ProcessCache()
    dataset = caches.dataset(run.task)
    objective = for_readout(dataset.objective, "text", dataset.prompt)
    loaded = caches.model(run.model, dataset, bf16=allows_bf16_weights(run))
    batches = draw(options, loaded.model.config.vocab_size)
    data = Encoded(
        ids=[[own] for own in batches.ids],
        type_ids=None,
        lengths=[len(own) for own in batches.ids],
        labels=[None] * len(batches.ids),
        truncated=[False] * len(batches.ids),
        completion_starts=[[n] for n in batches.prompts],
    )
    prepared = prepare(run, loaded)
    forward = make_forward(prepared, Compute.of(run, "cpu"))
    template = StepBatch(
        data=data,
        seed=run.seed,
        objective=objective,
        loss_options=objective.loss_options(()),
        micro_batch=run.training.batch_size,
        pass_overhead_tokens=prepared.pass_tokens,
    )
    factors = prepared.injection.learning_rate_factors
    vocabulary = loaded.model.config.vocab_size
    optimizer = RunOptimizer(prepared.trained, run.training, vocabulary, factors)
    loaded.model.train()

    def step(number: int) -> float:
        batch = replace(template, indices=batches.steps[number], step=number)
        losses = accumulate_gradients(batch, forward)
        return optimizer.step(number, RATE, losses)

    return step, sum(p.numel() for p in prepared.trained.values())


def field_model(method: str, options: argparse.Namespace) -> Any:
    """As `peft`'s own examples open it: in bf16, or for all weights in fp32; its adapters fp32."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings: dict[str, Any] = {}
    if method == "qlora":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    dtype = torch.float32 if method == "full" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=dtype, attn_implementation=options.attention, **settings
    )
    model.config.use_cache = False
    if method == "full":
        return model
    if method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    names = ROLES[options.targets]
    return get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=names, task_type="CAUSAL_LM")
    )


def transformers_step(method: str, options: argparse.Namespace) -> tuple[Step, int]:
    """A plain loop."""
    import torch

    model = field_model(method, options)
    batches = draw(options, model.config.vocab_size)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01, fused=True)

    def step(number: int) -> float:
        own = batches.steps[number]
        longest = max(len(batches.ids[i]) for i in own)
        ids = torch.zeros(len(own), longest, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, i in enumerate(own):
            text = torch.tensor(batches.ids[i])
            ids[row, : len(text)], mask[row, : len(text)] = text, 1
            labels[row, batches.prompts[i] : len(text)] = text[batches.prompts[i] :]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step, sum(p.numel() for p in trained)


def run_trl(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds by SFTTrainer, whose callbacks take the times."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model = field_model(method, options)
    batches = draw(options, model.config.vocab_size)
    loaded = read_status("VmHWM")
    order = [i for own in batches.steps for i in own] * (1 + options.repeats)
    rows = Dataset.from_list(
        [
            {
                "input_ids": batches.ids[i],
                "completion_mask": [
                    int(p >= batches.prompts[i]) for p in range(len(batches.ids[i]))
                ],
            }
            for i in order
        ]
    )
    seconds: list[list[float]] = []
    losses: list[float] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.begun = time.perf_counter(), time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            wall, cpu = self.begun
            seconds.append([time.perf_counter() - wall, time.process_time() - cpu])

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=options.scratch,
            per_device_train_batch_size=options.batch,
            max_steps=len(order) // options.batch,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=True,
            completion_only_loss=True,
            max_length=options.max_length,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": False},
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(options.model),
        callbacks=[Watch()],
    )
    trainer.train()
    warm = len(batches.steps)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return {
        "loaded": loaded,
        "peak": read_status("VmHWM"),
        "seconds": seconds[warm:],
        "losses": losses[:warm],
        "trained": trained,
    }


def measure_alone(options: argparse.Namespace) -> dict[str, Any]:
    """All of a side in this process: bytes after imports, after loading and at most; seconds."""
    import peft  # noqa: F401
    import torch
    from transformers.utils import logging

    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    side, method = options.side, options.method
    torch.set_num_threads(options.threads)
    gc.collect()
    with Path("/proc/self/clear_refs").open("w") as mark:
        mark.write("5")
    imports = read_status("VmRSS")
    if side == "trl":
        return {"imports": imports, **run_trl(method, options)}
    make = paretune_step if side == "paretune" else transformers_step
    step, trained = make(method, options)
    loaded, seconds = read_status("VmHWM"), []
    losses = [step(number) for number in range(options.batches)]  # every shape is warm
    for _ in range(options.repeats):
        for number in range(options.batches):
            wall, cpu = time.perf_counter(), time.process_time()
            step(number)
            seconds.append([time.perf_counter() - wall, time.process_time() - cpu])
    peak = read_status("VmHWM")
    result: dict[str, Any] = {"imports": imports, "loaded": loaded, "peak": peak}
    return {**result, "seconds": seconds, "losses": losses, "trained": trained}


def read_status(key: str) -> int:
    """Bytes of this process, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {key} in /proc/self/status: this needs Linux")


def ask(side: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a fresh process."""
    from turns import in_fresh_process

    python = options.trl_python if side == "trl" else sys.executable
    settings = {**vars(options), "side": side, "method": method}
    with tempfile.TemporaryDirectory() as scratch:
        return in_fresh_process(__file__, {**settings, "scratch": scratch}, python=python)


def summary(rounds_by_side: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of each side, and ratios of rounds."""
    from turns import ratio

    def totals(side: str, clock: int) -> list[float]:
        return [sum(step[clock] for step in turn["seconds"]) for turn in rounds_by_side[side]]

    def peaks(side: str, over: str = "") -> list[float]:
        return [turn["peak"] - turn.get(over, 0) for turn in rounds_by_side[side]]

    sides, ratios = {}, {}
    for side, turns in rounds_by_side.items():
        sides[side] = {
            "cpu_seconds": median(totals(side, 1)),
            "wall_seconds": median(totals(side, 0)),
            **{
                name: median(turn[name] for turn in turns) for name in ("imports", "loaded", "peak")
            },
            "losses": turns[0]["losses"],
            "trained": turns[0]["trained"],
        }
        if side != "paretune":
            ratios[side] = {
                "cpu": ratio(totals(side, 1), totals("paretune", 1)),
                "wall": ratio(totals(side, 0), totals("paretune", 0)),
                "peak": ratio(peaks("paretune"), peaks(side)),
                "peak_over_imports": ratio(peaks("paretune", "imports"), peaks(side, "imports")),
            }
    return {"sides": sides, "ratios": ratios}


def tables(method: str, result: dict[str, Any], options: argparse.Namespace) -> Iterator[str]:
    """What was found of one method, as text."""
    from turns import format_quartiles

    steps = options.batches * options.repeats
    yield f"\n{method}, {options.texts}, batches of {options.batch} in {options.order} order"
    for side, own in result["sides"].items():
        yield (
            f"  {side:<13} {1000 * own['cpu_seconds'] / steps:8.0f} ms/step (processor), "
            f"{1000 * own['wall_seconds'] / steps:8.0f} (clock); "
            f"peak {own['peak'] / 2**20:6.0f} MiB, imports {own['imports'] / 2**20:.0f}, "
            f"loaded {own['loaded'] / 2**20:.0f}; "
            f"losses {own['losses'][0]:.4f} ... {own['losses'][-1]:.4f}; "
            f"{own['trained']:,.0f} trained"
        )
    for side, compared in result["ratios"].items():
        ratio = {name: format_quartiles(value) for name, value in compared.items()}
        yield (
            f"  {side} / paretune: {ratio['cpu']} times the processor's time, {ratio['wall']} the "
            f"clock's; paretune takes {ratio['peak']} of the peak, {ratio['peak_over_imports']} "
            "over the imports"
        )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="folder of a decoder of Llama's kind")
    parser.add_argument("--methods", default="lora,full", help="of lora, full, qlora")
    parser.add_argument("--sides", default="transformers,trl,paretune")
    parser.add_argument("--texts", default="instructions", choices=TEXTS)
    parser.add_argument("--order", default="grouped", choices=("grouped", "random"))
    parser.add_argument("--targets", default="query,value", choices=ROLES)
    parser.add_argument(
        "--attention", default="sdpa", choices=("sdpa", "eager"), help="of the field's"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trl-python", help="a Python with TRL; without it that side is left out")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure_alone(argparse.Namespace(**options.alone))))
        return
    from turns import about, in_rounds, save

    settings = {k: v for k, v in vars(options).items() if k not in ("alone", "trl_python")}
    results = about(**{**settings, "model": Path(options.model).name}, cases=[])
    sides = [s for s in options.sides.split(",") if s != "trl" or options.trl_python]
    for method in options.methods.split(","):
        rounds_by_side = in_rounds(
            {side: partial(ask, side, method, options) for side in sides}, options.rounds
        )
        result = summary(rounds_by_side)
        results["cases"].append({"method": method, **result})
        print("\n".join(tables(method, result, options)), flush=True)
        save(results, options.json)


if __name__ == "__main__":
    main()
