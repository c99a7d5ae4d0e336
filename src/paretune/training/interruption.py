"""Handles interruptions of a run: signals, and memory that runs out.

A step that is interrupted in its forward or backward pass has changed no weight, so the run can be
saved as it was after the step before. Changing weights and counting the step must not be separated:
Ctrl-C and SIGTERM are deferred meanwhile. Nothing here needs torch before it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class _Pending:
    """State of this process, whose main thread receives its signals."""

    depth = 0
    interrupted = False


def interrupt() -> None:
    """Raise KeyboardInterrupt, or let :func:`defer_interrupts` do it at its end; for handlers."""
    if not _Pending.depth:
        raise KeyboardInterrupt
    _Pending.interrupted = True


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Run the block to its end; an interrupt that came meanwhile is raised after it.

    Raises:
        KeyboardInterrupt: at the end of the outermost block.
    """
    _Pending.depth += 1
    try:
        yield
    finally:
        _Pending.depth -= 1
        interrupted = _Pending.interrupted and not _Pending.depth
        if interrupted:
            _Pending.interrupted = False
    if interrupted:
        raise KeyboardInterrupt


OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    # Libraries of a full card: cuBLAS cannot make its handle or workspace, cuDNN its plan.
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
)
"""In the message of a RuntimeError that means out of memory, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means out of memory, on CUDA or on the CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in message for words in OUT_OF_MEMORY_MESSAGES
    )


def loses_device(error: BaseException) -> bool:
    """Whether a CUDA error other than out of memory is, or led to, this exception.

    After a device-side assertion, an illegal access or an uncorrectable ECC error, every further
    CUDA call of the process fails, and only a new process can continue. No version of torch tells
    reliably which errors are of that kind, and a new process costs seconds, so all count.
    """
    import torch

    accelerator: type[BaseException] = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
    cause: BaseException | None = error
    while cause is not None:
        names_device = any(words in str(cause) for words in ("CUDA error", "cuDNN error"))
        from_device = isinstance(cause, accelerator) or names_device
        if isinstance(cause, RuntimeError) and from_device and not is_out_of_memory(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
