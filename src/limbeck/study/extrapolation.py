"""A power law through a few short trainings, continued to a whole one, with an interval.

y = floor + scale * share^-rate, with floor and scale not below 0, for what falls with the share of
the steps that is done: a loss, or what a score lacks of the best.

Source: the form as in Hestness et al. 2017, Deep Learning Scaling is Predictable, Empirically,
arXiv:1712.00409; the interval is the profile likelihood's for one more measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

_RATES = np.geomspace(0.01, 4.0, 80)
_PARAMETERS = 3
_CONFIDENCE = 0.95
_ROUNDING = 1e-20  # of the squares of the values: less is an exact fit


@dataclass(frozen=True)
class Extrapolation:
    """What a whole training would measure.

    Attributes:
        value: Expected.
        low: Lower end of the 95 % interval for one training.
        high: Upper end.
        floor: That the law never goes below.
        rate: Exponent of the share.
        falls: Whether the values fall by more than chance: a law explains them better than their
            mean does (F test at 5 %).
        points: Number of measurements.
    """

    value: float
    low: float
    high: float
    floor: float
    rate: float
    falls: bool
    points: int


def extrapolate(shares: Sequence[float], values: Sequence[float]) -> Extrapolation | None:
    """The value at a share of 1 and its interval; None where too little was measured.

    Args:
        shares: Of the whole training, each above 0; at least three that differ.
        values: Measured after each, at least four.

    >>> shares = [0.02, 0.04, 0.08, 0.16]
    >>> found = extrapolate(shares, [2 + 0.5 * share**-0.3 for share in shares])
    >>> round(found.value, 2), round(found.high - found.low, 2), found.falls
    (2.5, 0.0, True)
    """
    x, y = np.asarray(shares, dtype=float), np.asarray(values, dtype=float)
    free = len(y) - _PARAMETERS
    if len(set(shares)) < _PARAMETERS or free < 1 or not np.isfinite(y).all():
        return None
    fits = [fit for rate in _refined(x, y) if (fit := _fit(x, y, float(rate))) is not None]
    mean_squares = float(((y - y.mean()) ** 2).sum())
    if not fits:  # it rises: no law of this form is better than the mean
        half = _quantile(free + 2) * float(np.sqrt(mean_squares / (free + 2) * (1 + 1 / len(y))))
        mean = float(y.mean())
        return Extrapolation(mean, max(0.0, mean - half), mean + half, mean, 0.0, False, len(y))
    best = min(fits, key=lambda fit: fit.squares)
    least = best.squares if best.squares > _ROUNDING * float((y**2).sum()) else 0.0
    limit = least * (1 + _quantile(free) ** 2 / free)
    low, high = best.at_one, best.at_one
    for fit in fits:
        if (room := limit - fit.squares) >= 0:
            half = float(np.sqrt(room * (1 + fit.leverage)))
            low, high = min(low, fit.at_one - half), max(high, fit.at_one + half)
    return Extrapolation(
        best.at_one,
        max(0.0, low),
        high,
        best.floor,
        best.rate,
        _falls(mean_squares, least, free),
        len(y),
    )


@dataclass(frozen=True)
class _Fit:
    """The best law of a rate.

    Attributes:
        rate: Exponent.
        floor: Not below 0.
        at_one: Its value at a share of 1.
        squares: Sum of the squared residuals.
        leverage: Variance of `at_one`, divided by that of a measurement.
    """

    rate: float
    floor: float
    at_one: float
    squares: float
    leverage: float


def _fit(x: Float[ndarray, " n"], y: Float[ndarray, " n"], rate: float) -> _Fit | None:
    """Least squares of floor and scale; None where no law that falls is better than the mean."""
    powers = x**-rate
    columns = np.stack([np.ones_like(powers), powers], axis=1)
    (floor, scale), *_ = np.linalg.lstsq(columns, y, rcond=None)
    if floor < 0:  # the best law above 0 has the floor 0
        columns = powers[:, None]
        floor, scale = 0.0, float(powers @ y / (powers @ powers))
    if scale <= 0:
        return None
    residuals = y - floor - scale * powers
    inverse = np.linalg.pinv(columns.T @ columns)
    one = np.ones(columns.shape[1])
    squares, leverage = float(residuals @ residuals), float(one @ inverse @ one)
    return _Fit(rate, float(floor), float(floor + scale), squares, leverage)


def _refined(x: Float[ndarray, " n"], y: Float[ndarray, " n"]) -> Float[ndarray, " rates"]:
    """Rates over their whole range, and more of them near the best one."""
    rates = _RATES
    for _ in range(3):
        squares = [fit.squares if (fit := _fit(x, y, float(r))) else np.inf for r in rates]
        best = int(np.argmin(squares))
        low, high = rates[max(0, best - 1)], rates[min(len(rates) - 1, best + 1)]
        rates = np.union1d(rates, np.linspace(low, high, 15))
    return rates


def _falls(mean_squares: float, squares: float, free: int) -> bool:
    if squares == 0:
        return mean_squares > 0
    ratio = (mean_squares - squares) / (_PARAMETERS - 1) / (squares / free)
    return bool(ratio > f_distribution.ppf(_CONFIDENCE, _PARAMETERS - 1, free))


def _quantile(free: int) -> float:
    return float(t_distribution.ppf(0.5 + _CONFIDENCE / 2, free))
