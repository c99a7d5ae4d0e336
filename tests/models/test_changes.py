"""Changes of a model: everything is back after undo, in reverse order, once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretune.models.changes import ModelChanges


def test_an_attribute_is_what_it_was_or_is_gone() -> None:
    module, changes = nn.Dropout(0.5), ModelChanges()
    x = torch.ones(3)
    changes.set(module, "p", 0.1)
    changes.set(module, "p", 0.2)
    changes.set(module, "forward", lambda x: x + 1)
    changes.set(module, "note", "new")
    assert module(x).tolist() == [2, 2, 2]
    changes.close()
    assert module.p == 0.5
    assert not {"forward", "note"} & set(vars(module))
    assert torch.equal(module.eval()(x), x)


def test_a_failure_undoes_and_success_keeps() -> None:
    module, changes = nn.Dropout(0.5), ModelChanges()
    with changes.on_failure():
        changes.set(module, "p", 0.1)
    assert module.p == 0.1
    with pytest.raises(KeyError), changes.on_failure():
        changes.set(module, "p", 0.2)
        raise KeyError
    assert module.p == 0.5
