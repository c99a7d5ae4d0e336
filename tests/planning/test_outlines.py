"""Models opened without their weights: the same as with them, and once for many runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import tiny_study
from support.slobench import six

from paretune import methods, objectives, preparation
from paretune.errors import ModelError
from paretune.measuring.model_shape import measure_shape
from paretune.methods.core.options import parse_options
from paretune.planning import checks, predicted_cost
from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.testing.tiny_models import FAMILIES
from paretune.testing.tiny_tasks import small, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs
from paretune.verbs.plan import plan

pytestmark = pytest.mark.thorough

COUNTING = [
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method) and not name.startswith(methods.PEFT_PREFIX)
]


@pytest.mark.parametrize("family", [*FAMILIES, "marian"])
def test_without_weights_a_model_looks_the_same(
    family: str, tmp_path: Path, tiny_model: Any
) -> None:
    if family == "marian":
        task, model = tiny_pairs(tmp_path / "data"), tiny_marian(tmp_path / "marian")
    else:
        task, model = tiny_task(tmp_path / "data"), tiny_model(family)
    run, bench = tiny_run(task, model), ProcessCache()
    dataset = bench.dataset(task)
    whole, outline = bench.model(run.model, dataset), bench.outline(run.model, dataset)
    assert {p.device.type for p in outline.model.parameters()} == {"meta"}
    assert (outline.head_parameters, outline.notes) == (whole.head_parameters, whole.notes)
    assert outline.anatomy == whole.anatomy and outline.direction == whole.direction
    assert measure_shape(outline) == measure_shape(whole)
    counted = 0
    for name in COUNTING:
        method = methods.get(name)
        if methods.refusal(method, objectives.get(dataset.kind), tabular=False):
            continue
        options = parse_options(name, method.options, small(name))
        counts = [
            method.count_parameters(one.model, one.anatomy, options) for one in (whole, outline)
        ]
        assert counts[0] == counts[1], name
        counted += 1
    assert counted > 10


def test_tuners_of_peft_are_counted_on_the_model_itself(tmp_path: Path, tiny_model: Any) -> None:
    """They are wrapped to be counted, and some read weights."""
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "peft:vera", options={"r": 4})
    caches = ProcessCache()
    count = CostPredictor(caches).count_trained(run)
    loaded = caches.model(run.model, caches.dataset(run.task))
    method = methods.configure_method(run.method)
    head = sum(
        dict(loaded.model.named_parameters())[name].numel() for name in loaded.head_parameters
    )
    assert count == method.count_parameters(loaded.model, loaded.anatomy) + head


def test_a_plan_opens_and_counts_what_many_runs_share_once(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tasks, two models: three heads a model (two labels, three, choices), one tokenizer."""
    study = six(
        tmp_path,
        tiny_model("bert"),
        tiny_study.superglue(tmp_path / "data", "folders"),
        models=[{"name": str(tiny_model(name)), "label": name} for name in ("bert", "roberta")],
        methods=["full", {"name": "lora", "rank": 2}],
        protocol={"trials": 3, "folds": 5, "outer": "split", "seeds": [1, 2, 3, 4, 5]},
    )
    calls: Counter[str] = Counter()

    def counting(where: Any, name: str) -> None:
        function = getattr(where, name)

        def counted(*args: Any, **keywords: Any) -> Any:
            calls[name] += 1
            assert keywords.get("weights", False) is False
            return function(*args, **keywords)

        monkeypatch.setattr(where, name, counted)

    counting(preparation, "load_model")
    counting(__import__("paretune.models.load").models.load, "load_tokenizer")
    counting(objectives.Objective, "text_lengths")
    counting(predicted_cost, "estimate_compute_cost")
    planned = plan(study, store=tmp_path / "none")
    assert len(planned.runs) > 400
    assert calls == {
        "load_model": 3 * 2,
        "load_tokenizer": 2,
        "text_lengths": 6 * 2,
        "estimate_compute_cost": 6
        * 2
        * (2 * 3),  # full, lora and the probe beside them, training and cost
    }


def test_a_run_opens_every_model_before_the_first_run_trains(
    tmp_path: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second and the third cannot be used: nothing is trained, and both are named."""
    broken = [
        tiny_model(f, tmp_path / name) for f, name in (("roberta", "one"), ("electra", "two"))
    ]
    for folder in broken:
        (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {}}')
    study = tiny_study.small(
        tmp_path / "data",
        tiny_model("bert"),
        models=[{"name": str(m), "label": m.name} for m in (tiny_model("bert"), *broken)],
    )
    file = tiny_study.as_file(study, tmp_path / "study.yaml")
    code, out, err = tiny_study.command(capsys, "run", file, "--store", tmp_path / "store")
    assert code == ModelError.exit_code, err
    assert "2 models cannot be used" in err and "one" in err and "two" in err
    assert "[1/" not in out + err
    assert not list((tmp_path / "store" / "blobs").glob("*/*"))
    caches = ProcessCache()
    runs = [tiny_run(study.tasks[0], broken[0])]
    with pytest.raises(ModelError, match="tokenizer cannot be opened"):
        checks.check_models(runs, caches)
