r"""How fast are translations made, beside the way of `transformers`' translation pipeline?

transformers 5 has no translation pipeline any more, so its way is written out here: every text is
tokenised, padded with its neighbours in the order given, translated by `generate` and decoded;
`batch_size` is 1 unless a user says otherwise. Both sides use the same model, the same search and
the same threads, in turn in one process; the side that begins changes from round to round. The
texts must come out the same but for rounding, and how many do is printed.

    python bench/generation_ratio.py --model ./opus-mt --train pairs.tsv --source sl --target en
    python bench/generation_ratio.py --model ./opus-mt --train pairs.tsv --source sl --target en \
        --beams 1 --batches 1 32 --texts 200 --rounds 5

A ratio above 1 means that paretune is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from paretune import objectives
from paretune.methods.core.run_axis import Fleet
from paretune.models.load import LoadedModel, load_model
from paretune.models.sources.resolve import resolve_source
from paretune.objectives.encoding import encode_texts
from paretune.study import Generation, ModelSpec, TaskSpec
from paretune.tasks import load_dataset as load_task
from paretune.training.evaluation.predict import generate, generation_config

LONGEST = 128


def piped(loaded: LoadedModel, texts: list[str], generation: Generation, batch: int) -> list[str]:
    """The pipeline's way, with this `batch_size`."""
    settings = generation_config(loaded, generation)
    translations: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch):
            inputs = loaded.tokenizer(
                texts[start : start + batch], return_tensors="pt", padding=True,
                truncation=True, max_length=LONGEST,
            )  # fmt: skip
            tokens = loaded.model.generate(**inputs, generation_config=settings)
            translations += loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(text.split()) for text in translations]


def ours(loaded: LoadedModel, texts: list[str], generation: Generation) -> list[str]:
    """paretune's, tokenising included."""
    from paretune.data.example import Example

    examples = [Example(str(i), ((text, None),), None, "") for i, text in enumerate(texts)]
    return generate(
        loaded,
        encode_texts(examples, loaded.tokenizer, LONGEST),
        generation,
        fleet=Fleet(),
        pad_id=loaded.anatomy.pad_id or 0,
        device="cpu",
        precision="fp32",
    )


def timed(work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Seconds, and what came out."""
    begun = time.perf_counter()
    texts = work()
    return time.perf_counter() - begun, texts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True, help="a table of pairs")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    inputs = parser.parse_args()
    torch.set_num_threads(inputs.threads)
    task = TaskSpec(
        name="pairs", kind="translation", train=inputs.train, source_lang=inputs.source,
        target_lang=inputs.target,
    )  # fmt: skip
    dataset = load_task(task)
    source = resolve_source(ModelSpec(name=inputs.model), offline=True)
    loaded = load_model(source, objectives.get("translation").head_spec((), dataset.languages))
    texts = [e.segments[0][0] for e in dataset.test[: inputs.texts]]
    generation = Generation(num_beams=inputs.beams, max_new_tokens=LONGEST)

    sides: dict[str, Callable[[], list[str]]] = {
        "paretune": lambda: ours(loaded, texts, generation)
    }
    for batch in inputs.batches:
        sides[f"pipeline, batch {batch}"] = lambda batch=batch: piped(
            loaded, texts, generation, batch
        )
    for work in sides.values():
        work()  # nobody pays for what is done once
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    came: dict[str, list[str]] = {}
    names = list(sides)
    for turn in range(inputs.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            took, came[name] = timed(sides[name])
            seconds[name].append(took)
    print(
        f"{len(texts)} texts, {inputs.beams} beams, {inputs.threads} thread(s), "
        f"{inputs.rounds} rounds, torch {torch.__version__}"
    )
    base = seconds["paretune"]
    for name in names:
        ratios = sorted(a / b for a, b in zip(seconds[name], base, strict=True))
        same = sum(a == b for a, b in zip(came[name], came["paretune"], strict=True))
        print(
            f"{name:22} {statistics.median(seconds[name]):7.2f} s  ratio "
            f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]  "
            f"same texts {same}/{len(texts)}"
        )


if __name__ == "__main__":
    main()
