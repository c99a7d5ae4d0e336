"""``bench/search.py recipe``: AutoPEFT's own space and Bayesian optimisation, on this engine."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paretune.methods import stack
from paretune.planning.expand import PlannedRun
from paretune.planning.predicted_cost import CostPredictor
from paretune.planning.prepare import prepare_study
from paretune.store.record import Record
from paretune.study import Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.training.caches import ProcessCache


@pytest.fixture(autouse=True)
def import_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))


@pytest.mark.parametrize(("width", "sizes"), [(768, 10), (384, 9), (1024, 10), (32, 6)])
def test_its_space_has_three_sizes_and_a_bit_for_each_layer(width: int, sizes: int) -> None:
    from autopeft_space import OwnSpace

    space, rng = OwnSpace(width, 12), np.random.default_rng(0)
    assert len(space.factors) == sizes  # and none
    for _ in range(60):
        one = space.draw(rng)
        near = space.move(one, rng)
        for own in (one, near):
            members = space.to_members(own)
            assert space.read(members) == own and not own.is_empty
            stack.configure_members(stack.Options(tuple(members), least=1))
        assert near != one and 0 <= space.to_features([near]).min() <= 1


def test_gradients_of_the_posterior_are_those_of_differences() -> None:
    from saas import log_posterior

    rng = np.random.default_rng(1)
    x, y, q = rng.uniform(size=(20, 3)), rng.normal(size=20), 0.3 * rng.normal(size=7)
    _, gradient = log_posterior(q, x, y)
    step = 1e-5 * np.eye(7)
    differences = [log_posterior(q + e, x, y)[0] - log_posterior(q - e, x, y)[0] for e in step]
    assert gradient == pytest.approx(np.array(differences) / 2e-5, abs=1e-6)


def test_the_sampler_draws_from_the_density() -> None:
    from saas import sample_nuts

    sd = np.array([0.5, 3.0])
    draws = sample_nuts(
        lambda q: (float(-0.5 * ((q / sd) ** 2).sum()), -q / sd**2),
        np.ones(2), 200, 1500, np.random.default_rng(2),
    )  # fmt: skip
    assert draws.std(axis=0) == pytest.approx(sd, rel=0.15)
    assert np.abs(draws.mean(axis=0) / sd).max() < 0.15


def test_it_expects_gains_where_scores_have_risen() -> None:
    from saas import NoisyImprovement, fit_saas

    rng = np.random.default_rng(3)
    x = rng.uniform(size=(30, 3))
    x[:, 0] *= 0.7
    y = 3 * x[:, 0] + 0.05 * rng.normal(size=30)
    hyperparameters = fit_saas(x, y - y.mean(), 0, warmup=60, samples=16)
    gain = NoisyImprovement(hyperparameters, x, y - y.mean(), np.zeros(30), -3.0, 1.0, rng)
    high, low = gain(np.array([[0.95, 0.5, 0.5], [0.1, 0.5, 0.5]]), np.zeros(2))
    assert high > 10 * low and high > 0.1


@pytest.fixture
def study(tmp_path: Path, tiny_model: Any) -> Study:
    raw = {
        "study": "tiny",
        "tasks": [tiny_task(tmp_path / "data").model_dump(exclude_none=True)],
        "models": [{"name": str(tiny_model("bert")), "label": "tiny"}],
        "methods": ["lora"],
        "protocol": {"seeds": [1, 2], "outer": "split"},
        "training": {"precision": "fp32"},
    }
    return Study.parse(raw)


def finish(study: Study, each: int) -> list[PlannedRun]:
    """All runs of the arm, ``each`` ending at a time, and asked anew in a new process each time."""
    from autopeft_recipe import Recipe

    def end(one: PlannedRun) -> Record:
        members = one.run.method.options["methods"]
        score = 0.5 + 0.01 * sum(len(str(m)) for m in members) / len(members)
        scores = {"selection": {"primary": score, "loss": 1.0}}
        result: Any = {"outcome": "ok", "scores": scores}
        return Record(one.run_id, one.run, "done", None, None, result, {})

    stored: dict[str, PlannedRun] = {}
    records: dict[str, Record] = {}
    while True:
        statuses: Any = [SimpleNamespace(run=one.run) for one in stored.values()]
        recipe = Recipe(10, 1e-4, lambda own=statuses: own, samples=(4, 8))
        planned = recipe(prepare_study(study), list(records.values()))
        stored |= {one.run_id: one for one in planned}
        waiting = [one for one in stored.values() if one.run_id not in records]
        if not waiting:
            return list(stored.values())
        records |= {one.run_id: end(one) for one in waiting[:each]}


def test_its_trainings_are_half_random_and_end_in_three_of_its_front(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autopeft_recipe
    from autopeft_recipe import make_study
    from autopeft_space import OwnSpace

    monkeypatch.setattr(autopeft_recipe, "EVALUATIONS", 100)
    arm = make_study(study, 10)
    whole, in_pieces = finish(arm, 100), finish(arm, 3)
    trials = [one.run for one in whole if one.run.stage == "tune"]
    finals = [one.run for one in whole if one.run.stage == "final"]
    assert len(trials) == 10 and {run.seed for run in trials} == {study.protocol.tuning_seed}
    assert {one.run_id for one in whole} == {one.run_id for one in in_pieces}
    assert {run.method.key for run in finals} == {"autopeft", "autopeft-2", "autopeft-3"}
    assert len(finals) == 6 and {run.seed for run in finals} == {1, 2}
    final_methods = [run.method.options["methods"] for run in finals]
    assert all(one in [run.method.options["methods"] for run in trials] for one in final_methods)
    for run in trials:  # each method at the same rate wherever it stands
        own = {"pfeiffer": 1e-4, "parallel": 3e-5, "prefix": 3e-4}
        assert run.learning_rate == own[run.method.options["methods"][0]["name"]]
    predictor, space = CostPredictor(ProcessCache()), OwnSpace(32, 2)
    counts = {
        predictor.count_trained(run)
        - space.count_parameters(space.read(run.method.options["methods"]))
        for run in trials
    }
    assert len(counts) == 1  # the head's


def test_it_asks_for_a_published_split(study: Study) -> None:
    from autopeft_recipe import make_study

    protocol = study.protocol.model_copy(update={"outer": 5})
    with pytest.raises(SystemExit, match="published split"):
        make_study(study.model_copy(update={"protocol": protocol}))


def test_the_searches_of_other_data_are_a_study(
    tmp_path: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import search

    folder = tmp_path / "sib200"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}.tsv").write_text("index_id\tcategory\ttext\n1\tsports\tRun.\n")
    search.main(["study", "--model", str(tiny_model("bert")), "--sib200", str(folder)])
    file = tmp_path / "other.yaml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    written, shipped = Study.load(file), Study.load(Path(search.__file__).parent / "search.yaml")
    assert [task.key for task in written.tasks] == ["sib200"]
    assert written.methods == shipped.methods and re.match("search-", written.study)
    assert written.models[0].name == str(tiny_model("bert"))
