from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.statistics.differences import (
    NO_PRIOR,
    DifferenceTerms,
    SeedPrior,
    difference_terms,
    fit_seed_prior,
    lending_scores,
    on_common_rows,
    score_difference,
    shared_example_variance,
)
from paretune.analysis.statistics.scores import BootstrapScore, TestDesign, bootstrap_score
from paretune.errors import StoreError
from paretune.store.record import Predictions


def cell(quality: float, seeds: int = 3, n: int = 200, noise: int = 0) -> BootstrapScore:
    parts = [fake.answers(quality, n=n, seed=s + noise) for s in range(seeds)]
    return bootstrap_score(parts, "accuracy")


def test_with_one_run_each_it_is_the_paired_t_test() -> None:
    a, b = cell(0.8, seeds=1), cell(0.7, seeds=1, noise=9)
    difference = score_difference(a, b)
    delta = a.credit - b.credit
    t_test = stats.ttest_1samp(delta, 0)
    # 2,000 bootstrap draws know the variance to about 3 %.
    assert difference.p == pytest.approx(t_test.pvalue, rel=0.5)
    assert difference.high - difference.estimate == pytest.approx(
        stats.t.ppf(0.975, 199) * delta.std(ddof=1) / 200**0.5, rel=0.07
    )


def test_without_examples_part_it_is_welch() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        one, other = rng.normal(0.7, 0.05, 4), rng.normal(0.65, 0.02, 3)
        seeds = ((one.var(ddof=1) / 4, 3.0), (other.var(ddof=1) / 3, 2.0))
        welch = stats.ttest_ind(one, other, equal_var=False)
        terms = DifferenceTerms(float(one.mean() - other.mean()), seeds, (0.0, 99.0))
        assert terms.half_width(welch.pvalue) == pytest.approx(abs(terms.estimate))
        assert terms.p_value() == pytest.approx(welch.pvalue, rel=1e-6)


def test_p_and_interval_say_the_same() -> None:
    a = cell(0.8)
    for other in (cell(0.7), cell(0.75, noise=30), cell(0.79, noise=60)):
        difference = score_difference(a, other)
        assert (difference.p < 0.05) == (difference.low > 0 or difference.high < 0)


def test_noise_of_single_answers_is_counted_once() -> None:
    """Seeds that only draw answers: the variance is that of their mean, plus a quarter."""
    rng, n, seeds = np.random.default_rng(3), 400, 8
    chance = rng.beta(2, 1, n)
    label = [0] * n

    def drawn() -> BootstrapScore:
        parts = [
            fake.predictions(label, (rng.random(n) > chance).astype(int)) for _ in range(seeds)
        ]
        return bootstrap_score(parts, "accuracy")

    noise = float((chance * (1 - chance)).mean()) / (n * seeds)
    residuals, totals = [], []
    for _ in range(20):
        a, b = drawn(), drawn()
        residuals.append(a.residual_variance)
        terms = difference_terms(a, b)
        totals.append(sum(v for v, _ in terms.seeds) + terms.examples[0])
    assert np.mean(residuals) == pytest.approx(noise, rel=0.1)
    # Chances are the same for both, so all that is left is noise; a quarter of it counts twice.
    assert np.mean(totals) == pytest.approx(2 * noise * 1.25, rel=0.15)


def test_what_says_nothing_proves_nothing() -> None:
    same = cell(0.8)
    difference = score_difference(same, same)
    assert (difference.estimate, difference.p) == (0, 1)
    label = [0]
    one = bootstrap_score([fake.predictions(label, [0])], "accuracy")
    other = bootstrap_score([fake.predictions(label, [1])], "accuracy")
    difference = score_difference(one, other)
    assert (difference.low, difference.high) == (-1, 1) and difference.p == 1


