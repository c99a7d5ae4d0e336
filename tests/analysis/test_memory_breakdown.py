from typing import Any

import pytest
from support import fake_records as fake

from paretune.analysis.memory_breakdown import (
    RESIDENT_PARTS,
    MemoryBreakdown,
    break_down_memory,
    compare_breakdowns,
    differing_conditions,
    peaks_differ,
)
from paretune.store.record import Record

MIB = 2**20


def measured(peak: float | None, *sizes: float | None, **more: Any) -> Record:
    """A cost run: peak, weights, gradients, optimiser states and activations in MiB."""
    names = (*RESIDENT_PARTS, "activations")
    measurements = {
        "device": "cpu",
        "phases": {} if peak is None else {"train": {"peak_bytes": int(peak * MIB)}},
        "components": {
            f"{n}_bytes": int(size * MIB)
            for n, size in zip(names, sizes, strict=False)
            if size is not None
        },
        **more,
    }
    run = fake.make_run(fake.study(), "cost", "lora", 1)
    return fake.record(run, measured=measurements)


def parts(*sizes: Any, **more: Any) -> MemoryBreakdown:
    breakdown = break_down_memory([measured(*sizes, **more)])
    assert breakdown is not None
    return breakdown


def test_parts_add_up_to_the_peak() -> None:
    breakdown = parts(100, 40, 5, 10, 25)
    assert breakdown.rest == 20 * MIB
    assert [name for name, _ in breakdown.stack] == [*RESIDENT_PARTS, "activations", "rest"]
    assert sum(size for _, size in breakdown.stack) == breakdown.peak


def test_a_pass_that_saves_more_than_the_step_kept_is_not_separated() -> None:
    breakdown = parts(100, 40, 5, 10, 90)
    assert (breakdown.working, breakdown.rest) == (45 * MIB, None)
    assert breakdown.stack[-1] == ("working", 45 * MIB)
    assert sum(size for _, size in breakdown.stack) == breakdown.peak


def test_parts_beyond_the_peak_or_unknown_make_no_stack() -> None:
    assert parts(50, 60, 1, 2, 3).stack == ()
    assert parts(50, 20, None, 2, 3).stack == ()
    assert parts(None, 20, 1, 2, 3).stack == ()
    assert break_down_memory([]) is None


def test_what_was_not_measured_keeps_its_reason() -> None:
    reasons = {"gradients_bytes": "no gradient is alive", "phases.train.peak_bytes": "shut"}
    breakdown = parts(None, 20, None, 2, not_measured=reasons)
    assert breakdown.missing == {
        "gradients": "no gradient is alive",
        "activations": "not counted",
        "peak": "shut",
    }
    assert parts(9, 0, 0, 0, 0).counted["gradients"] == 0  # a measurement, not an absence


def test_gaps_are_sorted_and_add_up() -> None:
    a, b = parts(300, 40, 80, 160, 15), parts(100, 42, 1, 2, 25)
    gaps = compare_breakdowns(a, b)
    assert [gap.part for gap in gaps][:2] == ["optimizer", "gradients"]
    assert sum(gap.difference for gap in gaps) == 200 * MIB
    assert [gap.difference for gap in gaps] == sorted(
        (g.difference for g in gaps), key=abs, reverse=True
    )
    assert [-gap.difference for gap in compare_breakdowns(b, a)] == [gap.difference for gap in gaps]


def test_where_one_cannot_tell_activations_apart_neither_does_the_difference() -> None:
    gaps = compare_breakdowns(parts(300, 40, 80, 160, 15), parts(100, 42, 1, 2, 90))
    assert {gap.part for gap in gaps} == {*RESIDENT_PARTS, "working"}
    assert sum(gap.difference for gap in gaps) == 200 * MIB
    assert compare_breakdowns(parts(300, 40, 80, 160, 15), parts(None, 42, 1, 2, 90)) == ()


def test_several_measurements_are_averaged() -> None:
    breakdown = break_down_memory([measured(100, 40, 5, 10, 25), measured(110, 40, 5, 10, 27)])
    assert breakdown is not None
    assert breakdown.measurements == 2
    assert breakdown.peak == pytest.approx(105 * MIB)
    assert breakdown.rest == pytest.approx(24 * MIB)


def test_other_conditions_and_small_differences_are_seen() -> None:
    a, b = parts(100, 1, 1, 1, 1, batch_size=16), parts(104, 1, 1, 1, 1, batch_size=8)
    assert differing_conditions(a, b) == (("batch_size", "16", "8"),)
    assert not peaks_differ(a, b)
    assert peaks_differ(a, parts(120, 1, 1, 1, 1))
    cuda = [parts(size, 1, 1, 1, 1, device="cuda") for size in (100, 104)]
    assert peaks_differ(*cuda)


def test_peaks_of_two_cards_are_unlike_and_of_two_of_one_name_alike() -> None:
    l4, h100 = (
        parts(100, 40, 5, 10, 25, device="cuda", device_name=name) for name in ("L4", "H100")
    )
    assert differing_conditions(l4, h100) == (("device_name", "L4", "H100"),)
    assert differing_conditions(l4, l4) == ()
