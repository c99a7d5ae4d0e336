"""The contract of every method on every model family and task kind.

Each combination is walked through once (paretune.testing.method_walk); the tests look at what was
seen, and take it up where they need more. By default every method walks on BERT, and one on each of
the other families (method_contract.py); ``make guarantees`` walks the rest, and every method on
real models, and writes build/guarantees.md from what these tests found (guarantees.py). A test that
passes because the method may not do a thing says so with ``excused``: the reason is on the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.guarantees import UNSERVED
from support.method_contract import (
    IN_PEFT,
    REFUSED,
    OwnMethodContract,
    combinations,
    refused,
    unserved,
)
from support.peft_tuners import into_ours

from paretune.errors import MethodError
from paretune.exporting import formats
from paretune.planning.prepare import check_method
from paretune.study import MethodSpec
from paretune.tasks import load_dataset
from paretune.testing.clauses import CLAUSES, EXCUSED, NOTE, clause
from paretune.testing.method_walk import Walk, select_logits, walk_of, walked
from paretune.testing.methods import MethodContract
from paretune.testing.tiny_models import DECODERS, FAMILIES
from paretune.testing.translator_folders import TRANSLATORS
from paretune.training.caches import ProcessCache
from paretune.training.prepare import prepare


@pytest.fixture(scope="module")
def bench() -> ProcessCache:
    """Models are kept from one walk to the next, so a method that leaves a trace is found."""
    return ProcessCache()


class TestMethods(OwnMethodContract):
    """Every method, in every place."""

    @pytest.fixture(scope="module", params=combinations())
    @classmethod
    def walk(
        cls,
        request: pytest.FixtureRequest,
        bench: ProcessCache,
        checkpoint: Any,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Walk:
        method, family, kind = request.param
        folder = tmp_path_factory.mktemp("walk")
        return walked(walk_of(method, kind, checkpoint(family), folder), bench, folder)

    def check_peft_refusal(self, walk: Walk) -> None:
        # Marian reads embeddings unscaled; in both the text keeps positions that PEFT would move. A
        # decoder's classifier would read the last place of a batch.
        loaded = walk.loaded()
        kept = loaded.model.config.model_type in ("marian", "mbart")
        no_prompts = kept or walk.task.kind == "multiple_choice" or loaded.anatomy.reads_causally
        conv1d = loaded.transposed and walk.method in formats.LYCORIS
        prompts = no_prompts and walk.method in ("prompt", "p_tuning")
        assert walk.method not in IN_PEFT or prompts or conv1d

    def check_return_from_peft(self, walk: Walk, model: Any, record_property: Any) -> None:
        as_what = walk.run.method
        if walk.method == "p_tuning":
            record_property(
                NOTE, "PEFT keeps the virtual tokens alone: they come back as a prompt's"
            )
            as_what = MethodSpec.model_validate({"name": "prompt", **as_what.options})
        back = walk.prepared(walk.copied(), seed=7, method=as_what)
        into_ours(back, model)
        batch = walk.batch(back.loaded)
        logits = select_logits(formats.compute_logits(back.loaded.model, batch), batch)
        torch.testing.assert_close(logits, walk.again, rtol=0, atol=1e-5)
        assert walk.translated(back.loaded, back.context) == walk.texts["again"]


def test_every_clause_has_a_test() -> None:
    proven = [
        test.clauses
        for owner in (vars(MethodContract), globals())
        for name, test in owner.items()
        if name.startswith("test_") and hasattr(test, "clauses")
    ]
    assert sorted(proven) == sorted([*CLAUSES, "*", "*"])


@clause("*")
@pytest.mark.parametrize("place", refused())
def test_what_it_cannot_do_it_refuses(
    place: tuple[str, str, str], bench: ProcessCache, checkpoint: Any, tmp_path: Path,
    record_property: Any,
) -> None:  # fmt: skip
    method, family, kind = place
    run = walk_of(method, kind, checkpoint(family), tmp_path)
    loaded = bench.model(run.model, bench.dataset(run.task))
    names = list(dict(loaded.model.named_parameters()))
    with pytest.raises(MethodError, match=REFUSED[method, family]):
        prepare(run, loaded)
    assert list(dict(loaded.model.named_parameters())) == names
    record_property(EXCUSED, f"the model {REFUSED[method, family]}, and the method says so")


@clause("*")
@pytest.mark.parametrize("place", unserved())
def test_a_plan_refuses_what_it_does_not_serve(
    place: tuple[str, str, str], tmp_path: Path, record_property: Any
) -> None:
    method, _, kind = place
    run = walk_of(method, kind, tmp_path, tmp_path)
    with pytest.raises(
        MethodError, match=f" needs a head .*, and {kind.replace('_', ' ')} "
    ) as refusal:
        check_method(run.method, run.task, load_dataset(run.task), {})
    record_property(UNSERVED, str(refusal.value.what).partition(", and ")[0])


def test_every_method_and_every_family_is_walked_by_default() -> None:
    walked = {case.values[0] for case in combinations() if not case.marks}
    assert {method for method, _, _ in walked} == {c.values[0][0] for c in combinations()}
    assert {family for _, family, _ in walked} == {*FAMILIES, *DECODERS, *TRANSLATORS}
