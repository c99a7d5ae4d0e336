"""Which runs may train together, and how many fit in memory."""

from __future__ import annotations

from paretune import methods
from paretune.study import MethodSpec, Run
from paretune.training.caches import ProcessCache
from paretune.training.fleet.shared_model import RunParameters, SharedModel
from paretune.training.forward.select import overhead_tokens
from paretune.training.forward.splitting import MAX_STACK_TOKENS, device_kind
from paretune.training.prepare import allows_bf16_weights

COPIES = 6
"""Copies of each trained parameter that a run needs, in fp32: itself, its gradient, AdamW's two
moments, the best so far, and one while runs are placed anew."""
MIN_RUNS_THAT_PAY = 4
"""With two or three, a CPU gains 4 % (dev/log.md): less than identical bits are worth."""


def fleet_key(run: Run) -> str:
    """Runs with the same key may train together: all but learning rate, seed, folds, stage, and
    what is measured after training.

    Methods that mix have the same key.
    """
    configured = methods.configure(run.method)
    mixes = isinstance(configured, methods.ConfiguredMethod) and configured.mixes
    method = MethodSpec(name="any") if mixes else run.method
    own = {
        "learning_rate": None,
        "seed": 0,
        "fold": 0,
        "outer": None,
        "stage": "final",
        "forgetting": None,
    }
    return run.model_copy(update={**own, "method": method}).model_dump_json()


def can_join_fleet(run: Run) -> bool:
    """Whether the run may share a backbone, by its description; the model may still refuse."""
    plain = run.training.backend == "plain"
    if run.stage == "cost" or plain or run.learning_rate is None:
        return False
    method = methods.configure(run.method)
    return isinstance(method, methods.ConfiguredMethod) and not method.trains_alone


def count_slots(
    run: Run,
    caches: ProcessCache,
    device: str,
    limit: int,
    budget_bytes: int,
    *,
    where_it_pays: bool = False,
) -> int:
    """How many runs like this one can train together; 1 where batches cannot be shared.

    Args:
        budget_bytes: for the runs, apart from the model and one pass.
        where_it_pays: only where the steps of :data:`MIN_RUNS_THAT_PAY` runs fit into one pass.
    """
    if limit < 2 or not can_join_fleet(run) or (where_it_pays and device != "cpu"):
        return 1
    loaded = caches.run_model(run, bf16=allows_bf16_weights(run))
    model = SharedModel(run, loaded, device, caches.objective(run))
    own = RunParameters(run)
    try:
        shared = model.place([own])
    except BaseException:  # always raised again
        caches.drop_model()  # a method may be half injected
        raise
    size = sum(p.numel() for p in own.trained.values())
    length = model.prepared.max_length
    model.remove_all()
    if not shared or (where_it_pays and not fleet_pays(_step_tokens(run, caches, length), device)):
        return 1
    return count_fitting_runs(size, limit, budget_bytes)


def fleet_pays(step_tokens: float, device: str) -> bool:
    """Whether runs of so many tokens a step are clearly faster together; not measured on a GPU."""
    return (
        device == "cpu" and MIN_RUNS_THAT_PAY * step_tokens <= MAX_STACK_TOKENS[device_kind(device)]
    )


def count_fitting_runs(trained_parameters: int, limit: int, budget_bytes: int) -> int:
    """Number of runs that fit in ``budget_bytes``, at least 1 and at most ``limit``."""
    return max(1, min(limit, budget_bytes // (4 * COPIES * trained_parameters)))


def _step_tokens(run: Run, caches: ProcessCache, length: int) -> float:
    """Tokens of a mean step, overhead of its texts included."""
    loaded = caches.run_model(run, bf16=allows_bf16_weights(run))
    train, encode = caches.parts(run).train, caches.objective(run).encoder("train")
    encoded = caches.encode(train, loaded, caches.source(run.model), length, encode)
    tokens = sum(
        overhead_tokens(loaded.model) + len(text) for choices in encoded.ids for text in choices
    )
    tokens += sum(map(len, encoded.targets or ()))
    return tokens / len(train) * min(run.training.batch_size, len(train))
