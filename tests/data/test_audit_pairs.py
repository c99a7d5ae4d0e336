"""The audit of translations: what is found, and what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.data.audit import audit, audit_truncation
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.data.language import language_code
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

SHARED = Path(__file__).parents[3].parent / "shared"
Pairs = list[tuple[str, str]]
CLEAN: Pairs = [
    (f"Češnja številka {i} je še žareče rdeča.", f"Cherry number {i} is still glowing red.")
    for i in range(120)
]
OTHER: Pairs = [
    (f"Žaba {i} skače čez šotor.", f"Frog {i} jumps over the tent.") for i in range(120)
]


def data(train: Pairs, test: Pairs = OTHER, languages: tuple[str, str] = ("sl", "en")) -> Dataset:
    def part(name: str, pairs: Pairs) -> tuple[Example, ...]:
        return tuple(
            Example(f"{name}:{i}", ((s, None),), None, f"{name} line {i + 1}", target=t)
            for i, (s, t) in enumerate(pairs)
        )

    return Dataset(
        task="t",
        kind="translation",
        labels=(),
        languages=languages,
        train=part("train", train),
        test=part("test", test),
        metric="bleu",
        language=languages[1],
        licence="",
        source="",
    )


def select_findings(dataset: Dataset, name: str) -> list[Finding]:
    return [f for f in audit(dataset) if f.code == name]


def test_clean_pairs_are_clean() -> None:
    assert audit(data(CLEAN)) == []


@pytest.mark.parametrize(
    ("pair", "name", "message"),
    [
        (("Pazi na vlak, prosim.", "Pazi  na vlak, PROSIM."), "copied-text", "are the same"),
        (("Zelo " * 30, "Very long."), "far-length", "150 characters are translated by 10"),
        (CLEAN[4], "duplicate", "repeats train line 5"),
        ((CLEAN[4][0].upper(), CLEAN[4][1]), "duplicate", "repeats train line 5"),
    ],
)
def test_a_bad_pair_is_found(pair: tuple[str, str], name: str, message: str) -> None:
    (finding,) = audit(data([*CLEAN, pair]))
    assert (finding.code, finding.severity, finding.where) == (name, "warning", "train line 121")
    assert message in finding.what


@pytest.mark.parametrize(
    "pair",
    [
        ("123, 45 %", "123, 45 %"),
        ("Ali?", "Or is it?"),
        ("LibreOffice Calc", "LibreOffice Calc"),
        ("Пушкин je pisal o pesmi in o življenju.", "Pushkin (Пушкин) wrote of song and life."),
        ("To velja za α, β, γ in za δ.", "This holds for α, β, γ and for δ."),
    ],
)
def test_what_is_usual_is_left_alone(pair: tuple[str, str]) -> None:
    assert audit(data([*CLEAN, pair])) == []


def test_leaks_of_pairs_and_of_sources() -> None:
    test = [*OTHER, CLEAN[7], (CLEAN[8][0], "Another reference of that cherry, here.")]
    dataset = data(CLEAN, test)
    (leak,) = select_findings(dataset, "leak")
    assert leak.where == "test line 121" and "train line 8)" in leak.what
    (source,) = select_findings(dataset, "leaked-source")
    assert source.where == "test line 122" and "1 of 122" in source.what


def test_language_tags() -> None:
    tags = ("sl-SI", "SLV", "slv_Latn", "eng_Latn", "xx")
    assert [language_code(tag) for tag in tags] == ["sl", "sl", "sl", "en", "xx"]


def test_a_small_test_says_nothing_of_accuracy() -> None:
    (finding,) = select_findings(data(CLEAN, OTHER[:50]), "small-test")
    assert "an interval on so few is wide" in finding.what


def test_tokens_of_both_sides_are_counted() -> None:
    class Words:
        def __call__(self, texts: Any = None, text_target: Any = None, **_: Any) -> Any:
            extra = [] if text_target is None else ["end", "of", "text"]
            return {"input_ids": [[*t.split(), *extra] for t in text_target or texts]}

    one, other = audit_truncation(data(CLEAN, OTHER), Words(), 7)
    assert "120 of 120 train references are longer than 7" in one.what and one.severity == "warning"
    assert "120 of 120 test references" in other.what and "with 9" in other.what
    sources = audit_truncation(data([("a " * 20, "a")], OTHER), Words(), 12)
    assert ["1 of 1 train sources" in f.what for f in sources] == [True]
    assert audit_truncation(data(CLEAN, OTHER), Words(), 10) == []
    longer = audit_truncation(
        data(CLEAN, OTHER), Words(), 10, prefix="translate English to German : "
    )
    assert ["sources" in f.what and "with 12" in f.what for f in longer] == [True]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_what_real_data_holds() -> None:
    folder = SHARED / "data" / "mt-sl-en"

    def codes(train: str, test: str) -> dict[str, list[str]]:
        files = {"train": str(folder / train), "test": str(folder / test)}
        spec = TaskSpec(name="x", kind="translation", source_lang="sl", target_lang="en", **files)
        places: dict[str, list[str]] = {}
        for finding in audit(load_dataset(spec)):
            places.setdefault(finding.code, []).extend(finding.places or [finding.where])
        return places

    help_ = codes("software-help/train.tsv", "software-help/test.tsv")
    # All four are aligned wrongly, as anyone sees who reads both languages.
    assert help_["far-length"] == [f"train.tsv line {n}" for n in (2431, 4696, 5610, 5618)]
    assert len(help_["duplicate"]) == 2 and help_["leaked-source"] == ["test.tsv line 638"]
    assert set(help_) == {"far-length", "duplicate", "leaked-source"}
    assert set(codes("general/train.tsv", "general/test.tsv")) == set()
    news = codes("general/train.tsv", "news/test.tsv")
    assert news["copied-text"] == ["test.tsv line 682"]  # French, in both languages
    assert set(news) == {"copied-text", "duplicate"}
