"""BLEU, chrF and TER against sacreBLEU's public functions, whole and resampled."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from paretune.metrics.translation import statistics

OURS = ["Pes je stekel.", "the cat sat on a mat", "Nič", "", "Danes je lep dan , res ."]
THEIRS = ["Pes je tekel.", "the cat sat on the mat", "Vse", "Prazno.", "Danes je res lep dan."]


def test_whole_scores_and_signatures_are_sacrebleus() -> None:
    for ours, metric in zip(statistics(OURS, THEIRS), (BLEU(), CHRF(), TER()), strict=True):
        public = metric.corpus_score(OURS, [THEIRS])
        assert ours.score() == pytest.approx(public.score, abs=1e-9)
        assert ours.name == public.name
        assert ours.signature == str(metric.get_signature()) and "version:" in ours.signature
        assert ours.table.shape[0] == len(OURS)


def test_resampled_scores_are_those_of_the_resampled_texts() -> None:
    draw = np.random.default_rng(0)
    found = statistics(OURS, THEIRS)
    for _ in range(20):
        chosen = draw.integers(len(OURS), size=len(OURS))
        ours, theirs = ([texts[i] for i in chosen] for texts in (OURS, THEIRS))
        for one, metric in zip(found, (BLEU(), CHRF(), TER()), strict=True):
            assert one.score(chosen) == pytest.approx(metric.corpus_score(ours, [theirs]).score)


def test_ter_counts_edits() -> None:
    bleu, chrf, ter = statistics(["a b"], ["a c"])
    assert (ter.name, ter.higher_is_better, ter.score()) == ("TER", False, 50.0)
    assert bleu.higher_is_better and chrf.higher_is_better


@pytest.mark.parametrize(("ours", "theirs"), [([], []), (["a"], ["a", "b"])])
def test_lines_that_do_not_pair_are_refused(ours: list[str], theirs: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(ours)} hypotheses"):
        statistics(ours, theirs)
