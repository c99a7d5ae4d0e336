import json
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import command

from paretune.contrib.peft_comparison.experiments import (
    UNKNOWN_SIZE,
    Experiment,
    judge_folder,
    render_page,
)
from paretune.errors import DataError, StudyError
from paretune.reporting.table_files import read_values
from paretune.reporting.tables import format_rows


def read(folder: Path, examples: int | None = None) -> tuple[list[Experiment], Any]:
    """The experiments in the order of the table, and the table."""
    models, table = judge_folder(folder, examples)
    return [experiment for group in models.values() for experiment in group], table


def result(
    folder: Path, name: str, right: int | None, *, n: int = 500, old: bool = False, **changes: Any
) -> None:
    """A file in the form of peft's method_comparison, with made-up numbers."""
    memory = "cuda_memory_max" if old else "accelerator_memory_max"
    metrics: list[dict[str, Any]] = [{"step": 10, "valid accuracy": 0.3, "train loss": 0.9}]
    if right is not None:
        metrics.append({"step": 20, "test accuracy": right / n, "train loss": 0.8})
    contents = {
        "run_info": {
            "experiment_name": name,
            "train_config": {"model_id": changes.pop("model", "made/up-1B"), "seed": 0},
            "error_msg": changes.pop("error", ""),
        },
        "train_info": {
            memory: changes.pop("memory", 2**30),
            "train_time": 60.5,
            "file_size": changes.pop("size", 5_000_000),
            "num_trainable_params": 1_000_000,
            "status": changes.pop("status", "success"),
            "metrics": metrics,
        },
        "meta_info": {
            "package_info": {"peft-version": "0.19.0"},
            "system_info": {"gpu" if old else "accelerator": changes.pop("card", "card A")},
        },
    }
    assert not changes
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace('/', '--')}.json"
    file.write_text(json.dumps(contents), encoding="utf-8")


def some(folder: Path) -> Path:
    result(folder, "lora/rank8", 250, memory=3 * 2**30)
    result(folder, "ia3/default", 245, old=True, size=UNKNOWN_SIZE)
    result(folder, "prompt/default", 120, card="card B")
    result(folder, "full/lr", None, status="canceled", error="out of memory\x1b[31m")
    return folder


def test_for_whom_there_is_no_verdict_against_the_best(tmp_path: Path) -> None:
    experiments, table = read(some(tmp_path / "r"), 500)
    names = [experiment.name for experiment in experiments]
    assert names == ["lora/rank8", "ia3/default", "prompt/default", "full/lr"]
    assert [e.proven_worse for e in experiments] == [False, False, True, None]
    best = experiments[0].score
    assert best is not None and best.low < 0.5 < best.high and best.n_examples == 500
    assert table.notes[0] == (
        "On made/up-1B, the highest of 3 experiments is lora/rank8, 0.500 [0.456, 0.544] "
        "(500 examples, 1 seed)."
    )
    assert table.notes[1] == (
        "For 1 of the other 2 there is no verdict against it by accuracy. Each is one run: if "
        "another seed moves accuracy by 1.5 points, it is 1."
    )
    assert table.notes[2] == "Of these, ia3/default took the least memory: 1.00 GiB."
    text = " ".join(table.notes)
    assert "several cards (card A and card B)" in text
    assert "one run, so what another seed would change is not in them" in text
    assert "Without a test accuracy (canceled: out of memory" in text and "\x1b" not in text
    assert text.endswith("): full/lr.")


def test_tables_are_written_beside_json(tmp_path: Path, capsys: Any) -> None:
    words = ("peft-results", some(tmp_path / "r"), "--examples", 500, "--json")
    code, _, _ = command(capsys, *words, "--tables", tmp_path / "tables")
    assert code == 0 and list((tmp_path / "tables").iterdir())


def test_both_forms_of_the_files_are_read_and_nothing_is_invented(tmp_path: Path) -> None:
    listed, table = read(some(tmp_path / "r"), 500)
    experiments = {experiment.name: experiment for experiment in listed}
    assert (
        experiments["ia3/default"].reserved_bytes == 2**30
        and experiments["ia3/default"].size is None
    )
    assert experiments["lora/rank8"].size == 5_000_000
    last = read_values(table)[-1]
    assert last["score"] is None and last["told_apart"] is None and last["outcome"] == "canceled"
    assert format_rows(table)[-1][1:3] == ["no score", "canceled"]


def test_the_number_of_examples_is_asked_for_and_checked(tmp_path: Path) -> None:
    folder = some(tmp_path / "r")
    with pytest.raises(StudyError, match=r'examples="N"\. All accuracies .* parts of 100 examples'):
        read(folder)
    with pytest.raises(DataError, match="no whole part of 7 examples"):
        read(folder, 7)
    with pytest.raises(StudyError):
        read(folder, 0)


