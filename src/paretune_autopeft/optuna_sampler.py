"""A second sampler: Optuna's TPE or Gaussian process, by ask and tell.

Akiba et al. 2019 (Optuna, arXiv:1907.10902); TPE with several objectives: Ozaki et al. 2022 (JAIR
73). Its study is built anew from the results each time, in memory, and asked with a seed of its
own: the store of paretune is the only one. Its objectives are the score, as it was, and the
logarithm of the price.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.errors import explain_missing
from paretune_autopeft.space import Configuration, Space
from paretune_autopeft.trials import RATE_FACTORS

SAMPLERS = ("tpe", "gp")
_ASKS = 25
"""Most questions for a configuration: one that was tried, or exceeds a limit, is asked anew."""


def require_optuna() -> None:
    """Check that Optuna is there.

    Raises:
        MissingDependencyError: it is not.
    """
    with explain_missing("optuna", f"a search with sampler {' or '.join(SAMPLERS)}"):
        import optuna  # noqa: F401


def ask_optuna(
    sampler: str,
    space: Space,
    seed: int,
    tried: Sequence[Configuration],
    scores: NDArray[np.float64],
    prices: NDArray[np.float64],
    count: int,
    is_possible: Callable[[Configuration], bool],
) -> list[Configuration]:
    """Ask for at most ``count`` configurations to try next.

    Args:
        sampler: ``tpe`` or ``gp``.
        scores: scores of the tried configurations, (tried,).
        prices: prices of the tried configurations, (tried,).
        is_possible: False for a configuration that exceeds a limit.
    """
    require_optuna()
    import optuna
    from optuna.distributions import IntDistribution
    from optuna.exceptions import ExperimentalWarning

    distributions = {
        f"{group}.{n}": IntDistribution(-1, len(member.sizes) - 1)
        for group in range(space.groups)
        for n, member in enumerate(space.members)
    }
    distributions["rate"] = IntDistribution(0, len(RATE_FACTORS) - 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    refused, chosen, asks = set(tried), list[Configuration](), 0
    with warnings.catch_warnings():
        # Options of samplers are called experimental each time they are used.
        warnings.simplefilter("ignore", ExperimentalWarning)
        chosen_sampler: Any = (
            optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1
            )
            if sampler == "tpe"
            else optuna.samplers.GPSampler(seed=seed, n_startup_trials=1)
        )
        study = optuna.create_study(sampler=chosen_sampler, directions=["maximize", "minimize"])
        for point, score, price in zip(tried, scores, np.log(prices), strict=True):
            sizes = {
                f"{number}.{n}": size
                for number, group in enumerate(point.groups)
                for n, size in enumerate(group)
            }
            study.add_trial(
                optuna.trial.create_trial(
                    params={**sizes, "rate": point.rate},
                    distributions=distributions,
                    values=[float(score), float(price)],
                )
            )
        while len(chosen) < count and asks < _ASKS:
            trial = study.ask(distributions)
            asks += 1
            groups = []
            for number in range(space.groups):
                group = [trial.params[f"{number}.{n}"] for n in range(len(space.members))]
                # If a group has more members than are allowed, the largest stay.
                allowed = sorted(range(len(group)), key=lambda n: -group[n])[: space.at_most]
                groups.append(tuple(s if n in allowed else -1 for n, s in enumerate(group)))
            point = Configuration(tuple(groups), trial.params["rate"])
            if point.is_empty or point in refused:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            refused.add(point)
            asks = 0
            if is_possible(point):
                chosen.append(point)
    return chosen
