"""Places in a packed batch, without a step of Python for each row."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import torch

from paretune.models.packing.layout import PackedLayout


def a_layout(lengths: list[int]) -> PackedLayout:
    layout = PackedLayout()
    layout.begin_batch(lengths, [len(lengths)])
    return layout


def test_places_and_fronts_are_those_of_a_plain_loop() -> None:
    drawn = np.random.default_rng(0)
    for _ in range(20):
        lengths = drawn.integers(2, 40, drawn.integers(1, 30)).tolist()
        layout = a_layout(lengths)
        assert layout.position_ids.dtype == layout.rows_of_token(0).dtype == torch.int64
        assert layout.position_ids.tolist() == [[i] for n in lengths for i in range(n)]
        starts = layout.starts[:-1]
        assert layout.virtual_rows(2).tolist() == [s + i for s in starts for i in range(2)]


def test_the_work_of_finding_places_does_not_grow_with_the_rows() -> None:
    assert instructions(a_layout([10] * 8)) == instructions(a_layout([10_000] * 8))


def instructions(layout: PackedLayout) -> int:
    """How many instructions of Python the places take."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        groups = layout.position_ids
    finally:
        sys.settrace(before)
    assert len(groups) == layout.rows
    return count
