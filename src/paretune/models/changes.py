"""Changes of a model that can be taken back: a stack of undo steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


class ModelChanges(ExitStack):
    """Changes of a model, which are undone in reverse order.

    Use::

        changes = ModelChanges()
        with changes.on_failure():
            changes.hook(module.register_forward_hook(hook))
            changes.set(module, "forward", forward)
        ...
        changes.close()

    As a context manager it undoes everything when the block ends; ``callback`` adds a step that
    undoes a change made elsewhere.
    """

    def hook(self, handle: RemovableHandle) -> None:
        """Remove a hook when undone."""
        self.callback(handle.remove)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of an object; when undone it is as before, or gone if it was not there.

        A method of the class is shadowed by the value and visible again after undo.
        """
        attributes = vars(owner)
        self.callback(
            partial(setattr, owner, name, attributes[name])
            if name in attributes
            else partial(delattr, owner, name)
        )
        setattr(owner, name, value)

    def add_module(self, parent: nn.Module, name: str, module: nn.Module) -> None:
        """Add a child to a module; when undone it is deleted."""
        parent.add_module(name, module)
        self.callback(partial(delattr, parent, name))

    def set_attention(self, model: Any, implementation: str) -> None:
        """Select an attention implementation of ``transformers``; when undone the one before."""
        self.callback(partial(model.set_attn_implementation, model.config._attn_implementation))
        model.set_attn_implementation(implementation)

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Undo everything if the block raises."""
        try:
            yield
        except BaseException:  # Ctrl-C too: the model is as before; raised again
            self.close()
            raise


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """While it is open, the model is in evaluation mode; then in the mode before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
