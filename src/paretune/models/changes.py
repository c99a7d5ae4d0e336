"""Changes of a model that can be taken back: a stack of undo steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


class ModelChanges:
    """What was done to a model, and how it is undone, the last change first.

    Use::

        changes = ModelChanges()
        with changes.on_failure():
            changes.hook(module.register_forward_hook(hook))
            changes.set(module, "forward", forward)
        ...
        changes.undo()

    As a context manager it undoes everything when the block ends.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def push(self, step: Callable[[], object]) -> None:
        """Add a step that undoes a change made elsewhere."""
        self._steps.append(step)

    def hook(self, handle: RemovableHandle) -> None:
        """Remove a hook on undo."""
        self.push(handle.remove)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of an object; on undo it is what it was, or is gone if it was not there.

        A method of the class is shadowed by the value and visible again after undo.
        """
        attributes = vars(owner)
        self.push(
            partial(setattr, owner, name, attributes[name])
            if name in attributes
            else partial(delattr, owner, name)
        )
        setattr(owner, name, value)

    def add_module(self, parent: nn.Module, name: str, module: nn.Module) -> None:
        """Add a child to a module; on undo it is deleted."""
        parent.add_module(name, module)
        self.push(partial(delattr, parent, name))

    def replace_module(self, model: nn.Module, name: str, module: nn.Module) -> None:
        """Put a module in the place of the one called ``name``; on undo that one is back."""
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        self.push(partial(setattr, owner, child, owner.get_submodule(child)))
        setattr(owner, child, module)

    def set_attention(self, model: Any, implementation: str) -> None:
        """Select an attention implementation of ``transformers``; on undo the one before."""
        self.push(partial(model.set_attn_implementation, model.config._attn_implementation))
        model.set_attn_implementation(implementation)

    def undo(self) -> None:
        """Take every step, the last first, each once; without steps nothing happens."""
        while self._steps:
            self._steps.pop()()

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Undo everything if the block raises."""
        try:
            yield
        except BaseException:  # Ctrl-C too: the model is as before; raised again
            self.undo()
            raise

    def __enter__(self) -> ModelChanges:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """While it is open, the model is in evaluation mode; then in the mode before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
