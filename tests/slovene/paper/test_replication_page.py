from pathlib import Path

from support import fake_records as fake
from support import made_up_paper as made_up
from support.pages import EVIL, Tags

from paretune.analysis.statistics.sample_size import SampleSize
from paretune_slovene.paper import replication_page
from paretune_slovene.paper.table import read_published_runs


def of_paper(folder: Path) -> replication_page.Evidence:
    table = made_up.table(folder / "runs.csv")
    return replication_page.published_evidence(
        read_published_runs(table, lambda task: made_up.LABELS[task])
    )


def evidence(folder: Path | None, **changes: object) -> list[replication_page.Evidence]:
    study = fake.study(
        tasks=[fake.own_task("cb")], methods=["full", "lora", "loha", "prompt"], **changes
    )
    records = fake.whole(study, {"full": 0.9, "lora": None})
    ours = replication_page.study_evidence(study, records, (), "page-fair.html")
    return [ours] if folder is None else [of_paper(folder), ours]


def test_the_first_page_has_every_conclusion_with_its_verdicts(tmp_path: Path) -> None:
    sources = evidence(tmp_path)
    text = replication_page.write_replication_page(sources, tmp_path / "a" / "p.html").read_text(
        "utf-8"
    )
    first = text[: text.index('id="evidence"')]
    for claim in replication_page.load_claims():
        assert claim.says in first and claim.place in text
    assert f"The paper’s own numbers:</b> {sources[0].summary}." in first
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
    def describe(
        seeds: int | None, examples: int | None, both: tuple[int, int] | None = None
    ) -> str:
        return replication_page.describe_sample_size(
            SampleSize(2, 60, seeds, examples, both, varies=True, blind=False), None
        )

    assert describe(14, None) == "about 14 seeds would decide it"
    assert describe(452_608, 990) == "more than 1,000 seeds or about 990 examples would decide it"
    assert describe(None, None, (452_608, 9_052_160)) == (
        "more than 1,000 seeds with more than 100,000 examples would decide it"
    )
    assert describe(None, None) == "" and replication_page.describe_sample_size(None, None) == ""
    assert replication_page.describe_sample_size(None, 2_000_000).startswith(
        "more than 100,000 examples would"
    )


def test_every_number_stands_on_something(tmp_path: Path) -> None:
    for one in evidence(tmp_path):
        for judged in one.judged:
            for row in one.rows(judged):
                has_values = row.values != ("–", "–")
                assert has_values == (row.basis != "–")
                if judged.claim.kind == "score" and has_values:
                    assert all("[" in text for text in (*row.values, row.contrast))


def test_the_page_is_well_formed_and_names_cannot_break_it(tmp_path: Path) -> None:
    model = {"name": "intfloat/e5-small", "label": EVIL}
    text = replication_page.render_replication_page(evidence(tmp_path, models=[model]))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert "<script" not in text and "\x1b" not in text
    names = {name for name, _ in tags.seen}
    assert not names & {"script", "link", "img", "iframe", "object"}
    ids = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for name, a in tags.seen if name == "a"} - {"page-fair.html"}
    assert {(link or "")[1:] for link in links} <= set(ids)
