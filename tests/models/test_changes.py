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


def test_modules_and_hooks_are_taken_out_again() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    plain, changes = model[0], ModelChanges()
    before = model(torch.ones(1, 2))
    changes.add_module(model[0], "part", nn.Linear(2, 2))
    changes.replace_module(model, "0", nn.Identity())
    changes.hook(model.register_forward_hook(lambda module, args, out: out + 1))
    assert not torch.equal(model(torch.ones(1, 2)), before)
    changes.close()
    assert model[0] is plain
    assert [*plain._modules] == []
    assert torch.equal(model(torch.ones(1, 2)), before)


def test_a_failure_undoes_and_success_keeps() -> None:
    module, changes = nn.Dropout(0.5), ModelChanges()
    with changes.on_failure():
        changes.set(module, "p", 0.1)
    assert module.p == 0.1
    with pytest.raises(KeyError), changes.on_failure():
        changes.set(module, "p", 0.2)
        raise KeyError
    assert module.p == 0.5