def test_models_are_never_compared_with_one_another(tmp_path: Path) -> None:
    result(tmp_path, "a", 400, model="x")
    result(tmp_path, "b", 100, model="y")
    experiments, table = read(tmp_path, 500)
    assert [experiment.behind for experiment in experiments] == [None, None]
    assert "On y, the highest of 1 experiment is b" in " ".join(table.notes)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"run_info": {}}', '{"run_info": {"experiment_name": 1}}']
)
def test_what_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="no result files"):
        read(tmp_path, 500)
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.json"):
        read(tmp_path, 500)


def test_files_beside_the_results_are_left_out_and_named(tmp_path: Path) -> None:
    """As in peft's method_comparison/MetaMathQA."""
    some(tmp_path / "results")
    (tmp_path / "default_training_params.json").write_text('{"model_id": "made/up-1B", "seed": 0}')
    experiments, table = read(tmp_path, 500)
    assert experiments == read(tmp_path / "results", 500)[0]
    left_out = "Left out, since they are no results: default_training_params.json."
    assert table.notes[-1] == left_out


def test_a_share_beyond_one_is_refused(tmp_path: Path) -> None:
    result(tmp_path, "a", 600)
    with pytest.raises(DataError, match="is no share"):
        read(tmp_path, 500)


def test_files_without_an_accuracy_need_no_number_of_examples(tmp_path: Path) -> None:
    """As those of image-gen: a similarity over four images, NaN where it could not be had."""
    for name, drift in (("lora/a", 0.25), ("full/b", float("nan"))):
        result(tmp_path, name, None)
        file = tmp_path / f"{name.replace('/', '--')}.json"
        content = json.loads(file.read_text())
        content["run_info"]["train_config"]["test_size"] = 4
        content["train_info"]["metrics"] = [{"test dino_similarity": 0.7, "drift": drift}]
        file.write_text(json.dumps(content))
    _, table = read(tmp_path)
    assert [texts[1:3] for texts in format_rows(table)] == [["no score", "no accuracy"]] * 2
    text = " ".join(table.notes)
    assert "no experiment has a test accuracy" in text
    assert "test dino_similarity instead, a mean over 4 examples of one run" in text
    assert "0.7" not in text and "(success)" not in text


def test_two_files_of_one_experiment_are_two_rows(tmp_path: Path) -> None:
    result(tmp_path, "bone/bat", 250)
    (tmp_path / "bone--bat.json").rename(tmp_path / "bone--bat--2025-06-17T22-43-28.json")
    result(tmp_path, "bone/bat", 240)
    result(tmp_path, "lora/a", 230)
    experiments, table = read(tmp_path, 500)
    names = [experiment.name for experiment in experiments]
    assert names == ["bone--bat--2025-06-17T22-43-28", "bone--bat", "lora/a"]
    assert any("several files: each is a row" in sentence for sentence in table.notes)


def test_a_multiple_of_the_number_of_examples_is_refused(tmp_path: Path) -> None:
    """Twice as many would make every interval too narrow by a third."""
    for i in range(24):
        result(tmp_path / "r", f"lora/{i}", 101 + i, n=1319)
    with pytest.raises(DataError, match=r"whole parts of 1,319 examples; of 2,638 that cannot be"):
        read(tmp_path / "r", 2638)
    assert len(read(tmp_path / "r", 1319)[0]) == 24


def test_the_best_was_picked_by_looking(tmp_path: Path) -> None:
    """Corrected over the comparisons with the best alone, the lowest would be called worse."""
    for i in range(12):
        result(tmp_path / "r", f"lora/{i}", 520 - 4 * i - i % 3, n=1000)
    result(tmp_path / "r", "lora/last", 445, n=1000)
    last = read(tmp_path / "r", 1000)[0][-1]
    assert last.behind is not None and last.p_holm is not None and last.p_with_seeds is not None
    assert last.behind.p * 12 < 0.05 < last.p_holm < last.p_with_seeds
    assert last.proven_worse is False


def test_the_page_reads_all_of_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "method_comparison"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    some(folder / "a" / "results")
    result(folder / "b" / "results", "<b>lora</b>", None, model="made/up-images")
    page = render_page(*judge_folder(folder, 500))
    assert (
        "Of 5 experiments there is no verdict by accuracy for 1 against the best of their model"
        in page
    )
    assert page.count('class="dot ') == 3 and page.count('"dot below"') == 1
    assert "0.500 [0.456, 0.544]" in page and "made/up-images: 1 experiment" in page
    assert "<b>lora</b>" not in page and "\x1b" not in page and "<script" not in page
