"""``recommend`` and ``compare`` as a user meets them, on made-up records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import fake_records as fake

import paretune
from paretune.cli import main
from paretune.store import Store
from paretune.store.encoding import encode_predictions
from paretune.verbs.report import StudyResults


def command(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors; torch stays out of it, as of these verbs."""
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in arguments])
    output = capsys.readouterr()
    return int(end.value.code or 0), output.out, output.err


@pytest.fixture
def fake_results(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    results = StudyResults(study, Path("x"), fake.whole(study), [], [])
    for verb in ("recommend", "compare"):
        monkeypatch.setattr(f"paretune.verbs.{verb}.load_results", lambda *_: results)
    monkeypatch.setenv("COLUMNS", "300")
    return lambda *_: study


def test_recommend_prints_reasons_changes_and_the_command(fake_results: Any, capsys: Any) -> None:
    code, out, _ = command(
        capsys, "recommend", "s.yaml", "--max-memory", "4GiB", "--task", "topics"
    )
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("On topics, take full fine-tuning: 0.79 accuracy")
    assert lines[1].startswith("  Proven better") and lines[2].startswith("  With less than ")
    assert lines[3].startswith("Nothing learned by prompt tuning: 3 of 3 seeds give every")
    assert lines[4].startswith("Score: 0.79 [0.6") and "inside the budget" in lines[5]
    assert lines[-1] == "paretune export sample --task topics --model e5-small --method full"
    wide = command(capsys, "recommend", "s.yaml", "--within", "5pt", "--task", "topics")[1]
    assert wide.startswith("On topics, take LoRA: 0.77") and "What would change it:" in wide
    both = command(capsys, "recommend", "s.yaml", "--max-time", "1h", "--max-bytes", "20MB")[1]
    assert "On topics, take" in both and "On entailment, take" in both
    proven = command(capsys, "recommend", "s.yaml", "--proven", "--task", "topics", "--json")[1]
    (answer,) = json.loads(proven)["tasks"]
    assert answer["proven"] and answer["within_points"] == 1 and answer["kind"] == "method"
    assert 0 < answer["prospect"]["chance_best"] < 1 and answer["free_baseline"] == "majority"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-memory", "4Gi"], '--max-memory: invalid size "4Gi": expected e.g. 4GiB'),
        (["--max-memory", "4"], '"4" has no unit: expected e.g. 4GiB'),
        (["--max-time", "10"], '"10" has no unit: expected e.g. 90s'),
        (["--max-memory", "4,500MB"], "decimal comma or thousands?"),
        (["--max-time", "-3min"], 'invalid time "-3min"'),
        (["--within", "1%"], "expected e.g. 1pt"),
        (["--by", "joules"], "There is memory, time, step"),
        (["--task", "weather"], "It has topics, entailment."),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    fake_results: Any, capsys: Any, arguments: list[str], message: str
) -> None:
    code, out, err = command(capsys, "recommend", "s.yaml", *arguments)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err


def test_compare_says_the_difference_and_what_would_decide_it(
    fake_results: Any, capsys: Any
) -> None:
    code, out, _ = command(capsys, "compare", "s.yaml", "full", "lora")
    assert code == 0
    assert "e5-small on topics: accuracy" in out and "e5-small on entailment" in out
    assert "full fine-tuning minus LoRA: 0.02 [-0.12, 0.16] (60 examples, 3 seeds)." in out
    message = (
        "Undecided between full fine-tuning and LoRA (p 0.698 after correction for 3 comparisons, "
        "0.698 before)."
    )
    assert message in out
    assert "To decide between full fine-tuning and LoRA: about" in out and "McNemar" not in out
    single = command(capsys, "compare", "s.yaml", "majority", "tfidf")[1]
    assert (
        "McNemar's exact test of accuracy, these two runs: only constant answer is right on 20 "
        "examples" in single
    )
    clear = command(capsys, "compare", "s.yaml", "lora", "tfidf")[1]
    assert "Proven at 95 %: LoRA is better than TF-IDF (p" in clear and "To decide" not in clear


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("full", "lorra"), 'has no method "lorra". It has full, lora, loha, prompt, head_only'),
        (("full", "full"), '"full" cannot be compared with itself.'),
    ],
)
def test_compare_names_what_there_is(
    fake_results: Any, capsys: Any, pair: tuple[str, str], message: str
) -> None:
    code, _, err = command(capsys, "compare", "s.yaml", *pair)
    assert code == 2 and message in err


def test_the_same_in_python(fake_results: Any) -> None:
    recommendations = paretune.recommend("s.yaml", max_memory=2**32, within=100.0)
    assert [advice.task for advice in recommendations] == ["topics", "entailment"]
    assert "0 % likely over 100 points below the best" in recommendations[0].reasons[2]
    first, second = paretune.compare("s.yaml", "lora", "full")
    assert first.pair is not None and second.pair is not None
    assert (first.pair.a, first.pair.b) == ("lora", "full")


def test_a_real_store_is_read_without_a_model_library(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("topics")], methods=["full", "lora"])
    file = tmp_path / "study.yaml"
    # The file's folder is that of its data: paths in it are absolute, as they were when it ran.
    YAML(typ="safe", pure=True).dump(study.canonical_form(), file)
    study = paretune.Study.load(file)
    records = {r.run_id: r for r in fake.whole(study)}
    with Store.open(tmp_path / "store", create=True) as store:
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        store.add_runs(study.study_hash, [(name, r.run) for name, r in records.items()])
        while (claim := store.claim("test", study.study_hash)) is not None:
            left = records[claim.run_id]
            parts = encode_predictions(left.predictions)
            blobs = {"predictions": parts} if left.predictions else {}
            store.finish(claim, left.result, left.measured, blobs)
    code = (
        "import sys; from paretune.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'transformers', 'peft', "
        "'sklearn', 'matplotlib') if m in sys.modules])"
    )
    for verb, message in (
        (["recommend"], "take full fine-tuning"),
        (["compare", "full", "lora"], "full fine-tuning minus"),
    ):
        arguments = [verb[0], str(file), *verb[1:], "--store", str(tmp_path / "store")]
        out = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        ).stdout
        assert out.splitlines()[-1] == "0 []"
        assert message in " ".join(out.split())
