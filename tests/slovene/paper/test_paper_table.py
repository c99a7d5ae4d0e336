"""Reading the authors' own table of runs; and the real one, where it is here."""

from collections import Counter
from pathlib import Path

import pytest
from support import made_up_paper as made_up

from paretune import tasks
from paretune.errors import DataError
from paretune.study import TaskSpec
from paretune_slovene.paper import published
from paretune_slovene.paper.claims import load_claims
from paretune_slovene.paper.preset import read_settings
from paretune_slovene.paper.published import PublishedRun
from paretune_slovene.paper.table import read_published_runs


def read(path: Path) -> dict[tuple[str, str, str], PublishedRun]:
    runs = read_published_runs(path, lambda task: made_up.LABELS[task])
    return {(run.task, run.model, run.method): run for run in runs}


def test_a_table_is_read_with_the_names_that_the_conclusions_have(tmp_path: Path) -> None:
    runs = read(made_up.table(tmp_path / "runs.csv"))
    assert len(runs) == len(made_up.ROWS.splitlines())
    assert runs["boolq", "xlm-r", "full"] == PublishedRun(
        "boolq", "xlm-r", "full", 10, 9, 0.8989, 5.0, 8, "400 steps", None, None, ""
    )
    assert runs["cb", "xlm-r", "full"].right == 10  # 0.8333 is 10 of 12, cut
    assert runs["boolq", "xlm-r", "prompt"].constant == "yes"
    assert runs["cb", "xlm-r", "lora"].constant == "entailment"
    assert "no adapter" in runs["boolq", "sloberta", "loha"].flaw
    lora, loha = (runs["rsdo4", "opus-mt", name] for name in ("lora", "loha"))
    assert (lora.right, lora.n, lora.length, lora.batch) == (None, 0, "1 epoch", 16)
    assert (loha.length, loha.trained) == ("120 steps", 600)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.9,0.8989", "0.93,0.8989", "line 2: has an accuracy of 0.93, which is no share of 10"),
        ("0.9,0.8989", "0.9,", "line 2: has an accuracy and no f1."),
        ("0.9,0.8989", "much,0.8989", 'line 2: has "much" in "acc".'),
        ("0.8989,5", "0.8989,", 'line 2: has no number above 0 in "gpu_gb".'),
        ("COPA,croslo,LoRA", "COPA,croslo,LoHa", "is a second run of copa / croslo / loha."),
        ("COPA,croslo,LoRA", "COPA,croslo,IA3", 'has the method "IA3".'),
        ("COPA,croslo,LoRA", "COPA,bert,LoRA", 'has the model "bert".'),
        ("COPA,croslo,LoRA", "WSC,croslo,LoRA", 'has the task "WSC".'),
        (",16,,1,300,,,", ",16,,,300,,,", 'has no number above 0 in "num_train_epochs".'),
    ],
)
def test_what_a_table_has_wrong_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in made_up.ROWS
    path = made_up.table(tmp_path / "runs.csv", made_up.ROWS.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        read(path)
    assert message in str(caught.value) and "runs.csv line" in str(caught.value)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    path = made_up.table(tmp_path / "runs.csv", head=made_up.HEAD.replace("gpu_gb", "memory"))
    with pytest.raises(DataError, match=r'has no column "gpu_gb"\. .*acc, f1, gpu_gb'):
        read(path)


def test_the_authors_own_table(shared: Path) -> None:
    """Its constants and verdicts, with the labels of the published validation rows."""
    source = str(shared / "data" / "superglue-sl")

    def labels(task: str) -> Counter[str]:
        limit = read_settings()["tasks"][task].get("limit")
        data = tasks.load_dataset(TaskSpec(name=task, language="sl", source=source, limit=limit))
        return Counter(data.labels[int(e.label)] for e in data.test if e.label is not None)

    table = shared / "paper" / "runs.csv"
    if not table.is_file():
        pytest.skip("needs the paper's table of runs, ../shared/paper/runs.csv, which is not here")
    runs = read_published_runs(table, labels)
    constants = Counter((r.task, r.method == "full") for r in runs if r.constant is not None)
    assert constants == {("boolq", False): 8, ("cb", False): 7, ("copa", True): 2}
    verdicts = Counter(published.judge_published(claim, runs).verdict for claim in load_claims())
    assert verdicts == {
        "holds": 2,
        "does not hold": 2,
        "cannot be decided": 9,
        "comes from constant answers": 7,
    }
