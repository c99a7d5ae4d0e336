"""One dry step: a method on a model on two examples of a task, to find what would fail later."""

from __future__ import annotations

from pathlib import Path

from paretune.data.scale import scale_of
from paretune.methods.fleet import Fleet
from paretune.models.anatomy import embeds_path_agrees
from paretune.study import Run
from paretune.training.loop import Plan, adamw, train_step
from paretune.training.prepare import prepare
from paretune.training.workbench import Workbench


def dry_step(run: Run, bench: Workbench, device: str = "cpu") -> str:
    """Prepare the run and take one training step on its two longest examples.

    Returns:
        What was trained, in a few words: ``beside 24 layers, 147,456 + 148,995 parameters``.

    Raises:
        ParetuneError: the method cannot serve this model or task.
        DivergedError: the first step is not finite.
    """
    parts = bench.parts(run)
    dataset = bench.dataset(run.task)
    loaded, labels = bench.model(run.model, dataset), len(dataset.labels)
    prepared = prepare(run, loaded, device)
    try:
        encoded = bench.encode(
            parts.train[:16], loaded, bench.source(run.model), prepared.max_length
        )
        longest = sorted(range(len(encoded.lengths)), key=lambda i: -encoded.lengths[i])[:2]
        plan = Plan(
            run.training, 0.0, run.seed, 2, prepared.classes(labels), prepared.pad_id, device,
            "fp32", Path(), scale=scale_of(parts.train),
        )  # fmt: skip
        if not prepared.trained:
            return "trains nothing"
        fleet: Fleet = prepared.fleet
        optimizer = adamw(prepared.trained, 0.0)
        loaded.model.train()
        train_step(loaded.model, prepared.trained, optimizer, encoded, longest, 0, 0.0, plan, fleet)
        method = sum(p.numel() for p in prepared.injection.parameters.values())
        head = sum(p.numel() for p in prepared.head.values())
        beside = len(prepared.injection.parts)
        said = f"beside {beside} layers, " if beside else ""
        extra = prepared.injection.extra_tokens
        said += f"{extra} virtual tokens, " if extra else ""
        return f"{said}{method:,} method + {head:,} head parameters"
    finally:
        loaded.model.eval()
        prepared.undo()
        if prepared.method.NAME == "full":
            bench.drop_model()


def embeddings_agree(run: Run, bench: Workbench) -> bool:
    """Whether the model reads embeddings as it reads tokens (the embedding-scale trap)."""
    return embeds_path_agrees(bench.model(run.model, bench.dataset(run.task)).model)
