"""SloBench's numbers: its golden outputs, and NLTK 3.6.6's on sentences of our own."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import slobench

from paretune.errors import DataError, MissingDependencyError
from paretune.store.record import Predictions
from paretune_slovene.metrics import meteor, nltk_words, wordnet
from paretune_slovene.slobench import nltk_ngrams, official_scores

HERE = Path(__file__).parents[2] / "metrics"
KNOWN = json.loads((HERE / "nltk_sentences.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = KNOWN["rows"]
MINI = HERE / "mini_wordnet"
GOLDEN = {
    "BLEU (avg)": 0.540459638826303,
    "METEOR (avg)": 0.6818485042165279,
    "CHRF (avg)": 0.632641023976876,
    "BLEU (corpus)": 0.5815499689913606,
    "CHRF (corpus)": 0.6326410239768762,
}


def exactly(value: float) -> Any:
    return pytest.approx(value, rel=0, abs=1e-9)


def score(
    ours: Sequence[str], theirs: Sequence[str], language: str = "sl", **options: Any
) -> official_scores.TranslationScores:
    uids = tuple(f"row {i}" for i in range(len(ours)))
    predictions = Predictions(uids, tuple(theirs), tuple(ours), ((),) * len(ours))
    return official_scores.score_translations([predictions], language, **options)


@pytest.fixture(scope="module")
def sample(shared: Path) -> tuple[list[str], list[str]]:
    folder = shared / "data" / "slobench-samples" / "translation_sl"
    parts = [folder / f"sample_{n}" / f"sample_{n}.txt" for n in ("submission", "reference")]
    ours, theirs = (part.read_text("utf-8").splitlines() for part in parts)
    return ours, theirs


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hypothesis"][:20])
def test_bleu_meteor_and_chrf_are_nltks(row: dict[str, Any]) -> None:
    ours, theirs = row["hypothesis_words"], row["reference_words"]
    assert slobench.bleu([ours], [theirs]) == exactly(row["bleu"])
    assert nltk_ngrams.chrf(" ".join(ours), " ".join(theirs)) == exactly(row["chrf"])
    pytest.importorskip("nltk", reason="stems are NLTK's: pip install nltk")
    synonyms = wordnet.find_wordnet(MINI).synonyms
    assert meteor.load_meteor(synonyms)(ours, theirs) == exactly(row["meteor"])


def test_corpus_bleu_and_chrf_are_nltks() -> None:
    ours = [row["hypothesis_words"] for row in ROWS]
    theirs = [row["reference_words"] for row in ROWS]
    assert slobench.bleu(ours, theirs) == exactly(KNOWN["corpus_bleu"])
    mean = sum(row["chrf"] for row in ROWS) / len(ROWS)
    assert mean == exactly(KNOWN["corpus_chrf"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hypothesis"][:20])
def test_words_are_cut_as_nltk_3_6_6_cuts_them(row: dict[str, Any]) -> None:
    pytest.importorskip("nltk", reason="words are cut by NLTK: pip install nltk")
    try:
        cut = nltk_words.load_tokeniser(row["language"])
    except MissingDependencyError as error:
        if any(row["hypothesis"].count(end) > 1 for end in ".?"):
            pytest.skip(f"sentence ends need data: {error}")
        cut = nltk_words.make_word_tokeniser()
    assert cut(row["hypothesis"]) == row["hypothesis_words"]


def test_an_nltk_that_cuts_in_yet_another_way_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    destructive = pytest.importorskip("nltk.tokenize.destructive")
    monkeypatch.setattr(destructive.NLTKWordTokenizer, "PUNCTUATION", [])
    with pytest.raises(MissingDependencyError, match="cuts words in a way"):
        nltk_words.make_word_tokeniser()


def test_bleu_and_chrf_are_those_of_the_installed_nltk() -> None:
    bleu_score = pytest.importorskip("nltk.translate.bleu_score")
    chrf_score = pytest.importorskip("nltk.translate.chrf_score")
    smooth = bleu_score.SmoothingFunction().method1
    draw, corpus = np.random.default_rng(3), []
    for _ in range(200):
        words = ["a", "bé", "c d", "dd", "…"]
        ours, theirs = (draw.choice(words, draw.integers(low, 9)).tolist() for low in (0, 1))
        theirs = theirs[:4] + ours[1:] if draw.random() < 0.5 else theirs
        expected = bleu_score.sentence_bleu([theirs], ours, smoothing_function=smooth)
        assert slobench.bleu([ours], [theirs]) == exactly(float(expected))
        got = nltk_ngrams.chrf(" ".join(ours), " ".join(theirs))
        assert got == exactly(chrf_score.sentence_chrf(theirs, ours))
        corpus.append((ours, theirs))
    for chosen in (draw.integers(200, size=size) for size in (1, 2, 5, 30) for _ in range(50)):
        hypotheses, references = zip(*(corpus[i] for i in chosen), strict=True)
        listed = [[reference] for reference in references]
        expected = bleu_score.corpus_bleu(listed, hypotheses, smoothing_function=smooth)
        assert slobench.bleu(hypotheses, references) == exactly(float(expected))


@pytest.mark.parametrize(("word", "known"), KNOWN["synonyms"].items())
def test_wordnet_is_read_as_nltk_3_6_6_reads_it(word: str, known: list[str]) -> None:
    assert wordnet.find_wordnet(MINI).synonyms(word) == frozenset(known)


def test_wordnet_is_read_from_the_zip_that_nltks_downloader_leaves(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wordnet.zip", "w") as archive:
        for file in MINI.iterdir():
            archive.write(file, f"wordnet/{file.name}")
    assert "hound" in wordnet.find_wordnet(tmp_path / "wordnet.zip").synonyms("dogs")


def test_wordnet_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="apt install wordnet-base"):
        wordnet.find_wordnet(tmp_path)
    for file in MINI.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "data.noun").write_bytes(b"x" + (MINI / "data.noun").read_bytes())
    with pytest.raises(DataError, match="holds no synset at byte"):
        wordnet.find_wordnet(tmp_path).synonyms("dog")
    (tmp_path / "index.verb").unlink()
    with pytest.raises(DataError, match=r"index\.verb"):
        wordnet.find_wordnet(tmp_path).synonyms("dog")


def test_chrf_and_bleu_of_the_official_sample(sample: tuple[list[str], list[str]]) -> None:
    """Its words are what spaces part, so no tokeniser moves them: any machine has these numbers."""
    got = [nltk_ngrams.chrf(a, b) for a, b in zip(*sample, strict=True)]
    assert sum(got) / len(got) == exactly(GOLDEN["CHRF (avg)"])
    ours, theirs = ([line.split() for line in lines] for lines in sample)
    each = [slobench.bleu([a], [b]) for a, b in zip(ours, theirs, strict=True)]
    assert sum(each) / len(each) == exactly(GOLDEN["BLEU (avg)"])
    assert slobench.bleu(ours, theirs) == exactly(GOLDEN["BLEU (corpus)"])


def test_all_of_the_official_sample_where_the_data_is_here(
    sample: tuple[list[str], list[str]],
) -> None:
    got = score(*sample)
    for name, interval in got.intervals.items():
        assert interval.estimate == exactly(GOLDEN[name])
    assert set(got.intervals) | set(got.missing) == set(official_scores.TRANSLATION_SCORES)
    if got.missing:
        pytest.skip(f"the rest is as golden; not computed: {got.missing}")


def test_what_is_missing_is_told_and_the_rest_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(language: str) -> Any:
        raise MissingDependencyError("no punkt.", remedy="Get it.")

    monkeypatch.setattr(official_scores, "load_tokeniser", missing)
    got = score(["a b"], ["a c"])
    assert set(got.intervals) == {"CHRF (avg)"}
    assert got.missing["METEOR (avg)"] == "no punkt. Get it."
    quoted = score(['"a" b'], ["a c"])
    assert quoted.intervals == {} and "straight quotes" in quoted.missing["CHRF (avg)"]


def test_without_wordnet_only_meteor_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("nltk")
    monkeypatch.setattr(official_scores, "load_tokeniser", lambda language: str.split)
    got = score(["the hounds"], ["the dogs"], "en", wordnet=tmp_path)
    assert list(got.missing) == ["METEOR (avg)"] and len(got.intervals) == 3
    got = score(["the hounds"], ["the dogs"], "en", wordnet=MINI)
    assert not got.missing and got.intervals["METEOR (avg)"].estimate == exactly(0.9375)
    assert any("WordNet 0.1" in line for line in got.data)


@pytest.mark.parametrize(
    ("line", "stops"),
    [("! Ne.", True), (".) x", True), ("?! x", False), ("... x", False), ("Ne. Da.", False)],
)
def test_lines_on_which_nltk_3_6_6_ends_with_an_error(line: str, stops: bool) -> None:
    assert nltk_ngrams.crashes_slobench(line) is stops


@pytest.mark.parametrize(
    ("line", "mended", "same_words"),
    [
        ("! or NOT x", "!or NOT x", True),
        ("! Ne.", "!Ne.", True),
        ("?\u00a0Ali", "?Ali", True),
        ("! a? x", "!a? x", True),
        ("!) Ne", ") Ne", False),
        ("! (Ne)", "(Ne)", False),
        ('." rekel', '" rekel', False),
        (". x", "x", False),
        ("! ! Ne", "! ! Ne", True),
        ("Ne! Da.", "Ne! Da.", True),
    ],
)
def test_such_lines_are_mended_with_the_least_change(
    line: str, mended: str, same_words: bool
) -> None:
    assert nltk_ngrams.make_readable(line) == mended
    assert not nltk_ngrams.crashes_slobench(mended)
    pytest.importorskip("nltk")
    cut = nltk_words.make_word_tokeniser()
    assert (cut(line) == cut(mended)) is same_words


def test_whatever_a_line_is_it_is_mended_and_never_emptied() -> None:
    drawn = random.Random(7)  # noqa: S311 (lines, no secret)
    seen = 0
    for _ in range(4000):
        line = "".join(drawn.choices(".!?)\"'([ab  \u00a0", k=drawn.randint(1, 8)))
        mended = nltk_ngrams.make_readable(line)
        assert not nltk_ngrams.crashes_slobench(mended)
        assert bool(mended.strip()) is bool(line.strip())
        assert (mended == line) is not nltk_ngrams.crashes_slobench(line)
        seen += mended != line
    assert seen > 100
