"""Memory that has ended: how it shows, and smaller micro-batches where it does."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    # Libraries of a full card: cuBLAS cannot make its handle or workspace, cuDNN its plan.
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
)
"""What a RuntimeError says where memory has ended, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has ended, on CUDA or on CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in said for words in OUT_OF_MEMORY_MESSAGES
    )


def loses_device(error: BaseException) -> bool:
    """Whether a CUDA error other than lack of memory is, or led to, this exception.

    After a device-side assertion, an illegal access or an uncorrectable ECC error, every further
    CUDA call of the process fails: only a new process can go on. Which errors are of that kind is
    not told in a way that holds for all versions, and a new process costs seconds, so all count.
    """
    accelerator: type[BaseException] = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
    seen: BaseException | None = error
    while seen is not None:
        said = str(seen)
        from_device = isinstance(seen, accelerator) or "CUDA error" in said or "cuDNN error" in said
        if isinstance(seen, RuntimeError) and from_device and not is_out_of_memory(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def fit_in_memory(
    attempt: Callable[[int], None], micro_batch: int, on_halved: Callable[[int], None]
) -> bool:
    """Attempt with this micro-batch, halved as often as memory ends.

    Args:
        attempt: called with the micro-batch.
        micro_batch: the first one.
        on_halved: called with the next one.

    Returns:
        False where memory ended with a micro-batch of 1.
    """
    while not _fits(attempt, micro_batch):
        gc.collect()
        if micro_batch == 1:
            return False
        micro_batch //= 2
        on_halved(micro_batch)
    return True


def _fits(attempt: Callable[[int], None], micro_batch: int) -> bool:
    try:
        attempt(micro_batch)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False  # with the frames of the attempt its tensors go
        raise
    return True
