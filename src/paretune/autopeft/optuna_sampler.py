"""A second sampler: Optuna's TPE or Gaussian process, by ask and tell.

Akiba et al. 2019 (Optuna, arXiv:1907.10902); TPE with several objectives: Ozaki et al. 2022 (JAIR
73). Its study is built anew from the results each time, in memory, and asked with a seed of its
own: the store of paretune is the only one. Its objectives are the score, as it was, and the
logarithm of the price.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.autopeft.space import RATE_FACTORS, Configuration, Space
from paretune.errors import MissingDependencyError

SAMPLERS = ("tpe", "gp")
_ASKS = 25
"""For each configuration: what was tried, or exceeds a limit, is asked anew."""


def require_optuna() -> None:
    """Check that Optuna is there.

    Raises:
        MissingDependencyError: it is not.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            f"the samplers {' and '.join(SAMPLERS)} of a search are Optuna's, which is not "
            "installed.",
            remedy="Install it: pip install optuna; or leave sampler out.",
        ) from None


class OptunaSampler:
    """Asks for configurations after those that were tried.

    Args:
        sampler: ``tpe`` or ``gp``.
        scores: of the tried, (tried,).
        prices: of the tried, (tried,).
    """

    def __init__(
        self,
        sampler: str,
        space: Space,
        seed: int,
        tried: Sequence[Configuration],
        scores: NDArray[np.float64],
        prices: NDArray[np.float64],
    ) -> None:
        require_optuna()
        import optuna

        self._space, self._optuna = space, optuna
        self._distributions = _describe_space(space)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with _without_experimental_warnings():
            chosen: Any = (
                optuna.samplers.TPESampler(
                    seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1
                )
                if sampler == "tpe"
                else optuna.samplers.GPSampler(seed=seed, n_startup_trials=1)
            )
            self._study = optuna.create_study(sampler=chosen, directions=["maximize", "minimize"])
            for one, score, price in zip(tried, scores, np.log(prices), strict=True):
                self._study.add_trial(
                    optuna.trial.create_trial(
                        params=_to_parameters(one),
                        distributions=self._distributions,
                        values=[float(score), float(price)],
                    )
                )

    def ask(self, refused: Mapping[Configuration, Any]) -> Configuration | None:
        """A configuration that is none of the refused; None where it has none."""
        for _ in range(_ASKS):
            with _without_experimental_warnings():
                trial = self._study.ask(self._distributions)
            one = _to_configuration(trial.params, self._space)
            if not one.is_empty and one not in refused:
                return one
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None


def _describe_space(space: Space) -> dict[str, Any]:
    from optuna.distributions import IntDistribution

    sizes = {
        f"{group}.{n}": IntDistribution(-1, len(member.sizes) - 1)
        for group in range(space.groups)
        for n, member in enumerate(space.members)
    }
    return {**sizes, "rate": IntDistribution(0, len(RATE_FACTORS) - 1)}


def _to_parameters(one: Configuration) -> dict[str, int]:
    sizes = {
        f"{number}.{n}": size
        for number, group in enumerate(one.groups)
        for n, size in enumerate(group)
    }
    return {**sizes, "rate": one.rate}


def _to_configuration(parameters: Mapping[str, int], space: Space) -> Configuration:
    """Of more members in a group than are allowed the largest stay."""
    groups = []
    for number in range(space.groups):
        sizes = [parameters[f"{number}.{n}"] for n in range(len(space.members))]
        allowed = sorted(range(len(sizes)), key=lambda n: -sizes[n])[: space.at_most]
        groups.append(tuple(size if n in allowed else -1 for n, size in enumerate(sizes)))
    return Configuration(tuple(groups), parameters["rate"])


class _without_experimental_warnings(warnings.catch_warnings):  # noqa: N801  (as its base)
    """Optuna calls options of its samplers experimental each time they are used."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        from optuna.exceptions import ExperimentalWarning

        warnings.simplefilter("ignore", ExperimentalWarning)
        return entered
