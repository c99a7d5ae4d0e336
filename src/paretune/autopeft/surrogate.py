"""What a search expects of configurations that it has not tried: a Gaussian process.

Rasmussen and Williams 2006, chapter 2; Matern 5/2 with a length for each feature, and the noise of
each score as it is known: of the examples of the selection part, and of seeds. The posterior mean
of a configuration that was tried is what is believed of it, never its raw score: of many equal
configurations the highest raw score is far too high (the winner's curse).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surrogate:
    """A fitted model of scores.

    Attributes:
        process: a regressor of scikit-learn, of standardised scores.
        mean: of the scores it was fitted to.
        scale: their standard deviation.
        noise: variance of a standardised score that its examples do not explain: that of seeds.
    """

    process: Any
    mean: float
    scale: float
    noise: float

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Posterior means and standard deviations of the true scores; (configurations,) each."""
        means, deviations = self.process.predict(features, return_std=True)
        # What scikit-learn gives is of one more noisy score.
        true = np.sqrt(np.maximum(deviations**2 - self.noise, 1e-12))
        return self.mean + self.scale * means, self.scale * true


def fit_surrogate(
    features: Array, scores: Array, variances: Array, like: Surrogate | None = None
) -> Surrogate:
    """Fit a Gaussian process.

    Args:
        like: a model whose kernel is taken as it is, and its scale.
        features: (tried, features), between 0 and 1.
        scores: of the selection part, (tried,).
        variances: of these scores over the examples, (tried,); what seeds add is fitted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    mean, scale = float(np.mean(scores)), float(np.std(scores)) or 1.0
    if like is not None:
        mean, scale = like.mean, like.scale
    smooth = ConstantKernel(1.0, (0.05, 20.0)) * Matern(
        np.full(features.shape[1], 1.5), (0.2, 30.0), nu=2.5
    )
    kernel = smooth + WhiteKernel(0.1, (1e-4, 1.0))
    alpha = np.maximum(variances / scale**2, 1e-6)
    process = GaussianProcessRegressor(kernel, alpha=alpha)
    if like is not None:
        process = GaussianProcessRegressor(like.process.kernel_, alpha=alpha, optimizer=None)
    with warnings.catch_warnings():
        # A feature that says nothing ends at the longest length, as it should.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(features, (scores - mean) / scale)
    return Surrogate(process, mean, scale, float(process.kernel_.k2.noise_level))


def expected_maximum(count: int) -> float:
    """Expected largest of ``count`` independent standard normal numbers (Blom 1958)."""
    return 0.0 if count < 2 else NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def expected_optimism(count: int, variance: float) -> float:
    """By how much the best raw score of ``count`` equal configurations is too high, on average.

    ``variance``: of one score, over examples of the selection part and over seeds.
    """
    return expected_maximum(count) * math.sqrt(variance)
