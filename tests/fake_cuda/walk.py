"""Take methods through a training step on a fake GPU; in a process of its own, as torch is changed.

Tensors are fake (shapes, dtypes and devices, no numbers); forward, autograd and CUDA autocast are
torch's own: a mix of devices or dtypes shows as on a GPU. :class:`Strict` refuses what real kernels
refuse and fake ones let pass. Not seen: numbers, alignment, memory, time.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from cases import DEVICE, encoded, fake_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from paretune import objectives
from paretune.models import dropout
from paretune.models.packing import attention
from paretune.models.weight_storage import bf16_parameters
from paretune.objectives import LossOptions, Objective
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training
from paretune.testing.tiny_tasks import small
from paretune.training.forward.passes import Compute, StepBatch
from paretune.training.forward.select import forward_for, make_forward
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import allows_bf16_weights, prepare
from paretune.training.run_state import RunOptimizer, copy_tensors, copy_to_cpu


class Strict(TorchDispatchMode):
    """Refuses what CUDA's kernels refuse: other dtypes than theirs."""

    ONE_DTYPE = ("mm", "addmm", "bmm", "baddbmm", "convolution", "dot", "mv", "addmv")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "is_pinned":  # memory that the driver would pin
            return True
        if name in self.ONE_DTYPE:
            dtypes = {x.dtype for x in args if isinstance(x, Tensor)}
            if len(dtypes) > 1:
                raise RuntimeError(f"{name} of {sorted(map(str, dtypes))}")
        if name in ("_softmax_backward_data", "_log_softmax_backward_data"):
            gradient, output, _, dtype = args
            half = gradient.dtype == torch.float32 and dtype == torch.float16
            if gradient.dtype != output.dtype or (gradient.dtype != dtype and not half):
                raise RuntimeError(f"{name}: {gradient.dtype}, {output.dtype} and {dtype}")
        return func(*args, **(kwargs or {}))


class HostSyncs(TorchDispatchMode):
    """Refuses what makes the processor wait for the GPU.

    Padded batches pass through transformers' own attention, of which two waits are left: DeBERTa
    copies single numbers to the device, which is let through here, and all families look once a
    pass whether anything is padded, which transformers leaves out where tensors are fake.
    """

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __init__(self, *, padded: bool = False) -> None:
        super().__init__()
        self.padded = padded

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        out = func(*args, **kwargs)
        tensors = [x for x in args if isinstance(x, Tensor)]
        on_gpu = any(x.device.type == "cuda" for x in tensors)
        if on_gpu and any(name.startswith(read) for read in self.READS):
            raise RuntimeError(f"{name} waits for the GPU")
        if name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1]):
            raise RuntimeError("an index of booleans waits for the GPU")
        if name == "repeat_interleave" and func._overloadname == "Tensor" and on_gpu:
            raise RuntimeError("repeat_interleave by a tensor waits for the GPU")
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            queued = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            if self.padded and source.device.type == "cpu" and source.ndim == 0:
                return out
            if source.device != out.device and source.numel() and not queued:
                raise RuntimeError(f"{source.device} to {out.device} waits for the GPU")
        return out


@contextlib.contextmanager
def autocast(_: str, precision: str) -> Iterator[None]:
    """CUDA's autocast by its own switches; ``torch.autocast`` would ask the missing driver."""
    if precision == "fp32":
        yield
        return
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


def draw_mask(seed: int, offsets: Any, count: int, p: float, device: torch.device) -> Tensor:
    """Which elements dropout keeps, without the generator that only a real GPU has."""
    return torch.rand(count, device=device) < dropout.keep_threshold(p) / 65536