def test_seeds_borrow_from_other_cells_and_never_steadiness() -> None:
    def spread(value: float) -> BootstrapScore:
        return replace(cell(0.7), seeds=0.7 + value * np.array([-1.0, 0.0, 1.0]))

    steady, wild = spread(0.001), spread(0.1)
    prior = fit_seed_prior([steady, spread(0.02), spread(0.02), wild])
    assert prior.weight_for(1) == 0.5 and prior.variance == pytest.approx((1e-6 + 8e-4 + 0.01) / 4)
    variance, degrees = prior.moderate(steady)
    assert degrees == 3 and variance == pytest.approx((0.5 * prior.variance + 1e-6) / 1.5 / 3)
    assert prior.moderate(wild) == (pytest.approx(0.01 / 3), 3)
    assert fit_seed_prior([steady, wild]) == NO_PRIOR
    assert fit_seed_prior([steady, wild, wild]).weight_for(1) == 0.25
    assert NO_PRIOR.moderate(wild) == (pytest.approx(0.01 / 3), 2)
    assert SeedPrior(1, 1).moderate(cell(0.7, seeds=1)) == (0, 1)


def folds(quality: float, noise: int, absent: range = range(0)) -> list[Predictions]:
    part = fake.answers(quality, n=200, seed=noise)
    kept = [i for i in range(200) if i not in absent]
    return [
        Predictions(
            tuple(part.uid[i] for i in kept),
            tuple(part.label[i] for i in kept),
            tuple(part.prediction[i] for i in kept),
            (),
        )
    ]


def test_cross_validation_multiplies_the_variance_over_rows() -> None:
    design = TestDesign(folds=5, repeats=1)
    a, b = (bootstrap_score(folds(q, s), "accuracy", design) for q, s in ((0.8, 1), (0.7, 2)))
    terms = difference_terms(a, b)
    assert terms.seeds == ()
    assert terms.examples == (pytest.approx(1.5 * shared_example_variance(a, b)), 199)
    assert [TestDesign(5, r).phi(n) for r in (1, 4) for n in (110, 900, 9000)] == pytest.approx(
        [1.5, 1.5, 2.5, 2.0, 1.5, 2.5]
    )
    assert TestDesign().phi(110) == 1.0


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("sd", [0.0, 0.1])
def test_runs_scatter_between_folds_by_what_they_do(repeats: int, sd: float) -> None:
    """The mean estimate over many cells is the variance of their runs, whatever their rows add."""
    rng, rows, design = np.random.default_rng(repeats), 250, TestDesign(5, repeats)
    label, variances = rng.integers(0, 2, rows), []
    for _ in range(60):
        fold_of = np.stack([rng.permutation(rows) % 5 for _ in range(repeats)])
        chance = rng.choice([0.4, 0.7, 0.8], rows) + np.take_along_axis(
            sd * rng.uniform(-1, 1, (repeats, 5)), fold_of, axis=1
        )
        answers = np.where(rng.random((repeats, rows)) < chance, label, 1 - label)
        parts = [fake.predictions(label, row) for row in answers]
        score = bootstrap_score(parts, "accuracy", design, fold_of)
        assert score.run_degrees == 4 * repeats and score.runs == 5 * repeats
        assert score.seed_variance == max(score.run_variance, 0) / (5 * repeats)
        variances.append(score.run_variance)
    # Uniform in +-sd; three standard errors of 60 variances of few folds.
    error = 3 * np.std(variances) / 60**0.5
    assert np.mean(variances) == pytest.approx(sd**2 / 3, abs=error) and error < 0.0025
    assert fit_seed_prior([score] * 4).variance == max(score.run_variance, 0)


def crossed(quality: float, noise: int, repeats: int = 1) -> BootstrapScore:
    """A cell of 200 rows in five folds, each repeat with answers of its own."""
    parts = [folds(quality, noise + 50 * repeat)[0] for repeat in range(repeats)]
    rng = np.random.default_rng(7)
    fold_of = np.stack([rng.permutation(200) % 5 for _ in range(repeats)])
    return bootstrap_score(parts, "accuracy", TestDesign(5, repeats), fold_of)


