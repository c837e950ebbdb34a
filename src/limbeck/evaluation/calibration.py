"""Whether probabilities mean what they say: calibration, and a temperature that mends it.

Source: expected calibration error and temperature scaling, Guo et al. 2017, arXiv:1706.04599; the
Brier score of several classes, Brier 1950, Monthly Weather Review 78, 1.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
_RANGE = (-3.0, 3.0)  # of the logarithm of a temperature: 1/20 to 20


@dataclass(frozen=True)
class Calibration:
    """How far probabilities are from what they should be.

    Attributes:
        ece: Expected calibration error: the mean distance between the probability of the chosen
            class and how often it is right, over bins of that probability.
        brier: Mean over rows of the squared differences between probabilities and 0 or 1, summed
            over classes; 0 to 2.
        nll: Mean negative log-likelihood of the right class, in nats.
    """

    ece: float
    brier: float
    nll: float


def calibration(
    logits: Float[ndarray, "rows classes"], right: Int[ndarray, " rows"], *, temperature: float = 1
) -> Calibration:
    """The calibration of class probabilities.

    Args:
        logits: Of every row; there is at least one.
        right: The right class of every row.
        temperature: By which logits are divided.

    >>> found = calibration(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    >>> found.ece, found.brier, round(found.nll, 4)
    (0.0, 0.5, 0.6931)
    """
    scaled = logits.astype(np.float64) / temperature
    probabilities, rows = softmax(scaled, axis=-1), np.arange(len(right))
    best = probabilities.argmax(-1)
    sure = probabilities[rows, best]
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    ece = 0.0
    for number in np.unique(bins):
        here = bins == number
        ece += abs(sure[here].mean() - (best[here] == right[here]).mean()) * here.mean()
    wanted = np.zeros_like(probabilities)
    wanted[rows, right] = 1.0
    return Calibration(
        float(ece),
        float(np.square(probabilities - wanted).sum(-1).mean()),
        float(-log_softmax(scaled, axis=-1)[rows, right].mean()),
    )


def fitted_temperature(
    logits: Float[ndarray, "rows classes"], right: Int[ndarray, " rows"]
) -> float:
    """The temperature with which the right classes are most likely, between 1/20 and 20.

    It is 1 where every answer is right: any lower one would be likelier still, without end.

    Args:
        logits: Of rows that were not learned from, and are not scored.
        right: The right class of each.
    """
    if (logits.argmax(-1) == right).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        return calibration(logits, right, temperature=float(np.exp(log_temperature))).nll

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded")
    return float(np.exp(found.x))
