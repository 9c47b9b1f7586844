"""The course over the images that the residuals of all voxels share.

Noise leaves residuals that differ from voxel to voxel: over many voxels none of their directions
holds more than its share of their power. Where one does, the model misses something that is the
same everywhere: an image of another gain, a constant under the signal, stimulated echoes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Share of the voxels, those of the smallest residuals, that count.
COUNTED = 0.9
#: Fewest voxels that show a course.
LEAST_VOXELS = 50
#: Excess power of the strongest direction above which residuals have a course, and above which
#: hardly anything else is in them.
HAS_COURSE, DOMINATES = 0.3, 0.6
#: A course is certain from so many of its standard errors up, if it also exceeds what noise makes
#: of a fit, whose curvature leaves residuals of the order of 1/SNR squared.
CERTAIN, CURVATURE = 6.0, 1.5
#: Directions that are taken away at most: a course and its dependence on the tissue.
MOST_DIRECTIONS = 2
#: A direction is taken away if it holds so many times the power of those after it.
STANDS_OUT = 2.0


@dataclass(frozen=True)
class SharedCourse:
    """What residuals of many voxels share.

    Attributes
    ----------
    excess : float
        Power of their strongest direction, 0 for that of noise and 1 if there is nothing else.
    noise : float
        Root of the ratio of the power per degree of freedom without the course to that with it.
    course : array, shape (N,)
        Residual of each image, relative to the voxels' largest modulus.
    signals : float
        Sum of the squares of the voxels' largest moduli, in units of the noise.
    snr : float
        Median of the voxels' largest moduli, in units of the noise.
    """

    excess: float
    noise: float
    course: np.ndarray
    signals: float = 0.0
    snr: float = 0.0

    @property
    def exists(self) -> bool:
        """Whether residuals have a course beside noise."""
        return self.excess >= HAS_COURSE

    @property
    def largest(self) -> float:
        """Largest modulus of the course, as a part of the signal."""
        return float(np.abs(self.course).max(initial=0.0))

    @property
    def certain(self) -> bool:
        """Whether the course of so many voxels is more than their noise, and than what noise does.

        Noise leaves a course of at most 1/sqrt(`signals`), however small it is in a voxel.
        """
        error = 1.0 / np.sqrt(self.signals) if self.signals else np.inf
        bias = CURVATURE / self.snr**2 if self.snr else np.inf
        return self.largest > max(CERTAIN * error, bias)

    @property
    def dominates(self) -> bool:
        """Whether hardly anything else is in them."""
        return self.excess >= DOMINATES


def shared_course(residuals: np.ndarray, largest: np.ndarray, dof: int) -> SharedCourse:
    """Course over the images that residuals share.

    Of independent noise the residuals of a fit fill N - Q dimensions evenly, which differ with the
    tissue: no eigenvalue of their second moments exceeds sigma squared. With one degree of freedom
    there is one dimension; there the residuals of noise have either sign alike.

    Parameters
    ----------
    residuals : array, shape (n, N)
        In units of each sample's standard deviation.
    largest : array, shape (n,)
        Largest modulus of each voxel, in the same unit.
    dof : int
        Degrees of freedom of a voxel's residuals.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(500, 8))
    >>> shared_course(noise, np.full(500, 50.0), 8).exists
    False
    >>> found = shared_course(noise + [0, 0, 9, 0, 0, -5, 0, 0], np.full(500, 50.0), 8)
    >>> found.dominates, int(found.course.argmax())
    (True, 2)
    """
    N = residuals.shape[1]
    none = SharedCourse(0.0, 1.0, np.zeros(N))
    squares = (residuals**2).sum(axis=1)
    good = np.isfinite(squares) & (squares > 0) & (largest > 0)
    if good.sum() < LEAST_VOXELS or dof < 1:
        return none
    residuals, largest, squares = residuals[good], largest[good], squares[good]
    keep = squares <= np.quantile(squares, COUNTED)
    residuals, largest, squares = residuals[keep], largest[keep], squares[keep]
    signals, snr = float((largest**2).sum()), float(np.median(largest))
    course = (largest[:, None] * residuals).sum(0) / signals
    if dof == 1:
        mean = (residuals / np.sqrt(squares)[:, None]).mean(axis=0)
        return SharedCourse(float((mean**2).sum()), 1.0, course, signals, snr)
    powers = np.maximum(np.linalg.eigvalsh(residuals.T @ residuals)[::-1], 0.0)
    share = powers[0] / powers.sum()
    excess = (share - 1 / dof) / (1 - 1 / dof)
    taken = 0
    while taken < min(MOST_DIRECTIONS, dof - 1):
        rest = powers[taken + 1 :].sum() / (dof - taken - 1)
        if powers[taken] < STANDS_OUT * rest:
            break
        taken += 1
    level = powers[taken:].sum() / (dof - taken)
    ratio = float(np.sqrt(level * dof / powers.sum()))
    return SharedCourse(float(excess), ratio, course, signals, snr)
