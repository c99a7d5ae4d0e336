"""BLEU, chrF and TER against sacreBLEU's public functions, whole and resampled."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from paretune.metrics import translation

OURS = ["Pes je stekel.", "the cat sat on a mat", "Nič", "", "Danes je lep dan , res ."]
THEIRS = ["Pes je tekel.", "the cat sat on the mat", "Vse", "Prazno.", "Danes je res lep dan."]
PUBLIC = list(zip(translation.METRICS, (BLEU(), CHRF(), TER()), strict=True))


def test_whole_scores_and_signatures_are_sacrebleus() -> None:
    for metric, public in PUBLIC:
        expected = public.corpus_score(OURS, [THEIRS])
        assert metric.compute(THEIRS, OURS, ()) == pytest.approx(expected.score, abs=1e-9)
        assert metric.signature is not None and metric.signature() == str(public.get_signature())


def test_resampled_scores_are_those_of_the_resampled_texts() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        chosen = draw.integers(len(OURS), size=len(OURS))
        ours, theirs = ([texts[i] for i in chosen] for texts in (OURS, THEIRS))
        for metric, public in PUBLIC:
            (table,) = metric.statistics(THEIRS, [OURS], ())
            score = float(metric.from_sums(table[chosen].sum(axis=0)))
            assert score == pytest.approx(public.corpus_score(ours, [theirs]).score)


def test_ter_counts_edits() -> None:
    assert translation.TER.compute(["a c"], ["a b"], ()) == 50.0
    assert [m.greater_is_better for m in translation.METRICS] == [True, True, False]


@pytest.mark.parametrize(("ours", "theirs"), [([], []), (["a"], ["a", "b"])])
def test_lines_that_do_not_pair_are_refused(ours: list[str], theirs: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(theirs)} references but"):
        translation.BLEU.compute(theirs, ours, ())
