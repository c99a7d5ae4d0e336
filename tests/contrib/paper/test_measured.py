"""Made-up records beside the paper's conclusions: each verdict from what would make it true."""

from __future__ import annotations

from typing import Any

import pytest
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.contrib.paper import measured
from paretune.contrib.paper.claims import load_claims
from paretune.contrib.paper.judging import ClaimVerdict
from paretune.store.record import Record
from paretune.study import Study

CLAIMS = {claim.id: claim for claim in load_claims()}


def study(**changes: Any) -> Study:
    given = {
        "tasks": [fake.own_task("cb-own") | {"name": "cb"}],
        "methods": ["full", "lora", "loha", "prompt"],
    }
    return fake.study(**{**given, **changes})


def verdict(name: str, given: Study, records: list[Record]) -> ClaimVerdict:
    return measured.judge_study(CLAIMS[name], given, group_into_cells(given, records))


def level(**qualities: float | None) -> dict[str, float | None]:
    return {"full": 0.9, "lora": 0.5, "loha": 0.5, "prompt": 0.5, **qualities}


@pytest.mark.parametrize(
    ("qualities", "said"),
    [
        ({}, "holds"),
        ({"full": 0.5, "lora": 0.9, "loha": 0.9, "prompt": 0.9}, "does not hold"),
        ({"full": 0.61, "lora": 0.6, "loha": 0.6, "prompt": 0.6}, "cannot be decided"),
        ({"lora": None, "loha": None}, "comes from constant answers"),
        ({"full": None}, "comes from constant answers"),
    ],
)
def test_a_conclusion_on_scores(qualities: dict[str, float | None], said: str) -> None:
    found = verdict("cb-worse", study(), fake.whole(study(), level(**qualities)))
    assert found.verdict == said
    for one in found.compared:
        assert one.scores is not None and one.difference is not None
        assert one.difference.n_examples == 60 and one.difference.n_seeds == 3
        open_ = one.standing == "unclear"
        assert (one.sample_size is not None) == open_ and (one.p_holm is None) == bool(one.why)


def test_matching_is_shown_by_the_whole_interval() -> None:
    given = study()
    alike = fake.whole(given, level(full=0.6, lora=0.6, loha=0.6, prompt=0.6))
    assert verdict("comparable", given, alike).verdict == "cannot be decided"
    better = fake.whole(given, level(full=0.5, lora=0.9, loha=0.9, prompt=0.9))
    assert verdict("comparable", given, better).verdict == "holds"


def test_memory_and_parameters() -> None:
    given = study()
    records = fake.whole(given, level())
    assert verdict("resources", given, records).verdict == "holds"
    # LoHa is given 905 MiB and LoRA 870: within the 5 % by which a peak may differ.
    least = verdict("cb-memory", given, records)
    assert least.verdict == "cannot be decided"
    assert {one.standing for one in least.compared} == {"for", "unclear"}
    assert verdict("loha-parameters", given, records).verdict == "does not hold"
    without = [r for r in records if r.run.stage != "cost"]
    assert verdict("resources", given, without).verdict == "not run"


def test_sides_that_were_not_run_alike_say_nothing_of_memory() -> None:
    given = study()
    small = given.training.model_copy(update={"batch_size": 1})
    records = [
        fake.cost(r.run.model_copy(update={"training": small}), 400.0)
        if r.run.stage == "cost" and r.run.method.name == "prompt"
        else r
        for r in fake.whole(given, level())
    ]
    found = verdict("resources", given, records)
    assert [one.why for one in found.compared if one.less == "prompt"] == ["batches of 16 and 1"]


def test_a_conclusion_on_one_model_is_asked_of_that_model_where_it_is_there() -> None:
    names = ["EMBEDDIA/sloberta", "intfloat/e5-small"]
    given = study(models=[{"name": name} for name in names])
    found = verdict("cb-loha", given, fake.whole(given, level()))
    assert {one.model for one in found.compared} == {"sloberta"} and not found.stand_in
    other = verdict("cb-loha", study(), fake.whole(study(), level()))
    assert {one.model for one in other.compared} == {"e5-small"} and other.stand_in


def test_what_a_study_does_not_have_was_not_run() -> None:
    given = study()
    records = fake.whole(given, level())
    assert verdict("translation-memory", given, records).verdict == "not run"
    assert verdict("rte-worse", given, records).verdict == "not run"
    assert verdict("cb-worse", given, []).verdict == "not run"
