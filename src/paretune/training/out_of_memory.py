"""What may go wrong in a run and is a result, not a crash: divergence, and memory that ends."""

from __future__ import annotations

import math

import torch

LOSS_CEILING = 50.0
"""A mean loss this many times that of a uniform answer counts as blown up.

The mean answer of a regression has a loss of a half, less than a uniform answer of two classes.
"""


class DivergedError(Exception):
    """The run blew up: the loss or a gradient is not finite, or the loss exceeds the ceiling."""

    def __init__(self, step: int, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"step {step}: {why}")


def check_finite(step: int, loss: float, gradient_norm: float, num_labels: int) -> None:
    """Raise DivergedError when this step shows that the run has blown up."""
    if not math.isfinite(loss):
        raise DivergedError(step, f"the loss is {loss}")
    if not math.isfinite(gradient_norm):
        raise DivergedError(step, f"the gradient norm is {gradient_norm}")
    ceiling = LOSS_CEILING * math.log(max(2, num_labels))
    if loss > ceiling:
        raise DivergedError(step, f"the loss is {loss:.1f}, above {ceiling:.0f}")


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
