"""Prints the polynomials of src/generic/math.h: python tools/fit_gelu.py.

GELU(x) = x * P(x), where P - 1/2 is odd. So P(x) = 1/2 + t * Q(t^2), t = x cut to [-5, 5], and Q is
a polynomial of degree 12 in z = t^2 * 2/25 - 1, which runs over [-1, 1]. The coefficients are those
whose largest error of GELU is least, found by Lawson's method: least squares again and again, each
time with more weight where the error was large.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[Any]

_EDGE = 5.0
_DEGREE = 12
_ROUNDS = 400


def by_erf(t: Doubles) -> Doubles:
    """The normal distribution: GELU as it was defined."""
    return np.array([0.5 + 0.5 * math.erf(value / math.sqrt(2)) for value in t])


def by_tanh(t: Doubles) -> Doubles:
    """Its common approximation."""
    half: Doubles = 0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))
    return half


def fit(share: Doubles, t: Doubles) -> Doubles:
    """Coefficients of Q, of z^0 first, for P(t) = `share`."""
    z = t**2 * (2 / _EDGE**2) - 1
    basis = np.polynomial.chebyshev.chebvander(z, _DEGREE) * (t**2)[:, None]
    wanted = t * (share - 0.5)
    weights = np.full(len(t), 1 / len(t))
    best: Doubles = np.zeros(_DEGREE + 1)
    least = np.inf
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        found: Doubles = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)[
            0
        ].astype(np.float64)
        error: Doubles = np.abs(basis @ found - wanted)
        if error.max() < least:
            best, least = found, error.max()
        weights *= error / error.mean()
        weights /= weights.sum()
    coefficients: Doubles = np.polynomial.chebyshev.cheb2poly(best)
    return coefficients


def main() -> None:
    """Prints both tables with their errors in float32."""
    t = _EDGE * np.sin(np.linspace(0, math.pi / 2, 6001))[1:]
    for name, function in (("erf", by_erf), ("tanh", by_tanh)):
        share = function(t)
        table = fit(share, t).astype(np.float32)
        z = t**2 * (2 / _EDGE**2) - 1
        made = 0.5 + t * np.polynomial.polynomial.polyval(z, table.astype(np.float64))
        print(f"{name}: largest error {np.abs(t * (made - share)).max():.1e}")
        print(", ".join(f"{value:.9e}f" for value in table))


if __name__ == "__main__":
    main()