@pytest.mark.parametrize("repeats", [1, 3])
def test_cross_validation_has_one_quantile_for_the_whole_variance(repeats: int) -> None:
    a, b = crossed(0.8, 1, repeats), crossed(0.7, 2, repeats)
    terms = difference_terms(a, b)
    degrees, phi = 4 * repeats, a.design.phi(200)
    own = [max(s.run_variance, 0) / (5 * repeats) for s in (a, b)]
    assert [v for v, _ in terms.seeds] == pytest.approx(own)
    rows = phi * shared_example_variance(a, b)
    variance = sum(own) + rows
    between = [v + s.row_noise / (5 * repeats) for v, s in zip(own, (a, b), strict=True)]
    error = sum(value**2 / degrees for value in between) + rows**2 / 199
    half_width = stats.t.ppf(0.975, variance**2 / error) * variance**0.5
    assert terms.half_width(0.05) == pytest.approx(half_width)
    # A fold has a fifth of the rows, so its score five times their variance.
    answered = [seed * (1 - seed) / 200 for seed in a.seeds]
    assert a.row_noise == pytest.approx(5 * np.mean(answered), rel=0.1)


def test_a_variance_between_runs_that_comes_out_as_0_is_not_certain() -> None:
    """Its rows' part is still known from five folds only."""
    terms = DifferenceTerms(0.1, ((0.0, 4.0),) * 2, (1e-3, 199.0), ((1e-3, 4.0),) * 2)
    assert terms.freedom == pytest.approx(1e-6 / (2 * 1e-6 / 4 + 1e-6 / 199))
    assert terms.half_width(0.05) == pytest.approx(stats.t.ppf(0.975, terms.freedom) * 1e-3**0.5)


def test_methods_lend_by_how_much_of_the_scatter_is_rows_and_baselines_lend_nothing() -> None:
    cells = {name: crossed(0.7, noise) for noise, name in enumerate("abcd")}
    prior = fit_seed_prior(cells.values())
    noise = np.mean([s.row_noise for s in cells.values()])
    mean = max(np.mean([s.run_variance for s in cells.values()]), 0)
    assert prior.variance == pytest.approx(mean) and prior.noise == pytest.approx(noise)
    assert prior.weight_for(1) == pytest.approx(1 + 3 * noise / (noise + mean))
    for score in cells.values():
        variance, degrees = prior.moderate(score)
        weight = prior.weight_for(4)
        moderated = (weight * mean + score.run_variance) / (weight + 1) / 5
        assert variance == pytest.approx(max(moderated, 0))
        assert degrees == pytest.approx(4 * (weight + 1))
    assert fit_seed_prior([*cells.values()][:3]).share == 0.5
    assert fit_seed_prior([*cells.values()][:2]) == NO_PRIOR
    assert lending_scores(cells, {"d"}) == [cells[name] for name in "abc"]
    split = {"a": cell(0.7), "d": cell(0.6)}
    assert lending_scores(split, {"d"}) == [*split.values()]


def test_folds_that_are_absent_are_no_runs() -> None:
    part, fold_of = fake.answers(0.7, n=200, seed=1), np.array([[0, 1, 2, 4, 4]]).repeat(40, axis=1)
    whole = bootstrap_score([part], "macro_f1", TestDesign(5, 1), fold_of)
    assert whole.run_degrees == 3 and whole.runs == 4
    other = bootstrap_score(folds(0.7, 2, range(40)), "macro_f1", TestDesign(5, 1), fold_of[:, 40:])
    terms = difference_terms(*on_common_rows(whole, other))
    assert [degrees for _, degrees in terms.seeds] == [2, 2]


def test_cross_validated_cells_are_compared_on_the_rows_that_both_answered() -> None:
    design = TestDesign(folds=5, repeats=1)
    a = bootstrap_score(folds(0.8, 1, range(40)), "accuracy", design)
    b = bootstrap_score(folds(0.7, 2, range(160, 200)), "accuracy", design)
    difference = score_difference(a, b)
    assert difference.n_examples == 120
    both = slice(40, 160)
    one, other = (
        np.equal(p[0].prediction, p[0].label)[both] for p in (folds(0.8, 1), folds(0.7, 2))
    )
    assert difference.estimate == pytest.approx(one.mean() - other.mean())
    nothing = bootstrap_score(folds(0.7, 2, range(40, 200)), "accuracy", design)
    with pytest.raises(StoreError):
        score_difference(a, nothing)
    with pytest.raises(StoreError, match="different examples"):
        score_difference(cell(0.8), cell(0.7, n=100))
