"""Fifty combinations drawn from the space of a search: each keeps the contract of a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.method_contract import ZERO, OwnMethodContract

from paretune import methods
from paretune.errors import MethodError
from paretune.exporting import formats
from paretune.exporting.export_selection import select_form
from paretune.preparation import ProcessCache
from paretune.study import MethodSpec
from paretune.testing.clauses import EXCUSED, clause
from paretune.testing.method_walk import Walk, walk_of, walked
from paretune_autopeft.space import describe_layers, make_space

MEMBERS = ("lora", "loha", "lokr", "ia3", "bitfit", "layer_norm", "houlsby", "pfeiffer", "parallel")
COUNT, LAYERS = 50, 2
"""Layers of the tiny model; each is a group of its own."""


def sample(names: tuple[str, ...], count: int) -> list[list[dict[str, Any]]]:
    members = [methods.configure_method(MethodSpec(name=name)) for name in names]
    space = make_space(members, LAYERS, groups=LAYERS, at_most=3)
    stacks = [space.to_members(one) for one in space.draw_distinct(50, count)]
    for member in (member for stack in stacks for member in stack):
        if "reduction_factor" in member:  # of a width of 32 a single unit may be shut for ever
            member["reduction_factor"] = min(member["reduction_factor"], 4)
    return stacks


# With few members the same one is drawn in two sizes more often.
STACKS = sample(MEMBERS, COUNT // 2) + sample(("lora", "pfeiffer", "parallel"), COUNT // 2)
pytestmark = pytest.mark.slow


class TestSampledStacks(OwnMethodContract):
    """All clauses, for each of them."""

    @pytest.fixture(scope="class", params=range(COUNT), ids=lambda n: describe_layers(STACKS[n]))
    @classmethod
    def walk(cls, request: pytest.FixtureRequest, tiny_model: Any, tmp_path_factory: Any) -> Walk:
        folder = tmp_path_factory.mktemp("walk")
        options = {"methods": STACKS[request.param]}
        run = walk_of("auto", "pair", Path(tiny_model("bert")), folder, options)
        return walked(run, ProcessCache(), folder)

    @clause("M")
    def test_merged_equals_unmerged(self, walk: Walk, tmp_path: Path, record_property: Any) -> None:
        """With a member that cannot be merged it is refused; else as any method."""
        reason = formats.explain_forms(walk.run, walk.task)["merged"]
        if not reason:
            super().test_merged_equals_unmerged(walk, tmp_path, record_property)
            return
        members = [methods.get(m["name"]) for m in walk.run.method.options["methods"]]
        assert any(isinstance(m, methods.Method) and m.merge is None for m in members)
        with pytest.raises(MethodError, match=reason):
            select_form("merged", formats.explain_forms(walk.run, walk.task), walk.run)
        record_property(EXCUSED, reason)

    def neutral_tensors(self, walk: Walk) -> tuple[str, ...] | None:
        members = walk.run.method.options["methods"]
        return tuple(dict.fromkeys(n for m in members for n in ZERO[m["name"]] or ()))