def moved(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """``Module.to``, which cannot exchange the data of fake parameters in place."""
    for module in self.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.device != torch.device(DEVICE):
                data = parameter.detach().to(*args, **kwargs)
                module._parameters[name] = nn.Parameter(data, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(*args, **kwargs)
    return self


def change_torch() -> None:
    """Put in its place what only a real GPU, or only a real number, can answer."""
    for module in (dropout, attention):
        module.draw_mask = draw_mask
    Compute.autocast = lambda self: autocast("", self.precision)
    torch.manual_seed = torch.cuda.manual_seed = lambda seed: None
    torch.cuda.get_device_capability = lambda device: (9, 0)
    nn.Module.to = moved
    nn.init._no_grad_trunc_normal_ = lambda tensor, *args, **kwargs: tensor
    FakeTensor.__float__ = lambda self: 1.0
    FakeTensor.tolist = lambda self: [1.0] * self.numel()
    FakeTensor.__bool__ = lambda self: True


def a_run(method: str, precision: str, seed: int = 0) -> Run:
    return Run(
        stage="final",
        task=TaskSpec(name="tiny"),
        model=ModelSpec(name="tiny"),
        method=MethodSpec.model_validate({"name": method, **small(method)}),
        learning_rate=1e-3,
        seed=seed,
        training=Training(batch_size=16, max_length=64, precision=precision),
    )


def objective_of(data: Any) -> Objective:
    return objectives.get("classification" if data.targets is None else "translation")


def make_batch(run: Run, data: Any, rows: Sequence[int], pass_overhead_tokens: int) -> StepBatch:
    return StepBatch(
        data=data,
        indices=rows,
        seed=run.seed,
        objective=objective_of(data),
        loss_options=LossOptions(),
        micro_batch=16,
        pass_overhead_tokens=pass_overhead_tokens,
    )


def step(case: str) -> None:
    """One whole training step of the case; raises what stops it."""
    family, method, precision, how = case.split("/")
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    loaded = fake_model(family, mode)
    run, data = a_run(method, precision), encoded(family)
    with mode:
        if allows_bf16_weights(run):
            for parameter in bf16_parameters(loaded.model, loaded.anatomy):
                parameter.data = parameter.data.bfloat16()
        prepared = prepare(run, loaded, DEVICE)
        try:
            take_step(family, how, run, prepared, data)
        finally:
            prepared.undo()


def take_step(family: str, how: str, run: Run, prepared: Any, data: Any) -> None:
    """One whole training step of a run, in one pass, as it is on a GPU."""
    compute = Compute.of(run, DEVICE)
    if how == "fast":  # packed where the model and the method allow it
        forward = make_forward(prepared, compute)
        packs = family != "deberta-v2" and prepared.injection.supports_packing
        assert (prepared.context.packing is not None) == packs
    else:
        forward = forward_for(prepared.loaded, prepared.context, compute)
    batch = make_batch(run, data, list(range(16)), prepared.pass_tokens)
    assert len(forward.splitter.split_training(batch)) == 1
    prepared.loaded.model.train()
    classes = prepared.num_classes(objective_of(data), 2)
    optimizer = RunOptimizer(prepared.trained, run.training, classes)
    with Strict():
        with HostSyncs(padded=prepared.context.packing is None):
            losses = accumulate_gradients(batch, forward)
        optimizer.step(0, 1e-3, losses)


def keep_aside() -> None:
    """What is kept of a run's weights for later takes no memory of the GPU."""
    with FakeTensorMode():
        trained = {n: nn.Parameter(torch.ones(2, 3, device=DEVICE)) for n in ("a", "b")}
        kept = copy_to_cpu(trained)
        assert {t.device.type for t in kept.values()} == {"cpu"}
        copy_tensors(trained, kept)
        copy_tensors(kept, trained)
        assert {p.device.type for p in trained.values()} == {"cuda"}


def self_check() -> None:
    """What a GPU refuses is refused here: mixed devices or dtypes, softmax' gradient, waits.

    Raises:
        AssertionError: something passed.
    """

    def refused(wrong: Any) -> None:
        try:
            with FakeTensorMode(), Strict(), HostSyncs():
                wrong()
        except RuntimeError:
            return
        raise AssertionError(f"{wrong.__name__} passed")

    def two_devices() -> None:
        torch.ones(3, device=DEVICE) + torch.ones(3)

    def two_dtypes() -> None:
        torch.bmm(torch.ones(1, 2, 2, device=DEVICE), torch.ones(1, 2, 2, device=DEVICE).bfloat16())

    def softmax_gradient() -> None:
        shares = torch.ones(2, 2, device=DEVICE)
        torch._softmax_backward_data(shares.bfloat16(), shares, -1, torch.float32)

    def read() -> None:
        torch.ones(2, device=DEVICE).sum().item()

    def copied_back() -> None:
        torch.ones(2, device=DEVICE).cpu()

    def copied_there() -> None:
        torch.ones(2).to(DEVICE)

    def picked() -> None:
        torch.ones(2, device=DEVICE)[torch.ones(2, dtype=torch.bool, device=DEVICE)]

    for wrong in (
        two_devices,
        two_dtypes,
        softmax_gradient,
        read,
        copied_back,
        copied_there,
        picked,
    ):
        refused(wrong)
    with FakeTensorMode(), autocast("", "bf16"):  # the rule that the CPU's autocast has not
        scores = torch.ones(2, 2, device=DEVICE, dtype=torch.bfloat16)
        assert torch.softmax(scores, -1).dtype == torch.float32
        assert torch.mm(scores.float(), scores.float()).dtype == torch.bfloat16


def main(cases: Sequence[str]) -> None:
    """Print a line of JSON for each case: its name, and what stopped it, null where nothing did."""
    change_torch()
    for case in cases:
        stopped = None
        try:
            {"self-check": self_check, "keep-aside": keep_aside}.get(case, partial(step, case))()
        except Exception as error:  # noqa: BLE001 (told to whoever asked)
            stopped = f"{error}\n{''.join(traceback.format_exception(error)[-6:])}"
        sys.stdout.write(json.dumps([case, stopped]) + "\n")
        sys.stdout.flush()
