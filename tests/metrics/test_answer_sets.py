"""F1a and EM: by hand, against scikit-learn, and as SloBench computes them on its sample."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from paretune import metrics

f1a, exact_match, f1a_em = (metrics.get(name).compute for name in ("f1a", "em", "f1a_em"))


def test_by_hand() -> None:
    label, answer = [1, 0, 1, 0, 1, 1], [1, 0, 1, 1, 1, 0]
    questions = [0, 0, 0, 1, 1, 2]
    assert f1a(label, answer, questions) == pytest.approx(2 * 3 / (4 + 4))
    assert exact_match(label, answer, questions) == pytest.approx(1 / 3)
    assert f1a_em(label, answer, questions) == pytest.approx((0.75 + 1 / 3) / 2)


def test_a_question_need_not_stand_together() -> None:
    label, answer, questions = [1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 1]
    assert exact_match(label, answer, questions) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_f1a_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, answer = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    questions = [int(q) for q in rng.integers(0, 15, 60)]
    assert f1a(label, answer, questions) == pytest.approx(f1_score(label, answer))
    whole = [all((label == answer)[np.array(questions) == q]) for q in sorted(set(questions))]
    assert exact_match(label, answer, questions) == pytest.approx(np.mean(whole))


def test_nothing_right_and_nothing_called_right() -> None:
    nothing = ([0, 0], [0, 0], [0, 1])
    assert (f1a(*nothing), exact_match(*nothing), f1a_em(*nothing)) == (0, 1, 0.5)


def test_every_answer_needs_a_question() -> None:
    with pytest.raises(ValueError, match="2 references but 1 questions"):
        f1a_em([1, 0], [1, 1], [0])
