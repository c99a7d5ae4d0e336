"""How many runs may train together: none where batches are not shared, else what memory bears."""

from __future__ import annotations

from paretune import methods
from paretune.study import MethodSpec, Run
from paretune.training.caches import ProcessCache
from paretune.training.fleet.shared_model import RunParameters, SharedModel
from paretune.training.forward.select import overhead_tokens
from paretune.training.forward.splitting import MAX_STACK_TOKENS, device_kind
from paretune.training.prepare import allows_bf16_weights

COPIES = 6
"""What a run holds of each trained number, at 4 bytes: itself, its gradient, AdamW's two moments,
the best so far, and a copy on the way into a new formation."""

MIN_RUNS_THAT_PAY = 4
"""Where two or three fit, a CPU gains 4 % (dev/log.md): less than equal bits are worth."""


def fleet_key(run: Run) -> str:
    """What runs of a fleet have in common: all but rate, seed, fold, stage, and what mixes.

    Raises:
        MethodError: unknown method or option.
    """
    method = methods.configure(run.method)
    mixes = isinstance(method, methods.ConfiguredMethod) and method.mixes
    alike = MethodSpec(name="any") if mixes else run.method
    return run.model_copy(
        update={"learning_rate": None, "seed": 0, "fold": 0, "stage": "final", "method": alike}
    ).model_dump_json()


def can_join_fleet(run: Run) -> bool:
    """Whether runs like this one may share a backbone, as far as their description tells."""
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
    """How many runs like this one can train together.

    Args:
        run: one of them.
        caches: caches of this process; the model is opened.
        device: where to train.
        limit: never more.
        budget_bytes: for what the runs hold beside the model and one pass.
        where_it_pays: only where it makes them clearly faster: where the steps of
            :data:`MIN_RUNS_THAT_PAY` runs fit into one pass.

    Returns:
        1 where batches are not shared.

    Raises:
        ParetuneError: the data, the model or the method cannot be used.
    """
    if limit < 2 or not can_join_fleet(run) or (where_it_pays and device != "cpu"):
        return 1
    dataset = caches.dataset(run.task)
    loaded = caches.model(run.model, dataset, bf16=allows_bf16_weights(run))
    model = SharedModel(run, loaded, device, dataset.objective)
    own = RunParameters(run)
    try:
        shared = model.place([own])
    except BaseException:  # whatever it is goes on up
        caches.drop_model()  # a method may be half inside it
        raise
    size = sum(p.numel() for p in own.trained.values())
    length = model.prepared.max_length
    model.remove_all()
    if not shared or (where_it_pays and not fleet_pays(_step_tokens(run, caches, length), device)):
        return 1
    return count_fitting_runs(size, limit, budget_bytes)


def fleet_pays(step_tokens: float, device: str) -> bool:
    """Whether runs whose mean step has so many tokens are known to be clearly faster together.

    On a GPU they are not: attention and dropout launch kernels for each run. Nobody measured it.
    """
    return (
        device == "cpu" and MIN_RUNS_THAT_PAY * step_tokens <= MAX_STACK_TOKENS[device_kind(device)]
    )


def count_fitting_runs(trained: int, most: int, budget_bytes: int) -> int:
    """How many runs that train so many numbers each, at most ``most``, these bytes bear."""
    return max(1, min(most, budget_bytes // (4 * COPIES * trained)))


def _step_tokens(run: Run, caches: ProcessCache, length: int) -> float:
    """Tokens of a mean step, with what its texts hold beside them."""
    loaded = caches.model(run.model, caches.dataset(run.task), bf16=allows_bf16_weights(run))
    train = caches.parts(run).train
    encoded = caches.encode(train, loaded, caches.source(run.model), length)
    tokens = sum(
        overhead_tokens(loaded.model) + len(text) for choices in encoded.ids for text in choices
    )
    tokens += sum(map(len, encoded.targets or ()))
    return tokens / len(train) * min(run.training.batch_size, len(train))
