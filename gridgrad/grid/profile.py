"""Coefficients of the radial profiles, computed once in float64.

An atom of radius R contributes phi(s) at a distance d, with s = d^2 / (R radius_scale)^2. With m the Gaussian radius
multiple and g = e^{-2 m^2} the value where the Gaussian core ends, the tails are polynomials in t = x_f - sqrt(s), the
scaled distance left to the cutoff x_f = (1 + 2 m^2) / (2 m). Written in t they vanish exactly at the cutoff and lose
no digits to cancellation.
"""

import math
from typing import NamedTuple

import numpy as np

TAILS = ("quadratic", "quintic", "truncated")


def multiple_range(tail: str) -> tuple[float, float]:
    """Return the Gaussian radius multiples for which a profile is what it should be.

    Parameters
    ----------
    tail : {"quadratic", "quintic", "truncated"}
        How the Gaussian ends.

    Returns
    -------
    tuple of float
        The least and the largest m.

    Notes
    -----
    Within it phi, its slope and its curvature in float64 and float32 are within 1e-14 and 1e-6 of their largest values.
    Further out m^2 and 1 / m^2 leave the range of float32. The quintic tail ends as ``(4 - 1 / (2 m^2)) g t^3``, in
    units of x_f - m, which is negative for m < 1 / sqrt(8).
    """
    return math.sqrt(0.125) if tail == "quintic" else 1e-3, 1e6


class ProfileCoefficients(NamedTuple):
    """What a kernel needs to evaluate phi, phi_s and phi_ss.

    Attributes
    ----------
    core_rate : float
        The core is ``exp(-core_rate * s)``: 2 for the Gaussian, 0 for the binary profile.
    core_end : float
        Largest ``s`` of the core.
    cutoff : float
        Scaled distance x_f at which the tail ends.
    cutoff_s : float
        Largest ``s`` at which the profile may be nonzero.
    tail : tuple of float
        Coefficients of t^2, t^3, t^4 and t^5 between ``core_end`` and ``cutoff_s``.
    """

    core_rate: float
    core_end: float
    cutoff: float
    cutoff_s: float
    tail: tuple[float, float, float, float]


def profile_coefficients(tail: str, multiple: float, binary: bool, dtype: np.dtype) -> ProfileCoefficients:
    """Return the coefficients of a profile.

    Parameters
    ----------
    tail : {"quadratic", "quintic", "truncated"}
        How the Gaussian ends.
    multiple : float
        Gaussian radius multiple m; negative means a truncated tail at ``abs(multiple)``.
    binary : bool
        1 inside the radius and 0 outside, whatever the tail.
    dtype : numpy.dtype
        Precision of the kernel; the binary profile ends at the largest number below 1.

    Returns
    -------
    ProfileCoefficients
        Coefficients in float64.

    Notes
    -----
    Quadratic: ``A s + B sqrt(s) + C`` with ``A = 4 m^2 g``, ``B = -(4m + 8m^3) g``, ``C = (4m^4 + 4m^2 + 1) g`` has its
    double root at x_f, hence equals ``A t^2`` (Sunseri and Koes, J. Chem. Inf. Model. 2020, 60, 1079, for the tail).
    Quintic: the only polynomial with a triple root at x_f that has the value, slope and curvature of the Gaussian at m.
    """
    if binary:
        below_one = float(np.nextafter(dtype.type(1), dtype.type(0)))
        return ProfileCoefficients(0.0, below_one, 1.0, below_one, (0.0, 0.0, 0.0, 0.0))
    m = abs(multiple)
    if multiple < 0 or tail == "truncated":
        return ProfileCoefficients(2.0, m * m, m, m * m, (0.0, 0.0, 0.0, 0.0))
    g = math.exp(-2 * m * m)
    cutoff = (1 + 2 * m * m) / (2 * m)
    if tail == "quadratic":
        return ProfileCoefficients(2.0, m * m, cutoff, cutoff * cutoff, (4 * m * m * g, 0.0, 0.0, 0.0))
    t = 1 / (2 * m)  # x_f - m
    value, slope, curvature = g, 4 * m * g * t, (16 * m * m - 4) * g * t * t  # d/dt, in units of t
    return ProfileCoefficients(
        2.0,
        m * m,
        cutoff,
        cutoff * cutoff,
        (
            0.0,
            (10 * value - 4 * slope + curvature / 2) / t**3,
            (-15 * value + 7 * slope - curvature) / t**4,
            (6 * value - 3 * slope + curvature / 2) / t**5,
        ),
    )
