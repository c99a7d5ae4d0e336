"""The paper's own table is read, and the page lays it beside ours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support import fake_records as fake, made_up_paper as made_up
from support.pages import EVIL, Tags

from paretune import tasks
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.errors import DataError
from paretune.study import TaskSpec
from paretune_slovene.paper import published, replication_page
from paretune_slovene.paper.claims import load_claims
from paretune_slovene.paper.preset import read_settings
from paretune_slovene.paper.published import PublishedRun
from paretune_slovene.paper.table import read_published_runs


def of_paper(folder: Path) -> replication_page.Evidence:
    table = made_up.table(folder / "runs.csv")
    return replication_page.published_evidence(
        read_published_runs(table, lambda task: made_up.LABELS[task])
    )


def evidence(folder: Path | None, label: str = "e5-small") -> list[replication_page.Evidence]:
    study = fake.study(tasks=[fake.own_task("cb")], methods=["full", "lora", "loha", "prompt"])
    # Put in afterwards: a study file refuses some labels.
    models = tuple(model.model_copy(update={"label": label}) for model in study.models)
    study = study.model_copy(update={"models": models})
    records = fake.whole(study, {"full": 0.9, "lora": None})
    ours = replication_page.study_evidence(study, records, (), "page-fair.html")
    return [ours] if folder is None else [of_paper(folder), ours]


def test_the_first_page_has_every_conclusion_with_its_verdicts(tmp_path: Path) -> None:
    sources = evidence(tmp_path)
    text = replication_page.render_replication_page(sources)
    first = text[: text.index('id="evidence"')]
    for claim in replication_page.load_claims():
        assert claim.says in first and claim.place in text
    assert f"The paper’s own numbers:</b> {sources[0].summary}." in first
    assert "(accuracy 0.50 [0.25, 0.75], 12 × 1)" in text and "(60 × 3), constant" in text
    assert "--published" not in text
    assert first.count('role="cell"') == 2 * len(replication_page.load_claims())
    assert 'href="page-fair.html"' in first
    assert "lora answered a constant (3 of 3)" in text
    assert "prompt scores as always “yes”" in text


def test_without_the_papers_own_numbers_it_says_how_to_get_them_in() -> None:
    (ours,) = sources = evidence(None)
    text = replication_page.render_replication_page(sources)
    first = text[: text.index('id="evidence"')]
    assert "--published FILE" in first and first.count("not here") == 1
    assert first.count('role="cell"') == len(replication_page.load_claims())
    assert ours.summary in first
    assert "its own numbers" not in text and "values speak against it" not in text


def test_what_would_decide_a_pair_is_no_absurd_number() -> None:
    def describe(low: int | None, high: int | None) -> str:
        size = SampleSize(60, low, high)
        return replication_page.describe_sample_size(size, None).removesuffix(" would decide it")

    assert describe(452_608, 990_000) == "more than 100,000 examples"
    assert describe(990, 2_345) == "about 990 to 2,400 examples"
    assert describe(None, None) == replication_page.describe_sample_size(None, None) == ""
    size = replication_page.describe_sample_size(None, 990)
    assert size == "about 990 examples would decide it, unpaired"


def test_every_number_stands_on_something(tmp_path: Path) -> None:
    for one in evidence(tmp_path):
        for judged in one.judged:
            for row in one.rows(judged):
                has_values = row.values != ("–", "–")
                assert has_values == (row.basis != "–")
                if judged.claim.kind == "score" and has_values:
                    assert all("[" in text for text in (*row.values, row.contrast))


def test_the_page_is_well_formed_and_names_cannot_break_it(tmp_path: Path) -> None:
    sources = evidence(tmp_path, label=EVIL)
    text = replication_page.render_replication_page(sources)
    tags = Tags()
    tags.feed(text)
    drawn = sum(bar.interval is not None for source in sources for bar in source.bars)
    assert tags.open == [] and text.count('class="interval"') == drawn > 0
    assert "<script" not in text and "\x1b" not in text
    names = {name for name, _ in tags.seen}
    assert not names & {"script", "link", "img", "iframe", "object"}
    ids = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for name, a in tags.seen if name == "a"} - {"page-fair.html"}
    assert {(link or "")[1:] for link in links} <= set(ids)


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
